//! `POST /containers/{id}/wait` (Engine API, `ContainerWait`).

use sockerless_shared::answer::{Answer, Part};
use sockerless_shared::lifecycle::Phase;

use super::{await_event, find};
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context, head};
use crate::engine::settle::wait_result_at_once;
use crate::store::containers::Container;
use crate::store::waiters::Wait;

/// When a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

/// Answers with the exit code when the condition holds. The head goes out at
/// once, so that a client knows that nothing from now on is missed.
///
/// # Errors
/// 400 for an unknown condition, 404.
pub async fn wait(context: &Context<'_>, reference: &str) -> ApiResult {
    let condition = condition(context)?;
    let container = find(context, reference).await?;
    let head = head(200, "application/json");
    let wait = match condition {
        Condition::NotRunning | Condition::NextExit => Wait::Exit,
        Condition::Removed => Wait::RemovedExit,
    };
    let (waiting, answer) = await_event(context, &container, Some(head.clone()), wait).await?;
    // What happened between the look-up and the registration has told nobody.
    let present = context
        .control
        .store
        .container(context.namespace, &container.id)
        .await?;
    let over = match &present {
        None => Some(&container),
        Some(found) if condition == Condition::NotRunning && !runs(&found.record) => {
            Some(&found.record)
        }
        Some(_) => None,
    };
    match over {
        Some(container) if waiting.cancel(context).await? => {
            let mut first = vec![Part::Head(head)];
            first.extend(wait_result_at_once(container));
            let id = waiting.answer;
            Ok(Answer::Parts { id, first })
        }
        Some(_) | None => Ok(answer),
    }
}

fn condition(context: &Context<'_>) -> Result<Condition, ApiError> {
    if context.version < ApiVersion::new(1, 30) {
        return Ok(Condition::NotRunning);
    }
    match context.query.text("condition") {
        "" | "not-running" => Ok(Condition::NotRunning),
        "next-exit" => Ok(Condition::NextExit),
        "removed" => Ok(Condition::Removed),
        other => Err(ApiError::new(
            400,
            format!("invalid condition: \"{other}\""),
        )),
    }
}

const fn runs(container: &Container) -> bool {
    match container.lifecycle.phase {
        Phase::Starting | Phase::Running | Phase::Paused => true,
        // Docker counts it as running.
        Phase::Restarting => true,
        Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => false,
    }
}
