//! A connection that is a raw stream now: attach, exec.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sockerless_shared::answer::StreamTarget;
use sockerless_shared::protocol::stdcopy::{self, OutputStream};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};

use super::http2;
use super::player::{Interrupted, Player, Step};
use super::service::TakeOver;
use super::watch::ClientWatch;
use super::websocket;
use crate::relay::{AgentInput, StreamError};

/// Largest piece of a client's input, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// How long a client is given to close after the end. To close at once while it
/// still writes would make the system throw away what it has not read yet.
const LINGER: Duration = Duration::from_secs(1);

/// Sends the head and carries the stream. `read` is what the client sent behind
/// its request.
pub(super) async fn run<S>(mut stream: S, read: Bytes, watch: Arc<ClientWatch>, taken: TakeOver)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if taken.head.is_websocket() {
        if stream.write_all(&taken.head.raw()).await.is_ok() {
            let (plain, framed) = tokio::io::duplex(CHUNK_BYTES);
            let frames = websocket::carry(stream, read, framed);
            tokio::join!(frames, stream_of(plain, Bytes::new(), watch, taken, false));
        }
        return;
    }
    if let Some(answer) = http2::answer(&taken.head) {
        http2::run(stream, read, &taken.head, answer).await;
        return;
    }
    stream_of(stream, read, watch, taken, true).await;
}

async fn stream_of<S>(
    stream: S,
    read: Bytes,
    watch: Arc<ClientWatch>,
    taken: TakeOver,
    send_head: bool,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let TakeOver { head, mut player } = taken;
    player.taken_over(Arc::clone(&watch));
    let raw = if send_head { head.raw() } else { Bytes::new() };
    let (reader, writer) = tokio::io::split(stream);
    let mut client = Client {
        reader,
        writer,
        read,
    };
    let result = match client.write(&raw).await {
        Ok(()) => carry(&mut client, &mut player, &watch).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => {}
        Err(Interrupted::Stream(StreamError::Refused(sentence))) => {
            tracing::debug!(sentence, "an agent refused a stream");
            let mut text = format!("{sentence}\r\n").into_bytes();
            if head.is_multiplexed() {
                let mut framed = Vec::new();
                stdcopy::write_frame(&mut framed, OutputStream::Stderr, &text);
                text = framed;
            }
            // Nobody is left to tell if it fails.
            let _ = client.write(&text).await;
        }
        Err(error @ Interrupted::ClientGone) => {
            player.begin_streams_at_hand().await;
            error.log();
            return;
        }
        // As when a process is killed under a Docker Engine: its exit code tells.
        Err(error @ Interrupted::Stream(StreamError::Crashed)) => error.log(),
        Err(error) => {
            error.log();
            // An end without a word would pass for the end of the output.
            let sentence = format!("the stream broke off: {error}");
            let mut text = format!("{sentence}\r\n").into_bytes();
            if head.is_multiplexed() {
                // `docker run`, which knows the exit code by then, shows this, and not the
                // error that other clients end with.
                let mut framed = Vec::new();
                stdcopy::write_frame(&mut framed, OutputStream::Stderr, &text);
                framed.extend(stdcopy::error_frame(&sentence));
                text = framed;
            }
            let _ = client.write(&text).await;
        }
    }
    // The answer is done with, whatever the client still does.
    drop(player);
    client.close().await;
}

struct Client<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    /// What was read and not passed on yet.
    read: Bytes,
}

async fn carry<S>(
    client: &mut Client<S>,
    player: &mut Player,
    watch: &ClientWatch,
) -> Result<(), Interrupted>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut begun = false;
    loop {
        match next(player).await? {
            Step::Bytes(bytes) => {
                if !std::mem::replace(&mut begun, true) {
                    watch.has_read().await;
                }
                client.write(&bytes).await?;
            }
            Step::Stream(target) => {
                let head = (!std::mem::replace(&mut begun, true)).then_some(watch);
                bridge(client, player, &target, head).await?;
            }
            Step::End => return Ok(()),
        }
    }
}

async fn next(player: &mut Player) -> Result<Step, Interrupted> {
    let mut gone = player.take_gone();
    let step = tokio::select! {
        step = player.step() => step,
        () = &mut gone => return Err(Interrupted::ClientGone),
    };
    player.put_gone(gone);
    step
}

/// Carries bytes both ways until the agent ends the stream. `head` is a watch over a client
/// that may not have read its head yet.
async fn bridge<S>(
    client: &mut Client<S>,
    player: &mut Player,
    target: &StreamTarget,
    mut head: Option<&ClientWatch>,
) -> Result<(), Interrupted>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut gone = player.take_gone();
    let mut stream = player.relay().open(target).await?;
    let carried = async {
        let Client {
            reader,
            writer,
            read,
        } = client;
        let up = send_input(reader, read, &mut stream.input);
        let down = async {
            while let Some(bytes) = stream.output.read().await? {
                if let Some(watch) = head.take() {
                    watch.has_read().await;
                }
                writer
                    .write_all(&bytes)
                    .await
                    .map_err(|_| Interrupted::ClientGone)?;
            }
            Ok(())
        };
        tokio::select! {
            result = down => result,
            error = up => Err(error),
        }
    };
    let result = tokio::select! {
        result = carried => result,
        () = &mut gone => Err(Interrupted::ClientGone),
    };
    player.put_gone(gone);
    if matches!(result, Err(Interrupted::ClientGone))
        && let Err(error) = stream.begun().await
    {
        tracing::debug!(%error, "a stream without a client did not begin");
    }
    result
}

/// Passes the client's bytes on to the agent, and their end. Returns only if the client
/// is gone: the end of its input is not the end of the stream.
async fn send_input<R: AsyncRead + Unpin>(
    reader: &mut R,
    read: &mut Bytes,
    input: &mut AgentInput,
) -> Interrupted {
    let mut buffer = BytesMut::new();
    loop {
        let bytes = if read.is_empty() {
            buffer.reserve(CHUNK_BYTES);
            match reader.read_buf(&mut buffer).await {
                Ok(0) => {
                    input.end();
                    break;
                }
                Ok(_) => buffer.split().freeze(),
                Err(_) => return Interrupted::ClientGone,
            }
        } else {
            std::mem::take(read)
        };
        // An agent may want no more input and still have output.
        if input.write(bytes).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

impl<S> Client<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Interrupted> {
        self.writer
            .write_all(bytes)
            .await
            .map_err(|_| Interrupted::ClientGone)
    }

    async fn close(mut self) {
        let end = async {
            self.writer.shutdown().await?;
            let mut discarded = BytesMut::with_capacity(4096);
            while self.reader.read_buf(&mut discarded).await? > 0 {
                discarded.clear();
            }
            io::Result::Ok(())
        };
        // A client that neither closes nor reads is left to the system.
        let _ = tokio::time::timeout(LINGER, end).await;
    }
}
