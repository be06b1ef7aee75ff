//! A client that is given output.

use sockerless_shared::logs::Record;
use sockerless_shared::protocol::stdcopy::{self, OutputStream};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{Active, Gone};

/// Which output a client wants, and in which form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// Raw, as with a terminal; else in frames.
    pub(super) raw: bool,
}

impl Wanted {
    /// Whether anything is wanted.
    pub(super) const fn any(self) -> bool {
        self.stdout || self.stderr
    }

    const fn wants(self, stream: OutputStream) -> bool {
        match stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        }
    }

    /// Appends a piece of output in the form that the client wants.
    pub(super) fn write(self, out: &mut Vec<u8>, stream: OutputStream, data: &[u8]) {
        if !self.wants(stream) || data.is_empty() {
            return;
        }
        if self.raw {
            out.extend_from_slice(data);
        } else {
            stdcopy::write_frame(out, stream, data);
        }
    }

    /// The bytes for some records.
    pub(super) fn render(self, records: &[Record]) -> Vec<u8> {
        let mut out = Vec::new();
        for record in records {
            self.write(&mut out, record.stream, &record.data);
        }
        out
    }
}

/// Sends bytes and counts them as taken.
pub(super) async fn give<W: AsyncWrite + Unpin>(
    send: &mut W,
    mut bytes: &[u8],
    active: &Active,
) -> Result<(), Gone> {
    while !bytes.is_empty() {
        let taken = send.write(bytes).await?;
        if taken == 0 {
            return Err(Gone);
        }
        active.took(taken);
        bytes = &bytes[taken..];
    }
    send.flush().await?;
    Ok(())
}
