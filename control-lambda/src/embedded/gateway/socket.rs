//! A connection over a WebSocket.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _, future};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sockerless_shared::protocol::control::MAX_MESSAGE_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::connection::End;
use super::{MAX_FRAME_BYTES, Membership};

/// So long at most is waited for a close frame to be sent.
const CLOSING: Duration = Duration::from_secs(5);

/// Carries messages between a connection and the socket that `upgrade` gives.
/// `S` is what the HTTP server was given.
pub(super) async fn run<S>(
    membership: Membership,
    queue: mpsc::Receiver<String>,
    upgrade: OnUpgrade,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "relay connection broke off before it began");
            return;
        }
    };
    // Talking to the socket itself spares a layer of indirection and a copy.
    match upgraded.downcast::<TokioIo<S>>() {
        Ok(parts) => {
            let socket = WebSocketStream::from_partially_read(
                parts.io.into_inner(),
                parts.read_buf.into(),
                Role::Server,
                Some(config()),
            );
            carry(membership, queue, socket.await).await;
        }
        Err(upgraded) => {
            let io = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config()));
            carry(membership, queue, socket.await).await;
        }
    }
}

/// Buffers are small because there is a connection for every container.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .read_buffer_size(32 * 1024)
        .write_buffer_size(64 * 1024)
}

async fn carry<S>(membership: Membership, queue: mpsc::Receiver<String>, socket: WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, stream) = socket.split();
    let mut incoming = stream.filter_map(|message| {
        future::ready(match message {
            Ok(Message::Text(text)) => Some(Ok(text.as_str().to_owned())),
            Ok(Message::Binary(_)) => Some(Err(End::Binary)),
            // Pings are answered below this; a ping is no message and does not
            // keep a connection from idling out.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => None,
            Ok(Message::Close(_)) => Some(Err(End::Gone)),
            Err(error) => Some(Err(why(&error))),
        })
    });
    let mut outgoing = sink
        .sink_map_err(|error| why(&error))
        .with(|text: String| future::ready(Ok::<_, End>(Message::text(text))));

    let end = membership.run(queue, &mut incoming, &mut outgoing).await;
    // Nothing can be posted from here on; the peer may take its time to hear of it.
    drop(membership);
    if end == End::Cut {
        return;
    }
    let sink = outgoing.into_inner().into_inner();
    let Ok(socket) = sink.reunite(incoming.into_inner()) else {
        return;
    };
    // Whoever does not take the close frame in time is cut off without it.
    let _ = tokio::time::timeout(CLOSING, say_goodbye(socket, end)).await;
}

/// Sends the close frame and reads on, to no purpose, until the peer has
/// closed too: what is unread when a socket is closed makes the kernel reset
/// the connection, and the close frame may be lost with it.
async fn say_goodbye<S>(mut socket: WebSocketStream<S>, end: End)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Either fails only where the peer is gone already.
    let _ = socket.close(close_frame(end)).await;
    let mut io = socket.into_inner();
    let _ = io.shutdown().await;
    let mut scratch = [0; 4096];
    while matches!(io.read(&mut scratch).await, Ok(1..)) {}
}

fn why(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::TooLarge,
        Error::Protocol(_) | Error::Utf8(_) | Error::AttackAttempt => End::Protocol,
        _ => End::Gone,
    }
}

fn close_frame(end: End) -> Option<CloseFrame> {
    let (code, reason) = match end {
        // Closed by the peer: the library has its answer ready.
        End::Gone | End::Cut => return None,
        End::Closed => (CloseCode::Normal, "Connection closed"),
        End::Idle | End::Lifetime | End::NoControlPlane => (CloseCode::Away, "Going away"),
        End::Binary => (CloseCode::Unsupported, "Binary is not supported"),
        End::TooLarge => (CloseCode::Size, "Message too long"),
        End::Protocol => (CloseCode::Protocol, "Protocol error"),
    };
    Some(CloseFrame {
        code,
        reason: reason.into(),
    })
}
