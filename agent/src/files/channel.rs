//! Archives between a thread that packs or extracts and a task that sends or receives.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Bytes of an archive that are collected before they are sent.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

/// Pieces that wait for a slow client; then the packing waits too.
pub(crate) const WAITING_PIECES: usize = 4;

/// Collects what is written and passes it on in pieces.
pub(crate) struct Pieces {
    pieces: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Pieces {
    pub(crate) const fn new(pieces: mpsc::Sender<Bytes>) -> Self {
        Self {
            pieces,
            buffer: Vec::new(),
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES + 4096));
        self.pieces
            .blocking_send(piece.into())
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What is received, for a thread of its own.
pub(crate) struct Received {
    received: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Received {
    pub(crate) const fn new(received: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            received,
            piece: Bytes::new(),
        }
    }
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.received.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let read = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
