//! Messages to and from the control plane itself: small JSON texts over the
//! WebSocket. A text that begins with `{` is one of these; one that begins with
//! `d` is a relayed datagram ([`super::relay`]).
//!
//! The relay may lose, repeat and reorder. Therefore an agent's [`Report`]s are
//! numbered and sent again until acknowledged, [`Command`]s are numbered and
//! sent again until the agent's [`AgentMessage::CommandDone`], and the parts of
//! an answer are asked for again by [`FrontendMessage::Resume`].

use serde::{Deserialize, Serialize};

use super::kept::Kept;
use crate::answer::Part;
use crate::health::Health;
use crate::ids::{AnswerId, ExecId, Nonce, PeerId, RunId};
use crate::spec::ConsoleSize;
use crate::timestamp::Timestamp;

/// Largest text message the relay takes, in bytes (API Gateway quotas: 128 KB a message).
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// Who connects, in the query string of the WebSocket's URL. Both kinds of
/// credentials are checked at `$connect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectQuery {
    /// `role=agent&run=…&token=…&nonce=…&v=…`
    Agent {
        /// The run it was invoked for.
        run: RunId,
        /// The run's token.
        token: super::mac::Token,
        /// Drawn by the agent once per invocation, the same at every reconnect.
        nonce: Nonce,
        /// The agent's protocol version.
        version: u16,
    },
    /// `role=frontend&peer=…&token=…&v=…`
    Frontend {
        /// The frontend's own address on the relay.
        peer: PeerId,
        /// The relay token, minted by the control plane over its HTTP API.
        token: super::mac::Token,
        /// The frontend's protocol version.
        version: u16,
    },
}

impl ConnectQuery {
    /// The query string, without `?`.
    #[must_use]
    pub fn to_query(&self) -> String {
        match self {
            Self::Agent {
                run,
                token,
                nonce,
                version,
            } => {
                format!(
                    "role=agent&run={run}&token={}&nonce={nonce}&v={version}",
                    token.reveal()
                )
            }
            Self::Frontend {
                peer,
                token,
                version,
            } => {
                format!(
                    "role=frontend&peer={peer}&token={}&v={version}",
                    token.reveal()
                )
            }
        }
    }

    /// Reads the query's fields, already percent-decoded, by name. Returns
    /// `None` when something is missing or malformed; which is not said, since
    /// whoever asks without credentials is owed no hint.
    #[must_use]
    pub fn from_fields<'a>(field: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let token = || Some(super::mac::Token::presented(field("token")?.to_owned()));
        let version = || field("v")?.parse().ok();
        match field("role")? {
            "agent" => Some(Self::Agent {
                run: field("run")?.parse().ok()?,
                token: token()?,
                nonce: field("nonce")?.parse().ok()?,
                version: version()?,
            }),
            "frontend" => Some(Self::Frontend {
                peer: field("peer")?.parse().ok()?,
                token: token()?,
                version: version()?,
            }),
            _ => None,
        }
    }
}

/// Agent → control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum AgentMessage {
    /// First message on every connection. API Gateway gives 410 to whoever
    /// posts to a connection from inside its `$connect`, so the agent speaks first.
    Hello {
        /// The agent's protocol version.
        version: u16,
        /// SHA-256 of the agent's self-signed certificate (DER), in hex; frontends pin it.
        certificate_sha256: String,
        /// The log stream of its environment, where the platform names one: what it
        /// prints is found there should it die without a word.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log_stream: Option<String>,
    },
    /// Something happened. Sent again until [`ControlToAgent::Ack`] names its number.
    Report {
        /// 1, 2, 3 … within the run.
        seq: u64,
        /// What happened.
        report: Report,
    },
    /// A [`Command`] was carried out (or could not be). Sent again whenever the
    /// same command arrives again; commands are carried out once.
    CommandDone {
        /// The command's number.
        id: u64,
        /// Why it failed, in Docker's words; `None` when it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Still alive. Also keeps the connection from idling out after 10 minutes.
    Heartbeat,
}

/// What an agent reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "r", rename_all = "snake_case")]
pub enum Report {
    /// The container's process runs: `execve` succeeded.
    Started {
        /// When.
        at: Timestamp,
        /// Its process id as the agent sees it.
        pid: u32,
    },
    /// The container's process could not be started. The run is over.
    StartFailed {
        /// When.
        at: Timestamp,
        /// Why.
        failure: StartFailure,
    },
    /// The container's process ended. The run is over; the log spool has been
    /// stored before this is sent.
    Exited {
        /// When.
        at: Timestamp,
        /// How.
        status: ExitStatus,
        /// Where its log is.
        logs: LogSpool,
        /// What was kept of its files, where an environment keeps none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<Kept>,
        /// What the last probes said, where there are any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        health: Option<Health>,
    },
    /// What a probe said of the container's health. Results that were acknowledged before are
    /// not among those that it carries.
    Health {
        /// What is known now.
        health: Health,
    },
    /// Something was done for a client that Docker's events tell of, and that only the
    /// agent sees succeed.
    Done {
        /// When.
        at: Timestamp,
        /// What.
        deed: Deed,
    },
    /// A client changed files of a container that does not run, and they have been stored.
    /// Acknowledged before the client is told; refused when somebody else was quicker.
    Changed {
        /// What was kept.
        kept: Kept,
    },
    /// A [`Command::StoreLayer`] was carried out, or could not be.
    LayerStored {
        /// The command's number.
        command: u64,
        /// Why it could not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A visit to a container that does not run is over.
    Left,
    /// An exec's process runs.
    ExecStarted {
        /// Which.
        exec: ExecId,
        /// Its process id as the agent sees it.
        pid: u32,
    },
    /// An exec ended, or could not be started (126, 127).
    ExecExited {
        /// Which.
        exec: ExecId,
        /// Its exit code.
        code: i32,
    },
}

/// What an agent does for clients beside running processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "d", rename_all = "snake_case")]
pub enum Deed {
    /// Files were sent from the container.
    ArchiveSent,
    /// Files were put into it.
    ArchiveExtracted,
    /// Its root was sent.
    Exported,
    /// Its processes were listed.
    Listed,
    /// The user of an exec was found: it is created.
    ExecCreated {
        /// Which.
        exec: ExecId,
    },
    /// The user of an exec was not found: there is no such exec.
    ExecRefused {
        /// Which.
        exec: ExecId,
    },
    /// A client left by the keys for that.
    Detached {
        /// The exec that it was attached to; `None` for the container itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exec: Option<ExecId>,
    },
}

/// Why a process could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// Docker's exit code for it: 127 not found, 126 not executable, 128 otherwise.
    pub code: i32,
    /// The reason as runc words it, for example
    /// `exec: "foo": executable file not found in $PATH`.
    pub message: String,
}

impl StartFailure {
    /// That of a start which came to no process, with the code that Docker gives it.
    #[must_use]
    pub fn without_process(message: impl Into<String>) -> Self {
        Self {
            code: 128,
            message: message.into(),
        }
    }

    /// That of a start in whose middle the control plane ended.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::without_process("the start was interrupted; start the container again")
    }

    /// Whether it is Docker itself that refuses, before it asks the runtime: its
    /// message then stands alone, without what Docker puts before runc's.
    #[must_use]
    pub fn is_dockers_own(&self) -> bool {
        [
            "unable to find user ",
            "unable to find group ",
            "uids and gids must be in range",
            "Cannot mkdir: ",
        ]
        .iter()
        .any(|beginning| self.message.starts_with(beginning))
    }
}

/// How the container's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// 0–255; 128 + n after signal n.
    pub code: i32,
    /// Whether the agent saw the kernel kill for memory.
    pub oom_killed: bool,
    /// Whether it was stopped because the invocation's deadline came near.
    pub time_limit: bool,
    /// Whether it was asked to stop, and SIGKILL ended it when its grace was over.
    #[serde(default)]
    pub grace_over: bool,
}

/// Where a run's log is after its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum LogSpool {
    /// In this message: the spool's bytes, zlib-compressed, base64. For spools of at
    /// most [`LogSpool::MAX_INLINE_BYTES`] compressed.
    Inline {
        /// The bytes.
        data: String,
    },
    /// In the blob store, put there through the invocation's `log_upload_url`.
    Uploaded {
        /// Compressed size in bytes.
        bytes: u64,
    },
    /// It could not be stored; `docker logs` falls back to the operator's log and says so.
    Lost {
        /// Why.
        reason: String,
    },
}

impl LogSpool {
    /// Largest compressed spool that travels inside the exit report, in bytes:
    /// one 32 KB frame with room for base64 and the rest of the message.
    pub const MAX_INLINE_BYTES: usize = 16 * 1024;
}

/// Control plane → agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ControlToAgent {
    /// Answers the first `Hello` of a run: claimed, start the process. Answers
    /// every later one too, and changes nothing then.
    Welcome {
        /// The control plane's protocol version.
        version: u16,
    },
    /// The report of this number is recorded.
    Ack {
        /// The number.
        seq: u64,
        /// How many streams to this run the control plane has allowed so far. Before
        /// its end the agent waits, for its drain time, for those that have not
        /// come yet: a process may be over before its client's stream is there.
        #[serde(default)]
        streams: u64,
        /// Why what was reported does not count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// Do this once; answer with `CommandDone`.
    Command {
        /// The command's number, unique within the run.
        id: u64,
        /// What to do.
        command: Command,
    },
}

/// What an agent can be told to do at any time, attached clients or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "c", rename_all = "snake_case")]
pub enum Command {
    /// Send `signal`, wait `timeout_s` (forever when `None`), then SIGKILL.
    /// Done as soon as the signal is sent; the exit comes as a report.
    Stop {
        /// Signal number.
        signal: i32,
        /// Grace in seconds.
        timeout_s: Option<u32>,
    },
    /// Send a signal to the container's process (and, if it is SIGKILL, to all).
    Kill {
        /// Signal number.
        signal: i32,
    },
    /// Set the size of the container's terminal.
    Resize {
        /// New size.
        size: ConsoleSize,
    },
    /// Set the size of an exec's terminal.
    ResizeExec {
        /// Which exec.
        exec: ExecId,
        /// New size.
        size: ConsoleSize,
    },
    /// Start an exec whose output nobody reads (`docker exec -d`).
    StartExec {
        /// The signed [`super::grant::Grant`] for it.
        grant: String,
    },
    /// Store what the container wrote, all that differs from its image, as a layer of an
    /// image, compressed with gzip. Answered with [`Report::LayerStored`].
    StoreLayer {
        /// Where to PUT it.
        upload_url: String,
    },
    /// Stop every process of the container.
    Pause,
    /// Let them go on.
    Unpause,
    /// Probe the container's health, or do not, since its processes are stopped.
    Probe {
        /// Whether to.
        on: bool,
    },
}

/// Frontend → control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum FrontendMessage {
    /// First message on every connection.
    Hello {
        /// The frontend's protocol version.
        version: u16,
    },
    /// Send parts `from`, `from + 1` … of this answer (again). Asked after
    /// every reconnect, on a gap, and now and then while waiting.
    Resume {
        /// Which answer.
        answer: AnswerId,
        /// The number of the first part not yet seen.
        from: u64,
    },
    /// Forget the answer: its client went away before its end, or its blobs have been taken.
    /// An answer without blobs that was carried out to its end goes by itself.
    Done {
        /// Which answer.
        answer: AnswerId,
    },
    /// A datagram could not be delivered (410); a new ticket to this peer, please.
    Locate {
        /// Whom.
        peer: PeerId,
    },
}

/// Control plane → frontend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ControlToFrontend {
    /// Answers `Hello`.
    Welcome {
        /// The control plane's protocol version.
        version: u16,
    },
    /// One part of an answer.
    Part {
        /// Which answer.
        answer: AnswerId,
        /// 0, 1, 2 … within the answer.
        seq: u64,
        /// The part.
        part: Part,
    },
    /// The same for parts that follow one another, in one message.
    Parts {
        /// Which answer.
        answer: AnswerId,
        /// The number of the first.
        seq: u64,
        /// The parts.
        parts: Vec<Part>,
    },
    /// The answer is not known (any more). The frontend ends the request with an error.
    NoSuchAnswer {
        /// Which.
        answer: AnswerId,
    },
    /// A datagram sent with a ticket for this peer was not delivered: its connection is gone.
    Undeliverable {
        /// Whom.
        peer: PeerId,
    },
    /// Answers `Locate`: the present ticket for a peer.
    Located {
        /// Whom.
        peer: PeerId,
        /// The ticket; `None` while the peer has no connection.
        ticket: Option<super::relay::Ticket>,
    },
    /// The peer will not be back: its run is over, and it may not have had the
    /// time to end its streams. The frontend ends what it still carries to it.
    /// Sent when a run ends without its agent's own report, and in answer to
    /// `Locate` for such a run.
    PeerGone {
        /// Whom.
        peer: PeerId,
        /// Whether the platform ended it, as the container's state tells; otherwise what it
        /// still had for a client is lost to that client.
        #[serde(default)]
        crashed: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mac::Token;

    #[test]
    fn the_handshake_is_frozen() {
        let hello = AgentMessage::Hello {
            version: 1,
            certificate_sha256: "ab".into(),
            log_stream: None,
        };
        assert_eq!(
            serde_json::to_string(&hello).unwrap(),
            r#"{"t":"hello","version":1,"certificate_sha256":"ab"}"#
        );
        assert_eq!(
            serde_json::to_string(&ControlToAgent::Welcome { version: 1 }).unwrap(),
            r#"{"t":"welcome","version":1}"#
        );
        let connect = ConnectQuery::Agent {
            run: RunId::from_random([1; 16]),
            token: Token::presented("secret".into()),
            nonce: Nonce::from_random([2; 16]),
            version: 1,
        };
        assert_eq!(
            connect.to_query(),
            "role=agent&run=01010101010101010101010101010101&token=secret&nonce=02020202020202020202020202020202&v=1"
        );
    }

    #[test]
    fn a_connect_query_reads_back_as_it_was_written() {
        let query = ConnectQuery::Frontend {
            peer: PeerId::from_random([3; 14]),
            token: Token::from_random([4; 32]),
            version: 1,
        };
        let text = query.to_query();
        let fields: std::collections::HashMap<_, _> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        assert_eq!(
            ConnectQuery::from_fields(|name| fields.get(name).copied()),
            Some(query)
        );
        assert_eq!(ConnectQuery::from_fields(|_| None), None);
    }
}
