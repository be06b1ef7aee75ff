//! The relay's gateway: connections that agents and frontends opened, to which
//! texts can be posted (API Gateway's WebSocket API and its `@connections`).

use async_trait::async_trait;
use sockerless_shared::ids::ConnectionId;
use thiserror::Error;

/// Why a text was not posted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PostError {
    /// The connection does not exist (any more): HTTP 410.
    #[error("relay: connection {0} is gone")]
    Gone(ConnectionId),
    /// Too fast, or the receiver's buffer is full: HTTP 429. Try again a little later.
    #[error("relay: connection {0} takes no more at the moment")]
    Throttled(ConnectionId),
    /// Larger than 128 KB: HTTP 413.
    #[error("relay: message of {0} bytes is too large")]
    TooLarge(usize),
    /// The gateway did not answer or failed.
    #[error("relay: {0}")]
    Unavailable(String),
}

/// Control plane → connections.
#[async_trait]
pub trait Relay: Send + Sync {
    /// Posts one text. Success means accepted, not received: texts may be lost,
    /// repeated and reordered.
    ///
    /// # Errors
    /// See [`PostError`].
    async fn post(&self, connection: &ConnectionId, text: String) -> Result<(), PostError>;

    /// Closes a connection; one that is gone already is no error.
    ///
    /// # Errors
    /// [`PostError::Unavailable`].
    async fn disconnect(&self, connection: &ConnectionId) -> Result<(), PostError>;
}

/// A `$connect` that was refused: HTTP 401 or 403 to whoever asked, no reason given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRefused {
    /// The status.
    pub status: u16,
    /// For the operator's log only.
    pub reason: String,
}

/// Connections → control plane. Implemented by the control plane; called by
/// the gateway, for different connections at the same time.
#[async_trait]
pub trait GatewayEvents: Send + Sync {
    /// `$connect`. `query` is the query string, without `?`. Nothing can be posted
    /// to the connection before this has returned.
    ///
    /// # Errors
    /// When the credentials are not good.
    async fn connect(&self, connection: &ConnectionId, query: &str) -> Result<(), ConnectRefused>;

    /// `$default`: one text from the connection.
    async fn message(&self, connection: &ConnectionId, text: String);

    /// `$disconnect`. Best effort: it may never be called.
    async fn disconnected(&self, connection: &ConnectionId);
}
