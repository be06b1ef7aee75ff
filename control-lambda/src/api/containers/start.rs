//! `POST /containers/{id}/start` (Engine API, `ContainerStart`).

use sockerless_shared::answer::Answer;
use sockerless_shared::lifecycle::{Phase, Refusal};

use super::{await_event, find, or_cancel};
use crate::api::{ApiError, ApiResult, Context, empty};
use crate::engine::EngineError;
use crate::store::containers::Container;
use crate::store::waiters::Wait;

/// Starts a container; answered when its process runs, or could not be started. One that is
/// being started is waited for, and begun anew should that have been interrupted.
///
/// # Errors
/// 304 when it runs already, 404, 409.
pub async fn start(context: &Context<'_>, reference: &str) -> ApiResult {
    let container = find(context, reference).await?;
    if context.version < crate::api::version::ApiVersion::new(1, 24) || !has_no_body(context) {
        return Err(ApiError::new(
            400,
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let (waiting, answer) = await_event(context, &container, None, Wait::Start).await?;
    let outcome = context.control.start(&container).await;
    match or_cancel(context, &waiting, outcome).await {
        Ok(_) => Ok(answer),
        Err(EngineError::Refused(Refusal::AlreadyStarted)) => begun(context, &container).await,
        Err(error) => refusal(error, &container.name),
    }
}

/// Waits for a start that was asked for before.
async fn begun(context: &Context<'_>, container: &Container) -> ApiResult {
    if being_started(context, container).await?.is_none() {
        return Ok(empty(304));
    }
    let (waiting, answer) = await_event(context, container, None, Wait::BegunStart).await?;
    // Who runs by now has told those who waited then.
    match being_started(context, container).await? {
        Some(container) => {
            context.control.look_after_start(&container).await?;
            Ok(answer)
        }
        None => {
            waiting.cancel(context).await?;
            Ok(empty(304))
        }
    }
}

/// The container as it is now, while it is being started.
async fn being_started(
    context: &Context<'_>,
    container: &Container,
) -> Result<Option<Container>, ApiError> {
    let Container { namespace, id, .. } = container;
    let found = context.control.store.container(namespace, id).await?;
    Ok(found
        .map(|found| found.record)
        .filter(|container| container.lifecycle.phase == Phase::Starting))
}

/// A body of braces or nothing, as old clients send it.
fn has_no_body(context: &Context<'_>) -> bool {
    context
        .inline_body()
        .is_ok_and(|body| body.len() <= 2 || context.request.header("content-length") == Some("0"))
}

fn refusal(error: EngineError, name: &str) -> Result<Answer, ApiError> {
    match error {
        EngineError::Refused(Refusal::AlreadyStarted) => Ok(empty(304)),
        EngineError::Refused(Refusal::IsPaused) => Err(ApiError::new(
            409,
            "cannot start a paused container, try unpause instead",
        )),
        EngineError::Refused(Refusal::MarkedForRemoval) => Err(ApiError::new(
            409,
            format!("container is marked for removal and cannot be started: {name}"),
        )),
        other => Err(other.into()),
    }
}
