//! The control plane behind an HTTP API.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue, Method, Request as HttpRequest, Response, StatusCode, Uri};
use http_body_util::{BodyDataStream, BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::de::DeserializeOwned;
use sockerless_shared::answer::{Answer, Body, MAX_INLINE_BODY_BYTES, Request};
use sockerless_shared::ids::{BlobId, Namespace, PeerId};
use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::mac::Token;
use sockerless_shared::wire::{
    self, BlobUrl, HttpResponse, RelayAccess, RelayTokenRequest, WireError,
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::connection::{Connection, Outgoing};
use super::identity::Identity;
use super::refusal;
use super::signing::{InvalidEndpoint, Signer};
use crate::control_plane::{BodyError, ByteStream, ControlPlane, ControlPlaneError};

/// The largest answer that is read: what an HTTP API passes on (10 MB).
const MAX_ANSWER_BYTES: usize = 10 * 1024 * 1024 + MAX_INLINE_BODY_BYTES;

/// Large bodies are sent in pieces of this many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// [`ControlPlane`] over an HTTP API.
#[derive(Debug)]
pub struct HttpControlPlane {
    endpoint: String,
    host: HeaderValue,
    signer: Signer,
    connection: Connection,
    namespace: Option<Namespace>,
    relay_url: Arc<Mutex<Option<String>>>,
}

impl HttpControlPlane {
    /// At the endpoint `https://…` of an HTTP API. Without a namespace, the
    /// caller's own is meant.
    ///
    /// # Errors
    /// When the endpoint is none.
    pub fn new(
        endpoint: &str,
        signer: Signer,
        connection: Connection,
        namespace: Option<Namespace>,
    ) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint::NotAUrl(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_| invalid())?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) || uri.query().is_some() {
            return Err(invalid());
        }
        let host = uri.authority().ok_or_else(invalid)?.as_str();
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            host: HeaderValue::try_from(host).map_err(|_| invalid())?,
            signer,
            connection,
            namespace,
            relay_url: Arc::default(),
        })
    }

    /// Who signs.
    pub(super) const fn identity(&self) -> &Identity {
        self.signer.identity()
    }

    /// Where the relay's gateway is, once the control plane has said so.
    #[must_use]
    pub fn relay_url(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.relay_url)
    }

    /// Sends a signed request and reads the whole answer.
    async fn send(
        &self,
        method: &str,
        path_and_query: &str,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Result<HttpResponse, ControlPlaneError> {
        let failed = |why: String| ControlPlaneError::Failed(why);
        let mut request = HttpRequest::builder()
            .method(method)
            .uri(format!("{}{path_and_query}", self.endpoint))
            .body(body)
            .map_err(|error| failed(error.to_string()))?;
        for (name, value) in headers {
            // What cannot be a header was none when it came from the client.
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                request.headers_mut().append(name, value);
            }
        }
        if let Some(namespace) = &self.namespace
            && let Ok(value) = HeaderValue::try_from(namespace.as_str())
        {
            request.headers_mut().insert(wire::NAMESPACE, value);
        }
        request.headers_mut().insert(HOST, self.host.clone());
        self.signer.sign(&mut request).await.map_err(failed)?;
        let request = request.map(|body| {
            Full::new(body)
                .map_err(|never| match never {})
                .boxed_unsync()
        });
        let response = self
            .connection
            .send(request)
            .await
            .map_err(ControlPlaneError::Unavailable)?;
        let response = collect(response).await?;
        if response.status == 403 && response.header(wire::ANSWER).is_none() {
            self.signer.identity().forget().await;
        }
        Ok(response)
    }

    /// One of the control plane's own operations.
    pub(super) async fn own<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<T, ControlPlaneError> {
        let version = (wire::VERSION_HEADER.to_owned(), VERSION.to_string());
        let response = self.send(method, path, vec![version], body).await?;
        if response.status != 200 {
            return Err(match wire::read_answer(response.clone()) {
                // The control plane's own words.
                Ok(Answer::Final(refusal)) => {
                    ControlPlaneError::Failed(refusal::message(&refusal.body))
                }
                Ok(_) | Err(_) => not_an_answer(&response),
            });
        }
        serde_json::from_slice(&response.body)
            .map_err(|error| ControlPlaneError::Failed(format!("{path}: {error}")))
    }
}

#[async_trait]
impl ControlPlane for HttpControlPlane {
    async fn request(&self, request: Request) -> Result<Answer, ControlPlaneError> {
        let headers = wire::request_headers(&request);
        let body = match request.body {
            Body::Inline(bytes) => bytes,
            Body::Blob(_) | Body::Waiting => Bytes::new(),
        };
        let response = self
            .send(&request.method, &request.path_and_query, headers, body)
            .await?;
        wire::read_answer(response.clone()).map_err(|error| match error {
            WireError::NotAnAnswer { .. } => not_an_answer(&response),
            error => ControlPlaneError::Failed(error.to_string()),
        })
    }

    async fn upload(&self, body: ByteStream) -> Result<BlobId, ControlPlaneError> {
        // S3 wants to know the length before the first byte.
        let (file, length) = spool(body).await?;
        let BlobUrl { blob, url } = self.own("POST", wire::UPLOADS_PATH, Bytes::new()).await?;
        let request = HttpRequest::builder()
            .method(Method::PUT)
            .uri(url)
            .header(CONTENT_LENGTH, length)
            .body(file_body(file))
            .map_err(|error| ControlPlaneError::Failed(error.to_string()))?;
        let response = self
            .connection
            .send(request)
            .await
            .map_err(ControlPlaneError::Unavailable)?;
        match response.status() {
            StatusCode::OK => Ok(blob),
            StatusCode::PAYLOAD_TOO_LARGE => Err(ControlPlaneError::TooLarge(format!(
                "the blob store does not take {length} bytes"
            ))),
            _ => Err(not_an_answer(&collect(response).await?)),
        }
    }

    async fn fetch(&self, blob: &BlobId) -> Result<ByteStream, ControlPlaneError> {
        let path = format!("{}{blob}", wire::BLOBS_PATH);
        let BlobUrl { url, .. } = self.own("GET", &path, Bytes::new()).await?;
        let request = HttpRequest::builder()
            .uri(url)
            .body(
                Full::default()
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            )
            .map_err(|error| ControlPlaneError::Failed(error.to_string()))?;
        let response = self
            .connection
            .send(request)
            .await
            .map_err(ControlPlaneError::Unavailable)?;
        if response.status() != StatusCode::OK {
            return Err(not_an_answer(&collect(response).await?));
        }
        let pieces = BodyDataStream::new(response.into_body());
        Ok(pieces.map_err(|error| BodyError(error.to_string())).boxed())
    }

    async fn relay_token(&self, peer: &PeerId) -> Result<Token, ControlPlaneError> {
        let body = serde_json::to_vec(&RelayTokenRequest { peer: peer.clone() })
            .map_err(|error| ControlPlaneError::Failed(error.to_string()))?;
        let RelayAccess { token, url } = self
            .own("POST", wire::RELAY_TOKEN_PATH, body.into())
            .await?;
        *self
            .relay_url
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(url);
        Ok(token)
    }
}

async fn collect(response: Response<Incoming>) -> Result<HttpResponse, ControlPlaneError> {
    let (head, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ControlPlaneError::Unavailable(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err(ControlPlaneError::Failed(
                "its answer is too large".to_owned(),
            ));
        }
    }
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    Ok(HttpResponse {
        status: head.status.as_u16(),
        headers,
        body: bytes.freeze(),
    })
}

/// Something between us and the control plane has answered.
fn not_an_answer(response: &HttpResponse) -> ControlPlaneError {
    let sentence = refusal::explain(response.status, &refusal::message(&response.body));
    match response.status {
        429 | 500 | 502..=504 => ControlPlaneError::Unavailable(sentence),
        _ => ControlPlaneError::Failed(sentence),
    }
}

/// The body in a file without a name.
async fn spool(mut body: ByteStream) -> Result<(tokio::fs::File, u64), ControlPlaneError> {
    let failed = |error: io::Error| {
        ControlPlaneError::Failed(format!(
            "cannot keep a large body in a temporary file: {error}"
        ))
    };
    let file = tokio::task::spawn_blocking(tempfile::tempfile)
        .await
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(failed)?;
    let mut file = tokio::fs::File::from_std(file);
    let mut length = 0;
    while let Some(piece) = body.next().await {
        let piece = piece?;
        length += piece.len() as u64;
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    file.rewind().await.map_err(failed)?;
    Ok((file, length))
}

fn file_body(file: tokio::fs::File) -> Outgoing {
    let pieces = stream::try_unfold(file, |mut file| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = file.read_buf(&mut piece).await?;
        Ok::<_, io::Error>((read > 0).then(|| (Frame::data(piece.freeze()), file)))
    });
    StreamBody::new(pieces).boxed_unsync()
}
