//! Images as a whole: names, blobs and layers together.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use sockerless_shared::ids::Namespace;
use thiserror::Error;
use tokio::sync::OnceCell;

use super::catalog::{Catalog, CatalogError, Content, ImageRecord};
use super::config::{ConfigError, ImageConfig, MAX_CONFIG_BYTES};
use super::digest::{DiffId, Digest};
use super::flights::Flights;
use super::layer::compression::{Compression, MAGIC_BYTES};
use super::layer::{LayerError, LayerLimits};
use super::manifest::{Descriptor, ManifestError};
use super::pins::{PinSet, Pins};
use super::platform::Platform;
use super::remote::{OwnImages, RegistrySettings, Remote, RemoteError};
use crate::ports::registry::RegistryError;
use crate::ports::{Environment, Layers, Registry};

/// What images may be, beyond what one layer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageLimits {
    /// Of each layer; its bytes are also the limit of an image's layers together.
    pub layer: LayerLimits,
}

/// Why an image could not be stored or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Names.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Blobs.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Layers.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// All layers together are too large.
    #[error("image unpacks to more than {0} bytes, the most that is allowed")]
    TooLarge(u64),
}

/// The images of this installation.
#[derive(Clone)]
pub struct Images {
    /// Names and records.
    pub catalog: Catalog,
    /// Blobs and manifests.
    pub registry: Arc<dyn Registry>,
    /// Layers made ready.
    pub layers: Arc<dyn Layers>,
    /// The clock.
    pub environment: Arc<dyn Environment>,
    /// What operations in flight need.
    pub pins: Arc<Pins>,
    /// What containers run on.
    pub platform: Platform,
    /// What images may be.
    pub limits: ImageLimits,
    /// Transfers under way.
    pub(super) flights: Arc<Flights>,
    /// How registries of others are spoken to.
    registries: Arc<RegistrySettings>,
    /// What of them everybody may read.
    own: Option<Arc<dyn OwnImages>>,
    /// Registries of others, once one was needed.
    remote: Arc<OnceCell<Remote>>,
}

impl Images {
    /// Of these parts, for containers on `platform`.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        registry: Arc<dyn Registry>,
        layers: Arc<dyn Layers>,
        environment: Arc<dyn Environment>,
        platform: Platform,
        limits: ImageLimits,
    ) -> Self {
        Self {
            catalog,
            registry,
            layers,
            environment,
            pins: Arc::new(Pins::default()),
            platform,
            limits,
            flights: Arc::default(),
            registries: Arc::new(RegistrySettings::usual()),
            own: None,
            remote: Arc::default(),
        }
    }

    /// With other settings for registries.
    #[must_use]
    pub fn with_registries(self, settings: RegistrySettings) -> Self {
        Self {
            registries: Arc::new(settings),
            remote: Arc::default(),
            ..self
        }
    }

    /// With images in registries of others that everybody may read.
    #[must_use]
    pub fn with_own(self, own: Arc<dyn OwnImages>) -> Self {
        Self {
            own: Some(own),
            remote: Arc::default(),
            ..self
        }
    }

    /// What speaks to registries of others.
    ///
    /// # Errors
    /// [`RemoteError::Certificates`].
    pub async fn remote(&self) -> Result<&Remote, RemoteError> {
        // Reading the certificates of a machine takes a moment.
        let settings = Arc::clone(&self.registries);
        let make = || async {
            tokio::task::spawn_blocking(|| Remote::new(settings))
                .await
                .unwrap_or_else(|e| Err(RemoteError::Certificates(e.to_string())))
                .map(|remote| remote.with_own(self.own.clone()))
        };
        self.remote.get_or_try_init(make).await
    }

    /// An image's config.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub async fn config(&self, id: &Digest) -> Result<ImageConfig, StoreError> {
        let bytes = read_small(&*self.registry, id, MAX_CONFIG_BYTES).await?;
        Ok(ImageConfig::parse(&bytes)?)
    }

    /// Which blobs are known to be which layers, from the images that this
    /// namespace has. Only such a layer may be taken without its bytes being
    /// read: otherwise its digest alone would give access to what others brought.
    pub(super) async fn known_layers(
        &self,
        namespace: &Namespace,
    ) -> Result<HashSet<(Digest, DiffId)>, StoreError> {
        let images = self.catalog.list(namespace, self.environment.now()).await?;
        Ok(images
            .iter()
            .flat_map(|image| {
                // The first blob is the config.
                let blobs = image.blobs.iter().skip(1).copied();
                blobs.zip(image.layers.iter().copied())
            })
            .collect())
    }

    /// A record of an image whose config and layers are stored, without names.
    /// Stores its manifest.
    pub(super) async fn record(
        &self,
        pins: &mut PinSet,
        parts: Parts<'_>,
        size: u64,
    ) -> Result<ImageRecord, StoreError> {
        if size > self.limits.layer.unpacked_bytes {
            return Err(StoreError::TooLarge(self.limits.layer.unpacked_bytes));
        }
        let (media_type, manifest) = parts.manifest;
        pins.pin(Digest::of(&manifest)).await;
        let manifest = self.registry.put_manifest(&media_type, manifest).await?;
        let image = parts.image;
        Ok(ImageRecord {
            id: parts.config.digest,
            created: image.created.clone(),
            size,
            layers: image.layers().to_vec(),
            manifest,
            blobs: std::iter::once(parts.config.digest)
                .chain(parts.layers.iter().map(|layer| layer.digest))
                .collect(),
            labels: image.config.as_ref().and_then(|c| c.labels.clone()),
            references: Default::default(),
            last_tagged: None,
        })
    }

    /// The descriptor of a layer that is stored, its media type told by its bytes.
    pub(super) async fn layer_descriptor(&self, digest: &Digest) -> Result<Descriptor, StoreError> {
        let size = self
            .registry
            .stat_blob(digest)
            .await?
            .ok_or(RegistryError::NotFound(*digest))?;
        let mut start = BytesMut::new();
        let mut body = self.registry.get_blob(digest).await?;
        while start.len() < MAGIC_BYTES
            && let Some(piece) = body.next().await
        {
            start.extend_from_slice(&piece.map_err(|e| RegistryError::Interrupted(e.to_string()))?);
        }
        let media_type = Compression::of(&start).layer_media_type();
        Ok(Descriptor::new(media_type, *digest, size))
    }

    /// Deletes what no image needs and no operation is using. Returns how many
    /// blobs, manifests and layers went. Another collection that is under way
    /// does the work alone.
    ///
    /// # Errors
    /// When the store, the registry or the layers fail; what was deleted until
    /// then stays deleted.
    pub async fn collect_garbage(&self) -> Result<usize, StoreError> {
        let Some(sweep) = self.pins.begin_sweep() else {
            return Ok(0);
        };
        let manifests = self.registry.list_manifests().await?;
        let blobs = self.registry.list_blobs().await?;
        let layers = self.layers.list().await?;
        let reachable = self.catalog.reachable(self.environment.now()).await?;
        let mut gone = 0;
        for digest in manifests.iter().filter(|d| !reachable.content.contains(*d)) {
            let delete = self.registry.delete_manifest(digest);
            gone += usize::from(sweep.delete_unless_pinned(digest, delete).await?);
        }
        for digest in blobs.iter().filter(|d| !reachable.content.contains(*d)) {
            let delete = self.registry.delete_blob(digest);
            gone += usize::from(sweep.delete_unless_pinned(digest, delete).await?);
        }
        for layer in layers.iter().filter(|l| !reachable.layers.contains(*l)) {
            let delete = self.layers.remove(layer);
            gone += usize::from(sweep.delete_unless_pinned(&layer.0, delete).await?);
        }
        Ok(gone)
    }

    /// [`Images::collect_garbage`] after an operation whose own result matters
    /// more: a failure goes to the log, and the next collection makes up for it.
    pub async fn tidy(&self) {
        match self.collect_garbage().await {
            Ok(0) => {}
            Ok(gone) => tracing::debug!(gone, "unused image content was deleted"),
            Err(error) => tracing::warn!(%error, "unused image content could not be deleted"),
        }
    }
}

/// What an image's record is made of.
pub(super) struct Parts<'a> {
    /// The config, read.
    pub(super) image: &'a ImageConfig,
    /// The config, stored.
    pub(super) config: Descriptor,
    /// The layers, stored, lowest first.
    pub(super) layers: Vec<Descriptor>,
    /// Its manifest's media type and bytes.
    pub(super) manifest: (String, Bytes),
}

/// Reads a blob of at most `limit` bytes into memory, and checks its digest.
///
/// # Errors
/// [`RegistryError::TooLarge`], [`RegistryError::WrongDigest`], and those of reading.
pub async fn read_small(
    registry: &dyn Registry,
    digest: &Digest,
    limit: usize,
) -> Result<Bytes, RegistryError> {
    let mut bytes = BytesMut::new();
    let mut body = registry.get_blob(digest).await?;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| RegistryError::Interrupted(e.to_string()))?;
        if bytes.len() + piece.len() > limit {
            return Err(RegistryError::TooLarge(limit as u64));
        }
        bytes.extend_from_slice(&piece);
    }
    let actual = Digest::of(&bytes);
    if actual == *digest {
        Ok(bytes.freeze())
    } else {
        Err(RegistryError::WrongDigest {
            expected: *digest,
            actual,
        })
    }
}

/// For how long is kept what an operation holds that nobody ended.
const HELD_FOR: Duration = Duration::from_secs(60 * 60);

/// Collects the garbage of an operation that did not come to its end, be it
/// that it failed or that whoever waited for it went away. Until then it holds what no image
/// names yet, also against collections elsewhere, which do not know of this process's pins.
pub(super) struct TidyUnlessDone {
    images: Option<Images>,
    held: Vec<(Namespace, Digest)>,
}

impl TidyUnlessDone {
    pub(super) fn new(images: &Images) -> Self {
        Self {
            images: Some(images.clone()),
            held: Vec::new(),
        }
    }

    /// Holds this until it is released.
    pub(super) async fn hold(
        &mut self,
        namespace: &Namespace,
        content: &Content,
    ) -> Result<(), StoreError> {
        let Some(images) = &self.images else {
            return Ok(());
        };
        self.held.push((namespace.clone(), content.manifest));
        let now = images.environment.now();
        let until = now.plus(HELD_FOR);
        Ok(images.catalog.hold(namespace, content, until, now).await?)
    }

    /// An image names what was held, or nothing is to.
    pub(super) async fn release(&mut self) -> Result<(), StoreError> {
        let held = std::mem::take(&mut self.held);
        match &self.images {
            Some(images) => release(images, held).await,
            None => Ok(()),
        }
    }

    /// The operation came to this end; after a failure the garbage is collected.
    pub(super) async fn end<T, E: From<StoreError>>(
        mut self,
        outcome: Result<T, E>,
    ) -> Result<T, E> {
        self.release().await?;
        if outcome.is_ok() {
            self.done();
        }
        outcome
    }

    pub(super) fn done(mut self) {
        self.images = None;
    }
}

impl Drop for TidyUnlessDone {
    fn drop(&mut self) {
        if let Some(images) = self.images.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let held = std::mem::take(&mut self.held);
            runtime.spawn(async move {
                if let Err(error) = release(&images, held).await {
                    tracing::warn!(%error, "what was held is kept for an hour");
                }
                images.tidy().await;
            });
        }
    }
}

async fn release(images: &Images, held: Vec<(Namespace, Digest)>) -> Result<(), StoreError> {
    for (namespace, manifest) in held {
        let now = images.environment.now();
        images
            .catalog
            .release_held(&namespace, &manifest, now)
            .await?;
    }
    Ok(())
}
