//! Layers made ready to run: unpacked where containers run on this machine,
//! only checked where the platform unpacks them itself.

use async_trait::async_trait;

use super::blobs::ByteStream;
use crate::images::digest::DiffId;
use crate::images::layer::LayerError;

/// Makes layers ready. Nothing is ever there in part.
#[async_trait]
pub trait Layers: Send + Sync {
    /// The bytes in a layer's files, or `None` when it is not there.
    ///
    /// # Errors
    /// [`LayerError::Storage`].
    async fn stat(&self, layer: &DiffId) -> Result<Option<u64>, LayerError>;

    /// Takes a layer's tar stream, compressed with gzip or zstd or not, checks
    /// it against its digest, and makes it ready. Returns the bytes in its files.
    /// The bytes of one that is there already are checked all the same. When the future is dropped, nothing is left.
    ///
    /// # Errors
    /// See [`LayerError`].
    async fn add(&self, layer: &DiffId, body: ByteStream) -> Result<u64, LayerError>;

    /// Removes a layer; one that is not there is no error.
    ///
    /// # Errors
    /// [`LayerError::Storage`].
    async fn remove(&self, layer: &DiffId) -> Result<(), LayerError>;

    /// The layers that are there.
    ///
    /// # Errors
    /// [`LayerError::Storage`].
    async fn list(&self) -> Result<Vec<DiffId>, LayerError>;
}
