//! `POST /containers/{id}/pause` and `unpause` (Engine API, `ContainerPause`, `ContainerUnpause`).

use sockerless_shared::lifecycle::{Input, Phase, Refusal};
use sockerless_shared::protocol::control::Command;
use sockerless_shared::spec::Runtime;

use super::{find, not_restarting};
use crate::api::{ApiError, ApiResult, Context};
use crate::engine::EngineError;

/// Stops a container's processes; answered when they are stopped.
///
/// # Errors
/// 404, 409; 501 for a function.
pub async fn pause(context: &Context<'_>, reference: &str) -> ApiResult {
    tell(context, reference, Command::Pause, Input::Pause).await
}

/// Lets them go on.
///
/// # Errors
/// 404, 409.
pub async fn unpause(context: &Context<'_>, reference: &str) -> ApiResult {
    tell(context, reference, Command::Unpause, Input::Unpause).await
}

async fn tell(context: &Context<'_>, reference: &str, command: Command, input: Input) -> ApiResult {
    let container = find(context, reference).await?;
    if input == Input::Pause
        && container.shape.runtime == Runtime::Function
        && container.lifecycle.phase == Phase::Running
    {
        return Err(ApiError::not_implemented(
            "a container under the runtime function cannot be paused, since its time limit goes on: use --runtime microvm, or stop it and start it again",
        ));
    }
    if input == Input::Pause {
        not_restarting(&container)?;
    }
    let (id, answer) = context
        .control
        .begin_answer(context.peer()?, Vec::new())
        .await?;
    match context
        .control
        .tell_and_answer(&container, command, input, id)
        .await
    {
        Ok(()) => Ok(answer),
        Err(EngineError::Refused(refusal)) => {
            let id = &container.id;
            Err(match refusal {
                Refusal::NotRunning => ApiError::new(409, format!("container {id} is not running")),
                Refusal::IsPaused => {
                    ApiError::new(409, format!("Container {id} is already paused"))
                }
                Refusal::NotPaused => ApiError::new(500, format!("Container {id} is not paused")),
                other => EngineError::Refused(other).into(),
            })
        }
        Err(error) => Err(error.into()),
    }
}
