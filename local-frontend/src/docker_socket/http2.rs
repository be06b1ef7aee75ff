//! A connection that is HTTP/2 now, all whose requests get the same answer.
//!
//! BuildKit's clients speak gRPC over an upgraded connection, and show a person nothing
//! but what gRPC tells them. A head with status 101, `Upgrade: h2c` and gRPC's own headers
//! is such an answer: those headers are what every request is answered with.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::head::CheckedHead;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What to answer, if a head is such an answer.
pub(super) fn answer(head: &CheckedHead) -> Option<HeaderMap> {
    let status = head.header(&STATUS).filter(|_| head.is_http2())?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, status.clone());
    if let Some(message) = head.header(&MESSAGE) {
        headers.insert(MESSAGE, message.clone());
    }
    Some(headers)
}

/// Sends the head, and answers until the client goes. `read` is what it sent behind its
/// request.
pub(super) async fn run<S>(mut stream: S, read: Bytes, head: &CheckedHead, answer: HeaderMap)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    if stream.write_all(&head.raw()).await.is_err() {
        return;
    }
    let (reader, writer) = tokio::io::split(stream);
    let stream = tokio::io::join(std::io::Cursor::new(read).chain(reader), writer);
    let mut connection = match h2::server::handshake(stream).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "a client does not speak HTTP/2");
            return;
        }
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut response = Response::new(());
        *response.headers_mut() = answer.clone();
        if let Err(error) = respond.send_response(response, true) {
            tracing::debug!(%error, "an HTTP/2 request was not answered");
        }
    }
}
