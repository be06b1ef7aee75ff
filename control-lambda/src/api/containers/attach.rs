//! `POST /containers/{id}/attach` (Engine API, `ContainerAttach`).

use sockerless_shared::answer::{Answer, Head, Part};
use sockerless_shared::ids::AnswerId;
use sockerless_shared::lifecycle::Phase;
use sockerless_shared::protocol::grant::Operation;

use super::{await_event, find};
use crate::api::detach_keys;
use crate::api::error::Form;
use crate::api::{ApiError, ApiResult, Context};
use crate::store::waiters::Wait;

/// Connects the client to a container's streams, now or when it is started.
///
/// # Errors
/// 400 for bad detach keys, 404, 409 when the container is paused or being removed.
pub async fn attach(context: &Context<'_>, reference: &str) -> ApiResult {
    let form = Form::Stream;
    attached(context, reference)
        .await
        .map_err(|error| ApiError { form, ..error })
}

async fn attached(context: &Context<'_>, reference: &str) -> ApiResult {
    let query = &context.query;
    let detach_keys = detach_keys::parse(query.text("detachKeys"))?;
    let container = find(context, reference).await?;
    match container.lifecycle.phase {
        Phase::Paused => {
            return Err(ApiError::new(
                409,
                format!("container {reference} is paused, unpause the container before attach"),
            ));
        }
        Phase::Removing | Phase::Dead => {
            return Err(ApiError::new(
                409,
                format!(
                    "container {reference} is marked for removal or dead and cannot be attached to"
                ),
            ));
        }
        Phase::Created | Phase::Starting | Phase::Running | Phase::Exited => {}
    }
    let flag = |name: &str| container.config[name].as_bool().unwrap_or(false);
    let stream = query.flag("stream");
    let operation = Operation::Attach {
        stdin: query.flag("stdin") && stream && flag("OpenStdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        // Whoever attaches before the process runs sees all of it.
        history: query.flag("logs") || container.lifecycle.phase != Phase::Running,
        follow: stream,
        // Without a terminal nobody types: the keys' bytes are data like any other.
        detach_keys: if flag("Tty") { detach_keys } else { Vec::new() },
    };
    let head = stream_head(context, flag("Tty"));
    if !stream && container.lifecycle.current_run().is_none() {
        // History alone, of a run that is over or never was.
        return super::logs::history(context, &container, head, query).await;
    }
    open(context, &container, head, operation).await
}

/// Answers with a head and a stream to the container's agent: at once where it
/// is there, else when it is.
pub(crate) async fn open(
    context: &Context<'_>,
    container: &crate::store::containers::Container,
    head: Head,
    operation: Operation,
) -> ApiResult {
    let control = context.control;
    if let Some(run) = container.lifecycle.current_run()
        && let Some(record) = control.store.run(&run.id).await?
        && let Some(target) = control
            .stream_target(&run.id, &record, context.peer()?, operation.clone())
            .await?
    {
        let first = vec![Part::Head(head), Part::Stream(target), Part::End];
        // Complete as it is: nothing of it is stored.
        let id = AnswerId::from_random(control.environment.random());
        return Ok(Answer::Parts { id, first });
    }
    let wait = Wait::Agent { operation };
    let (_, answer) = await_event(context, container, Some(head), wait).await?;
    // The agent may have come between the look-up and the registration.
    if let Some(found) = control
        .store
        .container(context.namespace, &container.id)
        .await?
        && let Some(run) = found.record.lifecycle.current_run()
        && let Some(record) = control.store.run(&run.id).await?
    {
        control.open_waiting_streams(&run.id, &record).await?;
    }
    Ok(answer)
}

/// The head of a hijacked stream: 101 for a client that asked for the
/// upgrade, else 200, and the stream's format.
pub(crate) fn stream_head(context: &Context<'_>, tty: bool) -> Head {
    let multiplexed = !tty && context.version >= crate::api::version::ApiVersion::new(1, 42);
    let upgrade = context.request.header("upgrade").is_some();
    let content_type = if multiplexed && upgrade {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    let mut headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
    if upgrade {
        headers.push(("Connection".to_owned(), "Upgrade".to_owned()));
        headers.push(("Upgrade".to_owned(), "tcp".to_owned()));
    }
    Head {
        status: if upgrade { 101 } else { 200 },
        headers,
    }
}
