//! Paths as clients write them.

/// The path that is meant: absolute, without `.`, `..` and doubled slashes, but with the
/// slash or dot at the end that the client wrote (moby's `PreserveTrailingDotOrSeparator`).
pub(crate) fn absolute(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let mut clean = format!("/{}", names.join("/"));
    let here = base(path) == ".";
    if here || path.ends_with('/') {
        if !clean.ends_with('/') {
            clean.push('/');
        }
        if here {
            clean.push('.');
        }
    }
    clean
}

/// Go's `filepath.Base`.
pub(crate) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_docker_cleans_them() {
        for (path, clean, name) in [
            ("/tmp/d", "/tmp/d", "d"),
            ("tmp//d/", "/tmp/d/", "d"),
            ("/tmp/d/.", "/tmp/d/.", "."),
            ("/", "/", "/"),
            (".", "/.", "."),
            ("/a/../../b", "/b", "b"),
            ("/d/sub/..", "/d", "d"),
        ] {
            assert_eq!(
                (absolute(path).as_str(), base(&absolute(path))),
                (clean, name),
                "{path}"
            );
        }
    }
}
