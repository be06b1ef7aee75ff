//! The control plane itself: loads, steps, saves, acts.
//!
//! - [`apply`]: one lifecycle input to one container, and its effects;
//! - [`settle`]: what follows from a container's state, whoever died in between;
//! - [`answers`]: parts of answers to frontends;
//! - [`events`]: what Docker's events say, and who listens;
//! - [`gateway`], [`agents`], [`frontends`]: what comes over the relay;
//! - [`jobs`]: work that outlasts a request;
//! - [`invoke`]: the payload of a run;
//! - [`logs`]: logs of runs that are over;
//! - [`networks`]: the networks of a container that starts;
//! - [`visits`]: files of containers that do not run;
//! - [`spend`]: what refuses a start for the bill's sake;
//! - [`upkeep`]: recovery after a restart, the sweep, shutting down;
//! - [`volumes`]: who uses which volumes, and how they go.

pub mod agents;
pub mod answers;
pub mod apply;
pub mod events;
pub mod frontends;
pub mod gateway;
pub mod invoke;
pub mod jobs;
pub mod logs;
pub mod networks;
pub mod settle;
pub mod spend;
pub mod upkeep;
mod visits;
pub mod volumes;

use std::sync::Arc;
use std::time::Duration;

use sockerless_shared::ids::{ContainerId, RunId};
use sockerless_shared::lifecycle::Refusal;
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::spec::Runtime;
use thiserror::Error;

use self::spend::{GuardRefusal, SpendGuard};
use crate::images::store::Images;
use crate::ports::blobs::BlobError;
use crate::ports::function_host::HostError;
use crate::ports::jobs::JobError;
use crate::ports::relay::PostError;
use crate::ports::{Blobs, Environment, FunctionHost, Jobs, Relay};
use crate::store::{Store, StoreError};

/// What a control plane is made of.
#[derive(Clone)]
pub struct Parts {
    /// The records.
    pub store: Store,
    /// Clock and randomness.
    pub environment: Arc<dyn Environment>,
    /// What runs containers.
    pub host: Arc<dyn FunctionHost>,
    /// Connections to agents and frontends.
    pub relay: Arc<dyn Relay>,
    /// Large bodies and logs.
    pub blobs: Arc<dyn Blobs>,
    /// Work that outlasts a request.
    pub jobs: Arc<dyn Jobs>,
    /// The images.
    pub images: Images,
}

/// What a control plane is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// The secret from which the relay's and the runs' keys are derived.
    pub master_key: Key,
    /// The runtime of a container that names none.
    pub default_runtime: Runtime,
    /// Lambda's time limit for a function's invocation; AWS allows 900 s at most.
    pub function_time_limit: Duration,
    /// Memory of a function whose container names none, in MiB.
    pub default_memory_mib: u32,
    /// Size of `/tmp`, in MiB.
    pub tmp_mib: u32,
    /// Whether every container has a function of its own, deleted with it, instead of
    /// sharing one with those that are alike.
    pub function_per_container: bool,
    /// What bounds the bill.
    pub spend_guard: SpendGuard,
    /// What `info` and `version` say of the machine or the account.
    pub place: Place,
}

/// Where this control plane runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `local` or `aws`.
    pub name: String,
    /// Kernel version, for `version` and `info`.
    pub kernel: String,
    /// Operating system in words.
    pub operating_system: String,
    /// Processors that a container may use.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Host name.
    pub host_name: String,
    /// Where data is kept.
    pub data_dir: String,
    /// Docker's name of the architecture, such as `x86_64`.
    pub architecture: String,
    /// cgroup version, `1` or `2`; empty where there is none.
    pub cgroup_version: String,
    /// Whether a PTY can be had under [`Runtime::Function`]; never on AWS.
    pub function_has_pty: bool,
    /// Whether weights of disks are not known here, and discarded with a warning.
    pub discards_disk_weights: bool,
}

/// The control plane.
pub struct Control {
    pub(crate) store: Store,
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) host: Arc<dyn FunctionHost>,
    pub(crate) relay: Arc<dyn Relay>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) jobs: Arc<dyn Jobs>,
    pub(crate) images: Images,
    pub(crate) config: Config,
    pub(crate) relay_key: Key,
}

impl Control {
    /// A control plane of these parts.
    #[must_use]
    pub fn new(parts: Parts, config: Config) -> Self {
        let Parts {
            store,
            environment,
            host,
            relay,
            blobs,
            jobs,
            images,
        } = parts;
        let relay_key = config.master_key.derive("relay tickets");
        Self {
            store,
            environment,
            host,
            relay,
            blobs,
            jobs,
            images,
            config,
            relay_key,
        }
    }

    /// The records beneath.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The blob store, where large bodies are put before a request names them.
    #[must_use]
    pub fn blobs(&self) -> &dyn Blobs {
        &*self.blobs
    }

    /// The key that signs what streams to this run may do.
    pub(crate) fn grant_key(&self, run: &RunId) -> Key {
        self.config
            .master_key
            .derive(&format!("grants of run {run}"))
    }
}

/// Why the control plane could not do something; turned into Docker's form at the edge.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The container's state does not allow it.
    #[error("{0}")]
    Refused(Refusal),
    /// The container is gone.
    #[error("no such container: {0}")]
    NoSuchContainer(ContainerId),
    /// The container's networks are not as they have to be.
    #[error(transparent)]
    Network(#[from] networks::NetworkError),
    /// The spend guard does not allow it.
    #[error(transparent)]
    Guard(#[from] GuardRefusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The function host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The relay failed.
    #[error(transparent)]
    Relay(#[from] PostError),
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Background work was not accepted.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A message could not be written; a bug.
    #[error("a message could not be encoded: {0}")]
    Encoding(String),
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<serde_json::Error> for EngineError {
    fn from(error: serde_json::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}
