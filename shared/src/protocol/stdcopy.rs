//! Docker's framing of several streams on one connection (Engine API,
//! `ContainerAttach`, "Stream format"): one byte for the stream, three zero
//! bytes, four bytes of length, big-endian, then the payload.

use serde::{Deserialize, Serialize};

/// Which of the process's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// Docker's number for it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// The stream of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// The eight bytes before a payload.
#[must_use]
pub fn header(stream: OutputStream, length: u32) -> [u8; 8] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream.number(), 0, 0, 0, a, b, c, d]
}

/// The number of the stream by which a daemon says that it failed; Docker's clients end with
/// an error then ("error from daemon in stream").
const ERROR_STREAM: u8 = 3;

/// A frame by which a client learns that the stream failed, and why. Sentences are cut at
/// 64 KB.
#[must_use]
pub fn error_frame(sentence: &str) -> Vec<u8> {
    let text = sentence.as_bytes();
    let text = &text[..text.len().min(usize::from(u16::MAX))];
    let [.., a, b] = text.len().to_be_bytes();
    let mut frame = vec![ERROR_STREAM, 0, 0, 0, 0, 0, a, b];
    frame.extend_from_slice(text);
    frame
}

/// Appends one frame. Payloads beyond `u32::MAX` bytes are split.
pub fn write_frame(out: &mut Vec<u8>, stream: OutputStream, payload: &[u8]) {
    for chunk in payload.chunks(u32::MAX as usize) {
        // A chunk is at most u32::MAX bytes long.
        #[allow(clippy::cast_possible_truncation)]
        out.extend_from_slice(&header(stream, chunk.len() as u32));
        out.extend_from_slice(chunk);
    }
}
