//! `POST /containers/{id}/kill` (Engine API, `ContainerKill`).

use sockerless_shared::lifecycle::{Input, Phase, Refusal};
use sockerless_shared::protocol::control::Command;

use super::{await_event, find, or_cancel};
use crate::api::{ApiError, ApiResult, Context, empty, signal};
use crate::engine::EngineError;
use crate::store::containers::Container;
use crate::store::waiters::Wait;

const SIGKILL: i32 = 9;

/// Sends a signal. SIGKILL is answered when the container has ended, any
/// other when it has been delivered.
///
/// # Errors
/// 400 for an unknown signal, 404, 409 when it does not run.
pub async fn kill(context: &Context<'_>, reference: &str) -> ApiResult {
    let text = context.query.text("signal");
    let refuse = |message: &str| {
        ApiError::new(
            400,
            format!("cannot kill container: {reference}: {message}"),
        )
    };
    let number = match text {
        "" => SIGKILL,
        text => signal::parse(text).map_err(|error| refuse(&error.message))?,
    };
    if !signal::exists(number) {
        return Err(refuse(&format!(
            "the linux daemon does not support signal {text}"
        )));
    }
    let container = find(context, reference).await.map_err(|error| ApiError {
        message: format!("cannot kill container: {reference}: {}", error.message),
        ..error
    })?;
    let not_running = || {
        ApiError::new(
            409,
            format!(
                "cannot kill container: {reference}: container {} is not running",
                container.id
            ),
        )
    };
    if !container.lifecycle.is_live() {
        return Err(not_running());
    }
    let last = is_last(&container, number);
    let outcome = if container.lifecycle.phase == Phase::Restarting {
        // There is nothing to send it to, only a restart to call off.
        apply(context, &container, number, last)
            .await
            .map(|()| empty(204))
    } else if number == SIGKILL {
        let (waiting, answer) = await_event(context, &container, None, Wait::Stop).await?;
        let outcome = apply(context, &container, number, last).await;
        or_cancel(context, &waiting, outcome).await.map(|()| answer)
    } else {
        let (id, answer) = context
            .control
            .begin_answer(context.peer()?, Vec::new())
            .await?;
        context
            .control
            .tell_and_answer(
                &container,
                Command::Kill { signal: number },
                Input::Kill {
                    signal: number,
                    last,
                },
                id,
            )
            .await
            .map(|()| answer)
    };
    outcome.map_err(|error| match error {
        EngineError::Refused(Refusal::NotRunning) => not_running(),
        other => other.into(),
    })
}

/// Whether no restart is to follow (moby's `killWithSignal`): where the container names
/// its stop signal, after that and after SIGKILL, else after any signal.
fn is_last(container: &Container, number: i32) -> bool {
    let named = container.config["StopSignal"].as_str().unwrap_or("");
    named.is_empty() || number == SIGKILL || signal::parse(named).ok() == Some(number)
}

async fn apply(
    context: &Context<'_>,
    container: &Container,
    signal: i32,
    last: bool,
) -> Result<(), EngineError> {
    context
        .control
        .apply(
            context.namespace,
            &container.id,
            Input::Kill { signal, last },
        )
        .await
        .map(|_| ())
}
