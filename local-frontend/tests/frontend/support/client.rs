//! A client that writes HTTP by hand.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::PATIENCE;

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn request(&mut self, line: &str) -> Reply {
        self.write(format!("{line} HTTP/1.1\r\nHost: docker\r\n\r\n"))
            .await;
        self.reply().await
    }

    /// A whole response: by its length, in chunks, or without a body.
    pub(crate) async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        let lower = head.to_lowercase();
        let mut body = Vec::new();
        if let Some((_, rest)) = lower.split_once("content-length: ") {
            let length = rest.split("\r\n").next().unwrap().parse().unwrap();
            body = self.exactly(length).await;
        } else if lower.contains("transfer-encoding: chunked") {
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
        }
        Reply { head, body }
    }

    pub(crate) async fn head(&mut self) -> String {
        let head = self.up_to(b"\r\n\r\n").await;
        String::from_utf8(head).unwrap()
    }

    /// One chunk; `None` for the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.up_to(b"\r\n").await;
        let size = std::str::from_utf8(&size).unwrap().trim();
        let size = usize::from_str_radix(size, 16).unwrap();
        let chunk = self.exactly(size).await;
        self.exactly(2).await;
        (size > 0).then_some(chunk)
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "ended after {:?}", self.read);
        }
        self.read.drain(..length).collect()
    }

    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    async fn up_to(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.read.windows(mark.len()).position(|w| w == mark) {
                return self.read.drain(..at + mark.len()).collect();
            }
            assert!(self.more().await, "ended after {:?}", self.read);
        }
    }

    async fn more(&mut self) -> bool {
        self.read.reserve(64 * 1024);
        let read = self.stream.read_buf(&mut self.read);
        timeout(PATIENCE, read)
            .await
            .expect("the frontend is silent")
            .unwrap()
            > 0
    }
}
