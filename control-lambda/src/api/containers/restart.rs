//! `POST /containers/{id}/restart` (Engine API, `ContainerRestart`).

use sockerless_shared::lifecycle::Input;

use super::{await_event, find, or_cancel, stop};
use crate::api::{ApiResult, Context};
use crate::store::waiters::Wait;

/// Stops a container if it runs, and starts it; answered when it runs again.
///
/// # Errors
/// 400 for an unknown signal, 404, 409.
pub async fn restart(context: &Context<'_>, reference: &str) -> ApiResult {
    let parsed = stop::parse(context)?;
    let container = find(context, reference).await?;
    let (signal, timeout_s) = parsed.for_container(&container);
    let (waiting, answer) = await_event(context, &container, None, Wait::Restart).await?;
    let input = Input::Restart { signal, timeout_s };
    let outcome = context
        .control
        .apply(context.namespace, &container.id, input)
        .await;
    or_cancel(context, &waiting, outcome).await?;
    Ok(answer)
}
