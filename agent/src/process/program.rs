//! Finding the program to run, as runc does it: Go's `exec.LookPath` with the
//! container's own `PATH`, from the container's working directory, as the
//! container's user.
//!
//! The search itself runs between fork and exec, where nothing may be
//! allocated; what it needs is prepared before as a [`Lookup`].

use std::ffi::{CStr, CString, NulError};

use super::errno;

/// Where a program may be found, in order.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Whether the name has a slash and is therefore used as it is.
    by_path: bool,
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    path: CString,
    absolute: bool,
}

/// How a search ended. Free of allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// At this candidate.
    At(usize),
    /// It was not.
    Missing(Missing),
}

/// Why a program was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// In no folder of `PATH`.
    NotInPath,
    /// Found through a relative entry of `PATH`, which Go refuses.
    RelativeToCurrentDir,
    /// `stat` failed with this error number.
    Stat(i32),
    /// It is there but cannot be executed, for this error number.
    Access(i32),
}

impl Lookup {
    /// Prepares the search for `name` in the folders of `path` (a `PATH` value).
    ///
    /// # Errors
    /// When the name or a folder holds a NUL byte.
    pub(crate) fn new(name: &str, path: &str) -> Result<Self, NulError> {
        let candidate = |path: String| -> Result<Candidate, NulError> {
            Ok(Candidate {
                absolute: path.starts_with('/'),
                path: CString::new(path)?,
            })
        };
        if name.contains('/') {
            return Ok(Self {
                by_path: true,
                candidates: vec![candidate(name.to_owned())?],
            });
        }
        // Go's SplitList gives no folder at all for an empty value, and "." for
        // an empty entry of one that is not.
        let folders = path.split(':').filter(|_| !path.is_empty());
        let candidates = folders
            .map(|folder| {
                candidate(clean(&format!(
                    "{}/{name}",
                    if folder.is_empty() { "." } else { folder }
                )))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            by_path: false,
            candidates,
        })
    }

    /// Searches, with the calling process's user and working directory.
    /// Async-signal-safe.
    pub(crate) fn search(&self) -> Found {
        for (index, candidate) in self.candidates.iter().enumerate() {
            match (self.by_path, probe(&candidate.path)) {
                (true, Ok(())) => return Found::At(index),
                (true, Err(missing)) => return Found::Missing(missing),
                (false, Ok(())) if candidate.absolute => return Found::At(index),
                (false, Ok(())) => return Found::Missing(Missing::RelativeToCurrentDir),
                (false, Err(_)) => {}
            }
        }
        Found::Missing(Missing::NotInPath)
    }

    /// The path of a candidate that [`Lookup::search`] found.
    pub(crate) fn path(&self, index: usize) -> Option<&CStr> {
        self.candidates
            .get(index)
            .map(|candidate| candidate.path.as_c_str())
    }
}

impl Missing {
    /// Go's `exec.Error` for it, which runc passes on as it is.
    pub(crate) fn message(self, name: &str) -> String {
        let name_quoted = quote(name);
        match self {
            Self::NotInPath => format!("exec: {name_quoted}: executable file not found in $PATH"),
            Self::RelativeToCurrentDir => format!(
                "exec: {name_quoted}: cannot run executable found relative to current directory"
            ),
            Self::Stat(number) => {
                format!("exec: {name_quoted}: stat {name}: {}", errno::text(number))
            }
            Self::Access(number) => format!("exec: {name_quoted}: {}", errno::text(number)),
        }
    }
}

/// Go's `findExecutable`.
fn probe(path: &CStr) -> Result<(), Missing> {
    // SAFETY: an all-zero stat is a valid value, filled by the call below.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with NUL and `stat` outlives the call.
    if unsafe { libc::stat(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(Missing::Stat(errno::last()));
    }
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        // Go 1.20 says EISDIR here; runc 1.1, built with an older one, and the
        // `docker` client, which looks for this text, make it 126.
        return Err(Missing::Access(libc::EACCES));
    }
    // Real and effective ids are the same here, so that plain `access`, which
    // asks for the real ones, is what Go's `Eaccess` asks.
    // SAFETY: `path` ends with NUL.
    if unsafe { libc::access(path.as_ptr(), libc::X_OK) } != 0 {
        return Err(Missing::Access(errno::last()));
    }
    Ok(())
}

/// Go's `filepath.Clean`, by text alone.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            other => parts.push(other),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Go's `strconv.Quote`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(name: &str, path: &str) -> Result<String, String> {
        let lookup = Lookup::new(name, path).unwrap();
        match lookup.search() {
            Found::At(index) => Ok(lookup.path(index).unwrap().to_str().unwrap().to_owned()),
            Found::Missing(missing) => Err(missing.message(name)),
        }
    }

    #[test]
    fn what_is_not_there_is_worded_as_runc_words_it() {
        let path = "/usr/bin:/bin";
        let cases = [
            (
                "nosuch",
                r#"exec: "nosuch": executable file not found in $PATH"#,
            ),
            ("", r#"exec: "": executable file not found in $PATH"#),
            (
                "/nosuch",
                r#"exec: "/nosuch": stat /nosuch: no such file or directory"#,
            ),
            (
                "/etc/passwd/x",
                r#"exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory"#,
            ),
            ("/etc/passwd", r#"exec: "/etc/passwd": permission denied"#),
            ("/tmp", r#"exec: "/tmp": permission denied"#),
            (
                "a\"b",
                r#"exec: "a\"b": executable file not found in $PATH"#,
            ),
        ];
        for (name, message) in cases {
            assert_eq!(found(name, path), Err(message.to_owned()), "{name}");
        }
    }

    #[test]
    fn the_first_executable_of_the_path_wins() {
        let dir = std::env::temp_dir().join(format!("sockerless-lookup-{}", std::process::id()));
        let (one, two) = (dir.join("one"), dir.join("two"));
        for folder in [&one, &two] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("tool"), "").unwrap();
        }
        let path = format!("{}/../one/:{}", one.display(), two.display());
        let mode = |folder: &std::path::Path, bits| {
            std::fs::set_permissions(folder.join("tool"), PermissionsExt::from_mode(bits)).unwrap();
        };
        // A file that cannot be executed is passed over.
        mode(&one, 0o644);
        mode(&two, 0o755);
        assert_eq!(found("tool", &path), Ok(format!("{}/tool", two.display())));
        mode(&one, 0o755);
        assert_eq!(found("tool", &path), Ok(format!("{}/tool", one.display())));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn without_a_path_nothing_is_found() {
        assert!(found("sh", "").is_err());
    }

    #[test]
    fn a_nul_byte_is_an_error() {
        assert!(Lookup::new("a\0b", "/bin").is_err());
    }

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        let cases = [
            ("/usr//bin/./sh", "/usr/bin/sh"),
            ("/a/../../b", "/b"),
            ("./sh", "sh"),
            ("../../x", "../../x"),
            ("a/..", "."),
            ("/", "/"),
        ];
        for (path, cleaned) in cases {
            assert_eq!(clean(path), cleaned);
        }
    }
}
