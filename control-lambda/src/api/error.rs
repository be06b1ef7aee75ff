//! Errors as Docker's clients see them: a status and `{"message": …}`.

use bytes::Bytes;
use serde_json::json;
use sockerless_shared::answer::{Head, Response};
use sockerless_shared::lifecycle::Refusal;

use crate::engine::EngineError;
use crate::engine::networks::NetworkError;
use crate::images::catalog::CatalogError;
use crate::images::store::StoreError as ImageStoreError;
use crate::ports::function_host::HostError;
use crate::ports::table::{MAX_BODY_BYTES, TableError};
use crate::store::StoreError;

/// A status and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// What failed, on what, and what to do.
    pub message: String,
    /// How it is written.
    pub form: Form,
}

/// How an error is written: what Docker has got to by then decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON, with the usual headers.
    Usual,
    /// JSON without the usual headers: no route was found.
    Bare,
    /// JSON, without the header that says whether the daemon is experimental.
    TooNew,
    /// Plain text: clients of that age knew no other.
    TooOld,
    /// Not an error: the body that the frontend kept is wanted ([`Answer::SendBody`]).
    ///
    /// [`Answer::SendBody`]: sockerless_shared::answer::Answer::SendBody
    SendBody,
    /// Plain text where a stream was asked for, whose head is written by hand.
    Stream,
}

impl ApiError {
    /// An error with these.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            form: Form::Usual,
        }
    }

    /// No container of that id or name.
    #[must_use]
    pub fn no_such_container(reference: &str) -> Self {
        Self::new(404, format!("No such container: {reference}"))
    }

    /// What Docker has and this does not (yet): what to do instead is said.
    #[must_use]
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, message)
    }

    /// The response.
    #[must_use]
    pub fn into_response(self) -> Response {
        let body = match self.form {
            Form::TooOld => format!("{}\n", self.message),
            Form::Stream => format!("{}\r\n", self.message),
            Form::Usual | Form::Bare | Form::TooNew | Form::SendBody => {
                format!("{}\n", json!({ "message": self.message }))
            }
        };
        let head = match self.form {
            Form::Usual | Form::SendBody => super::head(self.status, "application/json"),
            Form::Bare => Head {
                status: self.status,
                headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            },
            Form::Stream => Head {
                status: self.status,
                headers: vec![(
                    "Content-Type".to_owned(),
                    "application/vnd.docker.raw-stream".to_owned(),
                )],
            },
            Form::TooNew => without_experimental(super::head(self.status, "application/json")),
            Form::TooOld => {
                let head = super::head(self.status, "text/plain; charset=utf-8");
                let mut head = without_experimental(head);
                let nosniff = ("X-Content-Type-Options".to_owned(), "nosniff".to_owned());
                head.headers.push(nosniff);
                head
            }
        };
        Response {
            head,
            body: Bytes::from(body),
            cache_s: 0,
        }
    }
}

fn without_experimental(mut head: Head) -> Head {
    head.headers
        .retain(|(name, _)| !name.eq_ignore_ascii_case("Docker-Experimental"));
    head
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Table(TableError::TooLarge(bytes)) => Self::new(
                413,
                format!(
                    "what is to be kept of this takes {bytes} bytes, and a record takes {MAX_BODY_BYTES} at most: \
                     put large values into the image, or pass them on stdin"
                ),
            ),
            StoreError::Table(_) | StoreError::Damaged { .. } | StoreError::Contended(_) => {
                Self::new(500, error.to_string())
            }
        }
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        let status = match &error {
            CatalogError::NoSuchImage(_) => 404,
            CatalogError::Reference(_) => 400,
            _ => 500,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ImageStoreError> for ApiError {
    fn from(error: ImageStoreError) -> Self {
        Self::new(500, error.to_string())
    }
}

impl From<HostError> for ApiError {
    fn from(error: HostError) -> Self {
        let status = match &error {
            HostError::Unsupported(_) | HostError::PayloadTooLarge(_) => 400,
            HostError::NotThere(_) => 501,
            HostError::Throttled(_) | HostError::Preparing(_) => 503,
            HostError::NoSuchFunction(_) | HostError::Failed(_) => 500,
        };
        Self::new(status, error.to_string())
    }
}

impl From<EngineError> for ApiError {
    /// For operations that have no words of their own for a refusal.
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused(
                Refusal::AlreadyStarted | Refusal::AlreadyStopped | Refusal::NothingNew,
            ) => Self::new(304, error.to_string()),
            EngineError::Refused(_) => Self::new(409, error.to_string()),
            EngineError::NoSuchContainer(id) => Self::no_such_container(id.as_str()),
            EngineError::Network(ref network) => {
                let status = match network {
                    NetworkError::NotFound(_) => 404,
                    NetworkError::Ambiguous(..) | NetworkError::PrivateAmongOthers => 400,
                };
                Self::new(status, error.to_string())
            }
            EngineError::Host(error) => error.into(),
            EngineError::Guard(_) => Self::new(403, error.to_string()),
            EngineError::Store(error) => error.into(),
            EngineError::Relay(_)
            | EngineError::Blob(_)
            | EngineError::Job(_)
            | EngineError::Encoding(_) => Self::new(500, error.to_string()),
        }
    }
}
