//! The layer that every sandbox has on top: the agent, and what must exist for
//! a root to be usable at all.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::ports::function_host::Network;

/// Where the agent is, inside.
pub(super) const AGENT: &str = "/.sockerless/agent";

/// Folders that file systems are mounted on, and those that hold the files below.
const FOLDERS: &[&str] = &[".sockerless", "dev", "etc", "proc", "sys", "tmp"];

/// The unpacked layers, one for each kind of network.
#[derive(Debug, Clone)]
pub(super) struct BaseLayers {
    folder: PathBuf,
    agent_sha256: String,
}

impl BaseLayers {
    /// Makes them below `parent`, named by the agent's bytes, unless they are there.
    ///
    /// `name_servers` are those that a sandbox with an uplink can ask.
    pub(super) fn make(parent: &Path, agent: &Path, name_servers: &[String]) -> io::Result<Self> {
        let agent_sha256 = hash(agent)?;
        let resolv: String = name_servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        let key = hex::encode(Sha256::digest(format!("{agent_sha256}\n{resolv}")));
        let layers = Self {
            folder: parent.join(&key),
            agent_sha256,
        };
        if !layers.folder.is_dir() {
            // Complete or not there: made aside, then renamed.
            let aside = parent.join(format!("{key}.partial"));
            let _ = fs::remove_dir_all(&aside);
            make_one(&aside.join(folder_name(Network::None)), agent, "")?;
            make_one(&aside.join(folder_name(Network::Outbound)), agent, &resolv)?;
            fs::rename(&aside, &layers.folder)?;
        }
        Ok(layers)
    }

    /// The layer for sandboxes with this network.
    pub(super) fn layer(&self, network: Network) -> PathBuf {
        self.folder.join(folder_name(network))
    }

    /// The agent's digest, in hex: functions of another agent are other functions.
    pub(super) fn agent_sha256(&self) -> &str {
        &self.agent_sha256
    }
}

const fn folder_name(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Outbound => "outbound",
    }
}

fn make_one(layer: &Path, agent: &Path, resolv: &str) -> io::Result<()> {
    for name in FOLDERS {
        let path = layer.join(name);
        fs::create_dir_all(&path)?;
        let mode = if *name == "tmp" { 0o1777 } else { 0o755 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    fs::set_permissions(layer, fs::Permissions::from_mode(0o755))?;
    let copy = layer.join(AGENT.trim_start_matches('/'));
    fs::copy(agent, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o555))?;
    for (name, text) in [
        (
            "etc/hosts",
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        ),
        ("etc/resolv.conf", resolv),
        ("etc/hostname", "localhost\n"),
    ] {
        let path = layer.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
