//! A raw stream within a client's WebSocket: what it sends in frames, of either kind, is the
//! stream's input, and output goes to it in binary frames.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// Largest frame of output, in bytes.
const CHUNK_BYTES: usize = 32 * 1024;

/// Largest message that a client may send, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Carries bytes until either side ends. `read` is what came behind the request.
pub(super) async fn carry<S>(stream: S, read: Bytes, plain: DuplexStream)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let socket =
        WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Server, Some(config))
            .await;
    let (mut frames_out, mut frames_in) = socket.split();
    let (mut plain_in, mut plain_out) = tokio::io::split(plain);
    let input = async {
        while let Some(Ok(message)) = frames_in.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if plain_out.write_all(&data).await.is_err() {
                break;
            }
        }
    };
    let output = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = plain_in.read(&mut buffer).await {
            let frame = Bytes::copy_from_slice(&buffer[..length]);
            if frames_out.send(Message::Binary(frame)).await.is_err() {
                return;
            }
        }
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        // Nobody is left to tell if it fails.
        let _ = frames_out.send(Message::Close(Some(normal))).await;
    };
    // A client that has gone ends the stream: then both halves are dropped.
    tokio::select! {
        () = input => {}
        () = output => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_end_is_told() {
        let (client, server) = tokio::io::duplex(1024);
        let (mut inside, framed) = tokio::io::duplex(64);
        let carrying = tokio::spawn(carry(server, Bytes::new(), framed));
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(Message::text("typed")).await.unwrap();
        let mut typed = [0; 5];
        inside.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"typed");
        // More than the pipes between hold: a slow reader holds the writer back.
        let shown = vec![b'x'; 100_000];
        let writing = tokio::spawn(async move {
            inside.write_all(&shown).await.unwrap();
        });
        let mut seen = 0;
        let close = loop {
            match client.next().await.unwrap().unwrap() {
                Message::Binary(data) => seen += data.len(),
                Message::Close(close) => break close.unwrap(),
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!((seen, close.code), (100_000, CloseCode::Normal));
        writing.await.unwrap();
        carrying.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_breaks_the_protocol_ends_it() {
        let (mut client, server) = tokio::io::duplex(1024);
        let (_inside, framed) = tokio::io::duplex(64);
        let carrying = tokio::spawn(carry(server, Bytes::new(), framed));
        client.write_all(&[0xff; 64]).await.unwrap();
        carrying.await.unwrap();
    }
}
