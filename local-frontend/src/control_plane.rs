//! What the frontend asks of the control plane. One adapter calls it in this
//! process, another over HTTPS.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use sockerless_shared::answer::{Answer, Request};
use sockerless_shared::ids::{BlobId, PeerId};
use sockerless_shared::protocol::mac::Token;
use thiserror::Error;

/// A body as it comes.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// A body broke off.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("body broke off: {0}")]
pub struct BodyError(pub String);

/// Why the control plane did not do it. What it refuses is no error but an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControlPlaneError {
    /// It could not be reached, or is overloaded; the same request may succeed later.
    #[error("control plane is not available: {0}")]
    Unavailable(String),
    /// It answered with something that is not an answer.
    #[error("control plane failed: {0}")]
    Failed(String),
    /// The client's body broke off while it was passed on.
    #[error("request {0}")]
    Body(#[from] BodyError),
    /// The body is larger than the control plane takes.
    #[error("request body is too large: {0}")]
    TooLarge(String),
}

/// The control plane.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// Asks for one request to be carried out.
    ///
    /// # Errors
    /// See [`ControlPlaneError`].
    async fn request(&self, request: Request) -> Result<Answer, ControlPlaneError>;

    /// Stores a large body, to be named in a request that follows.
    ///
    /// # Errors
    /// See [`ControlPlaneError`].
    async fn upload(&self, body: ByteStream) -> Result<BlobId, ControlPlaneError>;

    /// Reads a large body that an answer named.
    ///
    /// # Errors
    /// See [`ControlPlaneError`].
    async fn fetch(&self, blob: &BlobId) -> Result<ByteStream, ControlPlaneError>;

    /// A token with which this frontend may connect to the relay, for one
    /// connection soon.
    ///
    /// # Errors
    /// See [`ControlPlaneError`].
    async fn relay_token(&self, peer: &PeerId) -> Result<Token, ControlPlaneError>;
}
