//! How sandboxes reach the outside of this machine, found out once.

use std::path::{Path, PathBuf};

use super::wire::Uplink;

/// The name server inside `slirp4netns`'s network; it asks the machine's own.
const SLIRP_NAME_SERVER: &str = "10.0.2.3";

/// What this machine can give to sandboxes that ask for outbound network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outside {
    pub(super) uplink: Uplink,
    /// Whom sandboxes with that uplink ask for names.
    pub(super) name_servers: Vec<String>,
    /// Why there is none, for `create`'s `Warnings`.
    pub(super) warning: Option<String>,
}

impl Outside {
    /// Looks in `search_path`, a `PATH`.
    pub(super) fn find(search_path: &std::ffi::OsStr) -> Self {
        match program(search_path, "slirp4netns") {
            Some(path) if Path::new("/dev/net/tun").exists() => Self {
                uplink: Uplink::Slirp4netns(path),
                name_servers: vec![SLIRP_NAME_SERVER.to_owned()],
                warning: None,
            },
            Some(_) => Self::none("/dev/net/tun, which slirp4netns needs, does not exist"),
            None => Self::none("slirp4netns is not installed"),
        }
    }

    fn none(why: &str) -> Self {
        Self {
            uplink: Uplink::None,
            name_servers: Vec::new(),
            warning: Some(format!(
                "No outbound network: {why}. The container has loopback only; --network none says so on purpose."
            )),
        }
    }
}

fn program(search_path: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
