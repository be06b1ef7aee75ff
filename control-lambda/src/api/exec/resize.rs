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
/// 400 when the size is not one, 404 also when the exec has ended.
pub async fn resize(context: &Context<'_>, reference: &str) -> ApiResult {
    let size = size(context)?;
    let exec = find(context, reference).await?;
    match exec.state {
        // Docker waits for a start for 10 s before it says so.
        ExecState::Created => Err(ApiError::new(500, "timeout waiting for exec session ready")),
        // containerd's words, which Docker passes on.
        ExecState::Exited { .. } => Err(ApiError::new(
            404,
            format!("NotFound: process does not exist {}: not found", exec.id),
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
                .tell(&exec.run, PendingCommand::plain(command, Some(id)))
                .await?;
            Ok(answer)
        }
    }
}
