//! `docker save`: images as an archive that is both an OCI layout and Docker's.
//!
//! The archive's blobs are the image's own, compressed as they are: its manifest, if it is
//! OCI's, keeps its digest, and nothing has to be unpacked. (An Engine with containerd's store does the same;
//! one with its older store has only unpacked layers, and so packs them anew.)

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use sockerless_shared::ids::Namespace;
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

use super::catalog::{CatalogError, ImageRecord};
use super::digest::Digest;
use super::manifest::{Descriptor, Manifest, ManifestError, ManifestOrIndex, media};
use super::pins::PinSet;
use super::platform::Platform;
use super::push::tagged;
use super::reference::{ImageName, Reference};
use super::store::{Images, StoreError};
use crate::ports::Registry;
use crate::ports::blobs::{BlobError, ByteStream};
use crate::ports::registry::RegistryError;

/// Blocks of a tar.
const BLOCK: usize = 512;

/// Why nothing was saved. The texts are Docker's where it has some.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SaveError {
    /// Not a name, or no such image.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// For another platform.
    #[error("no suitable export target found for platform {0}")]
    Platform(Platform),
    /// Reading it.
    #[error(transparent)]
    Store(StoreError),
    /// A list could not be written; a bug.
    #[error("image archive cannot be written: {0}")]
    Encoding(String),
}

impl SaveError {
    /// The HTTP status that Docker gives for it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Catalog(CatalogError::NoSuchImage(_)) => 404,
            Self::Catalog(_) | Self::Platform(_) | Self::Store(_) | Self::Encoding(_) => 500,
        }
    }
}

impl From<RegistryError> for SaveError {
    fn from(error: RegistryError) -> Self {
        Self::Store(error.into())
    }
}

impl From<ManifestError> for SaveError {
    fn from(error: ManifestError) -> Self {
        Self::Store(error.into())
    }
}

/// What an archive is to hold: images, each with the names that it has there.
#[derive(Debug)]
pub struct Chosen {
    images: Vec<(ImageRecord, Vec<Reference>)>,
}

impl Chosen {
    fn add(&mut self, image: ImageRecord, name: Option<Reference>) {
        let known = self
            .images
            .iter_mut()
            .find(|(known, _)| known.id == image.id);
        match (known, name) {
            (Some((_, names)), Some(name)) if !names.contains(&name) => names.push(name),
            (Some(_), _) => {}
            (None, name) => self.images.push((image, name.into_iter().collect())),
        }
    }
}

/// An archive.
pub struct Archive {
    /// Its bytes.
    pub body: ByteStream,
    /// Keeps its images, until it is dropped.
    pub pins: PinSet,
}

impl Images {
    /// Finds the images that a client names. A repository without a tag stands for all its
    /// tags; an id or a digest for the image without a name.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub async fn choose(
        &self,
        namespace: &Namespace,
        names: &[&str],
        platform: Option<&Platform>,
    ) -> Result<Chosen, SaveError> {
        let now = self.environment.now();
        let all = self.catalog.list(namespace, now).await?;
        let mut chosen = Chosen { images: Vec::new() };
        for name in names {
            let parsed = ImageName::parse(name).map_err(CatalogError::from)?;
            if let ImageName::Named(reference) = &parsed
                && reference.digest().is_none()
            {
                let fits = |r: &Reference| {
                    r.name() == reference.name()
                        && (reference.tag().is_none() || r.tag() == reference.tag())
                };
                let found = tagged(&all, fits);
                if !found.is_empty() {
                    for (reference, image) in found {
                        chosen.add(image, Some(reference));
                    }
                    continue;
                }
            }
            let image = self.catalog.resolve(namespace, name, now).await;
            let image = image.map_err(|error| match error {
                // Docker does not add the tag here.
                CatalogError::NoSuchImage(_) => CatalogError::NoSuchImage((*name).to_owned()),
                other => other,
            })?;
            chosen.add(image, None);
        }
        if let Some(wanted) = platform {
            for (image, _) in &chosen.images {
                let config = self.config(&image.id).await.map_err(SaveError::Store)?;
                let built_for = Platform::of(&config.os, &config.architecture, &config.variant);
                if !wanted.accepts(&built_for) {
                    return Err(SaveError::Platform(wanted.clone()));
                }
            }
        }
        Ok(chosen)
    }

    /// The archive of these images, read as it is sent.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub async fn archive(&self, chosen: Chosen) -> Result<Archive, SaveError> {
        let mut pins = self.pins.operation();
        let mut files: BTreeMap<String, Entry> = BTreeMap::new();
        let mut index = Vec::new();
        let mut list = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut newest = Timestamp::from_secs(0);
        for (image, names) in &chosen.images {
            for digest in image.blobs.iter().chain([&image.manifest]) {
                pins.pin(*digest).await;
            }
            let created = image.created.as_deref().and_then(Timestamp::parse_rfc3339);
            let created = created.unwrap_or(Timestamp::from_secs(0));
            newest = newest.max(created);
            let (media_type, bytes) = self.registry.get_manifest(&image.manifest).await?;
            let ManifestOrIndex::Manifest(manifest) = ManifestOrIndex::parse(&bytes, &media_type)?
            else {
                return Err(RegistryError::NotFound(image.manifest).into());
            };
            // An OCI layout may hold others, but who reads one looks for OCI's alone.
            let (manifest, bytes) = if media_type == media::DOCKER_MANIFEST {
                let manifest = manifest.into_oci();
                let bytes = manifest.to_bytes()?.into();
                (manifest, bytes)
            } else {
                (manifest, bytes)
            };
            let digest = Digest::of(&bytes);
            let descriptor = Descriptor::new(media::OCI_MANIFEST, digest, bytes.len() as u64);
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let entry = Entry {
                    content: Content::Blob(blob.digest),
                    size: blob.size,
                    time: created,
                };
                files.insert(path(&blob.digest), entry);
            }
            files.insert(path(&digest), Entry::of(bytes));
            index.extend(index_entries(&descriptor, names));
            list.push(ListItem::of(image, &manifest, names));
            if let Some(top) = manifest.layers.last() {
                for name in names {
                    repositories
                        .entry(name.familiar_name())
                        .or_default()
                        .insert(name.tag().unwrap_or_default().to_owned(), top.digest.hex());
                }
            }
        }
        let index = IndexFile {
            schema_version: 2,
            media_type: media::OCI_INDEX,
            // Docker's null for none.
            manifests: (!index.is_empty()).then_some(index),
        };
        let folders = if files.is_empty() {
            &[][..]
        } else {
            &["blobs/", "blobs/sha256/"][..]
        };
        let mut entries: Vec<(String, Entry)> = folders
            .iter()
            .map(|folder| ((*folder).to_owned(), Entry::folder(newest)))
            .collect();
        entries.extend(files);
        let list = (!list.is_empty()).then_some(list);
        entries.push(("index.json".to_owned(), Entry::of(encode(&index)?)));
        entries.push(("manifest.json".to_owned(), Entry::of(line(&list)?)));
        let layout = Bytes::from_static(br#"{"imageLayoutVersion": "1.0.0"}"#);
        entries.push(("oci-layout".to_owned(), Entry::of(layout)));
        if !repositories.is_empty() {
            let repositories = line(&repositories)?;
            entries.push(("repositories".to_owned(), Entry::of(repositories)));
        }
        Ok(Archive {
            body: tar(Arc::clone(&self.registry), entries)?,
            pins,
        })
    }
}

/// `index.json`, in the order in which Docker writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile {
    schema_version: u32,
    media_type: &'static str,
    manifests: Option<Vec<IndexEntry>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

/// In an index: once for each name.
fn index_entries(descriptor: &Descriptor, names: &[Reference]) -> Vec<IndexEntry> {
    let entry = |annotations| IndexEntry {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest,
        size: descriptor.size,
        annotations,
    };
    if names.is_empty() {
        return vec![entry(BTreeMap::new())];
    }
    let named = names.iter().map(|name| {
        entry(BTreeMap::from([
            ("io.containerd.image.name", name.to_string()),
            (
                "org.opencontainers.image.ref.name",
                name.tag().unwrap_or_default().to_owned(),
            ),
        ]))
    });
    named.collect()
}

/// In Docker's own list.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<String, Source>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    media_type: String,
    size: u64,
    digest: Digest,
}

impl ListItem {
    fn of(image: &ImageRecord, manifest: &Manifest, names: &[Reference]) -> Self {
        let sources = image.layers.iter().zip(&manifest.layers).map(|(id, blob)| {
            let source = Source {
                media_type: blob.media_type.clone(),
                size: blob.size,
                digest: blob.digest,
            };
            (id.to_string(), source)
        });
        Self {
            config: path(&manifest.config.digest),
            repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
            layers: manifest
                .layers
                .iter()
                .map(|layer| path(&layer.digest))
                .collect(),
            layer_sources: sources.collect(),
        }
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn encode(value: &impl Serialize) -> Result<Bytes, SaveError> {
    let bytes = serde_json::to_vec(value).map_err(|e| SaveError::Encoding(e.to_string()))?;
    Ok(bytes.into())
}

/// As Go's encoder writes it.
fn line(value: &impl Serialize) -> Result<Bytes, SaveError> {
    let mut bytes = encode(value)?.to_vec();
    bytes.push(b'\n');
    Ok(bytes.into())
}

/// A file or a folder of the archive.
struct Entry {
    content: Content,
    size: u64,
    time: Timestamp,
}

enum Content {
    Folder,
    Bytes(Bytes),
    Blob(Digest),
}

impl Entry {
    fn of(bytes: Bytes) -> Self {
        Self {
            size: bytes.len() as u64,
            content: Content::Bytes(bytes),
            time: Timestamp::from_secs(0),
        }
    }

    const fn folder(time: Timestamp) -> Self {
        Self {
            content: Content::Folder,
            size: 0,
            time,
        }
    }
}

/// The bytes of an archive with these entries.
fn tar(
    registry: Arc<dyn Registry>,
    entries: Vec<(String, Entry)>,
) -> Result<ByteStream, SaveError> {
    let mut headers = Vec::with_capacity(entries.len());
    for (name, entry) in &entries {
        headers.push(header(name, entry)?);
    }
    let pieces = headers.into_iter().zip(entries);
    let body = stream::iter(pieces).flat_map(move |(header, (_, entry))| {
        let registry = Arc::clone(&registry);
        let padding = padding(entry.size);
        let content: ByteStream = match entry.content {
            Content::Folder => Box::pin(stream::empty()),
            Content::Bytes(bytes) => Box::pin(stream::iter([Ok(bytes)])),
            Content::Blob(digest) => Box::pin(blob(registry, digest, entry.size)),
        };
        stream::iter([Ok(header)])
            .chain(content)
            .chain(stream::iter(padding.map(Ok)))
    });
    let end = Bytes::from_static(&[0; 2 * BLOCK]);
    Ok(Box::pin(body.chain(stream::iter([Ok(end)]))))
}

fn header(name: &str, entry: &Entry) -> Result<Bytes, SaveError> {
    let mut header = tar::Header::new_ustar();
    header
        .set_path(name)
        .map_err(|e| SaveError::Encoding(e.to_string()))?;
    let (kind, mode) = match entry.content {
        Content::Folder => (tar::EntryType::Directory, 0o755),
        Content::Bytes(_) | Content::Blob(_) => (tar::EntryType::Regular, 0o644),
    };
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(entry.time.secs()).unwrap_or_default());
    header.set_size(entry.size);
    header.set_cksum();
    Ok(Bytes::copy_from_slice(header.as_bytes()))
}

fn padding(size: u64) -> Option<Bytes> {
    static ZEROES: [u8; BLOCK] = [0; BLOCK];
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (over > 0).then(|| Bytes::from_static(&ZEROES[over..]))
}

/// A blob's bytes, which must be as many as the header says.
fn blob(
    registry: Arc<dyn Registry>,
    digest: Digest,
    size: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, BlobError>> + Send {
    let open = async move {
        match registry.get_blob(&digest).await {
            Ok(body) => body,
            Err(error) => {
                let error = BlobError::Unavailable(error.to_string());
                Box::pin(stream::iter([Err(error)])) as ByteStream
            }
        }
    };
    let mut left = size;
    stream::once(open).flatten().map(move |piece| {
        let piece = piece?;
        match left.checked_sub(piece.len() as u64) {
            Some(rest) => {
                left = rest;
                Ok(piece)
            }
            None => Err(BlobError::TooLarge(size)),
        }
    })
}
