//! What stands at the head of every QUIC stream between frontend and agent:
//! one length-prefixed text each way, then the raw bytes of the operation.
//!
//! Client → agent: the signed [`super::grant::Grant`]. Agent → client: a
//! [`StreamReply`] as JSON. Each is preceded by its length, four bytes, big-endian.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The agent's first word on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum StreamReply {
    /// The operation's bytes follow.
    Accepted,
    /// The answer has this status and these headers, beside those of every answer; its
    /// body follows.
    Answer {
        /// HTTP status.
        status: u16,
        /// Headers.
        headers: Vec<(String, String)>,
    },
    /// Nothing follows.
    Refused {
        /// Why, in a sentence for the client.
        message: String,
    },
}

/// A head longer than its reader allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("stream head of {0} bytes is too long")]
pub struct HeadTooLong(pub usize);

/// The bytes of a head: length, then text.
///
/// # Errors
/// When the text is longer than a `u32` can say.
pub fn encode_head(text: &str) -> Result<Vec<u8>, HeadTooLong> {
    let length = u32::try_from(text.len()).map_err(|_| HeadTooLong(text.len()))?;
    let mut bytes = Vec::with_capacity(4 + text.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Ok(bytes)
}

/// The length that four bytes say, if it is at most `limit`.
///
/// # Errors
/// When it is longer.
pub fn head_length(bytes: [u8; 4], limit: usize) -> Result<usize, HeadTooLong> {
    let length = u32::from_be_bytes(bytes) as usize;
    if length <= limit {
        Ok(length)
    } else {
        Err(HeadTooLong(length))
    }
}
