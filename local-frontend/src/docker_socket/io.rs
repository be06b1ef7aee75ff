//! A connection as hyper sees it, with one thing more: whether anything that
//! hyper wrote is still on its way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

/// Wraps a connection.
pub(super) struct ClientIo<S> {
    inner: TokioIo<S>,
    blocked: Arc<AtomicBool>,
}

/// Says whether the last write had to wait, in which case bytes of an earlier
/// response are still in hyper's hands.
#[derive(Clone)]
pub(super) struct WriteState(Arc<AtomicBool>);

impl WriteState {
    pub(super) fn is_flushed(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

impl<S> ClientIo<S> {
    pub(super) fn new(stream: S) -> (Self, WriteState) {
        let blocked = Arc::new(AtomicBool::new(false));
        let io = Self {
            inner: TokioIo::new(stream),
            blocked: Arc::clone(&blocked),
        };
        (io, WriteState(blocked))
    }

    pub(super) fn into_inner(self) -> S {
        self.inner.into_inner()
    }
}

impl<S> Read for ClientIo<S>
where
    TokioIo<S>: Read + Unpin,
    S: Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buffer)
    }
}

impl<S> Write for ClientIo<S>
where
    TokioIo<S>: Write + Unpin,
    S: Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, pieces);
        this.blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}
