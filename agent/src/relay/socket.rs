//! Opening the WebSocket.

use std::io;
use std::time::Duration;

use sockerless_shared::protocol::control::MAX_MESSAGE_BYTES;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::net::{Connection, Target};

/// How long the handshake may take. `$connect` may wait for a cold function.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// An open connection to the gateway.
pub(super) type Socket = WebSocketStream<Box<dyn Connection>>;

/// Why there is none.
#[derive(Debug)]
pub(super) enum NotConnected {
    /// The control plane does not let us in: the run is not ours (any more).
    Refused,
    /// It may work next time; why it did not now.
    Transient(String),
}

/// Connects to `url`, which holds a secret in its query.
pub(super) async fn connect(url: &Uri) -> Result<Socket, NotConnected> {
    let transient = |error: io::Error| NotConnected::Transient(error.to_string());
    let stream = Target::of(url)
        .map_err(transient)?
        .connect()
        .await
        .map_err(transient)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let request = ClientRequestBuilder::new(url.clone());
    let handshake = client_async_with_config(request, stream, Some(config));
    match timeout(HANDSHAKE_LIMIT, handshake).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(response)))
            if matches!(
                response.status(),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
            ) =>
        {
            Err(NotConnected::Refused)
        }
        Ok(Err(error)) => Err(NotConnected::Transient(error.to_string())),
        Err(_) => Err(NotConnected::Transient(
            "the handshake took too long".into(),
        )),
    }
}
