//! The Docker Engine API: requests in, answers out. One operation a file.
//!
//! A request is parsed into what it means, handed to the engine, and what
//! comes of it is put into Docker's words here, at the edge, and nowhere else.

pub mod build;
pub mod containers;
pub mod detach_keys;
pub mod distribution;
pub mod error;
pub mod exec;
pub mod filters;
pub mod go_json;
pub mod human;
pub mod images;
pub mod networks;
pub mod plugins;
mod prune;
pub mod query;
pub mod router;
pub mod signal;
pub mod swarm;
pub mod system;
pub mod version;
pub mod volumes;

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use sockerless_shared::answer::{Answer, Body, Head, Request, Response};
use sockerless_shared::ids::{BlobId, Namespace, PeerId};

pub use error::ApiError;
use query::Query;
use version::ApiVersion;

use crate::engine::{Control, EngineError};
use crate::ports::blobs::ByteStream;

/// What an operation returns.
pub type ApiResult = Result<Answer, ApiError>;

/// What every operation is given.
pub struct Context<'a> {
    /// The control plane.
    pub control: &'a Control,
    /// Whose request it is.
    pub namespace: &'a Namespace,
    /// The request.
    pub request: &'a Request,
    /// The version the client speaks.
    pub version: ApiVersion,
    /// The query parameters.
    pub query: Query,
    /// Whether the body's blob outlasts the request, since a job has it.
    pub body_taken: &'a AtomicBool,
}

impl Context<'_> {
    /// Where the rest of an answer can be sent.
    ///
    /// # Errors
    /// 400 for a caller without a relay.
    pub fn peer(&self) -> Result<&PeerId, ApiError> {
        self.request.peer.as_ref().ok_or_else(|| {
            ApiError::new(
                400,
                "this operation answers over the relay, which only the sockerless frontend has: \
                 send it to the frontend's socket",
            )
        })
    }

    /// The body as a job has it, which also removes it; `None` for one that is small, or
    /// still with the frontend, and for a caller without a relay, who cannot be answered later.
    pub fn take_body(&self) -> Option<(&BlobId, &PeerId)> {
        match (&self.request.body, &self.request.peer) {
            (Body::Blob(blob), Some(peer)) => {
                self.body_taken.store(true, Ordering::Relaxed);
                Some((blob, peer))
            }
            _ => None,
        }
    }

    /// The body, which must be small.
    ///
    /// # Errors
    /// 413 when it is larger than what a request with a JSON body may have.
    pub fn inline_body(&self) -> Result<&Bytes, ApiError> {
        match &self.request.body {
            Body::Inline(bytes) => Ok(bytes),
            Body::Blob(_) | Body::Waiting => Err(ApiError::new(
                413,
                "request body too large: a JSON body may have at most 4 MB",
            )),
        }
    }

    /// The body as it comes, however large.
    ///
    /// # Errors
    /// When the blob store fails, and [`Form::SendBody`](error::Form::SendBody) while the body
    /// is still with the frontend: then it is sent, and the request again.
    pub async fn body_stream(&self) -> Result<ByteStream, ApiError> {
        match &self.request.body {
            Body::Inline(bytes) => {
                let bytes = bytes.clone();
                Ok(Box::pin(futures_util::stream::iter([Ok(bytes)])))
            }
            Body::Waiting => Err(ApiError {
                form: error::Form::SendBody,
                ..ApiError::new(411, "the body is with the frontend still")
            }),
            Body::Blob(blob) => self.control.stored_body(blob).await,
        }
    }

    /// The body as JSON; null where there is none.
    ///
    /// # Errors
    /// 400 in Go's words.
    pub fn json_body_or_nothing(&self) -> Result<Value, ApiError> {
        if self.inline_body()?.is_empty() {
            return Ok(Value::Null);
        }
        self.json_body()
    }

    /// The JSON body of a request that has to have one.
    ///
    /// # Errors
    /// 400 in Go's words, also where there is none.
    pub fn json_body(&self) -> Result<Value, ApiError> {
        let content_type = self.request.header("content-type");
        let bytes = self.inline_body()?;
        if !bytes.is_empty() || content_type.is_some() {
            go_json::check_content_type(content_type.unwrap_or(""))?;
        }
        go_json::parse(bytes)
    }
}

/// The product and its version as the `Server` header has it.
pub const SERVER: &str = concat!("Sockerless/", env!("CARGO_PKG_VERSION"), " (linux)");

/// The headers of every response.
#[must_use]
pub fn common_headers() -> Vec<(String, String)> {
    vec![
        ("Api-Version".to_owned(), ApiVersion::NEWEST.to_string()),
        ("Docker-Experimental".to_owned(), "false".to_owned()),
        ("Ostype".to_owned(), "linux".to_owned()),
        ("Server".to_owned(), SERVER.to_owned()),
    ]
}

/// A head with this content type.
#[must_use]
pub fn head(status: u16, content_type: &str) -> Head {
    let mut headers = common_headers();
    headers.push(("Content-Type".to_owned(), content_type.to_owned()));
    Head { status, headers }
}

/// A complete response with a JSON body, which ends with a newline as Go's encoder has it.
///
/// # Errors
/// 500 when the value cannot be written; a bug.
pub fn json(status: u16, value: &impl Serialize) -> ApiResult {
    let mut body =
        serde_json::to_vec(value).map_err(|error| ApiError::new(500, error.to_string()))?;
    body.push(b'\n');
    Ok(Answer::Final(Response {
        head: head(status, "application/json"),
        body: body.into(),
        cache_s: 0,
    }))
}

/// A complete response without a body.
#[must_use]
pub fn empty(status: u16) -> Answer {
    let head = Head {
        status,
        headers: common_headers(),
    };
    Answer::Final(Response {
        head,
        body: Bytes::new(),
        cache_s: 0,
    })
}

impl Control {
    /// Answers one request of the Docker API. Never fails: what goes wrong is an answer too.
    pub async fn handle(&self, namespace: &Namespace, request: Request) -> Answer {
        let body_taken = AtomicBool::new(false);
        let outcome = router::route(self, namespace, &request, &body_taken).await;
        if !body_taken.into_inner() {
            self.drop_request_blob(&request).await;
        }
        match outcome {
            Ok(answer) => answer,
            Err(error) if error.form == error::Form::SendBody => Answer::SendBody,
            Err(error) => {
                if error.status >= 500 && error.status != 501 {
                    tracing::warn!(
                        method = request.method,
                        path = request.path_and_query,
                        status = error.status,
                        error = error.message,
                        "request failed"
                    );
                }
                Answer::Final(error.into_response())
            }
        }
    }

    /// A large body is there for its request alone.
    async fn drop_request_blob(&self, request: &Request) {
        if let Body::Blob(blob) = &request.body {
            self.drop_body(blob).await;
        }
    }

    /// The body of a request that was put into the blob store.
    pub(crate) async fn stored_body(&self, blob: &BlobId) -> Result<ByteStream, ApiError> {
        let name = containers::logs::blob_name(blob)?;
        let stream = self.blobs.get(&name).await;
        stream.map_err(|error| EngineError::from(error).into())
    }

    /// Removes the body of a request or an answer that is over.
    pub(crate) async fn drop_body(&self, blob: &BlobId) {
        if let Ok(name) = containers::logs::blob_name(blob)
            && let Err(error) = self.blobs.delete(&name).await
        {
            tracing::warn!(%blob, %error, "a body could not be removed");
        }
    }
}
