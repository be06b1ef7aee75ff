//! `docker import`: an image of one layer from the tar of a root file system.

use serde_json::{Value, json};
use sockerless_shared::ids::Namespace;
use thiserror::Error;

use super::catalog::Content;
use super::config::{ImageConfig, RunConfig};
use super::digest::{DiffId, Digest};
use super::feed;
use super::layer::{self, Discard, LayerError};
use super::manifest::{Descriptor, Manifest, media};
use super::pins::PinSet;
use super::reference::Reference;
use super::remote::RemoteError;
use super::store::{Images, Parts, StoreError, TidyUnlessDone};
use crate::ports::blobs::ByteStream;
use crate::ports::registry::Expected;

/// Why nothing was imported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImportError {
    /// Storing it.
    #[error(transparent)]
    Store(StoreError),
    /// A config could not be written; a bug.
    #[error("image config cannot be written: {0}")]
    Encoding(String),
}

impl<E: Into<StoreError>> From<E> for ImportError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

/// What the image is to be.
#[derive(Debug)]
pub struct Imported<'a> {
    /// Its name, if it is to have one.
    pub reference: Option<&'a Reference>,
    /// What containers of it run.
    pub config: RunConfig,
    /// For `inspect`.
    pub comment: String,
    /// For which processor; this one's unless it is said.
    pub architecture: Option<String>,
}

/// A layer that was stored.
pub(super) struct AddedLayer {
    /// Its bytes in the registry.
    pub(super) blob: Digest,
    /// What it is, uncompressed.
    pub(super) id: DiffId,
    /// Bytes in its files.
    pub(super) size: u64,
}

/// An image that is to be, whose layers are stored.
pub(super) struct NewImage<'a> {
    pub(super) config: &'a Value,
    pub(super) layers: Vec<Descriptor>,
    /// Bytes in the files of all layers.
    pub(super) size: u64,
    /// Its name, if it is to have one.
    pub(super) reference: Option<&'a Reference>,
}

const fn anything(limit: u64) -> Expected {
    Expected {
        digest: None,
        size: None,
        limit,
    }
}

impl Images {
    /// Imports a tar, compressed or not. Returns the image's id.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn import(
        &self,
        namespace: &Namespace,
        body: ByteStream,
        wanted: Imported<'_>,
    ) -> Result<Digest, ImportError> {
        let mut tidy = TidyUnlessDone::new(self);
        let made = self.import_held(namespace, body, wanted, &mut tidy).await;
        tidy.end(made).await
    }

    async fn import_held(
        &self,
        namespace: &Namespace,
        body: ByteStream,
        wanted: Imported<'_>,
        tidy: &mut TidyUnlessDone,
    ) -> Result<Digest, ImportError> {
        let mut pins = self.pins.operation();
        pins.begin_ingest().await;
        let AddedLayer {
            blob,
            id: layer,
            size,
        } = self.add_layer(namespace, &mut pins, tidy, body).await?;
        let now = self.environment.now();
        let created = now.rfc3339();
        let config = json!({
            "architecture": wanted.architecture.as_deref().unwrap_or(&self.platform.architecture),
            "os": "linux",
            "created": created,
            "comment": wanted.comment,
            "docker_version": env!("CARGO_PKG_VERSION"),
            "config": wanted.config,
            "history": [{"created": created, "comment": wanted.comment}],
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        });
        let layers = vec![self.layer_descriptor(&blob).await?];
        let new = NewImage {
            config: &config,
            layers,
            size,
            reference: wanted.reference,
        };
        self.name_new(namespace, pins, tidy, new).await
    }

    /// Stores a tar, compressed or not, as a layer, and makes it ready to run.
    pub(super) async fn add_layer(
        &self,
        namespace: &Namespace,
        pins: &mut PinSet,
        tidy: &mut TidyUnlessDone,
        body: ByteStream,
    ) -> Result<AddedLayer, ImportError> {
        let limits = self.limits.layer;
        let expected = anything(limits.unpacked_bytes);
        let stored = self.registry.put_blob(body, expected).await?;
        pins.pin(stored.digest).await;
        let body = self.registry.get_blob(&stored.digest).await?;
        let check = move |reader| layer::read(reader, None, limits, &mut Discard);
        let failed = || LayerError::Storage("checking it failed".to_owned());
        let id = feed::run(body, check)
            .await
            .unwrap_or_else(|| Err(failed()))?
            .diff_id;
        pins.pin(id.0).await;
        // Until there is a manifest, the blob stands for one.
        let content = Content {
            manifest: stored.digest,
            blobs: vec![stored.digest],
            layers: vec![id],
        };
        tidy.hold(namespace, &content).await?;
        let body = self.registry.get_blob(&stored.digest).await?;
        let size = self.layers.add(&id, body).await?;
        Ok(AddedLayer {
            blob: stored.digest,
            id,
            size,
        })
    }

    /// Stores an image of layers that are stored, and gives it a name, if it is to have one.
    pub(super) async fn name_new(
        &self,
        namespace: &Namespace,
        mut pins: PinSet,
        tidy: &mut TidyUnlessDone,
        new: NewImage<'_>,
    ) -> Result<Digest, ImportError> {
        let bytes =
            serde_json::to_vec(new.config).map_err(|e| ImportError::Encoding(e.to_string()))?;
        let image = ImageConfig::parse(&bytes)?;
        let length = bytes.len() as u64;
        let config = self
            .registry
            .put_blob(feed::once(bytes.into()), anything(length))
            .await?;
        pins.pin(config.digest).await;
        pins.end_ingest();
        let config = Descriptor::new(media::OCI_CONFIG, config.digest, length);
        let manifest = Manifest::oci(config.clone(), new.layers.clone()).to_bytes()?;
        let content = Content {
            manifest: Digest::of(&manifest),
            blobs: std::iter::once(config.digest)
                .chain(new.layers.iter().map(|layer| layer.digest))
                .collect(),
            layers: image.layers().to_vec(),
        };
        tidy.hold(namespace, &content).await?;
        let parts = Parts {
            image: &image,
            config,
            layers: new.layers,
            manifest: (media::OCI_MANIFEST.to_owned(), manifest.into()),
        };
        let record = self.record(&mut pins, parts, new.size).await?;
        let now = self.environment.now();
        self.catalog.add(namespace, &record, now).await?;
        if let Some(reference) = new.reference {
            self.catalog
                .tag(namespace, &record.id, reference, true, now)
                .await?;
        }
        Ok(record.id)
    }

    /// What is at a URL, and its size if that is said (else 0), with the HTTP status for a
    /// failure.
    ///
    /// # Errors
    /// When there is nothing, or nothing to be reached.
    pub async fn download(&self, url: &str) -> Result<(ByteStream, u64), (u16, RemoteError)> {
        match self.remote().await {
            Ok(remote) => remote.download(url).await,
            Err(error) => Err((500, error)),
        }
    }
}
