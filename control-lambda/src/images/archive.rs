//! Archives of images as they arrive: Docker's (`docker save`) and OCI layouts.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tar_core::EntryType;
use tar_core::parse::{Limits as TarLimits, ParseEvent, Parser};
use thiserror::Error;
use tokio::sync::mpsc;

use super::digest::Digest;
use super::feed;
use super::layer::compression::{Compression, MAGIC_BYTES, decoder};
use super::layer::{LayerPath, tar_error};
use super::manifest::{Descriptor, Index, MAX_MANIFEST_BYTES};
use crate::go_syntax;
use crate::ports::blobs::{BlobError, ByteStream};

/// Most entries of an archive.
pub const MAX_ENTRIES: usize = 20_000;
/// Most bytes of an archive, uncompressed.
pub const MAX_ARCHIVE_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Most images in one archive.
pub const MAX_IMAGES: usize = 500;
/// Most names of one image in an archive.
const MAX_TAGS: usize = 1000;
/// Stands for the top of the archive where Docker's words name the folder into
/// which it has unpacked it; here an archive is never unpacked.
const UNPACKED: &str = "/docker-import-0";
const MAX_HEADER_BYTES: usize = 4 * 1024 * 1024;
const CHUNK_BYTES: usize = 128 * 1024;

/// Why an archive was not taken. Where Docker has words for it, they are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArchiveError {
    /// The body ended or failed before the archive did.
    #[error("{0}")]
    Interrupted(String),
    /// Not a tar archive, or damaged.
    #[error("{0}")]
    Corrupt(String),
    /// Too large.
    #[error("image archive has more than {MAX_ARCHIVE_BYTES} bytes, the most that is allowed")]
    TooLarge,
    /// Too many entries.
    #[error("image archive has more than {MAX_ENTRIES} entries, the most that is allowed")]
    TooManyEntries,
    /// A list that is too large to be one.
    #[error("{0} in the image archive has more than {MAX_MANIFEST_BYTES} bytes")]
    ListTooLarge(String),
    /// Neither kind of archive. Docker then looks for the list that archives
    /// had before 2016, and says that it is not there.
    #[error("open {UNPACKED}/repositories: no such file or directory")]
    NoManifest,
    /// Docker's list is none.
    #[error("{0}")]
    Manifest(String),
    /// Something is named that is not there.
    #[error("open {UNPACKED}/{0}: no such file or directory")]
    Missing(String),
    /// A name that leads out of the archive.
    #[error("invalid entry name {0:?}")]
    Outside(String),
}

/// One item of Docker's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestItem {
    /// The config's file.
    #[serde(default)]
    pub config: String,
    /// Names.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// The layers' files, lowest first.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// What an archive's content turned out to be, file by file.
#[derive(Debug, Default)]
pub struct Contents {
    files: HashMap<LayerPath, Digest>,
    links: HashMap<LayerPath, LayerPath>,
    docker: Option<Vec<u8>>,
    oci: Option<Vec<u8>>,
}

impl Contents {
    /// Adds a file that is stored.
    pub fn add_file(&mut self, path: LayerPath, digest: Digest) {
        self.files.insert(path, digest);
    }

    /// Adds a link.
    pub fn add_link(&mut self, path: LayerPath, target: LayerPath) {
        self.links.insert(path, target);
    }

    /// Adds one of the lists, told by its path.
    pub fn add_list(&mut self, list: List, bytes: Vec<u8>) {
        match list {
            List::Docker => self.docker = Some(bytes),
            List::Oci => self.oci = Some(bytes),
        }
    }

    /// Docker's list of images, if there is one.
    ///
    /// # Errors
    /// [`ArchiveError::Manifest`].
    pub fn docker_images(&self) -> Result<Option<Vec<ManifestItem>>, ArchiveError> {
        let Some(bytes) = &self.docker else {
            return Ok(None);
        };
        // As Docker does, only the first value is read.
        let items = serde_json::Deserializer::from_slice(bytes)
            .into_iter::<Option<Vec<ManifestItem>>>()
            .next();
        let items = match items {
            Some(Ok(Some(items))) => items,
            Some(Ok(None)) => {
                return Err(ArchiveError::Manifest(
                    "invalid manifest, manifest cannot be null (but can be [])".to_owned(),
                ));
            }
            Some(Err(error)) => {
                return Err(ArchiveError::Manifest(
                    go_syntax::complaint(bytes)
                        .unwrap_or_else(|| format!("invalid manifest: {error}")),
                ));
            }
            None => return Err(ArchiveError::Manifest("EOF".to_owned())),
        };
        let tags = |item: &ManifestItem| item.repo_tags.as_ref().map_or(0, Vec::len);
        if items.len() > MAX_IMAGES || items.iter().any(|item| tags(item) > MAX_TAGS) {
            return Err(ArchiveError::Manifest(format!(
                "invalid manifest: at most {MAX_IMAGES} images with {MAX_TAGS} names each are allowed"
            )));
        }
        Ok(Some(items))
    }

    /// An OCI layout's index, if there is one.
    ///
    /// # Errors
    /// [`ArchiveError::Manifest`].
    pub fn oci_index(&self) -> Result<Option<Index>, ArchiveError> {
        let Some(bytes) = &self.oci else {
            return Ok(None);
        };
        let index: Index = serde_json::from_slice(bytes)
            .map_err(|e| ArchiveError::Manifest(format!("invalid index.json: {e}")))?;
        if index.manifests.len() > MAX_IMAGES {
            return Err(ArchiveError::Manifest(format!(
                "invalid manifest: at most {MAX_IMAGES} images are allowed"
            )));
        }
        Ok(Some(index))
    }

    /// The digest of the file of this name, through links.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`] and [`ArchiveError::Outside`].
    pub fn digest(&self, name: &str) -> Result<Digest, ArchiveError> {
        let mut path = clean(name.as_bytes())?;
        for _ in 0..8 {
            if let Some(digest) = self.files.get(&path) {
                return Ok(*digest);
            }
            match self.links.get(&path) {
                Some(target) => path = target.clone(),
                None => break,
            }
        }
        Err(ArchiveError::Missing(name.chars().take(200).collect()))
    }

    /// That a file of this digest was in the archive.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`].
    pub fn require(&self, digest: &Digest) -> Result<(), ArchiveError> {
        if self.files.values().any(|d| d == digest) {
            Ok(())
        } else {
            Err(ArchiveError::Missing(format!(
                "blobs/sha256/{}",
                digest.hex()
            )))
        }
    }
}

/// The name under which an index entry wants to be known, if it says one: a
/// full one, or only a tag.
#[must_use]
pub fn oci_name(descriptor: &Descriptor) -> Option<&str> {
    [
        "io.containerd.image.name",
        "org.opencontainers.image.ref.name",
    ]
    .iter()
    .find_map(|key| descriptor.annotations.get(*key))
    .map(String::as_str)
}

/// The lists that say which images an archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `manifest.json`.
    Docker,
    /// `index.json`.
    Oci,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveEntry {
    /// One of the lists; its content follows.
    List(List),
    /// A file; its content follows. `named` is the digest that its name says it has.
    File {
        /// Where.
        path: LayerPath,
        /// In an OCI layout's `blobs/sha256`.
        named: Option<Digest>,
        /// In bytes.
        size: u64,
    },
    /// A link to another entry.
    Link {
        /// Where.
        path: LayerPath,
        /// To where.
        target: LayerPath,
    },
    /// Of no interest.
    Other,
}

/// Walks through an archive as it arrives.
pub struct ArchiveReader {
    body: ByteStream,
    parser: Parser,
    buffer: BytesMut,
    ended: bool,
    passed: u64,
    entries: usize,
    /// Content and padding of the present entry that are still to come.
    content: u64,
    padding: u64,
}

impl ArchiveReader {
    /// Of a body that may be compressed as a whole.
    ///
    /// # Errors
    /// When the beginning cannot be read.
    pub async fn new(body: ByteStream) -> Result<Self, ArchiveError> {
        Ok(Self {
            body: decompressed(body).await?,
            parser: Parser::new(TarLimits {
                max_metadata_size: 64 * 1024,
                max_path_len: Some(4096),
                ..TarLimits::default()
            }),
            buffer: BytesMut::new(),
            ended: false,
            passed: 0,
            entries: 0,
            content: 0,
            padding: 0,
        })
    }

    /// The next entry; what is left of the one before is skipped.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn next_entry(&mut self) -> Result<Option<ArchiveEntry>, ArchiveError> {
        while self.content_piece().await?.is_some() {}
        loop {
            let (consumed, entry) = match self.parser.parse(&self.buffer) {
                Ok(ParseEvent::NeedData { min_bytes }) => {
                    if self.fill(min_bytes).await? {
                        continue;
                    }
                    // Docker takes nothing at all for an archive without entries.
                    if self.buffer.iter().all(|b| *b == 0) {
                        return Ok(None);
                    }
                    return Err(ArchiveError::Interrupted("unexpected EOF".to_owned()));
                }
                Ok(ParseEvent::Entry { consumed, entry }) => {
                    let is_file =
                        matches!(entry.entry_type, EntryType::Regular | EntryType::Continuous)
                            && !entry.path.ends_with(b"/");
                    let kind = match entry.entry_type {
                        EntryType::Symlink | EntryType::Link => {
                            let path = clean(&entry.path)?;
                            let target = entry.link_target.as_deref().unwrap_or_default();
                            let target = if entry.entry_type == EntryType::Link {
                                clean(target)?
                            } else {
                                path.symlink_target(target).map_err(|_| outside(target))?
                            };
                            ArchiveEntry::Link { path, target }
                        }
                        _ if is_file => file_entry(clean(&entry.path)?, entry.size),
                        _ => ArchiveEntry::Other,
                    };
                    (consumed, Some((kind, if is_file { entry.size } else { 0 })))
                }
                Ok(ParseEvent::SparseEntry { .. }) => {
                    return Err(ArchiveError::Corrupt(
                        "image archive has a sparse file; pack it again without --sparse"
                            .to_owned(),
                    ));
                }
                Ok(ParseEvent::GlobalExtensions { consumed, .. }) => (consumed, None),
                Ok(ParseEvent::End { .. }) => return self.drain().await.map(|()| None),
                Err(e) => return Err(ArchiveError::Corrupt(tar_error(&e))),
            };
            self.advance(consumed);
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ArchiveError::TooManyEntries);
            }
            if let Some((kind, size)) = entry {
                self.content = size;
                self.padding = (512 - size % 512) % 512;
                return Ok(Some(kind));
            }
        }
    }

    /// The next piece of the present entry's content; `None` at its end.
    ///
    /// # Errors
    /// [`ArchiveError::Interrupted`] and [`ArchiveError::TooLarge`].
    pub async fn content_piece(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        while self.content > 0 || self.padding > 0 {
            if self.buffer.is_empty() && !self.fill(1).await? {
                return Err(ArchiveError::Interrupted("unexpected EOF".to_owned()));
            }
            let was_content = self.content > 0;
            let left = if was_content {
                &mut self.content
            } else {
                &mut self.padding
            };
            let take = usize::try_from(*left)
                .map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            *left -= take as u64;
            let piece = self.take(take);
            if was_content {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The present entry's content, if it is small enough to be a list.
    ///
    /// # Errors
    /// [`ArchiveError::ListTooLarge`], and those of reading.
    pub async fn list_content(&mut self, list: List) -> Result<Vec<u8>, ArchiveError> {
        if self.content > MAX_MANIFEST_BYTES as u64 {
            let name = match list {
                List::Docker => "manifest.json",
                List::Oci => "index.json",
            };
            return Err(ArchiveError::ListTooLarge(name.to_owned()));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = self.content_piece().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn advance(&mut self, bytes: usize) {
        let _ = self.take(bytes.min(self.buffer.len()));
    }

    fn take(&mut self, bytes: usize) -> Bytes {
        self.buffer.split_to(bytes).freeze()
    }

    /// Reads until at least `wanted` bytes are buffered; `false` when the body
    /// ends before.
    async fn fill(&mut self, wanted: usize) -> Result<bool, ArchiveError> {
        if wanted > MAX_HEADER_BYTES {
            return Err(ArchiveError::Corrupt(format!(
                "image archive has an entry whose header is larger than {MAX_HEADER_BYTES} bytes"
            )));
        }
        while self.buffer.len() < wanted {
            if self.ended {
                return Ok(false);
            }
            match self.body.next().await {
                None => self.ended = true,
                Some(Ok(piece)) => {
                    self.passed += piece.len() as u64;
                    if self.passed > MAX_ARCHIVE_BYTES {
                        return Err(ArchiveError::TooLarge);
                    }
                    self.buffer.extend_from_slice(&piece);
                }
                Some(Err(e)) => {
                    return Err(ArchiveError::Interrupted(format!(
                        "image archive broke off: {e}"
                    )));
                }
            }
        }
        Ok(true)
    }

    /// Whoever sends an archive is not cut off before its end.
    async fn drain(&mut self) -> Result<(), ArchiveError> {
        loop {
            self.buffer.clear();
            if !self.fill(1).await? {
                return Ok(());
            }
        }
    }
}

fn file_entry(path: LayerPath, size: u64) -> ArchiveEntry {
    match path.as_bytes() {
        b"manifest.json" => ArchiveEntry::List(List::Docker),
        b"index.json" => ArchiveEntry::List(List::Oci),
        b"oci-layout" | b"repositories" | b"VERSION" => ArchiveEntry::Other,
        name => {
            // A name that only looks like a digest says nothing.
            let named = name
                .strip_prefix(b"blobs/sha256/")
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| format!("sha256:{digits}").parse().ok());
            ArchiveEntry::File { path, named, size }
        }
    }
}

fn clean(name: &[u8]) -> Result<LayerPath, ArchiveError> {
    LayerPath::new(name).map_err(|_| outside(name))
}

fn outside(name: &[u8]) -> ArchiveError {
    ArchiveError::Outside(String::from_utf8_lossy(name).chars().take(200).collect())
}

/// The body without its compression, if it has one.
async fn decompressed(mut body: ByteStream) -> Result<ByteStream, ArchiveError> {
    let mut start = BytesMut::new();
    while start.len() < MAGIC_BYTES {
        match body.next().await {
            None => break,
            Some(Ok(piece)) => start.extend_from_slice(&piece),
            Some(Err(e)) => {
                return Err(ArchiveError::Interrupted(format!(
                    "image archive broke off: {e}"
                )));
            }
        }
    }
    let compression = Compression::of(&start);
    let whole: ByteStream = Box::pin(futures_util::stream::iter([Ok(start.freeze())]).chain(body));
    if compression == Compression::None {
        return Ok(whole);
    }
    let (sender, receiver) = mpsc::channel(4);
    let closed = sender.clone();
    let work = feed::run(whole, move |reader| {
        let copy = || -> std::io::Result<()> {
            let mut decoder = decoder(reader)?;
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = std::io::Read::read(&mut decoder, &mut chunk)?;
                chunk.truncate(read);
                if read == 0 || sender.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(e) = copy() {
            let _ = sender.blocking_send(Err(BlobError::Interrupted(e.to_string())));
        }
    });
    tokio::spawn(async move {
        // Nobody reads any more: dropping the work ends it.
        tokio::select! {
            _ = work => {}
            () = closed.closed() => {}
        }
    });
    Ok(feed::receive(receiver))
}
