//! What a container under [`Runtime::Microvm`](sockerless_shared::spec::Runtime::Microvm)
//! asks of its machine, beyond what every machine has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sockerless_shared::spec::ResourceLimit;

/// One machine's settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Its host name; empty for the host's choice.
    pub hostname: String,
    /// Its NIS domain name; empty for none.
    pub domainname: String,
    /// Further lines of `/etc/hosts`: address, name.
    pub hosts: Vec<(String, String)>,
    /// Name servers in the place of the network's own.
    pub name_servers: Vec<String>,
    /// Search domains of the resolver.
    pub search_domains: Vec<String>,
    /// Options of the resolver.
    pub resolver_options: Vec<String>,
    /// Whether the container cannot write to its root.
    pub read_only_root: bool,
    /// Size of `/dev/shm` in bytes; `None` for none.
    pub shm_bytes: Option<u64>,
    /// Parameters of its own kernel namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities beside Docker's default ones, bit n for capability n.
    pub added_capabilities: u64,
    /// Whether system calls are filtered.
    pub filtered: bool,
    /// Paths that are hidden; `None` for Docker's.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that are read-only; `None` for Docker's.
    pub read_only_paths: Option<Vec<String>>,
    /// Limits that the container's processes are to have, for which the machine's own
    /// may have to be raised.
    pub limits: Vec<ResourceLimit>,
    /// `oom_score_adj` of the container's processes, −1000 to 1000.
    pub oom_score_adj: i32,
    /// Shares of the machine's processors, memory and disks.
    pub resources: Resources,
    /// Devices of the host: there, in the container.
    pub devices: Vec<(String, String)>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            domainname: String::new(),
            hosts: Vec::new(),
            name_servers: Vec::new(),
            search_domains: Vec::new(),
            resolver_options: Vec::new(),
            read_only_root: false,
            shm_bytes: Some(Self::SHM_BYTES),
            sysctls: BTreeMap::new(),
            added_capabilities: 0,
            filtered: true,
            masked_paths: None,
            read_only_paths: None,
            limits: Vec::new(),
            oom_score_adj: 0,
            resources: Resources::default(),
            devices: Vec::new(),
            mounts: Vec::new(),
        }
    }
}

impl Machine {
    /// Size of `/dev/shm` where nobody says otherwise, in bytes (Docker's default).
    pub const SHM_BYTES: u64 = 64 * 1024 * 1024;

    /// Whether something of the host is mounted into it.
    #[must_use]
    pub fn binds(&self) -> bool {
        self.mounts.iter().any(|mount| match mount.source {
            MountSource::Host { .. } | MountSource::Volume(_) => true,
            MountSource::Memory { .. } => false,
        })
    }
}

/// One mount in a container's root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// Where, in the container.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// Whether the container cannot write to it.
    pub read_only: bool,
    /// The mode as the client wrote it, for `inspect`.
    pub mode: String,
    /// Whether `inspect` lists it; Docker does not list `--tmpfs`.
    pub shown: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MountSource {
    /// A file or folder of the host.
    Host {
        /// Its absolute path.
        path: String,
        /// Whether a folder is made there, should nothing be.
        make: bool,
        /// Whether what is mounted below it comes along.
        recursive: bool,
    },
    /// A volume.
    Volume(VolumeMount),
    /// A file system in memory.
    Memory {
        /// Options of mount(8).
        options: String,
    },
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Its name; empty until the volume is made, where nobody names it.
    pub name: String,
    /// Where its data is on the host; empty until the volume is made.
    pub path: String,
    /// Whether nobody named it.
    pub anonymous: bool,
    /// Whether an empty volume is filled with what the image has in its place.
    pub copy: bool,
    /// The part of it that is mounted; empty for the whole.
    pub subpath: String,
    /// The folder of the host that it stands for, where it stands for one.
    pub device: Option<String>,
}

/// What the container's processes may use of the host; zero, or nothing, is no limit.
/// Meanings and units are those of Docker's fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight of processor time, 1,024 being the usual.
    pub cpu_shares: u64,
    /// Length of the scheduler's period in microseconds.
    pub cpu_period: u64,
    /// Processor time in each period, in microseconds; negative is unlimited.
    pub cpu_quota: i64,
    /// Period of real-time scheduling in microseconds.
    pub cpu_realtime_period: u64,
    /// Real-time processor time in each such period, in microseconds.
    pub cpu_realtime_runtime: u64,
    /// Processors, as in `0-3,5`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Most processes and threads.
    pub processes: u64,
    /// Memory that is left to it when others need some, in bytes.
    pub memory_reservation: u64,
    /// How readily its memory is swapped out, 0 to 100.
    pub swappiness: Option<u64>,
    /// Relative weight of disk access, 10 to 1,000.
    pub disk_weight: u64,
    /// The same of single disks: device on the host, weight.
    pub disk_weights: Vec<(String, u64)>,
    /// Limits of disk access: which, device on the host, per second.
    pub disk_limits: Vec<(DiskLimit, String, u64)>,
}

/// What is limited of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskLimit {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
    /// Reads.
    Reads,
    /// Writes.
    Writes,
}
