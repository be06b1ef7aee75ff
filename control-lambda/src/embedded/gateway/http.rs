//! What comes over an accepted connection: a WebSocket's upgrade at `/`, or
//! requests to signed URLs below `/blobs/`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Gateway, Shared, socket};
use crate::embedded::blobs::UrlMethod;
use crate::ports::Blobs as _;
use crate::ports::blobs::{BlobError, BlobName};

/// So long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Most that is read at once, and with it the largest head of a request, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where the blob store's URLs begin.
const BLOBS: &str = "/blobs/";

type Body = UnsyncBoxBody<Bytes, BlobError>;

impl Gateway {
    /// Serves one accepted connection until it ends: a WebSocket, or HTTP
    /// requests to blobs. What goes wrong on it is logged and ends it. A TCP
    /// connection should have `TCP_NODELAY` set.
    pub async fn serve<S>(&self, io: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            let shared = Arc::clone(&self.shared);
            async move { Ok::<_, Infallible>(answer::<S>(shared, request).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "gateway connection broke off");
        }
    }
}

async fn answer<S>(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Some(name) = request.uri().path().strip_prefix(BLOBS) {
        let name = name.to_owned();
        return blob(&shared, &name, request).await;
    }
    if request.uri().path() == "/" {
        return upgrade::<S>(shared, request).await;
    }
    status(StatusCode::NOT_FOUND)
}

async fn upgrade<S>(shared: Arc<Shared>, mut request: Request<Incoming>) -> Response<Body>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let headers = request.headers();
    if request.method() != Method::GET
        || !has_token(headers, CONNECTION, "upgrade")
        || !has_token(headers, UPGRADE, "websocket")
    {
        return with_header(
            StatusCode::UPGRADE_REQUIRED,
            UPGRADE,
            HeaderValue::from_static("websocket"),
        );
    }
    if !has_token(headers, SEC_WEBSOCKET_VERSION, "13") {
        return with_header(
            StatusCode::BAD_REQUEST,
            SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
    let accept = headers
        .get(SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()))
        .and_then(|accept| HeaderValue::try_from(accept).ok());
    let Some(accept) = accept else {
        return status(StatusCode::BAD_REQUEST);
    };
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (membership, queue) = match shared.admit(&query).await {
        Ok(admitted) => admitted,
        Err(refused) => {
            tracing::info!(status = refused.status, reason = %refused.reason, "relay connection refused");
            return status(StatusCode::from_u16(refused.status).unwrap_or(StatusCode::FORBIDDEN));
        }
    };
    tokio::spawn(socket::run::<S>(
        membership,
        queue,
        hyper::upgrade::on(&mut request),
    ));
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

async fn blob(shared: &Shared, name: &str, request: Request<Incoming>) -> Response<Body> {
    let method = match *request.method() {
        Method::PUT => UrlMethod::Put,
        Method::GET => UrlMethod::Get,
        _ => {
            return with_header(
                StatusCode::METHOD_NOT_ALLOWED,
                ALLOW,
                HeaderValue::from_static("GET, PUT"),
            );
        }
    };
    let query = request.uri().query().unwrap_or_default();
    let name = match shared.blobs.verify_url(method, name, query) {
        Ok(name) => name,
        Err(error) => {
            tracing::info!(%error, "blob request refused");
            return status(StatusCode::FORBIDDEN);
        }
    };
    let done = match method {
        UrlMethod::Put => put(shared, &name, request).await,
        UrlMethod::Get => get(shared, &name).await,
    };
    done.unwrap_or_else(|error| {
        tracing::info!(%error, "blob request failed");
        status(match error {
            BlobError::NotFound(_) => StatusCode::NOT_FOUND,
            BlobError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BlobError::InvalidName(_) | BlobError::Interrupted(_) => StatusCode::BAD_REQUEST,
            BlobError::Unavailable(_) => StatusCode::INTERNAL_SERVER_ERROR,
        })
    })
}

async fn put(
    shared: &Shared,
    name: &BlobName,
    request: Request<Incoming>,
) -> Result<Response<Body>, BlobError> {
    let limit = shared.config.max_upload;
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BlobError::TooLarge(limit));
    }
    let body = BodyDataStream::new(request.into_body())
        .map_err(|error| BlobError::Interrupted(error.to_string()));
    shared.blobs.put(name, Box::pin(body), limit).await?;
    Ok(status(StatusCode::OK))
}

async fn get(shared: &Shared, name: &BlobName) -> Result<Response<Body>, BlobError> {
    let pieces = shared.blobs.get(name).await?;
    let body = StreamBody::new(pieces.map_ok(Frame::data));
    Ok(Response::new(body.boxed_unsync()))
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(
        Empty::new()
            .map_err(|never: Infallible| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = status;
    response
}

fn with_header(code: StatusCode, name: HeaderName, value: HeaderValue) -> Response<Body> {
    let mut response = status(code);
    response.headers_mut().insert(name, value);
    response
}

/// Whether a comma-separated header has a token, in whatever case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}
