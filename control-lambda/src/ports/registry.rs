//! Our own repository of blobs and manifests: an OCI layout on disk, or ECR.

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use super::blobs::ByteStream;
use crate::images::digest::Digest;

/// Why the registry did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// Nothing of this digest.
    #[error("registry: {0} is not there")]
    NotFound(Digest),
    /// Other bytes than were announced. Nothing was stored.
    #[error("registry: content has the digest {actual} and not {expected}, which was announced")]
    WrongDigest {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Another length than was announced. Nothing was stored.
    #[error("registry: content has {actual} bytes and not {expected}, which were announced")]
    WrongSize {
        /// What was announced.
        expected: u64,
        /// What came, counted until it was too many.
        actual: u64,
    },
    /// More than was allowed. Nothing was stored.
    #[error("registry: content is larger than {0} bytes, the most that is allowed")]
    TooLarge(u64),
    /// The body broke off. Nothing was stored.
    #[error("registry: body broke off: {0}")]
    Interrupted(String),
    /// Somebody else is storing it at this moment. Nothing was stored.
    #[error("registry: {0} is being stored by somebody else")]
    Busy(Digest),
    /// The registry did not answer or failed.
    #[error("registry: {0}")]
    Unavailable(String),
}

/// From this size on, those who want the same blob wait for the one who fetches it; a smaller
/// one is there before it would be known that somebody fetches it. In bytes.
pub const SHARED_BYTES: u64 = 1024 * 1024;

/// What a body must be to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Its digest, when it is known beforehand.
    pub digest: Option<Digest>,
    /// Its size, when it is known beforehand.
    pub size: Option<u64>,
    /// The most bytes that are taken.
    pub limit: u64,
}

/// A blob that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Blobs and manifests by their digests. Nothing is ever there in part: a put
/// that does not end, or whose future is dropped, leaves nothing.
#[async_trait]
pub trait Registry: Send + Sync {
    /// A blob's size, or `None` when it is not there.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    async fn stat_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError>;

    /// A blob's bytes.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] and [`RegistryError::Unavailable`].
    async fn get_blob(&self, digest: &Digest) -> Result<ByteStream, RegistryError>;

    /// Stores a blob under the digest of its bytes; one that is there already
    /// stays.
    ///
    /// # Errors
    /// Every kind but [`RegistryError::NotFound`].
    async fn put_blob(&self, body: ByteStream, expected: Expected)
    -> Result<Stored, RegistryError>;

    /// Takes a blob from another repository, if that is of the same registry, which need not send
    /// it then; whether it did.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    async fn mount_blob(
        &self,
        _digest: &Digest,
        _host: &str,
        _repository: &str,
    ) -> Result<bool, RegistryError> {
        Ok(false)
    }

    /// How many bytes of a blob are kept from a [`Registry::put_blob_from`] that broke
    /// off; 0 where nothing is, as with a registry that keeps no parts.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`]; [`RegistryError::Busy`] while somebody else is storing
    /// it, where that is known before a body is there.
    async fn kept_bytes(&self, _digest: &Digest) -> Result<u64, RegistryError> {
        Ok(0)
    }

    /// Stores the rest of a blob of which `kept` bytes are kept. When the body breaks off,
    /// or the future is dropped, what has come until then is kept for some time, apart
    /// from the blobs (where parts are of some size, without what was to be the last); whatever
    /// else goes wrong, nothing is. One alone stores a blob of at least
    /// [`SHARED_BYTES`] at a time.
    ///
    /// # Errors
    /// Every kind but [`RegistryError::NotFound`]; [`RegistryError::Unavailable`] when another
    /// number of bytes is kept; [`RegistryError::Busy`] while somebody else is storing it.
    async fn put_blob_from(
        &self,
        kept: u64,
        body: ByteStream,
        expected: Expected,
    ) -> Result<Stored, RegistryError> {
        if kept == 0 {
            self.put_blob(body, expected).await
        } else {
            Err(RegistryError::Unavailable(
                "parts of blobs are not kept here".to_owned(),
            ))
        }
    }

    /// Removes a blob; one that is not there is no error.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    async fn delete_blob(&self, digest: &Digest) -> Result<(), RegistryError>;

    /// The blobs that can be deleted one by one. Empty where the registry itself
    /// removes what no manifest refers to.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    async fn list_blobs(&self) -> Result<Vec<Digest>, RegistryError>;

    /// Stores a manifest or index. Its blobs must be there.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    async fn put_manifest(&self, media_type: &str, bytes: Bytes) -> Result<Digest, RegistryError>;

    /// A manifest or index, with its media type.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] and [`RegistryError::Unavailable`].
    async fn get_manifest(&self, digest: &Digest) -> Result<(String, Bytes), RegistryError>;

    /// Removes a manifest; one that is not there is no error.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    async fn delete_manifest(&self, digest: &Digest) -> Result<(), RegistryError>;

    /// The manifests that are there.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    async fn list_manifests(&self) -> Result<Vec<Digest>, RegistryError>;
}
