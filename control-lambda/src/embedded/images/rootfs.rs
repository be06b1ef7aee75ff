//! What a container's root consists of, for whoever mounts it.

use std::path::PathBuf;
use std::sync::Arc;

use sockerless_shared::ids::ImageDigest;
use thiserror::Error;

use super::layers::{LayerFolders, OverlayXattr};
use crate::images::config::{ConfigError, ImageConfig, MAX_CONFIG_BYTES};
use crate::images::digest::Digest;
use crate::images::layer::LayerError;
use crate::images::store::read_small;
use crate::ports::Registry;
use crate::ports::registry::RegistryError;

/// Why an image has no root.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RootfsError {
    /// The image is not there.
    #[error("image {0} is not there; load or pull it again")]
    NoSuchImage(ImageDigest),
    /// Its config cannot be read.
    #[error("image {image}: {error}")]
    Registry {
        /// Which image.
        image: ImageDigest,
        /// Why.
        error: RegistryError,
    },
    /// Its config is none.
    #[error("image {image}: {error}")]
    Config {
        /// Which image.
        image: ImageDigest,
        /// Why.
        error: ConfigError,
    },
    /// A layer is missing.
    #[error("image {image}: {error}")]
    Layer {
        /// Which image.
        image: ImageDigest,
        /// Why.
        error: LayerError,
    },
}

/// Finds the unpacked layers of images.
#[derive(Clone)]
pub struct Rootfs {
    registry: Arc<dyn Registry>,
    folders: LayerFolders,
}

impl Rootfs {
    /// Of images in `registry` whose layers are in `folders`.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, folders: LayerFolders) -> Self {
        Self { registry, folders }
    }

    /// The lower directories of an image (named by the digest of its config),
    /// lowest first. An image without layers has none.
    ///
    /// # Errors
    /// See [`RootfsError`].
    pub async fn layers(&self, image: &ImageDigest) -> Result<Vec<PathBuf>, RootfsError> {
        let bytes = read_small(&*self.registry, &Digest::from(image), MAX_CONFIG_BYTES)
            .await
            .map_err(|error| match error {
                RegistryError::NotFound(_) => RootfsError::NoSuchImage(image.clone()),
                error => RootfsError::Registry {
                    image: image.clone(),
                    error,
                },
            })?;
        let config = ImageConfig::parse(&bytes).map_err(|error| RootfsError::Config {
            image: image.clone(),
            error,
        })?;
        let mut folders = Vec::with_capacity(config.layers().len());
        for layer in config.layers() {
            let folder = self.folders.folder(layer).await;
            folders.push(folder.map_err(|error| RootfsError::Layer {
                image: image.clone(),
                error,
            })?);
        }
        Ok(folders)
    }

    /// How overlay must be mounted over them.
    #[must_use]
    pub fn overlay_xattr(&self) -> OverlayXattr {
        self.folders.overlay_xattr()
    }
}
