//! A run's output as records, how it is spooled, and how `docker logs` shows it.

pub mod render;
pub mod spool;

use serde::{Deserialize, Serialize};

use crate::protocol::stdcopy::OutputStream;
use crate::timestamp::Timestamp;

/// One piece of output as it was read from the process. Not necessarily a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From which stream.
    pub stream: OutputStream,
    /// When it was read.
    pub time: Timestamp,
    /// The bytes.
    pub data: Vec<u8>,
}

/// Which part of a log a client wants (Engine API, `ContainerLogs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Whether stdout is wanted.
    pub stdout: bool,
    /// Whether stderr is wanted.
    pub stderr: bool,
    /// Only lines at or after this.
    pub since: Option<Timestamp>,
    /// Only lines before or at this.
    pub until: Option<Timestamp>,
    /// Only what is among the last so many lines of all, whatever the other
    /// limits then leave of them; `None` for no such limit.
    pub tail: Option<u64>,
    /// Whether each line is preceded by its time.
    pub timestamps: bool,
    /// What precedes each line, after its time, with a space behind it: the
    /// attributes that the container's log options name (`--details`), often none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Whether the output is raw (the container has a terminal) instead of framed.
    pub raw: bool,
    /// Lines of earlier runs of the container that come before those of this one, as far
    /// as `tail` may reach: base64 of [`spool`] records, one a line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub earlier: String,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self {
            stdout: true,
            stderr: true,
            since: None,
            until: None,
            tail: None,
            timestamps: false,
            details: None,
            raw: false,
            earlier: String::new(),
        }
    }
}
