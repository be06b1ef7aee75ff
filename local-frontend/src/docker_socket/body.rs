//! The body of a response: nothing, bytes, or what is still to come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};

use super::player::Interrupted;

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, Interrupted>> + Send>>;

/// A response's body.
pub(super) struct AnswerBody(Kind);

enum Kind {
    Full(Bytes),
    Chunks(Chunks),
}

impl AnswerBody {
    pub(super) const fn empty() -> Self {
        Self(Kind::Full(Bytes::new()))
    }

    pub(super) const fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(bytes))
    }

    /// Sent chunk by chunk, as each comes.
    pub(super) fn chunks(
        chunks: impl Stream<Item = Result<Bytes, Interrupted>> + Send + 'static,
    ) -> Self {
        Self(Kind::Chunks(Box::pin(chunks)))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        match &mut self.get_mut().0 {
            Kind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Chunks(chunks) => chunks
                .as_mut()
                .poll_next(cx)
                .map(|next| next.map(|chunk| chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Kind::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Chunks(_) => SizeHint::default(),
        }
    }
}
