//! `POST /containers/{id}/resize` (Engine API, `ContainerResize`).

use sockerless_shared::protocol::control::Command;
use sockerless_shared::spec::ConsoleSize;

use super::find;
use crate::api::{ApiError, ApiResult, Context};
use crate::store::runs::PendingCommand;

/// Sets the size of a container's terminal.
///
/// # Errors
/// 400 when the size is not one, 404, 409 when the container does not run.
pub async fn resize(context: &Context<'_>, reference: &str) -> ApiResult {
    let size = size(context)?;
    let container = find(context, reference).await?;
    let Some(run) = container.lifecycle.current_run() else {
        return Err(ApiError::new(
            409,
            format!("container {} is not running", container.id),
        ));
    };
    let (id, answer) = context
        .control
        .begin_answer(context.peer()?, Vec::new())
        .await?;
    let pending = PendingCommand::plain(Command::Resize { size }, Some(id));
    context.control.tell(&run.id, pending).await?;
    Ok(answer)
}

/// The parameters `h` and `w`.
///
/// # Errors
/// 400 in the words of Go's `strconv`.
pub(crate) fn size(context: &Context<'_>) -> Result<ConsoleSize, ApiError> {
    let read = |name: &str| {
        let text = context.query.text(name);
        text.parse::<u32>().map_err(|_| {
            // A number all the same, only not one of these.
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            ApiError::new(
                400,
                format!(
                    "invalid resize {} {}: {}",
                    if name == "h" { "height" } else { "width" },
                    crate::api::query::go_quote(text),
                    if is_number {
                        "value out of range"
                    } else {
                        "invalid syntax"
                    }
                ),
            )
        })
    };
    let (height, width) = (read("h")?, read("w")?);
    // The kernel's window size has sixteen bits.
    let fit = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    Ok(ConsoleSize {
        height: fit(height),
        width: fit(width),
    })
}
