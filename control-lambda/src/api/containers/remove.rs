//! `DELETE /containers/{id}` (Engine API, `ContainerDelete`).

use sockerless_shared::lifecycle::{Input, Phase, Refusal};

use super::{await_event, find, or_cancel};
use crate::api::{ApiError, ApiResult, Context, empty};
use crate::engine::EngineError;
use crate::store::containers::Container;
use crate::store::waiters::Wait;

/// Removes a container; with `force`, after killing it. Answered when it is gone.
///
/// # Errors
/// 404, 409 when it runs, 501 for `link`.
pub async fn remove(context: &Context<'_>, reference: &str) -> ApiResult {
    let container = find(context, reference).await?;
    if context.query.flag("link") {
        return Err(ApiError::not_implemented(
            "container links are not implemented by sockerless: containers cannot be linked",
        ));
    }
    let force = context.query.flag("force");
    let with_volumes = context.query.flag("v");
    let apply = || {
        let input = Input::Remove { force };
        let note = move |container: &mut Container| container.remove_volumes |= with_volumes;
        let control = context.control;
        control.apply_with(context.namespace, &container.id, input, None, note)
    };
    let force_restarting = force && container.lifecycle.phase == Phase::Restarting;
    if !container.lifecycle.is_live() || force_restarting {
        return match apply().await {
            Ok(_) => Ok(empty(204)),
            Err(error) => Err(refusal(error, &container)),
        };
    }
    if !force {
        let refused = match container.lifecycle.phase {
            Phase::Paused => Refusal::IsPaused,
            Phase::Created
            | Phase::Restarting
            | Phase::Starting
            | Phase::Running
            | Phase::Exited
            | Phase::Removing
            | Phase::Dead => Refusal::IsRunning,
        };
        return Err(refusal(EngineError::Refused(refused), &container));
    }
    let (waiting, answer) = await_event(context, &container, None, Wait::Removed).await?;
    let outcome = apply().await;
    match or_cancel(context, &waiting, outcome).await {
        Ok(container) => {
            context.control.look_after_start(&container).await?;
            Ok(answer)
        }
        // It ended by itself in this moment and is gone already (`--rm`).
        Err(EngineError::NoSuchContainer(_)) => Ok(empty(204)),
        Err(error) => Err(refusal(error, &container)),
    }
}

fn refusal(error: EngineError, container: &Container) -> ApiError {
    let name = &container.name;
    match error {
        EngineError::Refused(Refusal::IsRunning) => ApiError::new(
            409,
            format!(
                "cannot remove container \"{name}\": container is {}: \
                 stop the container before removing or force remove",
                if container.lifecycle.is_restarting() {
                    "restarting"
                } else {
                    "running"
                },
            ),
        ),
        EngineError::Refused(Refusal::IsPaused) => ApiError::new(
            409,
            format!(
                "cannot remove container \"{name}\": container is paused and must be unpaused first"
            ),
        ),
        EngineError::Refused(Refusal::IsBeingRemoved) => ApiError::new(
            409,
            format!("removal of container {name} is already in progress"),
        ),
        other => other.into(),
    }
}
