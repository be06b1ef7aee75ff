//! `docker pull`: from a registry of others to images.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sockerless_shared::ids::Namespace;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::catalog::{CatalogError, Content, ImageRecord, Tagged};
use super::config::{ConfigError, ImageConfig, MAX_CONFIG_BYTES};
use super::digest::{DiffId, Digest};
use super::layer::LayerError;
use super::manifest::{Descriptor, Manifest, ManifestOrIndex, media};
use super::pins::PinSet;
use super::platform::{Platform, PlatformError, choose};
use super::progress::{Message, Progress};
use super::reference::Reference;
use super::remote::{Credentials, RemoteError, RemoteManifest, Repository};
use super::store::{Images, Parts, StoreError, TidyUnlessDone, read_small};
use crate::ports::blobs::{BlobError, ByteStream};
use crate::ports::registry::{Expected, RegistryError};

/// How many layers are fetched at the same time, as in Docker.
const PARALLEL: usize = 3;
/// How often the fetching of a blob is begun.
const ATTEMPTS: u32 = 5;
/// How long to wait before another attempt, times the number of those that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often it is looked whether what somebody else fetches is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// At most one number for each layer in this time.
const NEWS_EVERY: Duration = Duration::from_millis(100);
/// For how long the layers of a pull that broke off are kept for the next.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How deep indexes may lie within indexes.
const MAX_INDEX_DEPTH: usize = 4;

/// Why an image was not pulled. The texts are Docker's where it has some.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Storing it.
    #[error(transparent)]
    Store(StoreError),
    /// Nothing for this platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The config's bytes are not those that the manifest names.
    #[error("error pulling image configuration: image config verification failed for digest {0}")]
    ConfigDigest(Digest),
    /// The config cannot be had.
    #[error("error pulling image configuration: {0}")]
    ConfigFetch(RemoteError),
    /// A layer's bytes are not those that the manifest names.
    #[error("filesystem layer verification failed for digest {0}")]
    LayerDigest(Digest),
    /// The manifest's layers are not those that the config names.
    #[error("layers from manifest don't match image configuration")]
    Mismatch,
    /// A layer cannot be unpacked.
    #[error("failed to register layer: {0}")]
    Layer(LayerError),
    /// Indexes within indexes without end.
    #[error("image index has indexes within it more than {MAX_INDEX_DEPTH} deep")]
    TooDeep,
}

impl PullError {
    /// The HTTP status that Docker gives for it, when nothing was answered yet.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Remote(error) => error.status(),
            Self::Store(StoreError::Catalog(super::catalog::CatalogError::Reference(_))) => 400,
            _ => 500,
        }
    }
}

impl PullError {
    /// Whether the registry wants fewer requests.
    fn is_throttled(&self) -> bool {
        matches!(self, Self::Remote(error) | Self::ConfigFetch(error) if error.is_throttled())
    }
}

impl<E: Into<StoreError>> From<E> for PullError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

/// What is to be pulled.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// As the client named it.
    pub reference: &'a Reference,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// For this platform; what containers run on unless it is said.
    pub platform: Option<&'a Platform>,
    /// What the registry may ask for.
    pub credentials: &'a Credentials,
}

impl Images {
    /// Pulls what a reference names. Every step is told; the first one when the registry
    /// has answered.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn pull(
        &self,
        namespace: &Namespace,
        wanted: Wanted<'_>,
        progress: &mut dyn Progress,
    ) -> Result<(), PullError> {
        let tidy = TidyUnlessDone::new(self);
        let remote = self.remote().await?;
        let mut failed: Option<PullError> = None;
        let mut reason = None;
        for endpoint in remote.endpoints(wanted.reference) {
            if let Some(error) = &failed
                && !endpoint.follows(error.is_throttled())
            {
                continue;
            }
            let repository = remote
                .repository_at(&endpoint, wanted.reference, wanted.credentials)
                .await;
            let pulled = match repository {
                Ok(repository) => {
                    self.pull_from(namespace, &repository, wanted, progress)
                        .await
                }
                Err(error) => Err(error.into()),
            };
            match pulled {
                Ok(()) => {
                    tidy.done();
                    return Ok(());
                }
                Err(error) => {
                    tracing::info!(%error, ?endpoint, "a registry does not give it");
                    if endpoint.is_original() {
                        reason = Some(error.clone());
                    }
                    failed = Some(error);
                }
            }
        }
        Err(reason
            .or(failed)
            .unwrap_or_else(|| RemoteError::BlobUnknown.into()))
    }

    /// Pulls from one of those that may have it. What of it is here already, as another one
    /// gave it before it would give no more, is not fetched again.
    async fn pull_from(
        &self,
        namespace: &Namespace,
        repository: &Repository,
        wanted: Wanted<'_>,
        progress: &mut dyn Progress,
    ) -> Result<(), PullError> {
        let reference = wanted.reference;
        if wanted.all_tags {
            let mut is_new = false;
            for tag in repository.tags().await? {
                let one = reference.with_tag(&tag).map_err(CatalogError::from)?;
                let (_, new) = self
                    .pull_one(namespace, repository, &one, wanted.platform, progress)
                    .await?;
                is_new |= new;
            }
            self.status(is_new, reference, progress).await;
            return Ok(());
        }
        let one = reference.clone().or_latest();
        let (record, is_new) = self
            .pull_one(namespace, repository, &one, wanted.platform, progress)
            .await?;
        self.status(is_new, reference, progress).await;
        if let Some(platform) = wanted.platform {
            self.warn(&record, reference, platform, progress).await?;
        }
        Ok(())
    }

    async fn status(&self, is_new: bool, reference: &Reference, progress: &mut dyn Progress) {
        let status = if is_new {
            "Downloaded newer image for"
        } else {
            "Image is up to date for"
        };
        let status = format!("Status: {status} {}", reference.familiar());
        progress.message(Message::status("", status)).await;
    }

    /// One image: what a tag or a digest names. Whether its name is new.
    async fn pull_one(
        &self,
        namespace: &Namespace,
        repository: &Repository,
        wanted: &Reference,
        platform: Option<&Platform>,
        progress: &mut dyn Progress,
    ) -> Result<(ImageRecord, bool), PullError> {
        let top = repository.manifest(wanted).await?;
        let mut pins = self.pins.operation();
        let id = match wanted.digest() {
            Some(_) => wanted.to_string(),
            None => wanted.tag().unwrap_or_default().to_owned(),
        };
        let from = format!("Pulling from {}", wanted.path());
        progress.message(Message::status(&id, from)).await;

        let digest = top.digest;
        let (media_type, bytes, manifest) = self
            .choose_manifest(repository, wanted, top, platform)
            .await?;
        let now = self.environment.now();
        let image = manifest.config.digest;
        pins.pin(image).await;
        let record = match self.catalog.get(namespace, &image, now).await? {
            Some(record) => record,
            None => {
                let parts = Fetched {
                    media_type,
                    bytes,
                    manifest,
                };
                self.fetch_and_add(namespace, repository, parts, &mut pins, progress)
                    .await?
            }
        };
        let is_new = self.name(namespace, &record, wanted, digest).await?;
        let status = Message::status("", format!("Digest: {digest}"));
        progress.message(status).await;
        Ok((record, is_new))
    }

    /// Fetches an image. What has come of one that breaks off is kept for some time.
    async fn fetch_and_add(
        &self,
        namespace: &Namespace,
        repository: &Repository,
        parts: Fetched,
        pins: &mut PinSet,
        progress: &mut dyn Progress,
    ) -> Result<ImageRecord, PullError> {
        let manifest = Digest::of(&parts.bytes);
        let now = self.environment.now();
        let fetched = self
            .fetch(namespace, repository, parts, pins, progress)
            .await;
        match &fetched {
            Ok(record) => self.catalog.add(namespace, record, now).await?,
            Err(error) if is_passing(error) => return fetched,
            Err(_) => {}
        }
        self.catalog
            .release_held(namespace, &manifest, self.environment.now())
            .await?;
        fetched
    }

    /// Through indexes to the manifest for the platform.
    async fn choose_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        top: RemoteManifest,
        platform: Option<&Platform>,
    ) -> Result<(String, bytes::Bytes, Manifest), PullError> {
        let wanted = platform.unwrap_or(&self.platform);
        let mut found = top;
        for _ in 0..MAX_INDEX_DEPTH {
            match ManifestOrIndex::parse(&found.bytes, &found.media_type)? {
                ManifestOrIndex::Manifest(manifest) => {
                    let media_type = match manifest.media_type.as_str() {
                        "" if found.media_type.is_empty() => media::OCI_MANIFEST.to_owned(),
                        "" => found.media_type,
                        own => own.to_owned(),
                    };
                    return Ok((media_type, found.bytes, manifest));
                }
                ManifestOrIndex::Index(index) => {
                    let chosen = choose(&index.manifests, wanted)?;
                    let reference = reference.with_digest(chosen.digest);
                    let media_type = chosen.media_type.clone();
                    found = repository.manifest(&reference).await?;
                    if found.media_type.is_empty() {
                        found.media_type = media_type;
                    }
                }
            }
        }
        Err(PullError::TooDeep)
    }

    /// Config and layers, fetched, checked and made ready.
    async fn fetch(
        &self,
        namespace: &Namespace,
        repository: &Repository,
        fetched: Fetched,
        pins: &mut PinSet,
        progress: &mut dyn Progress,
    ) -> Result<ImageRecord, PullError> {
        let manifest = &fetched.manifest;
        let image = self.fetch_config(repository, &manifest.config).await?;
        if image.layers().len() != manifest.layers.len() {
            return Err(PullError::Mismatch);
        }
        let content = Content {
            manifest: Digest::of(&fetched.bytes),
            blobs: std::iter::once(manifest.config.digest)
                .chain(manifest.layers.iter().map(|layer| layer.digest))
                .collect(),
            layers: image.layers().to_vec(),
        };
        let now = self.environment.now();
        self.catalog
            .hold(namespace, &content, now.plus(KEPT_FOR), now)
            .await?;
        let known = self.known_layers(namespace).await?;
        let mut missing = Vec::new();
        let mut size = 0u64;
        for (layer, blob) in image.layers().iter().zip(&manifest.layers) {
            pins.pin(layer.0).await;
            pins.pin(blob.digest).await;
            let id = blob.digest.short();
            let there = match self.layers.stat(layer).await? {
                Some(bytes) if known.contains(&(blob.digest, *layer)) => {
                    self.registry.stat_blob(&blob.digest).await?.map(|_| bytes)
                }
                _ => None,
            };
            match there {
                Some(bytes) => {
                    size = size.saturating_add(bytes);
                    progress.message(Message::step(&id, "Already exists")).await;
                }
                None => {
                    progress
                        .message(Message::step(&id, "Pulling fs layer"))
                        .await;
                    if missing.len() >= PARALLEL {
                        progress.message(Message::step(&id, "Waiting")).await;
                    }
                    missing.push((*layer, blob.clone()));
                }
            }
        }
        let (news, mut told) = mpsc::channel(64);
        let fetches = missing.into_iter().map(|(layer, blob)| {
            let news = news.clone();
            async move { self.fetch_layer(repository, &layer, &blob, &news).await }
        });
        let mut fetches = stream::iter(fetches).buffer_unordered(PARALLEL);
        let limit = self.limits.layer.unpacked_bytes;
        loop {
            tokio::select! {
                biased;
                Some(message) = told.recv() => progress.message(message).await,
                fetched = fetches.next() => match fetched {
                    Some(bytes) => size = size.saturating_add(bytes?),
                    None => break,
                },
            }
            if size > limit {
                return Err(StoreError::TooLarge(limit).into());
            }
        }
        drop(fetches);
        while let Ok(message) = told.try_recv() {
            progress.message(message).await;
        }
        let parts = Parts {
            image: &image,
            config: manifest.config.clone(),
            layers: manifest.layers.clone(),
            manifest: (fetched.media_type, fetched.bytes),
        };
        Ok(self.record(pins, parts, size).await?)
    }

    async fn fetch_config(
        &self,
        repository: &Repository,
        config: &Descriptor,
    ) -> Result<ImageConfig, PullError> {
        if config.size > MAX_CONFIG_BYTES as u64 {
            return Err(
                ConfigError::TooLarge(usize::try_from(config.size).unwrap_or(usize::MAX)).into(),
            );
        }
        let body = repository
            .blob(&config.digest, 0)
            .await
            .map_err(PullError::ConfigFetch)?;
        let expected = Expected {
            digest: Some(config.digest),
            size: Some(config.size),
            limit: MAX_CONFIG_BYTES as u64,
        };
        match self.registry.put_blob(body, expected).await {
            Ok(_) => {}
            Err(RegistryError::WrongDigest { .. } | RegistryError::WrongSize { .. }) => {
                return Err(PullError::ConfigDigest(config.digest));
            }
            Err(e) => return Err(e.into()),
        }
        let bytes = read_small(&*self.registry, &config.digest, MAX_CONFIG_BYTES).await?;
        Ok(ImageConfig::parse(&bytes)?)
    }

    async fn fetch_layer(
        &self,
        repository: &Repository,
        layer: &DiffId,
        blob: &Descriptor,
        news: &mpsc::Sender<Message>,
    ) -> Result<u64, PullError> {
        let id = blob.digest.short();
        // Nobody who listens is gone before the layers are.
        let tell = async |message: Message| {
            let _ = news.send(message).await;
        };
        let flight = match self.flights.board(&blob.digest) {
            Ok(flight) => flight,
            Err(taken) => {
                tell(Message::step(&id, "Waiting")).await;
                taken.lock_owned().await
            }
        };
        if !self.is_here(repository, blob).await? && !self.is_mounted(repository, blob).await? {
            self.fetch_blob_at_last(repository, blob, news).await?;
        }
        drop(flight);
        tell(Message::step(&id, "Download complete")).await;
        let body = self.registry.get_blob(&blob.digest).await?;
        let body = counted(body, &id, "Extracting", (0, blob.size), news.clone());
        let bytes = self.layers.add(layer, body).await.map_err(|e| match e {
            LayerError::WrongDiffId { .. } => PullError::Mismatch,
            other => PullError::Layer(other),
        })?;
        tell(Message::step(&id, "Pull complete")).await;
        Ok(bytes)
    }

    /// Whether a blob has come here already, for an earlier pull that broke off or for
    /// somebody else. It may be taken by those to whom the registry would give it.
    async fn is_here(&self, repository: &Repository, blob: &Descriptor) -> Result<bool, PullError> {
        if self.registry.stat_blob(&blob.digest).await? != Some(blob.size) {
            return Ok(false);
        }
        Ok(repository.stat_blob(&blob.digest).await?.is_some())
    }

    /// Whether a blob could be taken from the repository without its bytes, as from one that is
    /// beside our own.
    async fn is_mounted(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<bool, PullError> {
        let (host, path) = (repository.host(), repository.path());
        let is_there = self.registry.mount_blob(&blob.digest, host, path).await?;
        Ok(is_there && self.registry.stat_blob(&blob.digest).await? == Some(blob.size))
    }

    /// Fetches a blob, and again where that breaks off. What somebody else (on AWS, in
    /// another invocation) is fetching is waited for: they end, or cease to say that they do.
    async fn fetch_blob_at_last(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        news: &mpsc::Sender<Message>,
    ) -> Result<(), PullError> {
        let mut failed = 0;
        let mut waits = false;
        loop {
            match self.fetch_blob(repository, blob, news).await {
                Ok(()) => return Ok(()),
                Err(PullError::Store(StoreError::Registry(RegistryError::Busy(_)))) => {
                    if !waits {
                        waits = true;
                        let step = Message::step(&blob.digest.short(), "Waiting");
                        // Nobody who listens is gone before the layers are.
                        let _ = news.send(step).await;
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                    if self.is_here(repository, blob).await? {
                        return Ok(());
                    }
                }
                Err(error) if failed + 1 < ATTEMPTS && is_passing(&error) => {
                    failed += 1;
                    let wait = RETRY_AFTER * failed;
                    let words = match wait.as_secs() {
                        1 => "Retrying in 1 second".to_owned(),
                        seconds => format!("Retrying in {seconds} seconds"),
                    };
                    tracing::info!(%error, blob = %blob.digest, "fetching a layer is tried again");
                    let step = Message::step(&blob.digest.short(), &words);
                    // Nobody who listens is gone before the layers are.
                    let _ = news.send(step).await;
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn fetch_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        news: &mpsc::Sender<Message>,
    ) -> Result<(), PullError> {
        let id = blob.digest.short();
        let kept = self.registry.kept_bytes(&blob.digest).await?;
        // Asked for only when whoever stores it wants the first of it: others may be at it.
        let refused: Arc<OnceLock<RemoteError>> = Arc::default();
        let body: ByteStream = if kept < blob.size {
            let (repository, digest) = (repository.clone(), blob.digest);
            let refused = Arc::clone(&refused);
            let open = async move {
                repository
                    .blob(&digest, kept)
                    .await
                    .unwrap_or_else(|error| {
                        let broken = BlobError::Interrupted(error.to_string());
                        let _ = refused.set(error);
                        Box::pin(stream::iter([Err(broken)]))
                    })
            };
            Box::pin(stream::once(open).flatten())
        } else {
            // All of it, or no part of it: only its digest tells.
            Box::pin(stream::empty())
        };
        let body = counted(body, &id, "Downloading", (kept, blob.size), news.clone());
        let expected = Expected {
            digest: Some(blob.digest),
            size: Some(blob.size),
            limit: self.limits.layer.unpacked_bytes,
        };
        let stored = self.registry.put_blob_from(kept, body, expected).await;
        if let Some(error) = refused.get() {
            return Err(error.clone().into());
        }
        let is_whole = !matches!(
            stored,
            Err(RegistryError::Interrupted(_) | RegistryError::Unavailable(_))
        );
        if is_whole {
            let _ = news.send(Message::step(&id, "Verifying Checksum")).await;
        }
        match stored {
            Ok(_) => Ok(()),
            Err(RegistryError::WrongDigest { .. } | RegistryError::WrongSize { .. })
                if kept > 0 =>
            {
                // What was kept is at fault, or all of it; nothing is kept any more.
                Err(RegistryError::Interrupted(format!("what was kept of {id} was damaged")).into())
            }
            Err(RegistryError::WrongDigest { .. } | RegistryError::WrongSize { .. }) => {
                Err(PullError::LayerDigest(blob.digest))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Gives the image its names: the digest that was pulled, and the tag if one
    /// was asked for. Whether the one asked for is new.
    async fn name(
        &self,
        namespace: &Namespace,
        image: &ImageRecord,
        wanted: &Reference,
        digest: Digest,
    ) -> Result<bool, PullError> {
        let now = self.environment.now();
        let by_digest = wanted.with_digest(digest);
        let mut tagged = self
            .catalog
            .tag(namespace, &image.id, &by_digest, false, now)
            .await?;
        if wanted.digest().is_none() {
            tagged = self
                .catalog
                .tag(namespace, &image.id, wanted, false, now)
                .await?;
        }
        Ok(tagged != Tagged::Same)
    }

    /// A platform was asked for, and the image is for another: no index told.
    async fn warn(
        &self,
        image: &ImageRecord,
        reference: &Reference,
        wanted: &Platform,
        progress: &mut dyn Progress,
    ) -> Result<(), PullError> {
        let config = self.config(&image.id).await?;
        let actual = Platform::of(&config.os, &config.architecture, &config.variant);
        if !wanted.accepts(&actual) {
            let text = format!(
                "WARNING: image with reference {} was found but its platform ({actual}) does not match the specified platform ({wanted})",
                reference.familiar()
            );
            progress.message(Message::status("", text)).await;
        }
        Ok(())
    }
}

/// A manifest and what it was read from.
struct Fetched {
    media_type: String,
    bytes: bytes::Bytes,
    manifest: Manifest,
}

fn is_passing(error: &PullError) -> bool {
    match error {
        PullError::Remote(error) => error.is_passing(),
        PullError::Store(StoreError::Registry(RegistryError::Interrupted(_))) => true,
        _ => false,
    }
}

/// Tells how many bytes have passed, now and then and at the end. What cannot be
/// told at once is not told.
pub(crate) fn counted(
    body: ByteStream,
    id: &str,
    what: &'static str,
    (begun, total): (u64, u64),
    news: mpsc::Sender<Message>,
) -> ByteStream {
    let id = id.to_owned();
    let mut passed = begun;
    let mut last: Option<Instant> = None;
    Box::pin(body.inspect(move |piece| {
        if let Ok(piece) = piece {
            passed += piece.len() as u64;
            let due = last.is_none_or(|last| last.elapsed() >= NEWS_EVERY);
            if due || passed == total {
                last = Some(Instant::now());
                let _ = news.try_send(Message::progress(&id, what, passed, total));
            }
        }
    }))
}
