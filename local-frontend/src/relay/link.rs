//! One connection to the relay's gateway, as texts.

use std::pin::Pin;

use async_trait::async_trait;
use futures_util::{Sink, Stream};
use sockerless_shared::protocol::control::ConnectQuery;
use thiserror::Error;

/// The connection could not be made, or broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("relay: {0}")]
pub struct LinkError(pub String);

/// Texts to the gateway. A sink that is not ready holds the sender back.
pub type Outgoing = Pin<Box<dyn Sink<String, Error = LinkError> + Send>>;

/// Texts from the gateway, until the connection ends.
pub type Incoming = Pin<Box<dyn Stream<Item = Result<String, LinkError>> + Send>>;

/// An open connection.
pub struct Link {
    /// To the gateway.
    pub outgoing: Outgoing,
    /// From the gateway.
    pub incoming: Incoming,
}

/// Opens connections: a WebSocket, or a pair of channels to a gateway in this process.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens one, presenting who connects.
    ///
    /// # Errors
    /// When the gateway cannot be reached or refuses.
    async fn dial(&self, query: ConnectQuery) -> Result<Link, LinkError>;
}
