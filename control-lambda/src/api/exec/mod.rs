//! Operations on execs, one a file.

pub mod create;
pub mod inspect;
pub mod resize;
pub mod start;

use sockerless_shared::ids::ExecId;

use super::{ApiError, Context};
use crate::store::execs::Exec;

/// The exec that a client names; Docker knows execs by their full id alone.
///
/// # Errors
/// 404.
pub async fn find(context: &Context<'_>, reference: &str) -> Result<Exec, ApiError> {
    let none = || no_such_exec(reference);
    let id: ExecId = reference.parse().map_err(|_| none())?;
    context
        .control
        .store
        .exec(context.namespace, &id)
        .await?
        .ok_or_else(none)
}

/// 404 for an exec that is not there.
#[must_use]
pub fn no_such_exec(reference: &str) -> ApiError {
    ApiError::new(404, format!("No such exec instance: {reference}"))
}
