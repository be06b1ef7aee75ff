//! The blob store: large bodies, log spools (S3, or a folder).

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

/// Bytes as they come.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BlobError>> + Send>>;

/// The name of a blob: segments of letters, digits, `-` and `_` with `/` between
/// them, such as `logs/0123…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobName(String);

impl BlobName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BlobError::InvalidName`].
    pub fn new(text: impl Into<String>) -> Result<Self, BlobError> {
        let text = text.into();
        let segment = |s: &str| {
            !s.is_empty()
                && s.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if text.len() <= 512 && text.split('/').all(segment) {
            Ok(Self(text))
        } else {
            Err(BlobError::InvalidName(text.chars().take(80).collect()))
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why the blob store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlobError {
    /// Not a name.
    #[error("blob store: {0:?} is not a blob name")]
    InvalidName(String),
    /// No blob of this name.
    #[error("blob store: no blob {0}")]
    NotFound(String),
    /// More than was allowed.
    #[error("blob store: body is larger than {0} bytes")]
    TooLarge(u64),
    /// The body broke off.
    #[error("blob store: body broke off: {0}")]
    Interrupted(String),
    /// The store did not answer or failed.
    #[error("blob store: {0}")]
    Unavailable(String),
}

/// The blob store.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores a body under a name, replacing what was there, whole or not at
    /// all. Returns its size in bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] beyond `limit` bytes, and the others.
    async fn put(&self, name: &BlobName, body: ByteStream, limit: u64) -> Result<u64, BlobError>;

    /// Reads a blob.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] and the others.
    async fn get(&self, name: &BlobName) -> Result<ByteStream, BlobError>;

    /// Removes a blob; one that is not there is no error.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    async fn delete(&self, name: &BlobName) -> Result<(), BlobError>;

    /// A URL to which whoever holds it may PUT this blob once or more, until
    /// `expires`, as seen from inside a function.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    async fn upload_url(&self, name: &BlobName, expires: Timestamp) -> Result<String, BlobError>;

    /// A URL from which whoever holds it may GET this blob until `expires`, as
    /// seen from wherever [`Blobs::upload_url`] is.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    async fn download_url(&self, name: &BlobName, expires: Timestamp) -> Result<String, BlobError>;
}
