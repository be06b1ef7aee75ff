//! `POST /exec/{id}/resize` (Engine API, `ExecResize`).

use sockerless_shared::protocol::control::Command;

use super::find;
use crate::api::containers::resize::size;
use crate::api::{ApiError, ApiResult, Context};
use crate::store::execs::ExecState;
use crate::store::runs::PendingCommand;

/// Sets the size of an exec's terminal.
///
/// # Errors
/// 400 when the size is not one or the exec does not run, 404.
pub async fn resize(context: &Context<'_>, reference: &str) -> ApiResult {
    let size = size(context)?;
    let exec = find(context, reference).await?;
    match exec.state {
        // Docker waits for a start for 10 s before it says so.
        ExecState::Created => Err(ApiError::new(500, "timeout waiting for exec session ready")),
        ExecState::Exited { .. } => Err(ApiError::new(
            400,
            format!("exec {} is not running", exec.id),
        )),
        ExecState::Starting | ExecState::Running { .. } => {
            let (id, answer) = context
                .control
                .begin_answer(context.peer()?, Vec::new())
                .await?;
            let command = Command::ResizeExec {
                exec: exec.id,
                size,
            };
            context
                .control
                .tell(
                    &exec.run,
                    PendingCommand {
                        command,
                        answer: Some(id),
                    },
                )
                .await?;
            Ok(answer)
        }
    }
}
