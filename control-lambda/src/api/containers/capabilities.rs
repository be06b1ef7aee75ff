//! `--cap-add` and `--cap-drop` (Docker's `caps` package).

use crate::api::ApiError;

/// The kernel's names, in the order of their numbers (linux/capability.h).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What Docker leaves to root.
pub(super) const DEFAULT: u64 = set(&[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
]);

/// What acts on the container's own processes, network and files alone. The kernel is
/// shared with the machine, over which the others would give power.
pub(super) const WITHIN: u64 = DEFAULT
    | set(&[
        "CAP_NET_ADMIN",
        "CAP_NET_BROADCAST",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_PTRACE",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TTY_CONFIG",
        "CAP_LEASE",
    ]);

const fn set(names: &[&str]) -> u64 {
    let mut bits = 0;
    let mut name = 0;
    while name < names.len() {
        let mut number = 0;
        while number < NAMES.len() {
            if same(NAMES[number].as_bytes(), names[name].as_bytes()) {
                bits |= 1 << number;
            }
            number += 1;
        }
        name += 1;
    }
    bits
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Capabilities as a client names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// `ALL`
    All,
    /// These.
    These(u64),
}

/// Reads one of the two lists; `field` is `CapAdd` or `CapDrop`.
///
/// # Errors
/// 400 in Docker's words for a name that is none.
pub(super) fn parse(field: &str, names: &[String]) -> Result<Named, ApiError> {
    let mut bits = 0;
    let mut all = false;
    for name in names {
        let upper = name.to_uppercase();
        if upper == "ALL" {
            all = true;
            continue;
        }
        let full = match upper.strip_prefix("CAP_") {
            Some(_) => upper,
            None => format!("CAP_{upper}"),
        };
        let Some(number) = NAMES.iter().position(|known| *known == full) else {
            let message = format!("invalid {field}: unknown capability: \"{full}\"");
            return Err(ApiError::new(400, message));
        };
        bits |= 1 << number;
    }
    Ok(if all { Named::All } else { Named::These(bits) })
}

/// What a container gets that adds and drops these.
pub(super) const fn effective(add: Named, drop: Named) -> u64 {
    let every = (1 << NAMES.len()) - 1;
    match (add, drop) {
        (Named::All, Named::All) => every,
        (Named::All, Named::These(dropped)) => every & !dropped,
        (Named::These(added), Named::All) => added,
        (Named::These(added), Named::These(dropped)) => (DEFAULT & !dropped) | added,
    }
}

/// The names of these, for people.
pub(super) fn names(bits: u64) -> String {
    let names: Vec<_> = NAMES
        .iter()
        .enumerate()
        .filter(|(number, _)| bits & (1 << number) != 0)
        .map(|(_, name)| name.trim_start_matches("CAP_"))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(add: &[&str], drop: &[&str]) -> u64 {
        let list = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        effective(
            parse("CapAdd", &list(add)).unwrap(),
            parse("CapDrop", &list(drop)).unwrap(),
        )
    }

    #[test]
    fn the_masks_are_those_that_docker_gives() {
        // CapEff of a container of a real Engine with these flags.
        assert_eq!(got(&[], &[]), 0xa804_25fb);
        assert_eq!(got(&["net_admin"], &[]), 0xa804_35fb);
        assert_eq!(got(&[], &["ALL"]), 0);
        assert_eq!(got(&["SYS_PTRACE"], &["CAP_CHOWN"]), 0xa80c_25fa);
        assert_eq!(got(&["kill"], &["all"]), 1 << 5);
        assert_eq!(got(&["ALL"], &[]), 0x1ff_ffff_ffff);
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        let error = parse("CapDrop", &["nosuch".to_owned()]).unwrap_err();
        assert_eq!(
            error.message,
            "invalid CapDrop: unknown capability: \"CAP_NOSUCH\""
        );
        assert!(parse("CapAdd", &["CAP_ALL".to_owned()]).is_err());
    }
}
