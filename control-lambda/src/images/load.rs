//! `docker load`: from an archive to images.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};
use sockerless_shared::ids::Namespace;
use thiserror::Error;
use tokio::sync::mpsc;

use super::archive::{ArchiveEntry, ArchiveError, ArchiveReader, Contents, oci_name};
use super::catalog::{Content, ImageRecord, Tagged};
use super::config::{ImageConfig, MAX_CONFIG_BYTES};
use super::digest::{DiffId, Digest};
use super::feed;
use super::layer::LayerError;
use super::manifest::{
    Descriptor, MAX_MANIFEST_BYTES, Manifest, ManifestError, ManifestOrIndex, media,
};
use super::pins::PinSet;
use super::platform::{Platform, PlatformError, choose};
use super::progress::{Message, Progress};
use super::reference::{Reference, ReferenceError};
use super::store::{Images, Parts, StoreError, TidyUnlessDone, read_small};
use crate::ports::blobs::ByteStream;
use crate::ports::registry::{Expected, RegistryError, Stored};

/// How deep indexes may lie within indexes.
const MAX_INDEX_DEPTH: usize = 4;

/// Why an archive was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// What is in it.
    #[error(transparent)]
    Store(StoreError),
    /// No image for this platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The config and the list of layers do not fit. The text is Docker's.
    #[error("invalid manifest, layers length mismatch: expected {expected}, got {actual}")]
    LayerCount {
        /// In the manifest.
        expected: usize,
        /// In the config.
        actual: usize,
    },
    /// A layer is not the one that the config names. The text is Docker's.
    #[error("invalid diffID for layer {layer}: expected \"{expected}\", got \"{actual}\"")]
    DiffId {
        /// Which, counted from the lowest.
        layer: usize,
        /// In the config.
        expected: DiffId,
        /// What it is.
        actual: DiffId,
    },
    /// A name in the archive that is none. The text is Docker's.
    #[error("invalid tag {0:?}")]
    Tag(String),
    /// Indexes within indexes without end.
    #[error("image archive has indexes within indexes more than {MAX_INDEX_DEPTH} deep")]
    TooDeep,
}

impl<E: Into<StoreError>> From<E> for LoadError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl From<ReferenceError> for LoadError {
    fn from(error: ReferenceError) -> Self {
        Self::Store(StoreError::Catalog(error.into()))
    }
}

/// What the client asked for.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    platform: Option<&'a Platform>,
    quiet: bool,
}

/// An image whose files are stored.
struct Described {
    config: Descriptor,
    layers: Vec<Descriptor>,
    media_type: String,
    manifest: bytes::Bytes,
}

impl Described {
    fn content(&self, image: &ImageConfig) -> Content {
        Content {
            manifest: Digest::of(&self.manifest),
            blobs: std::iter::once(self.config.digest)
                .chain(self.layers.iter().map(|layer| layer.digest))
                .collect(),
            layers: image.layers().to_vec(),
        }
    }
}

/// An image as an archive describes it.
struct Found {
    config: Digest,
    layers: Vec<Digest>,
    /// With the media types that the archive's own manifest gives.
    manifest: Option<(String, bytes::Bytes, Manifest)>,
    names: Vec<Reference>,
}

impl Images {
    /// Loads all images of an archive. With `platform`, images for others are
    /// left out. Progress of the layers is told unless `quiet`; the loaded names
    /// always are. Images before the one that fails stay, as in Docker.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load(
        &self,
        namespace: &Namespace,
        body: ByteStream,
        platform: Option<&Platform>,
        quiet: bool,
        progress: &mut dyn Progress,
    ) -> Result<(), LoadError> {
        // Whatever happens from here on, also that the caller is dropped, what
        // no image came to need is deleted. The pins go first.
        let mut tidy = TidyUnlessDone::new(self);
        let wanted = Wanted { platform, quiet };
        let loaded = self
            .load_all(namespace, body, wanted, &mut tidy, progress)
            .await;
        tidy.end(loaded).await?;
        // Archives have files that no image needs; only they go now.
        self.tidy().await;
        Ok(())
    }

    async fn load_all(
        &self,
        namespace: &Namespace,
        body: ByteStream,
        wanted: Wanted<'_>,
        tidy: &mut TidyUnlessDone,
        progress: &mut dyn Progress,
    ) -> Result<(), LoadError> {
        let Wanted { platform, .. } = wanted;
        let mut pins = self.pins.operation();
        let contents = self.ingest(body, &mut pins).await?;
        let mut found = Vec::new();
        if let Some(items) = contents.docker_images()? {
            for item in items {
                found.push(docker_image(&contents, item)?);
            }
        } else if let Some(index) = contents.oci_index()? {
            for descriptor in &index.manifests {
                if !descriptor.is_attestation() {
                    found.push(self.oci_image(&contents, descriptor, platform).await?);
                }
            }
        } else {
            return Err(ArchiveError::NoManifest.into());
        }
        let known = self.known_layers(namespace).await?;
        let mut ids = String::new();
        let mut has_names = false;
        for image in found {
            let names = image.names.clone();
            let Some((image, parts)) = self.describe(image, platform).await? else {
                continue;
            };
            tidy.hold(namespace, &parts.content(&image)).await?;
            let record = self
                .load_image(&image, parts, wanted.quiet, &known, &mut pins, progress)
                .await?;
            self.catalog
                .add(namespace, &record, self.environment.now())
                .await?;
            tidy.release().await?;
            ids.push_str(&format!("Loaded image ID: {}\n", record.id));
            has_names = !names.is_empty();
            for name in names {
                self.name_loaded(namespace, &record.id, &name, progress)
                    .await?;
            }
            progress.loaded(&record.id).await;
        }
        // Also when there was no image at all: Docker sends an empty message then.
        if !has_names {
            progress.message(Message::stream(ids)).await;
        }
        Ok(())
    }

    async fn name_loaded(
        &self,
        namespace: &Namespace,
        id: &Digest,
        name: &Reference,
        progress: &mut dyn Progress,
    ) -> Result<(), LoadError> {
        let now = self.environment.now();
        let familiar = name.familiar();
        if let Tagged::Moved(old) = self.catalog.tag(namespace, id, name, false, now).await? {
            let text = format!(
                "The image {familiar} already exists, renaming the old one with ID {old} to empty string\n"
            );
            progress.message(Message::stream(text)).await;
        }
        let text = format!("Loaded image: {familiar}\n");
        progress.message(Message::stream(text)).await;
        Ok(())
    }

    /// Stores every file of the archive under its digest.
    async fn ingest(&self, body: ByteStream, pins: &mut PinSet) -> Result<Contents, LoadError> {
        let mut contents = Contents::default();
        let mut archive = ArchiveReader::new(body).await?;
        pins.begin_ingest().await;
        while let Some(entry) = archive.next_entry().await? {
            match entry {
                ArchiveEntry::Other => {}
                ArchiveEntry::Link { path, target } => contents.add_link(path, target),
                ArchiveEntry::List(list) => {
                    let bytes = archive.list_content(list).await?;
                    contents.add_list(list, bytes);
                }
                ArchiveEntry::File { path, named, size } => {
                    let digest = match named {
                        Some(digest) => {
                            pins.pin(digest).await;
                            match self.registry.stat_blob(&digest).await? {
                                Some(_) => check_file(&mut archive, digest).await?,
                                None => {
                                    self.store_file(&mut archive, named, size).await?;
                                }
                            }
                            digest
                        }
                        None => {
                            let stored = self.store_file(&mut archive, None, size).await?;
                            pins.pin(stored.digest).await;
                            stored.digest
                        }
                    };
                    contents.add_file(path, digest);
                }
            }
        }
        pins.end_ingest();
        Ok(contents)
    }

    async fn store_file(
        &self,
        archive: &mut ArchiveReader,
        digest: Option<Digest>,
        size: u64,
    ) -> Result<Stored, LoadError> {
        let (sender, receiver) = mpsc::channel(4);
        let expected = Expected {
            digest,
            size: Some(size),
            limit: self.limits.layer.unpacked_bytes,
        };
        let put = self.registry.put_blob(feed::receive(receiver), expected);
        let send = async move {
            loop {
                match archive.content_piece().await {
                    Ok(Some(piece)) => {
                        if sender.send(Ok(piece)).await.is_err() {
                            // The registry has given up; its own error says why.
                            return Ok(());
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(e) => {
                        let cut = crate::ports::blobs::BlobError::Interrupted(e.to_string());
                        let _ = sender.send(Err(cut)).await;
                        return Err(e);
                    }
                }
            }
        };
        let (stored, sent) = tokio::join!(put, send);
        sent?;
        Ok(stored?)
    }

    async fn oci_image(
        &self,
        contents: &Contents,
        descriptor: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<Found, LoadError> {
        let names = match oci_name(descriptor).map(Reference::parse) {
            // A mere tag, as OCI tools write it, names no repository.
            Some(Ok(name)) if oci_name(descriptor).is_some_and(|n| n.contains(['/', ':'])) => {
                vec![name.or_latest()]
            }
            _ => Vec::new(),
        };
        let wanted = platform.unwrap_or(&self.platform);
        let (media_type, bytes, manifest) = self.oci_manifest(contents, descriptor, wanted).await?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            contents.require(&blob.digest)?;
        }
        Ok(Found {
            config: manifest.config.digest,
            layers: manifest.layers.iter().map(|l| l.digest).collect(),
            manifest: Some((media_type, bytes, manifest)),
            names,
        })
    }

    /// The manifest behind a descriptor, through indexes, with its media type and bytes.
    async fn oci_manifest(
        &self,
        contents: &Contents,
        descriptor: &Descriptor,
        wanted: &Platform,
    ) -> Result<(String, bytes::Bytes, Manifest), LoadError> {
        let mut descriptor = descriptor.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            // Blobs that others brought are none of this archive's.
            contents.require(&descriptor.digest)?;
            let bytes = read_small(&*self.registry, &descriptor.digest, MAX_MANIFEST_BYTES).await?;
            match ManifestOrIndex::parse(&bytes, &descriptor.media_type)? {
                ManifestOrIndex::Manifest(manifest) => {
                    let media_type = if manifest.media_type.is_empty() {
                        media::OCI_MANIFEST.to_owned()
                    } else {
                        manifest.media_type.clone()
                    };
                    return Ok((media_type, bytes, manifest));
                }
                ManifestOrIndex::Index(index) => {
                    descriptor = choose(&index.manifests, wanted)?.clone();
                }
            }
        }
        Err(LoadError::TooDeep)
    }

    /// The config and the manifest of an image, made unless it came with one. `None` for an
    /// image that is for another platform.
    async fn describe(
        &self,
        found: Found,
        platform: Option<&Platform>,
    ) -> Result<Option<(ImageConfig, Described)>, LoadError> {
        let bytes = read_small(&*self.registry, &found.config, MAX_CONFIG_BYTES).await?;
        let image = ImageConfig::parse(&bytes)?;
        let built_for = Platform::of(&image.os, &image.architecture, &image.variant);
        if platform.is_some_and(|wanted| !wanted.accepts(&built_for)) {
            return Ok(None);
        }
        let layers = image.layers();
        if found.layers.len() != layers.len() {
            return Err(LoadError::LayerCount {
                expected: found.layers.len(),
                actual: layers.len(),
            });
        }
        let mut descriptors = Vec::with_capacity(layers.len());
        for blob in &found.layers {
            descriptors.push(self.layer_descriptor(blob).await?);
        }
        let config = Descriptor::new(media::OCI_CONFIG, found.config, bytes.len() as u64);
        let (media_type, manifest) = match found.manifest {
            None => {
                let manifest = Manifest::oci(config.clone(), descriptors.clone());
                (media::OCI_MANIFEST.to_owned(), manifest.to_bytes()?.into())
            }
            Some((media_type, bytes, manifest)) => {
                self.check_manifest(&manifest).await?;
                (media_type, bytes)
            }
        };
        let described = Described {
            config,
            layers: descriptors,
            media_type,
            manifest,
        };
        Ok(Some((image, described)))
    }

    async fn load_image(
        &self,
        image: &ImageConfig,
        described: Described,
        quiet: bool,
        known: &HashSet<(Digest, DiffId)>,
        pins: &mut PinSet,
        progress: &mut dyn Progress,
    ) -> Result<ImageRecord, LoadError> {
        let mut size = 0u64;
        let blobs = image.layers().iter().zip(&described.layers);
        for (number, (layer, descriptor)) in blobs.enumerate() {
            pins.pin(layer.0).await;
            let bytes = match self.layers.stat(layer).await? {
                Some(bytes) if known.contains(&(descriptor.digest, *layer)) => Ok(bytes),
                Some(_) => self.load_layer(layer, descriptor, true, progress).await,
                None => self.load_layer(layer, descriptor, quiet, progress).await,
            };
            let bytes = bytes.map_err(|error| in_layer(number, error))?;
            size = size.saturating_add(bytes);
            if size > self.limits.layer.unpacked_bytes {
                return Err(StoreError::TooLarge(self.limits.layer.unpacked_bytes).into());
            }
        }
        let parts = Parts {
            image,
            config: described.config,
            layers: described.layers,
            manifest: (described.media_type, described.manifest),
        };
        Ok(self.record(pins, parts, size).await?)
    }

    /// An archive's own manifest is kept, so it must be true.
    async fn check_manifest(&self, manifest: &Manifest) -> Result<(), LoadError> {
        for descriptor in manifest.layers.iter().chain([&manifest.config]) {
            match self.registry.stat_blob(&descriptor.digest).await? {
                Some(size) if size == descriptor.size => {}
                Some(actual) => {
                    return Err(RegistryError::WrongSize {
                        expected: descriptor.size,
                        actual,
                    }
                    .into());
                }
                None => return Err(RegistryError::NotFound(descriptor.digest).into()),
            }
        }
        Ok(())
    }

    async fn load_layer(
        &self,
        layer: &DiffId,
        blob: &Descriptor,
        quiet: bool,
        progress: &mut dyn Progress,
    ) -> Result<u64, LoadError> {
        let body = self.registry.get_blob(&blob.digest).await?;
        if quiet {
            return Ok(self.layers.add(layer, body).await?);
        }
        let (told, mut tell) = mpsc::unbounded_channel();
        let body = counted(body, blob.size, told);
        let add = self.layers.add(layer, body);
        let report = async {
            while let Some(current) = tell.recv().await {
                let id = layer.0.short();
                let message = Message::progress(&id, "Loading layer", current, blob.size);
                progress.message(message).await;
            }
        };
        let (added, ()) = tokio::join!(add, report);
        Ok(added?)
    }
}

fn in_layer(layer: usize, error: LoadError) -> LoadError {
    match error {
        LoadError::Store(StoreError::Layer(LayerError::WrongDiffId { expected, actual })) => {
            LoadError::DiffId {
                layer,
                expected,
                actual,
            }
        }
        other => other,
    }
}

/// The content of a blob that is there already must be that blob, or else its
/// digest alone would give access to it.
async fn check_file(archive: &mut ArchiveReader, expected: Digest) -> Result<(), LoadError> {
    let mut hash = Sha256::new();
    while let Some(piece) = archive.content_piece().await? {
        hash.update(&piece);
    }
    let actual = Digest::from_hash(hash);
    if actual == expected {
        Ok(())
    } else {
        Err(RegistryError::WrongDigest { expected, actual }.into())
    }
}

fn docker_image(
    contents: &Contents,
    item: super::archive::ManifestItem,
) -> Result<Found, LoadError> {
    let layers = item.layers.unwrap_or_default();
    if layers.len() > super::manifest::MAX_LAYERS {
        return Err(ManifestError::TooManyLayers(layers.len()).into());
    }
    let mut names = Vec::new();
    for tag in item.repo_tags.unwrap_or_default() {
        let name = Reference::parse(&tag)?;
        if name.tag().is_none() {
            return Err(LoadError::Tag(tag));
        }
        names.push(name);
    }
    Ok(Found {
        config: contents.digest(&item.config)?,
        layers: layers
            .iter()
            .map(|layer| contents.digest(layer))
            .collect::<Result<_, _>>()?,
        manifest: None,
        names,
    })
}

/// Tells how many bytes have passed, every hundredth part or 512 KiB, whichever
/// is less, and at the end, as Docker does. At most about a hundred times and
/// once every 512 KiB, so that what waits to be told stays small.
fn counted(body: ByteStream, total: u64, told: mpsc::UnboundedSender<u64>) -> ByteStream {
    use futures_util::StreamExt as _;
    let every = (total / 100).min(512 * 1024);
    let mut passed = 0u64;
    let mut last = 0u64;
    Box::pin(body.inspect(move |piece| {
        if let Ok(piece) = piece {
            passed += piece.len() as u64;
            if passed - last > every || passed == total {
                last = passed;
                let _ = told.send(passed);
            }
        }
    }))
}
