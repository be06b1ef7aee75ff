//! An asynchronous stream of bytes for a synchronous reader.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::ports::blobs::ByteStream;

/// How many pieces may wait for the reader.
const DEPTH: usize = 4;

enum Piece {
    Data(Bytes),
    Failed(String),
    End,
}

/// Runs `work` on a thread that may block, with a reader of `body`. When the
/// returned future is dropped, the reader fails, so that `work` ends and can
/// tell an end from an interruption. `None` when `work` panicked.
pub async fn run<T: Send + 'static>(
    mut body: ByteStream,
    work: impl FnOnce(FeedReader) -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let mut task = tokio::task::spawn_blocking(move || {
        work(FeedReader {
            receiver,
            current: Bytes::new(),
            ended: false,
        })
    });
    let pump = async move {
        loop {
            let piece = match body.next().await {
                Some(Ok(data)) => Piece::Data(data),
                Some(Err(e)) => Piece::Failed(e.to_string()),
                None => Piece::End,
            };
            let last = !matches!(piece, Piece::Data(_));
            if sender.send(piece).await.is_err() || last {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        result = &mut task => result.ok(),
        () = pump => task.await.ok(),
    }
}

/// The reader's end.
#[derive(Debug)]
pub struct FeedReader {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Piece")
    }
}

impl Read for FeedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                Some(Piece::Data(data)) => self.current = data,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(why)) => return Err(io::Error::other(why)),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "whoever sent it has gone away",
                    ));
                }
            }
        }
        let take = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..take]);
        Ok(take)
    }
}

/// Turns what a thread that may block reads into a stream. `open` runs on that
/// thread; errors of reading become errors of the stream.
pub fn read_out(
    open: impl FnOnce() -> io::Result<Box<dyn Read>> + Send + 'static,
    chunk_bytes: usize,
) -> ByteStream {
    use crate::ports::blobs::BlobError;
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        let failed = |e: io::Error| BlobError::Interrupted(e.to_string());
        let mut reader = match open() {
            Ok(reader) => reader,
            Err(e) => {
                let _ = sender.blocking_send(Err(failed(e)));
                return;
            }
        };
        loop {
            let mut chunk = vec![0; chunk_bytes];
            let item = match reader.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => {
                    chunk.truncate(read);
                    Ok(Bytes::from(chunk))
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Err(failed(e)),
            };
            let last = item.is_err();
            if sender.blocking_send(item).is_err() || last {
                return;
            }
        }
    });
    receive(receiver)
}

/// A stream of what a channel receives.
#[must_use]
pub fn receive(
    receiver: mpsc::Receiver<Result<Bytes, crate::ports::blobs::BlobError>>,
) -> ByteStream {
    Box::pin(futures_util::stream::unfold(
        receiver,
        |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) },
    ))
}

/// A stream of bytes that are here already.
#[must_use]
pub fn once(bytes: Bytes) -> ByteStream {
    Box::pin(futures_util::stream::iter([Ok(bytes)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::blobs::BlobError;

    #[tokio::test]
    async fn what_is_fed_is_read() {
        let pieces = (0..100u8).map(|i| Ok(Bytes::from(vec![i; usize::from(i)])));
        let body: ByteStream = Box::pin(futures_util::stream::iter(pieces));
        let read = run(body, |mut reader| {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        assert_eq!(read.await.unwrap().unwrap().len(), 4950);
    }

    #[tokio::test]
    async fn an_error_is_no_end() {
        let body: ByteStream = Box::pin(futures_util::stream::iter([
            Ok(Bytes::from_static(b"abc")),
            Err(BlobError::Interrupted("cut".into())),
        ]));
        let read = run(body, |mut reader| reader.read_to_end(&mut Vec::new()));
        assert!(read.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn dropping_the_caller_is_no_end_either() {
        let (told, mut tell) = mpsc::channel(1);
        let body: ByteStream = Box::pin(futures_util::stream::pending());
        let running = run(body, move |mut reader| {
            let result = reader.read_to_end(&mut Vec::new());
            let _ = told.blocking_send(result.is_err());
        });
        tokio::select! {
            _ = running => panic!("a body that never comes has no end"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(tell.recv().await, Some(true));
    }

    #[tokio::test]
    async fn work_that_ends_early_does_not_wait_for_the_rest() {
        let body: ByteStream = Box::pin(futures_util::stream::pending());
        assert_eq!(run(body, |_| 7).await, Some(7));
    }
}
