//! `GET /containers/{id}/top` (Engine API, `ContainerTop`).

use sockerless_shared::protocol::grant::Operation;

use super::attach::open;
use super::{find, not_restarting};
use crate::api::{ApiError, ApiResult, Context};

/// The processes of a container, told by its agent.
///
/// # Errors
/// 404, 409 when the container does not run.
pub async fn top(context: &Context<'_>, reference: &str) -> ApiResult {
    let container = find(context, reference).await?;
    if !container.lifecycle.is_live() {
        return Err(ApiError::new(
            409,
            format!("container {} is not running", container.id),
        ));
    }
    not_restarting(&container)?;
    let arguments = match context.query.text("ps_args") {
        "" => "-ef",
        arguments => arguments,
    };
    let arguments = arguments.to_owned();
    open(context, &container, None, Operation::Top { arguments }).await
}
