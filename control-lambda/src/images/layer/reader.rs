//! The reader itself.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use tar_core::EntryType;
use tar_core::parse::{Limits as TarLimits, ParseError, ParseEvent, ParsedEntry, Parser};

use super::super::digest::{DiffId, Digest};
use super::path::shown;
use super::{Attributes, LayerError, LayerLimits, LayerPath, LayerSink, compression};

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRead {
    /// The digest of the uncompressed stream.
    pub diff_id: DiffId,
    /// Bytes in its files and symbolic links.
    pub size: u64,
    /// Entries.
    pub entries: u64,
}

/// Largest run of header blocks that is held in memory.
const MAX_HEADER_BYTES: usize = 4 * 1024 * 1024;
const CHUNK_BYTES: usize = 128 * 1024;

/// Reads a layer, compressed or not, to the end of `source`. With `expected`,
/// [`LayerSink::finish`] is called only when the digest is that one.
///
/// # Errors
/// See [`LayerError`]; the sink may then hold a part of the layer, to be
/// thrown away.
pub fn read(
    source: impl Read + Send,
    expected: Option<DiffId>,
    limits: LayerLimits,
    sink: &mut dyn LayerSink,
) -> Result<LayerRead, LayerError> {
    let decoder = compression::decoder(source).map_err(read_error)?;
    let mut stream = Stream {
        source: decoder,
        hash: Sha256::new(),
        passed: 0,
        limit: limits.unpacked_bytes,
        buffer: vec![0; CHUNK_BYTES],
        start: 0,
        end: 0,
    };
    let mut parser = Parser::new(TarLimits {
        max_metadata_size: 1024 * 1024,
        max_path_len: Some(4096),
        ..TarLimits::default()
    });
    let mut read = LayerRead {
        diff_id: DiffId(Digest::of(b"")),
        size: 0,
        entries: 0,
    };
    loop {
        let (consumed, entry) = match parser.parse(stream.buffered()) {
            Ok(ParseEvent::NeedData { min_bytes }) => {
                // At least one byte more, or a parser that asks for what it has
                // would be asked for ever.
                let more = stream.buffered().len() + 1;
                if stream.fill(min_bytes.max(more))? {
                    continue;
                }
                // Some writers leave the two closing blocks out.
                if stream.buffered().iter().all(|b| *b == 0) {
                    break;
                }
                return Err(unexpected_end());
            }
            Ok(ParseEvent::Entry { consumed, entry }) => {
                let whole = vec![(0, entry.size)];
                let size = entry.size;
                (consumed, Some(Entry::new(&entry, size, whole)?))
            }
            Ok(ParseEvent::SparseEntry {
                consumed,
                entry,
                sparse_map,
                real_size,
            }) => {
                let pieces = sparse_map.iter().map(|e| (e.offset, e.length)).collect();
                (consumed, Some(Entry::new(&entry, real_size, pieces)?))
            }
            Ok(ParseEvent::GlobalExtensions { consumed, .. }) => (consumed, None),
            Ok(ParseEvent::End { consumed }) => {
                stream.consume(consumed);
                break;
            }
            Err(e) => return Err(LayerError::Corrupt(tar_error(&e))),
        };
        stream.consume(consumed);
        let Some(entry) = entry else { continue };
        read.entries += 1;
        if read.entries > limits.entries {
            return Err(LayerError::TooManyEntries(limits.entries));
        }
        read.size = read.size.saturating_add(entry.unpacked_size());
        if read.size > limits.unpacked_bytes {
            return Err(LayerError::TooLarge(limits.unpacked_bytes));
        }
        entry.apply(&mut stream, sink)?;
    }
    stream.drain()?;
    read.diff_id = DiffId(Digest::from_hash(stream.hash));
    match expected {
        Some(expected) if expected != read.diff_id => Err(LayerError::WrongDiffId {
            expected,
            actual: read.diff_id,
        }),
        _ => {
            sink.finish()?;
            Ok(read)
        }
    }
}

/// An entry, checked and on its own.
struct Entry {
    path: LayerPath,
    attributes: Attributes,
    kind: Kind,
    /// How many bytes of content follow the header, without padding.
    stored: u64,
}

enum Kind {
    Directory,
    File {
        size: u64,
        pieces: Vec<(u64, u64)>,
    },
    Symlink(Vec<u8>),
    HardLink(LayerPath),
    Fifo,
    Whiteout(LayerPath),
    Opaque(LayerPath),
    /// A device, or bookkeeping of an old storage driver.
    Skipped,
}

impl Entry {
    fn new(
        entry: &ParsedEntry<'_>,
        size: u64,
        pieces: Vec<(u64, u64)>,
    ) -> Result<Self, LayerError> {
        let path = LayerPath::new(&entry.path)?;
        let target = || entry.link_target.as_deref().unwrap_or_default();
        let name = path.file_name();
        let mut stored = 0;
        let kind = if let Some(hidden) = name.strip_prefix(b".wh.") {
            if hidden == b".wh..opq" {
                Kind::Opaque(path.parent())
            } else if hidden.starts_with(b".wh.") {
                Kind::Skipped
            } else {
                let hidden = path.with_file_name(hidden);
                Kind::Whiteout(hidden.map_err(|_| LayerError::Whiteout(shown(&entry.path)))?)
            }
        } else {
            match entry.entry_type {
                EntryType::Directory => Kind::Directory,
                // Wherever it leads, it leads there from the container's own root.
                EntryType::Symlink if target().contains(&0) || target().is_empty() => {
                    return Err(LayerError::Name(shown(&entry.path)));
                }
                EntryType::Symlink => Kind::Symlink(target().to_vec()),
                EntryType::Link => Kind::HardLink(
                    LayerPath::new(target())
                        .map_err(|_| LayerError::HardLinkOutside(shown(target())))?,
                ),
                EntryType::Fifo => Kind::Fifo,
                EntryType::Char | EntryType::Block => Kind::Skipped,
                EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse
                    // Old archives mark directories by the slash alone.
                    if entry.path.ends_with(b"/") && entry.size == 0 =>
                {
                    Kind::Directory
                }
                EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => {
                    stored = entry.size;
                    check_pieces(&pieces, size, stored)?;
                    Kind::File { size, pieces }
                }
                other => {
                    return Err(LayerError::Corrupt(format!(
                        "unhandled tar header type {}",
                        other.to_byte()
                    )));
                }
            }
        };
        // Types that consist of a header only may state the size of what they
        // stand for; nothing follows them. Whiteouts are files that may not be empty.
        if matches!(kind, Kind::Whiteout(_) | Kind::Opaque(_) | Kind::Skipped)
            && matches!(entry.entry_type, EntryType::Regular | EntryType::Continuous)
        {
            stored = entry.size;
        }
        if path.is_root() && !matches!(kind, Kind::Directory) {
            return Err(LayerError::Name(shown(&entry.path)));
        }
        Ok(Self {
            path,
            attributes: attributes(entry),
            kind,
            stored,
        })
    }

    fn unpacked_size(&self) -> u64 {
        match &self.kind {
            Kind::File { size, .. } => *size,
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }

    fn apply<R: Read>(
        &self,
        stream: &mut Stream<R>,
        sink: &mut dyn LayerSink,
    ) -> Result<(), LayerError> {
        let path = &self.path;
        let attributes = &self.attributes;
        match &self.kind {
            Kind::Directory => sink.directory(path, attributes)?,
            Kind::Symlink(target) => sink.symlink(path, attributes, target)?,
            Kind::HardLink(target) => sink.hard_link(path, target)?,
            Kind::Fifo => sink.fifo(path, attributes)?,
            Kind::Whiteout(hidden) => sink.whiteout(hidden)?,
            Kind::Opaque(directory) => sink.opaque(directory)?,
            Kind::Skipped => sink.left_out(path)?,
            Kind::File { size, pieces } => {
                sink.file(path, attributes, *size)?;
                for (offset, length) in pieces {
                    let mut at = *offset;
                    stream.pass(*length, |data| {
                        sink.file_data(at, data)?;
                        at += data.len() as u64;
                        Ok(())
                    })?;
                }
                sink.file_end()?;
                return stream.pass_padding(padding(self.stored));
            }
        }
        stream.pass(self.stored, |_| Ok(()))?;
        stream.pass_padding(padding(self.stored))
    }
}

/// The pieces of a sparse file lie one behind the other within its size, and
/// are together as long as what is stored.
fn check_pieces(pieces: &[(u64, u64)], size: u64, stored: u64) -> Result<(), LayerError> {
    let mut position = 0u64;
    let mut total = 0u64;
    for (offset, length) in pieces {
        let end = offset.checked_add(*length).filter(|end| *end <= size);
        match end {
            Some(end) if *offset >= position => position = end,
            _ => {
                return Err(LayerError::Corrupt(
                    "a sparse file's map does not fit the file".to_owned(),
                ));
            }
        }
        total += length;
    }
    if total == stored {
        Ok(())
    } else {
        Err(LayerError::Corrupt(
            "a sparse file's map does not fit its content".to_owned(),
        ))
    }
}

fn padding(size: u64) -> u64 {
    (512 - size % 512) % 512
}

fn attributes(entry: &ParsedEntry<'_>) -> Attributes {
    let (mtime_s, mtime_ns) = mtime(entry);
    Attributes {
        mode: entry.mode & 0o7777,
        // Ids of more than 32 bits exist in no Linux; Docker's chown cuts them off too.
        uid: entry.uid as u32,
        gid: entry.gid as u32,
        mtime_s,
        mtime_ns,
        xattrs: entry
            .xattrs
            .iter()
            .filter(|(name, _)| is_kept_xattr(name))
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
    }
}

fn is_kept_xattr(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
}

/// A PAX header may have fractions of a second, and times before 1970.
fn mtime(entry: &ParsedEntry<'_>) -> (i64, u32) {
    let plain = (i64::try_from(entry.mtime).unwrap_or(0), 0);
    let Some(pax) = entry.pax else { return plain };
    let text = tar_core::PaxExtensions::new(pax)
        .filter_map(Result::ok)
        .filter(|extension| extension.key() == Ok("mtime"))
        .filter_map(|extension| extension.value().ok())
        .last();
    let Some(text) = text else { return plain };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    match (whole.parse::<i64>(), digits.parse::<u32>()) {
        // -1.25 is 0.75 s after -2.
        (Ok(s), Ok(ns)) if whole.starts_with('-') && ns > 0 => (s - 1, 1_000_000_000 - ns),
        (Ok(s), Ok(ns)) => (s, ns),
        _ => plain,
    }
}

/// The uncompressed stream: buffered, hashed and counted.
struct Stream<R> {
    source: R,
    hash: Sha256,
    passed: u64,
    limit: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Stream<R> {
    fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Reads until at least `wanted` bytes are buffered; `false` when the stream
    /// ends before.
    fn fill(&mut self, wanted: usize) -> Result<bool, LayerError> {
        if wanted > MAX_HEADER_BYTES {
            return Err(LayerError::Corrupt(format!(
                "an entry's header is larger than {MAX_HEADER_BYTES} bytes"
            )));
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.end < wanted {
            let read = read_some(&mut self.source, &mut self.buffer[self.end..])?;
            if read == 0 {
                return Ok(false);
            }
            self.hash.update(&self.buffer[self.end..self.end + read]);
            self.end += read;
            self.passed += read as u64;
            if self.passed > self.limit {
                return Err(LayerError::TooLarge(self.limit));
            }
        }
        Ok(true)
    }

    /// Hands the next `bytes` bytes to `take`.
    fn pass(
        &mut self,
        mut bytes: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        while bytes > 0 {
            if self.start == self.end && !self.refill()? {
                return Err(unexpected_end());
            }
            let available = self.end - self.start;
            let now = usize::try_from(bytes).map_or(available, |bytes| bytes.min(available));
            take(&self.buffer[self.start..self.start + now])?;
            self.start += now;
            bytes -= now as u64;
        }
        Ok(())
    }

    /// Leaves out the zeroes behind an entry's content. Some writers (umoci's `insert`) end
    /// without them, which Go's reader takes.
    fn pass_padding(&mut self, mut bytes: u64) -> Result<(), LayerError> {
        while bytes > 0 {
            if self.start == self.end && !self.refill()? {
                return Ok(());
            }
            let available = (self.end - self.start) as u64;
            let now = bytes.min(available);
            self.consume(usize::try_from(now).unwrap_or(self.end));
            bytes -= now;
        }
        Ok(())
    }

    /// Reads on to the end, so that the digest is of the whole stream.
    fn drain(&mut self) -> Result<(), LayerError> {
        self.start = self.end;
        while self.refill()? {
            self.start = self.end;
        }
        Ok(())
    }

    /// Into an empty buffer, as much as there is.
    fn refill(&mut self) -> Result<bool, LayerError> {
        self.start = 0;
        self.end = 0;
        self.fill(1)
    }
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, LayerError> {
    loop {
        match source.read(buffer) {
            Ok(read) => return Ok(read),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(read_error(e)),
        }
    }
}

fn unexpected_end() -> LayerError {
    LayerError::Interrupted("unexpected EOF".to_owned())
}

/// A header that is none has Docker's words, everything else the parser's own.
pub(crate) fn tar_error(error: &ParseError) -> String {
    match error {
        ParseError::Header(_) => "archive/tar: invalid tar header".to_owned(),
        other => format!("layer is damaged: {other}"),
    }
}

/// Errors of the decoders mean damage, those of what feeds them mean interruption.
fn read_error(error: io::Error) -> LayerError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            LayerError::Corrupt(format!("layer is damaged: {error}"))
        }
        io::ErrorKind::UnexpectedEof => unexpected_end(),
        _ => LayerError::Interrupted(format!("layer broke off: {error}")),
    }
}
