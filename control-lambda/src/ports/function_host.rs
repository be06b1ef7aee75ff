//! What runs containers: Lambda, or the local sandbox under Lambda's contract.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sockerless_shared::ids::{ContainerId, FunctionName, ImageDigest, Namespace, RunId};
use sockerless_shared::spec::Runtime;
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

use super::machine::{Machine, Resources};

/// What makes two containers able to share a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FunctionShape {
    /// The image, by the digest of its config.
    pub image: ImageDigest,
    /// Which runtime.
    pub runtime: Runtime,
    /// Memory in MiB, 128–10,240.
    pub memory_mib: u32,
    /// Size of `/tmp` in MiB, 512–10,240.
    pub tmp_mib: u32,
    /// Outbound network.
    pub network: Network,
    /// The processors that the image is for, where functions of several can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Under [`Runtime::Microvm`]: the one container whose writable layer this is.
    pub owner: Option<ContainerId>,
    /// Under [`Runtime::Microvm`]: what else is asked of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Box<Machine>>,
}

/// Which processors a function runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// `x86_64`, Docker's `amd64`.
    #[serde(rename = "x86_64")]
    X86_64,
    /// `arm64`.
    Arm64,
}

impl FunctionShape {
    /// Bounds of a function's memory in MiB (AWS Lambda quotas).
    pub const MEMORY_MIB: RangeInclusive<u32> = 128..=10_240;
    /// Bounds of a function's `/tmp` in MiB (AWS Lambda quotas).
    pub const TMP_MIB: RangeInclusive<u32> = 512..=10_240;

    /// Checks its sizes.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] where Lambda has no such function.
    pub fn check_sizes(&self) -> Result<(), HostError> {
        let Self {
            memory_mib,
            tmp_mib,
            ..
        } = self;
        if !Self::MEMORY_MIB.contains(memory_mib) {
            return Err(HostError::Unsupported(format!(
                "a function has 128 to 10240 MiB of memory, not {memory_mib}"
            )));
        }
        if !Self::TMP_MIB.contains(tmp_mib) {
            return Err(HostError::Unsupported(format!(
                "a function's /tmp has 512 to 10240 MiB, not {tmp_mib}"
            )));
        }
        Ok(())
    }
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Arm64];

    /// AWS's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// The one that Go, and with it an image, names so.
    #[must_use]
    pub fn of_image(name: &str) -> Option<Self> {
        match name {
            "amd64" => Some(Self::X86_64),
            "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// Whether a function reaches anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Loopback only (`--network none`).
    None,
    /// Outbound connections.
    Outbound,
}

/// A function that can be invoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsuredFunction {
    /// Its name.
    pub name: FunctionName,
    /// What the host could not give, each a sentence for `create`'s `Warnings`.
    pub warnings: Vec<String>,
}

/// The platform's word on an invocation that did not succeed (Lambda's
/// on-failure destination, the local sandbox's child status).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum InvocationEnd {
    /// The runtime answered the invocation. Whether the container's exit was
    /// reported is another matter.
    Succeeded,
    /// The time limit, in seconds, passed.
    TimedOut {
        /// The limit.
        limit_s: u32,
    },
    /// The memory limit was exceeded.
    OutOfMemory {
        /// The limit in MiB.
        limit_mib: u32,
    },
    /// The runtime's process ended or reported an error.
    Crashed {
        /// What is known, for people.
        reason: String,
    },
    /// The host was restarted and knows nothing of it any more.
    Lost,
}

/// Called by the host once for every accepted invocation that ended.
#[async_trait]
pub trait InvocationEvents: Send + Sync {
    /// `run`'s invocation ended.
    async fn invocation_ended(&self, run: &RunId, end: InvocationEnd);
}

/// Why the host did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// The function does not exist; ensure it again.
    #[error("function {0} does not exist")]
    NoSuchFunction(FunctionName),
    /// The platform is still preparing the function; it can be invoked later.
    #[error("function {0} is still being prepared; try again in a minute")]
    Preparing(FunctionName),
    /// The platform cannot run this shape at all; a sentence for the client.
    #[error("{0}")]
    Unsupported(String),
    /// The platform has no such thing; a sentence that says what to do instead.
    #[error("{0}")]
    NotThere(String),
    /// The payload is larger than the platform takes.
    #[error("invocation payload of {0} bytes is larger than the platform takes")]
    PayloadTooLarge(usize),
    /// Too many at the moment; try again later.
    #[error("{0}")]
    Throttled(String),
    /// It failed; what, on what.
    #[error("{0}")]
    Failed(String),
}

/// What a host without volumes says.
const NO_VOLUMES: &str = "volumes are not implemented by sockerless here: bring data in with the image or on stdin, or use `sockerless local` with --runtime microvm";

/// Runs functions.
#[async_trait]
pub trait FunctionHost: Send + Sync {
    /// Makes sure that a function of this shape exists. May prepare an
    /// environment ahead of the first invocation. Idempotent.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn ensure(&self, shape: &FunctionShape) -> Result<EnsuredFunction, HostError>;

    /// The architectures of which it makes functions, whatever this program runs on; none
    /// where containers run on this machine.
    fn architectures(&self) -> &[Architecture] {
        &[]
    }

    /// Waits until a function can be invoked, at most so long; whether it can.
    ///
    /// # Errors
    /// See [`HostError`]: when it never will.
    async fn prepared(
        &self,
        function: &FunctionName,
        patience: Duration,
    ) -> Result<bool, HostError> {
        let _ = (function, patience);
        Ok(true)
    }

    /// Accepts one asynchronous invocation; returns when it is accepted, not
    /// when it runs. Its end is told to the host's [`InvocationEvents`].
    ///
    /// # Errors
    /// See [`HostError`].
    async fn invoke(
        &self,
        function: &FunctionName,
        run: &RunId,
        payload: Bytes,
    ) -> Result<(), HostError>;

    /// Deletes a function with its idle environments; an invocation in flight
    /// goes on, if [`FunctionHost::lets_finish`]. One that does not exist is no error.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn delete(&self, function: &FunctionName) -> Result<(), HostError>;

    /// Whether an invocation goes on whose function is deleted, and the end of each, of
    /// those that succeed, too, is told.
    fn lets_finish(&self) -> bool {
        true
    }

    /// Removes what a container under [`Runtime::Microvm`] wrote. Idempotent.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn remove_writable(&self, container: &ContainerId) -> Result<(), HostError>;

    /// Makes the place for a volume's data, empty unless it was there; returns where it is.
    ///
    /// # Errors
    /// [`HostError::NotThere`] where there are no volumes; see [`HostError`].
    async fn make_volume(&self, namespace: &Namespace, name: &str) -> Result<String, HostError> {
        let _ = (namespace, name);
        Err(HostError::NotThere(NO_VOLUMES.to_owned()))
    }

    /// Removes a volume's data. Idempotent.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn remove_volume(&self, namespace: &Namespace, name: &str) -> Result<(), HostError> {
        let _ = (namespace, name);
        Ok(())
    }

    /// The size of a volume's data in bytes; nothing where it is not there.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn volume_size(&self, namespace: &Namespace, name: &str) -> Result<u64, HostError> {
        let _ = (namespace, name);
        Ok(0)
    }

    /// What a container under [`Runtime::Microvm`] wrote to its root, in bytes; `None` where
    /// the host cannot tell.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn writable_size(&self, container: &ContainerId) -> Result<Option<u64>, HostError> {
        let _ = container;
        Ok(None)
    }

    /// Deletes functions that nobody has used for long; when there will be
    /// something to do again, if nothing else happens.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn sweep(&self) -> Result<Option<Timestamp>, HostError> {
        Ok(None)
    }

    /// Stops every process of the container that `run` executes, or lets them go on;
    /// returns when it is so. False where the host has no means of its own, and the
    /// agent is to do it.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn freeze(&self, run: &RunId, stop: bool) -> Result<bool, HostError> {
        let _ = (run, stop);
        Ok(false)
    }

    /// Gives the machine that executes `run` other shares, at once. Without a run, and of one
    /// that is over or has not begun, it is only said whether they could be given.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] where the host has no means to.
    async fn update(
        &self,
        run: Option<&RunId>,
        memory_mib: u32,
        resources: &Resources,
    ) -> Result<(), HostError> {
        let _ = (run, memory_mib, resources);
        Err(HostError::Unsupported(
            "the limits of a container that runs cannot be changed here: stop it, and start it again with the new ones".to_owned(),
        ))
    }

    /// What the environment that ran `run` wrote to its own stdout and stderr
    /// (CloudWatch's log stream), at most the last `limit` bytes; for runs whose
    /// agent died without a word. `stream` is the log stream's name, if the agent said one.
    ///
    /// # Errors
    /// See [`HostError`].
    async fn operator_log(
        &self,
        run: &RunId,
        stream: Option<&str>,
        limit: usize,
    ) -> Result<Bytes, HostError>;

    /// Where the agent finds the relay: `ws://` or `wss://`, without a query.
    fn relay_url(&self) -> String;

    /// Whether each message over the relay costs money and takes a long way.
    fn relay_is_far(&self) -> bool {
        false
    }
}
