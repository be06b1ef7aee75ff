//! What a container is to run: the part of Docker's container configuration
//! that matters inside the invocation, already resolved.

use serde::{Deserialize, Serialize};

use crate::health::Healthcheck;

/// Where a container runs. See Docker's `--runtime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// A Lambda function's invocation: read-only root, `/tmp` writable, one
    /// unprivileged user, no PTY, at most 900 s.
    #[default]
    Function,
    /// A micro virtual machine of its own: writable root, root user, PTY, no
    /// time limit.
    Microvm,
}

impl Runtime {
    /// The name under which Docker clients ask for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Microvm => "microvm",
        }
    }
}

/// A process to run: a container's own or an exec's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value`, complete: the image's environment, the client's over it,
    /// and what Docker adds (`PATH`, `HOSTNAME`, `TERM` with a terminal).
    pub env: Vec<String>,
    /// Absolute working directory inside the image; made when missing where the root is writable.
    pub working_dir: String,
    /// Docker's `user[:group]`; empty for the runtime's default user.
    pub user: String,
    /// Whether the client asked for a terminal (`-t`).
    pub tty: bool,
    /// Whether stdin is open (`-i`); otherwise it is `/dev/null`.
    pub open_stdin: bool,
    /// Size of the terminal at the start, rows and columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// A container as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Which profile the sandbox has.
    pub runtime: Runtime,
    /// The container's main process.
    pub process: ProcessSpec,
    /// Whether stdin is closed when the first attached client that carries it
    /// goes (`StdinOnce`).
    pub stdin_once: bool,
    /// `--hostname`, or the container's short id. Set where the runtime can.
    pub hostname: String,
    /// Signal number sent to stop the container (the image's or the client's
    /// `StopSignal`); used when the time limit approaches too.
    pub stop_signal: i32,
    /// Seconds between that signal and SIGKILL.
    pub stop_timeout_s: u32,
    /// What every process of the container is given and denied.
    #[serde(default)]
    pub confinement: Confinement,
    /// `--read-only`: nobody writes to the root, be it that the agent could.
    #[serde(default)]
    pub read_only_root: bool,
    /// How its health is probed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// What every process of a container is given and denied, the main one and those of
/// execs, beyond what its runtime decides for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Confinement {
    /// The most capabilities that a process can have, bit n for capability n (see
    /// linux/capability.h); `None` leaves what the runtime gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<u64>,
    /// Whether no program may give more privileges than its caller has (`no_new_privs`).
    pub no_new_privileges: bool,
    /// `--ulimit`.
    pub limits: Vec<ResourceLimit>,
    /// `--group-add`: names or numbers of groups beside the user's own.
    pub groups: Vec<String>,
    /// `--init`: an init is process 1, and the main process its child.
    pub init: bool,
}

/// One of the kernel's limits on a process; see setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// The number of `RLIMIT_…` on Linux.
    pub resource: u32,
    /// What is enforced; `u64::MAX` is unlimited.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}
