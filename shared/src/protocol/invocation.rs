//! The payload of one Invoke: all an agent needs to run one container once.

use serde::{Deserialize, Serialize};

use super::kept::KeptFiles;
use super::mac::{Key, Token};
use crate::ids::{ContainerId, PeerId, RunId};
use crate::spec::ContainerSpec;

/// What the control plane hands the agent. It never contains the control
/// plane's own keys, only those derived for this run. At most 1 MB as JSON
/// (AWS Lambda quotas, asynchronous invocation payload).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// [`super::VERSION`] of the control plane.
    pub version: u16,
    /// This execution.
    pub run: RunId,
    /// The container it executes.
    pub container: ContainerId,
    /// The agent's address on the relay for this run.
    pub peer: PeerId,
    /// Proof, at `$connect`, that the agent was given this run. Good for one
    /// container and until the run's deadline.
    pub token: Token,
    /// The key that signs [`super::grant::Grant`]s for this run.
    pub grant_key: Key,
    /// Where to connect: `ws://` or `wss://`, without a query. The agent adds
    /// [`super::control::ConnectQuery`].
    pub relay_url: String,
    /// Whether each message over the relay costs money and takes a long way.
    #[serde(default)]
    pub relay_is_far: bool,
    /// Where to PUT the compressed log spool at exit (see [`crate::logs::spool`]); a
    /// presigned URL, valid until after the run's deadline.
    pub log_upload_url: String,
    /// What to run, or whose files to look after.
    pub spec: ContainerSpec,
    /// What for.
    #[serde(default)]
    pub errand: Errand,
    /// What is kept of the container's files between its runs.
    #[serde(default)]
    pub kept: KeptFiles,
}

/// What an agent is invoked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Errand {
    /// To run the container.
    #[default]
    Run,
    /// To serve one stream that asks for the files of a container which does not run. No
    /// process of it is started.
    Visit,
    /// To store what the container wrote as an image's layer, as
    /// [`super::control::Command::StoreLayer`] does while it runs.
    StoreLayer {
        /// The number of the command that this stands for.
        command: u64,
        /// Where to PUT the layer.
        upload_url: String,
    },
}

/// Longest invocation payload that Lambda accepts for an asynchronous
/// invocation, in bytes (AWS Lambda quotas).
pub const MAX_PAYLOAD_BYTES: usize = 1_000_000;
