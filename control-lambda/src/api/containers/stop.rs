//! `POST /containers/{id}/stop` (Engine API, `ContainerStop`).

use sockerless_shared::lifecycle::{Input, Refusal};

use super::{await_event, find, or_cancel, spec};
use crate::api::{ApiError, ApiResult, Context, empty, signal};
use crate::engine::EngineError;
use crate::store::containers::Container;
use crate::store::waiters::Wait;

/// Stops a container; answered when it has ended.
///
/// # Errors
/// 304 when it does not run, 404, 500 (as in Docker) for a time that is no number, and for an
/// unknown signal once there is a process that it would be sent to.
pub async fn stop(context: &Context<'_>, reference: &str) -> ApiResult {
    context.query.number("t")?;
    let container = find(context, reference).await?;
    if !container.lifecycle.is_live() {
        return Ok(empty(304));
    }
    let parsed = parse(context).map_err(|error| {
        ApiError::new(
            500,
            format!("cannot stop container: {reference}: {}", error.message),
        )
    })?;
    let (signal, timeout_s) = parsed.for_container(&container);
    let (waiting, answer) = await_event(context, &container, None, Wait::Stop).await?;
    let input = Input::Stop {
        signal,
        timeout_s,
        by_hand: true,
    };
    let outcome = context
        .control
        .apply(context.namespace, &container.id, input)
        .await;
    match or_cancel(context, &waiting, outcome).await {
        Ok(_) => Ok(answer),
        Err(EngineError::Refused(Refusal::AlreadyStopped)) => Ok(empty(304)),
        Err(EngineError::Refused(Refusal::IsBeingRemoved)) => Ok(empty(304)),
        Err(error) => Err(error.into()),
    }
}

/// The parameters `signal` and `t` of `stop` and `restart`.
pub(crate) struct StopParameters {
    signal: Option<i32>,
    timeout: Option<i64>,
}

/// Reads them.
///
/// # Errors
/// 400 when the signal is not known or the time is no number.
pub(crate) fn parse(context: &Context<'_>) -> Result<StopParameters, ApiError> {
    let signal = match context.query.text("signal") {
        "" => None,
        text => Some(signal::parse(text)?),
    };
    Ok(StopParameters {
        signal,
        timeout: context.query.number("t")?,
    })
}

impl StopParameters {
    /// Signal and grace, with what the container says where the client said nothing. A
    /// negative time is without end.
    pub(crate) fn for_container(&self, container: &Container) -> (i32, Option<u32>) {
        let spec = spec::container_spec(container);
        let timeout_s = match self.timeout {
            None => spec::stop_timeout(&container.config),
            Some(seconds) => spec::grace(seconds),
        };
        (self.signal.unwrap_or(spec.stop_signal), timeout_s)
    }
}
