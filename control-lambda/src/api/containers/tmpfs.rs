//! Options of `--tmpfs` (Docker's `mount.MergeTmpfsOptions`).

/// What Docker sets where nobody says otherwise.
const DEFAULTS: [&str; 4] = ["rw", "nosuid", "nodev", "noexec"];

/// Options that are switches: the switch, and what turns it the other way.
const SWITCHES: [(&str, &str); 8] = [
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("sync", "async"),
    ("noatime", "atime"),
    ("nodiratime", "diratime"),
    ("relatime", "norelatime"),
];

/// Options with a value.
const VALUES: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];

/// The options that hold, each once, the last word of each winning.
///
/// # Errors
/// Docker's sentence for one that is none.
pub(super) fn merge(options: &str) -> Result<String, String> {
    let mut held: Vec<String> = Vec::new();
    let given = options.split(',').filter(|option| !option.is_empty());
    for option in DEFAULTS.into_iter().chain(given) {
        let invalid = || format!("invalid tmpfs option \"{option}\"");
        let replaces: Vec<&str> = match option.split_once('=') {
            Some((name, value)) if VALUES.contains(&name) && !value.is_empty() => vec![name],
            None if option == "defaults" || option == "strictatime" => continue,
            None => SWITCHES
                .iter()
                .find(|(on, off)| option == *on || option == *off)
                .map(|(on, off)| vec![*on, *off])
                .ok_or_else(invalid)?,
            Some((name, _)) if !VALUES.contains(&name) => {
                return Err(format!("invalid tmpfs option \"{name}\""));
            }
            Some(_) => return Err(invalid()),
        };
        held.retain(|one| !replaces.contains(&one.split('=').next().unwrap_or(one)));
        held.push(option.to_owned());
    }
    Ok(held.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_wins_and_what_is_none_is_refused() {
        assert_eq!(merge(""), Ok("rw,nosuid,nodev,noexec".to_owned()));
        assert_eq!(
            merge("exec,size=1m,ro,size=2m"),
            Ok("nosuid,nodev,exec,ro,size=2m".to_owned())
        );
        for bad in ["nosuch", "size", "mode="] {
            assert_eq!(merge(bad), Err(format!("invalid tmpfs option \"{bad}\"")));
        }
        let unknown = "invalid tmpfs option \"x\"".to_owned();
        assert_eq!(merge("x=1"), Err(unknown));
    }
}
