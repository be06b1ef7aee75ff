//! What the control plane answers to the frontend.
//!
//! The frontend knows no Docker semantics: it forwards a request and carries
//! out an [`Answer`]. An answer is complete, or a numbered sequence of parts of
//! which the rest arrives over the relay. The four kinds of the design are
//! sequences of the same parts:
//!
//! | kind | parts |
//! |---|---|
//! | final | [`Answer::Final`] |
//! | deferred (`start`, `pull`) | none yet; later head, data, end |
//! | ask (cp, stats, top) | [`Part::Ask`], at once or when the agent is there |
//! | stream (attach, exec, logs -f) | head; then [`Part::Stream`], at once or when the agent is there |
//! | subscription (`wait`, `events`) | head; perhaps [`Part::EndAfter`]; later data … end |

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{AnswerId, BlobId, PeerId};
use crate::protocol::relay::Ticket;

/// A client's request as the frontend forwards it.
#[derive(Debug, Clone)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Path and query, as the client wrote them.
    pub path_and_query: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
    /// Where the frontend can be reached with the rest of the answer; `None`
    /// for a caller without a relay, such as `curl`.
    pub peer: Option<PeerId>,
}

impl Request {
    /// The value of the first header of this (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A request's body.
#[derive(Debug, Clone)]
pub enum Body {
    /// Here; at most [`MAX_INLINE_BODY_BYTES`].
    Inline(Bytes),
    /// In the blob store, put there before the request was sent.
    Blob(BlobId),
    /// Large, and still with the frontend: it goes to an agent's stream ([`Part::Ask`]),
    /// or is asked for with [`Answer::SendBody`].
    Waiting,
}

/// Largest body that travels inside a request or an answer, in bytes. Behind
/// an HTTP API, Lambda takes 6 MB, of which base64 leaves about 4.5.
pub const MAX_INLINE_BODY_BYTES: usize = 4 * 1024 * 1024;

/// What the frontend is to do with the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The response itself.
    Final(Response),
    /// The body that waits is wanted: put it into the blob store and send the request again.
    SendBody,
    /// These parts now (numbered from 0), the rest over the relay. If the last
    /// is [`Part::End`], there is no rest, and nobody need be told when it is done with.
    Parts {
        /// Under which name the rest arrives.
        id: AnswerId,
        /// What is known already.
        first: Vec<Part>,
    },
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status line and headers.
    pub head: Head,
    /// Body.
    pub body: Bytes,
    /// For how many seconds the frontend may give the same response to the
    /// same request without asking; 0 for never.
    pub cache_s: u32,
}

/// Status and headers of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// HTTP status. 101 takes the connection over: what the client sends from
    /// then on belongs to the stream.
    pub status: u16,
    /// Headers. `Content-Length` and `Transfer-Encoding` are the frontend's affair.
    pub headers: Vec<(String, String)>,
}

/// One step of an answer that is not final. Steps are carried out in the order
/// of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "p", rename_all = "snake_case")]
pub enum Part {
    /// Send this head.
    Head(Head),
    /// Send these bytes of the body.
    Data {
        /// The bytes; base64 in JSON.
        #[serde(with = "base64_bytes")]
        data: Bytes,
    },
    /// Send the bytes of this blob.
    Blob {
        /// Which.
        blob: BlobId,
    },
    /// Open a stream to an agent and carry bytes both ways until it ends. When the
    /// client goes away first, the stream is reset.
    Stream(StreamTarget),
    /// Open a stream to an agent, send it the body of the client's request, and answer as
    /// the agent says ([`crate::protocol::stream::StreamReply::Answer`]); the body of the
    /// answer is what it sends.
    Ask {
        /// The agent's stream.
        target: StreamTarget,
        /// Headers beside the agent's own.
        headers: Vec<(String, String)>,
    },
    /// The response is complete this much later, whatever comes until then. The control
    /// plane, which sleeps meanwhile, need not wake up for it.
    EndAfter {
        /// Milliseconds.
        ms: u64,
    },
    /// The response is complete.
    End,
}

/// An agent's stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTarget {
    /// The agent's address on the relay.
    pub peer: PeerId,
    /// Leave to send to it.
    pub ticket: Ticket,
    /// SHA-256 of the agent's certificate (DER), in hex, to be pinned.
    pub certificate_sha256: String,
    /// The signed grant to present.
    pub grant: String,
    /// Whether the agent most likely leaves when this stream has ended: nothing is gained by
    /// keeping the connection for others, and the agent need not wait for an acknowledgement.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Bytes,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Bytes::from)
            .map_err(D::Error::custom)
    }
}
