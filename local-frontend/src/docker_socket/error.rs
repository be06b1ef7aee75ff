//! Errors that the frontend itself answers with, in Docker's form.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::body::AnswerBody;
use crate::control_plane::ControlPlaneError;

/// The status for an error of the control plane.
pub(super) fn status(error: &ControlPlaneError) -> StatusCode {
    match error {
        ControlPlaneError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        ControlPlaneError::Failed(_) => StatusCode::BAD_GATEWAY,
        ControlPlaneError::Body(_) => StatusCode::BAD_REQUEST,
        ControlPlaneError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
    }
}

/// `{"message": …}` with a status.
pub(super) fn response(status: StatusCode, message: &str) -> Response<AnswerBody> {
    let json = serde_json::json!({ "message": message });
    let mut response = Response::new(AnswerBody::full(Bytes::from(format!("{json}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
