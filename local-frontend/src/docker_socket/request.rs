//! A client's HTTP request as the control plane takes it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use hyper::body::Incoming;
use sockerless_shared::answer::{Body, MAX_INLINE_BODY_BYTES, Request};
use sockerless_shared::ids::PeerId;

use crate::control_plane::{BodyError, ByteStream, ControlPlaneError};

/// The body of a request as the frontend keeps it until it is known where it goes.
pub(super) enum Kept {
    /// All of it, and the control plane has it too.
    Inline(Bytes),
    /// Large: what was read of it, and the rest.
    Large(ByteStream),
}

impl Kept {
    /// Reads what nobody wants, while the answer goes out. A client that is still sending would
    /// otherwise find the connection closed, and might not look for an answer; one that has got
    /// its answer stops by itself.
    pub(super) fn discard(self) {
        if let Self::Large(mut body) = self {
            tokio::spawn(async move { while let Some(Ok(_)) = body.next().await {} });
        }
    }
}

/// Reads a small body and forms the request; a large one is kept. One that says it
/// is JSON is read whole by whoever takes it, and so is never large.
pub(super) async fn read(
    head: Parts,
    body: Incoming,
    peer: &PeerId,
) -> Result<(Request, Kept), ControlPlaneError> {
    let may_be_large = !is_json(&head.headers);
    let kept = read_body(body, may_be_large).await?;
    let body = match &kept {
        Kept::Inline(bytes) => Body::Inline(bytes.clone()),
        Kept::Large(_) => Body::Waiting,
    };
    let path_and_query = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request {
        method: head.method.as_str().to_owned(),
        path_and_query: path_and_query.to_owned(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect(),
        body,
        peer: Some(peer.clone()),
    };
    Ok((request, kept))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.and_then(|kind| kind.split(|&byte| byte == b';').next());
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/json"))
}

async fn read_body(mut body: Incoming, may_be_large: bool) -> Result<Kept, ControlPlaneError> {
    if body.is_end_stream() {
        return Ok(Kept::Inline(Bytes::new()));
    }
    let mut pieces = Vec::new();
    let mut length = 0;
    if body.size_hint().lower() <= MAX_INLINE_BODY_BYTES as u64 {
        loop {
            match next(&mut body).await {
                None => return Ok(Kept::Inline(join(pieces, length))),
                Some(piece) => {
                    let piece = piece?;
                    length += piece.len();
                    pieces.push(piece);
                }
            }
            if length > MAX_INLINE_BODY_BYTES {
                break;
            }
        }
    }
    if !may_be_large {
        return Err(ControlPlaneError::TooLarge(format!(
            "one of type application/json may have {MAX_INLINE_BODY_BYTES} bytes"
        )));
    }
    let rest = Rest {
        pieces: pieces.into_iter(),
        body,
    };
    Ok(Kept::Large(Box::pin(rest)))
}

fn join(mut pieces: Vec<Bytes>, length: usize) -> Bytes {
    if pieces.len() == 1 {
        return pieces.swap_remove(0);
    }
    let mut joined = BytesMut::with_capacity(length);
    for piece in pieces {
        joined.extend_from_slice(&piece);
    }
    joined.freeze()
}

async fn next(body: &mut Incoming) -> Option<Result<Bytes, BodyError>> {
    std::future::poll_fn(|cx| poll_data(body, cx)).await
}

/// What was read already, then the rest of the body.
struct Rest {
    pieces: std::vec::IntoIter<Bytes>,
    body: Incoming,
}

impl Stream for Rest {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.pieces.next() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => poll_data(&mut this.body, cx),
        }
    }
}

/// The next bytes; trailers are left out.
fn poll_data(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
    loop {
        return match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError(describe(&error))))),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Poll::Ready(Some(Ok(data))),
                Err(_) => continue,
            },
        };
    }
}

/// The error with its causes, which alone say something.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
