//! `docker push`: from our images to a registry of others.
//!
//! What is pushed is the image's own manifest with the very layers it came with, so that
//! an image that was pulled has the same digest where it is pushed to. Only an image whose
//! layers are not compressed, as archives have them, gets a new manifest, which is Docker's.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sockerless_shared::ids::Namespace;
use thiserror::Error;
use tokio::sync::mpsc;

use super::catalog::ImageRecord;
use super::digest::{DiffId, Digest};
use super::manifest::{Descriptor, Manifest, ManifestOrIndex};
use super::pins::PinSet;
use super::progress::{Aux, Message, Progress};
use super::pull::counted;
use super::recompress::{is_plain, to_gzip};
use super::reference::Reference;
use super::remote::{BlobSource, Credentials, Mounted, RemoteError, Repository};
use super::remove::references;
use super::store::{Images, StoreError, TidyUnlessDone};
use crate::ports::Registry;
use crate::ports::blobs::{BlobError, ByteStream};
use crate::ports::registry::RegistryError;

/// How many layers are sent at the same time, as in Docker.
const PARALLEL: usize = 5;
/// In how many other repositories a layer is looked for, as in Docker.
const MOUNTS: usize = 4;

/// Why an image was not pushed. The texts are Docker's where it has some.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PushError {
    /// No image of this repository at all.
    #[error("An image does not exist locally with the tag: {0}")]
    NoImage(String),
    /// No image of this name.
    #[error("tag does not exist: {0}")]
    NoTag(String),
    /// A digest names what was pushed already.
    #[error("cannot push a digest reference")]
    Digest,
    /// The registry.
    #[error("{}", in_push(.0))]
    Remote(#[from] RemoteError),
    /// Reading it.
    #[error(transparent)]
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for PushError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

/// A push says less than a pull.
fn in_push(error: &RemoteError) -> String {
    match error {
        RemoteError::NoCredentials { .. } => "no basic auth credentials".to_owned(),
        RemoteError::NoToken { cause, .. } => cause.clone(),
        other => other.bare(),
    }
}

/// A layer to be pushed.
struct Layer {
    id: DiffId,
    blob: Descriptor,
}

impl Images {
    /// Pushes what a reference names: one tag, or without a tag all of the repository.
    ///
    /// # Errors
    /// See [`PushError`].
    pub async fn push(
        &self,
        namespace: &Namespace,
        reference: &Reference,
        credentials: &Credentials,
        progress: &mut dyn Progress,
    ) -> Result<(), PushError> {
        let name = reference.familiar_name();
        let to = match reference.domain() {
            "docker.io" => reference.name(),
            _ => name.clone(),
        };
        let status = format!("The push refers to repository [{to}]");
        progress.message(Message::status("", status)).await;
        if reference.digest().is_some() {
            return Err(PushError::Digest);
        }
        let now = self.environment.now();
        let images = self.catalog.list(namespace, now).await?;
        let mut tags = tagged(&images, |tag| tag.name() == reference.name());
        if tags.is_empty() {
            return Err(PushError::NoImage(name));
        }
        if reference.tag().is_some() {
            tags.retain(|(r, _)| r == reference);
            if tags.is_empty() {
                return Err(PushError::NoTag(reference.familiar()));
            }
        }
        let tidy = TidyUnlessDone::new(self);
        let remote = self.remote().await?;
        let repository = remote.repository(reference, credentials).await?.for_push();
        for (tag, image) in tags {
            let mut pins = self.pins.operation();
            self.push_one(
                &repository,
                &tag,
                &image,
                &images,
                namespace,
                &mut pins,
                progress,
            )
            .await?;
        }
        tidy.done();
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    async fn push_one(
        &self,
        repository: &Repository,
        reference: &Reference,
        image: &ImageRecord,
        others: &[ImageRecord],
        namespace: &Namespace,
        pins: &mut PinSet,
        progress: &mut dyn Progress,
    ) -> Result<(), PushError> {
        for digest in image.blobs.iter().chain([&image.manifest]) {
            pins.pin(*digest).await;
        }
        let (media_type, bytes) = self.registry.get_manifest(&image.manifest).await?;
        let manifest =
            match ManifestOrIndex::parse(&bytes, &media_type).map_err(StoreError::from)? {
                ManifestOrIndex::Manifest(manifest) => manifest,
                ManifestOrIndex::Index(_) => {
                    return Err(RegistryError::NotFound(image.manifest).into());
                }
            };
        let layers: Vec<Layer> = image
            .layers
            .iter()
            .zip(&manifest.layers)
            .map(|(id, blob)| Layer {
                id: *id,
                blob: blob.clone(),
            })
            .collect();
        for layer in layers.iter().rev() {
            let step = Message::step(&layer.id.0.short(), "Preparing");
            progress.message(step).await;
        }
        for layer in layers.iter().rev().skip(PARALLEL) {
            let step = Message::step(&layer.id.0.short(), "Waiting");
            progress.message(step).await;
        }
        let pushed = self
            .push_layers(repository, reference, layers, others, pins, progress)
            .await?;
        let is_as_it_was = pushed
            .iter()
            .map(|layer| layer.digest)
            .eq(manifest.layers.iter().map(|layer| layer.digest));
        self.push_config(repository, &manifest.config).await?;
        let (media_type, bytes) = if is_as_it_was {
            (media_type, bytes)
        } else {
            let manifest = Manifest::docker(&manifest.config, &pushed);
            let bytes = manifest.to_docker_bytes().map_err(StoreError::from)?;
            (manifest.media_type, Bytes::from(bytes))
        };
        let tag = reference.tag().unwrap_or_default();
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        repository.put_manifest(tag, &media_type, bytes).await?;
        let status = format!("{tag}: digest: {digest} size: {size}");
        progress.message(Message::status("", status)).await;
        let aux = Aux {
            tag: tag.to_owned(),
            digest: digest.to_string(),
            size,
        };
        progress.message(Message::aux(aux)).await;
        let by_digest = reference.with_digest(digest);
        let now = self.environment.now();
        self.catalog
            .tag(namespace, &image.id, &by_digest, false, now)
            .await?;
        Ok(())
    }

    /// Sends the layers that are not there; what they are there, lowest first.
    async fn push_layers(
        &self,
        repository: &Repository,
        reference: &Reference,
        layers: Vec<Layer>,
        others: &[ImageRecord],
        pins: &mut PinSet,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Descriptor>, PushError> {
        // What is compressed on the way has no digest beforehand.
        pins.begin_ingest().await;
        let (news, mut told) = mpsc::channel(64);
        let count = layers.len();
        let pushes = layers.into_iter().enumerate().rev().map(|(number, layer)| {
            let news = news.clone();
            let from = repositories_with(others, &layer.id, reference);
            async move {
                let pushed = self.push_layer(repository, &layer, &from, &news).await?;
                Ok::<_, PushError>((number, pushed))
            }
        });
        let mut pushes = stream::iter(pushes).buffer_unordered(PARALLEL);
        let mut pushed: Vec<(usize, Descriptor)> = Vec::with_capacity(count);
        loop {
            tokio::select! {
                biased;
                Some(message) = told.recv() => progress.message(message).await,
                done = pushes.next() => match done {
                    Some(done) => pushed.push(done?),
                    None => break,
                },
            }
        }
        drop(pushes);
        while let Ok(message) = told.try_recv() {
            progress.message(message).await;
        }
        pushed.sort_by_key(|(number, _)| *number);
        let pushed: Vec<Descriptor> = pushed.into_iter().map(|(_, layer)| layer).collect();
        for layer in &pushed {
            pins.pin(layer.digest).await;
        }
        pins.end_ingest();
        Ok(pushed)
    }

    async fn push_layer(
        &self,
        repository: &Repository,
        layer: &Layer,
        from: &[String],
        news: &mpsc::Sender<Message>,
    ) -> Result<Descriptor, PushError> {
        let id = layer.id.0.short();
        // Nobody who listens is gone before the layers are.
        let tell = async |message: Message| {
            let _ = news.send(message).await;
        };
        let blob = self.as_pushed(layer).await?;
        if repository.stat_blob(&blob.digest).await?.is_some() {
            tell(Message::step(&id, "Layer already exists")).await;
            return Ok(blob);
        }
        for other in from
            .iter()
            .filter(|path| *path != repository.path())
            .take(MOUNTS)
        {
            match repository.mount(&blob.digest, other).await {
                Ok(Mounted::Yes) => {
                    let status = format!("Mounted from {other}");
                    tell(Message::step(&id, &status)).await;
                    return Ok(blob);
                }
                Ok(Mounted::No) => {}
                // Whoever may not read there may still push here.
                Err(error) => tracing::debug!(%error, from = other, "a layer was not mounted"),
            }
        }
        if self.registry.stat_blob(&blob.digest).await?.is_none() {
            // It was compressed for an earlier push, and is not kept.
            let again = to_gzip(&*self.registry, &layer.blob.digest, self.limits.layer).await?;
            if again.digest != blob.digest {
                return Err(RegistryError::WrongDigest {
                    expected: blob.digest,
                    actual: again.digest,
                }
                .into());
            }
        }
        let source = Stored {
            registry: &*self.registry,
            blob: &blob,
            id: &id,
            news,
        };
        repository.upload(&blob.digest, blob.size, &source).await?;
        tell(Message::step(&id, "Pushed")).await;
        Ok(blob)
    }

    /// The layer as it is pushed: compressed.
    async fn as_pushed(&self, layer: &Layer) -> Result<Descriptor, PushError> {
        if !is_plain(&layer.blob.media_type) {
            return Ok(layer.blob.clone());
        }
        let now = self.environment.now();
        if let Some(known) = self.catalog.compressed(&layer.id, now).await? {
            return Ok(known);
        }
        let blob = to_gzip(&*self.registry, &layer.blob.digest, self.limits.layer).await?;
        self.catalog.set_compressed(&layer.id, &blob, now).await?;
        Ok(blob)
    }

    async fn push_config(
        &self,
        repository: &Repository,
        config: &Descriptor,
    ) -> Result<(), PushError> {
        if repository.stat_blob(&config.digest).await?.is_some() {
            return Ok(());
        }
        let (nobody, _) = mpsc::channel(1);
        let source = Stored {
            registry: &*self.registry,
            blob: config,
            id: "",
            news: &nobody,
        };
        Ok(repository
            .upload(&config.digest, config.size, &source)
            .await?)
    }
}

/// The tags that `fits` takes, in their order, with their images.
pub(super) fn tagged(
    images: &[ImageRecord],
    fits: impl Fn(&Reference) -> bool,
) -> Vec<(Reference, ImageRecord)> {
    let mut found = Vec::new();
    for image in images {
        let names = references(image).into_iter();
        let names = names.filter(|name| name.tag().is_some() && fits(name));
        found.extend(names.map(|name| (name, image.clone())));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// The repositories of a registry that have a layer, as the names of images say.
fn repositories_with(images: &[ImageRecord], layer: &DiffId, to: &Reference) -> Vec<String> {
    let mut paths: Vec<String> = images
        .iter()
        .filter(|image| image.layers.contains(layer))
        .flat_map(references)
        .filter(|r| r.digest().is_some() && r.domain() == to.domain() && r.path() != to.path())
        .map(|r| r.path().to_owned())
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// A blob of our own registry, whose way out is told.
struct Stored<'a> {
    registry: &'a dyn Registry,
    blob: &'a Descriptor,
    id: &'a str,
    news: &'a mpsc::Sender<Message>,
}

#[async_trait]
impl BlobSource for Stored<'_> {
    async fn open(&self) -> Result<ByteStream, BlobError> {
        let body = self.registry.get_blob(&self.blob.digest).await;
        let body = body.map_err(|error| BlobError::Unavailable(error.to_string()))?;
        let size = self.blob.size;
        Ok(counted(
            body,
            self.id,
            "Pushing",
            (0, size),
            self.news.clone(),
        ))
    }
}
