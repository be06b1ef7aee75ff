//! What a stream to an agent may do, decided and signed by the control plane.
//! The agent checks the signature and asks nobody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::mac::Key;
use crate::ids::{ExecId, RunId};
use crate::logs::LogQuery;
use crate::spec::ProcessSpec;
use crate::timestamp::Timestamp;

/// Longest signed grant that is looked at, in bytes: an exec's environment and
/// arguments may be large.
pub const MAX_GRANT_BYTES: usize = 2 * 1024 * 1024;

/// Leave to do one thing with one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The run it is good for.
    pub run: RunId,
    /// Until when it may be presented. A stream that has begun is not ended by it.
    pub expires: Timestamp,
    /// What.
    pub operation: Operation,
}

/// What a stream does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    /// The container's own streams. Client → agent: stdin, raw; the stream's
    /// end is stdin's end. Agent → client: raw with a terminal, else
    /// [`super::stdcopy`] frames; the stream ends after the exit is recorded.
    Attach {
        /// Whether what the client sends goes to stdin.
        stdin: bool,
        /// Whether stdout is wanted.
        stdout: bool,
        /// Whether stderr is wanted.
        stderr: bool,
        /// Whether to begin with everything since the start of the run (an attach that came
        /// before the start, or `logs=1`), without a gap or repetition before what follows.
        history: bool,
        /// Whether to go on with what comes (`stream=1`).
        follow: bool,
        /// Docker's detach key sequence; empty for none. With it, the stream
        /// ends and the container goes on.
        detach_keys: Vec<u8>,
        /// Whether stdout and stderr are one raw stream even without a terminal, as over
        /// a WebSocket.
        #[serde(default)]
        raw: bool,
    },
    /// Runs a process and carries its streams, as for `Attach`. The exec's exit
    /// is recorded before the stream ends. A process that cannot be started
    /// yields Docker's sentence on stdout, and exit code 126 or 127.
    Exec {
        /// Which.
        exec: ExecId,
        /// What to run.
        process: ProcessSpec,
        /// Whether what the client sends goes to stdin.
        stdin: bool,
        /// Whether stdout is wanted.
        stdout: bool,
        /// Whether stderr is wanted.
        stderr: bool,
        /// As for `Attach`.
        detach_keys: Vec<u8>,
        /// Whether a terminal's output goes in frames all the same: the client that starts
        /// the exec did not ask for the terminal with which it was created.
        #[serde(default)]
        framed: bool,
    },
    /// The log of this run, rendered by [`crate::logs::render`]; with `follow`,
    /// until the exit is recorded.
    Logs {
        /// What of it.
        query: LogQuery,
        /// Whether to go on with what comes.
        follow: bool,
    },
    /// What is at a path, as Docker's `X-Docker-Container-Path-Stat`. Like all that follow, it is
    /// answered with a head of the agent's own ([`super::stream::StreamReply::Answer`]).
    PathStat {
        /// How the client names the container, for error messages.
        container: String,
        /// The path, as the client gave it.
        path: String,
    },
    /// A tar archive of what is at a path. Agent → client: the archive.
    ArchiveGet {
        /// As for `PathStat`.
        container: String,
        /// As for `PathStat`.
        path: String,
    },
    /// Extracts a tar archive into a folder. Client → agent: the archive, to the stream's end.
    ArchivePut {
        /// As for `PathStat`.
        container: String,
        /// The folder, as the client gave it.
        path: String,
        /// Whether a folder may not take the place of a file, nor a file that of a folder.
        keep_kinds: bool,
        /// `user[:group]` that everything is to belong to; `None` for whom the archive says.
        owner: Option<String>,
    },
    /// A tar archive of the whole root.
    Export,
    /// What differs from the image, as Docker's JSON.
    Changes,
    /// What the container uses, as Docker's JSON.
    Stats {
        /// Docker's name of the container, with its slash.
        name: String,
        /// The container's full id.
        id: String,
        /// Again and again, once a second.
        stream: bool,
        /// Without waiting for a second reading to compare with.
        one_shot: bool,
        /// The memory limit, in bytes.
        memory_limit: u64,
    },
    /// Whether the user of a new exec can be found, answered as Docker answers the exec's
    /// creation.
    ExecCreate {
        /// Which.
        exec: ExecId,
        /// `user[:group]`.
        user: String,
    },
    /// The container's processes, as Docker's JSON.
    Top {
        /// What `ps` is asked for.
        arguments: String,
    },
}

impl Operation {
    /// Whether its stream usually ends because the run has ended.
    #[must_use]
    pub const fn ends_with_run(&self) -> bool {
        match self {
            Self::Attach { follow, .. } | Self::Logs { follow, .. } => *follow,
            Self::Exec { .. }
            | Self::PathStat { .. }
            | Self::ArchiveGet { .. }
            | Self::ArchivePut { .. }
            | Self::Export
            | Self::Changes
            | Self::Stats { .. }
            | Self::ExecCreate { .. }
            | Self::Top { .. } => false,
        }
    }

    /// Whether the agent answers with a head of its own, and so decides the status.
    #[must_use]
    pub const fn answers_itself(&self) -> bool {
        match self {
            Self::Attach { .. } | Self::Exec { .. } | Self::Logs { .. } => false,
            Self::PathStat { .. }
            | Self::ArchiveGet { .. }
            | Self::ArchivePut { .. }
            | Self::Export
            | Self::Changes
            | Self::Stats { .. }
            | Self::ExecCreate { .. }
            | Self::Top { .. } => true,
        }
    }

    /// Whether it is about the container's files alone, which are there without a process, too.
    #[must_use]
    pub const fn is_of_files(&self) -> bool {
        match self {
            Self::PathStat { .. }
            | Self::ArchiveGet { .. }
            | Self::ArchivePut { .. }
            | Self::Export
            | Self::Changes => true,
            Self::Attach { .. }
            | Self::Exec { .. }
            | Self::Logs { .. }
            | Self::Stats { .. }
            | Self::ExecCreate { .. }
            | Self::Top { .. } => false,
        }
    }
}

/// A grant that cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GrantError {
    /// Unreadable.
    #[error("stream grant is malformed")]
    Malformed,
    /// Not signed with this run's key.
    #[error("stream grant was not signed for this run")]
    Forged,
    /// Too old.
    #[error("stream grant has expired; repeat the request")]
    Expired,
    /// For another run.
    #[error("stream grant is for another run of the container")]
    OtherRun,
}

impl Grant {
    /// The signed text form.
    ///
    /// # Errors
    /// Never in practice: only if the grant cannot be written as JSON.
    pub fn sign(&self, key: &Key) -> Result<String, serde_json::Error> {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?);
        let signature = key.sign(body.as_bytes());
        Ok(format!("{body}.{signature}"))
    }

    /// Reads and checks a signed grant.
    ///
    /// # Errors
    /// When it is malformed, forged, expired or for another run.
    pub fn verify(text: &str, key: &Key, run: &RunId, now: Timestamp) -> Result<Self, GrantError> {
        if text.len() > MAX_GRANT_BYTES {
            return Err(GrantError::Malformed);
        }
        let (body, signature) = text.rsplit_once('.').ok_or(GrantError::Malformed)?;
        if !key.verify(body.as_bytes(), signature) {
            return Err(GrantError::Forged);
        }
        let json = URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_| GrantError::Malformed)?;
        let grant: Self = serde_json::from_slice(&json).map_err(|_| GrantError::Malformed)?;
        if grant.run != *run {
            return Err(GrantError::OtherRun);
        }
        if grant.expires < now {
            return Err(GrantError::Expired);
        }
        Ok(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_good_for_its_run_key_and_time_only() {
        let key = Key::from_random([1; 32]);
        let run = RunId::from_random([2; 16]);
        let grant = Grant {
            run: run.clone(),
            expires: Timestamp::from_secs(10),
            operation: Operation::Logs {
                query: LogQuery::default(),
                follow: false,
            },
        };
        let text = grant.sign(&key).unwrap();
        let now = Timestamp::from_secs(9);
        assert_eq!(Grant::verify(&text, &key, &run, now), Ok(grant));
        assert_eq!(
            Grant::verify(&text, &key, &run, Timestamp::from_secs(11)),
            Err(GrantError::Expired)
        );
        assert_eq!(
            Grant::verify(&text, &Key::from_random([3; 32]), &run, now),
            Err(GrantError::Forged)
        );
        let other = RunId::from_random([4; 16]);
        assert_eq!(
            Grant::verify(&text, &key, &other, now),
            Err(GrantError::OtherRun)
        );
        assert_eq!(
            Grant::verify("", &key, &run, now),
            Err(GrantError::Malformed)
        );
    }
}
