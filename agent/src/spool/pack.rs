//! A finished spool, compressed for the journey to the control plane.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sockerless_shared::logs::spool::encode;
use sockerless_shared::protocol::control::LogSpool;

use super::ring::nameless_file;
use super::{Next, Spool};

/// Spools up to this many bytes are compressed as well as possible; beyond, speed counts.
const SMALL_BYTES: u64 = 1024 * 1024;

/// A compressed spool.
#[derive(Debug)]
pub(crate) enum Packed {
    /// Small enough to travel inside the exit report.
    Small(Vec<u8>),
    /// Too large for it: a file, read from its start, and its length in bytes.
    Large(File, u64),
}

/// Compresses the whole of a closed spool; may take long, call it where
/// blocking is allowed. `folder` is where a large result is kept.
///
/// # Errors
/// When the spool cannot be read or the result not be written.
pub(crate) fn pack(spool: &Spool, folder: &Path) -> io::Result<Packed> {
    let level = if spool.size() <= SMALL_BYTES {
        Compression::default()
    } else {
        Compression::fast()
    };
    let sink = Sink {
        memory: Vec::new(),
        file: None,
        written: 0,
        folder: folder.to_owned(),
    };
    let mut encoder = ZlibEncoder::new(sink, level);
    let mut reader = spool.read_log();
    let mut bytes = Vec::new();
    while let Next::Records(records) = reader.poll()? {
        bytes.clear();
        for record in records {
            encode(&mut bytes, record.stream, record.time, &record.data);
        }
        encoder.write_all(&bytes)?;
    }
    encoder.finish()?.finish()
}

/// In memory while it is small, then in a file.
struct Sink {
    memory: Vec<u8>,
    file: Option<File>,
    written: u64,
    folder: PathBuf,
}

impl Sink {
    fn finish(self) -> io::Result<Packed> {
        match self.file {
            None => Ok(Packed::Small(self.memory)),
            Some(mut file) => {
                file.rewind()?;
                Ok(Packed::Large(file, self.written))
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && self.memory.len() + bytes.len() > LogSpool::MAX_INLINE_BYTES {
            let mut file = nameless_file(&self.folder)?;
            file.write_all(&std::mem::take(&mut self.memory))?;
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
