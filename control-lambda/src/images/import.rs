//! `docker import`: an image of one layer from the tar of a root file system.

use serde_json::json;
use sockerless_shared::ids::Namespace;
use thiserror::Error;

use super::config::{ImageConfig, RunConfig};
use super::digest::Digest;
use super::feed;
use super::layer::{self, Discard, LayerError};
use super::manifest::{Descriptor, media};
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
        let tidy = TidyUnlessDone::new(self);
        let mut pins = self.pins.operation();
        pins.begin_ingest().await;
        let any = |limit: u64| Expected {
            digest: None,
            size: None,
            limit,
        };
        let limits = self.limits.layer;
        let stored = self
            .registry
            .put_blob(body, any(limits.unpacked_bytes))
            .await?;
        pins.pin(stored.digest).await;
        let body = self.registry.get_blob(&stored.digest).await?;
        let check = move |reader| layer::read(reader, None, limits, &mut Discard);
        let failed = || LayerError::Storage("checking it failed".to_owned());
        let layer = feed::run(body, check)
            .await
            .unwrap_or_else(|| Err(failed()))?
            .diff_id;
        pins.pin(layer.0).await;
        let body = self.registry.get_blob(&stored.digest).await?;
        let size = self.layers.add(&layer, body).await?;

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
        let bytes =
            serde_json::to_vec(&config).map_err(|e| ImportError::Encoding(e.to_string()))?;
        let image = ImageConfig::parse(&bytes)?;
        let length = bytes.len() as u64;
        let config = self
            .registry
            .put_blob(feed::once(bytes.into()), any(length))
            .await?;
        pins.pin(config.digest).await;
        pins.end_ingest();
        let parts = Parts {
            image: &image,
            config: Descriptor::new(media::OCI_CONFIG, config.digest, length),
            layers: vec![self.layer_descriptor(&stored.digest).await?],
            manifest: None,
        };
        let record = self.record(&mut pins, parts, size).await?;
        self.catalog.add(namespace, &record, now).await?;
        if let Some(reference) = wanted.reference {
            self.catalog
                .tag(namespace, &record.id, reference, true, now)
                .await?;
        }
        drop(pins);
        tidy.done();
        Ok(record.id)
    }

    /// What is at a URL, with the HTTP status for a failure.
    ///
    /// # Errors
    /// When there is nothing, or nothing to be reached.
    pub async fn download(&self, url: &str) -> Result<ByteStream, (u16, RemoteError)> {
        match self.remote().await {
            Ok(remote) => remote.download(url).await,
            Err(error) => Err((500, error)),
        }
    }
}
