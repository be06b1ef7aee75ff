//! Errors as Docker's clients see them: a status and `{"message": …}`.

use bytes::Bytes;
use serde_json::json;
use sockerless_shared::answer::{Head, Response};
use sockerless_shared::lifecycle::Refusal;

use crate::engine::EngineError;
use crate::images::catalog::CatalogError;
use crate::images::store::StoreError as ImageStoreError;
use crate::ports::function_host::HostError;
use crate::store::StoreError;

/// A status and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// What failed, on what, and what to do.
    pub message: String,
    /// Whether the usual headers are left out, as Docker's router does before
    /// it has found a route.
    pub bare: bool,
}

impl ApiError {
    /// An error with these.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            bare: false,
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
        let body = Bytes::from(format!("{}\n", json!({ "message": self.message })));
        let head = if self.bare {
            let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
            Head {
                status: self.status,
                headers,
            }
        } else {
            super::head(self.status, "application/json")
        };
        Response {
            head,
            body,
            cache_s: 0,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(500, error.to_string())
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
            HostError::Throttled(_) => 503,
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
            EngineError::Host(error) => error.into(),
            EngineError::Store(_)
            | EngineError::Relay(_)
            | EngineError::Blob(_)
            | EngineError::Job(_)
            | EngineError::Encoding(_) => Self::new(500, error.to_string()),
        }
    }
}
