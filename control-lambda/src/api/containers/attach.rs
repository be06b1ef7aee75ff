//! `POST /containers/{id}/attach` (Engine API, `ContainerAttach`).

use sockerless_shared::answer::{Answer, Head, Part, Response};
use sockerless_shared::ids::AnswerId;
use sockerless_shared::lifecycle::Phase;
use sockerless_shared::protocol::grant::Operation;

use super::{await_event, find};
use crate::api::detach_keys;
use crate::api::error::Form;
use crate::api::query::Query;
use crate::api::{ApiError, ApiResult, Context};
use crate::engine::agents::stream_part;
use crate::store::containers::Container;
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

/// `GET /containers/{id}/attach/ws` (Engine API, `ContainerAttachWebsocket`): the same over a
/// WebSocket, whose frames are the frontend's affair.
///
/// # Errors
/// As [`attach`], and 400 for a client that asks for no WebSocket.
pub async fn websocket(context: &Context<'_>, reference: &str) -> ApiResult {
    let query = &context.query;
    let detach_keys = detach_keys::parse(query.text("detachKeys"))?;
    let container = find(context, reference).await?;
    check(&container, reference)?;
    if let Some(refusal) = no_websocket(context) {
        return Ok(refusal);
    }
    context
        .control
        .say_of_container(&container, "attach", [])
        .await;
    // Before API 1.42 nobody could choose.
    let all = context.version < crate::api::version::ApiVersion::new(1, 42);
    let operation = operation(&container, query, detach_keys, true, all);
    let head = Head {
        status: 101,
        headers: vec![
            ("Upgrade".to_owned(), "websocket".to_owned()),
            ("Connection".to_owned(), "Upgrade".to_owned()),
        ],
    };
    if !query.flag("stream") && container.lifecycle.current_run().is_none() {
        return super::logs::history(context, &container, head, query, true).await;
    }
    open(context, &container, Some(head), operation).await
}

/// What Go's WebSocket server answers to a client that is none.
fn no_websocket(context: &Context<'_>) -> Option<Answer> {
    let header = |name: &str| context.request.header(name).unwrap_or("");
    let upgrade = header("upgrade").eq_ignore_ascii_case("websocket")
        && header("connection")
            .to_ascii_lowercase()
            .contains("upgrade");
    let version = header("sec-websocket-version");
    let (message, versions) = if !upgrade {
        ("not websocket protocol", false)
    } else if version != "13" {
        ("missing or bad WebSocket Version", true)
    } else if header("sec-websocket-key").is_empty() {
        ("missing Sec-WebSocket-Key", false)
    } else {
        return None;
    };
    let headers = versions.then(|| ("Sec-WebSocket-Version".to_owned(), "13".to_owned()));
    Some(Answer::Final(Response {
        head: Head {
            status: 400,
            headers: headers.into_iter().collect(),
        },
        body: message.into(),
        cache_s: 0,
    }))
}

async fn attached(context: &Context<'_>, reference: &str) -> ApiResult {
    let query = &context.query;
    let detach_keys = detach_keys::parse(query.text("detachKeys"))?;
    let container = find(context, reference).await?;
    check(&container, reference)?;
    context
        .control
        .say_of_container(&container, "attach", [])
        .await;
    let stream = query.flag("stream");
    let tty = container.config["Tty"].as_bool().unwrap_or(false);
    let operation = operation(&container, query, detach_keys, false, false);
    let head = stream_head(context, tty);
    if !stream && container.lifecycle.current_run().is_none() {
        // History alone, of a run that is over or never was.
        return super::logs::history(context, &container, head, query, false).await;
    }
    open(context, &container, Some(head), operation).await
}

/// Whether a container in its state can be attached to.
fn check(container: &Container, reference: &str) -> Result<(), ApiError> {
    if container.lifecycle.is_restarting() {
        return Err(ApiError::new(
            409,
            format!("container {reference} is restarting, wait until the container is running"),
        ));
    }
    match container.lifecycle.phase {
        Phase::Paused => Err(ApiError::new(
            409,
            format!("container {reference} is paused, unpause the container before attach"),
        )),
        Phase::Removing | Phase::Dead => Err(ApiError::new(
            409,
            format!(
                "container {reference} is marked for removal or dead and cannot be attached to"
            ),
        )),
        Phase::Created | Phase::Starting | Phase::Running | Phase::Restarting | Phase::Exited => {
            Ok(())
        }
    }
}

fn operation(
    container: &Container,
    query: &Query,
    detach_keys: Vec<u8>,
    raw: bool,
    all: bool,
) -> Operation {
    let flag = |name: &str| container.config[name].as_bool().unwrap_or(false);
    let stream = query.flag("stream");
    Operation::Attach {
        stdin: (all || query.flag("stdin")) && stream && flag("OpenStdin"),
        stdout: all || query.flag("stdout"),
        stderr: all || query.flag("stderr"),
        // Whoever attaches before the process runs sees all of it.
        history: query.flag("logs") || container.lifecycle.phase != Phase::Running,
        follow: stream,
        // Without a terminal nobody types: the keys' bytes are data like any other.
        detach_keys: if flag("Tty") { detach_keys } else { Vec::new() },
        raw,
    }
}

/// Answers with a head (unless the agent is to) and a stream to the container's agent: at once where it
/// is there, else when it is.
pub(crate) async fn open(
    context: &Context<'_>,
    container: &crate::store::containers::Container,
    head: Option<Head>,
    operation: Operation,
) -> ApiResult {
    let control = context.control;
    if let Some(run) = container.lifecycle.current_run()
        && let Some(record) = control.store.run(&run.id).await?
        && let Some(target) = control
            .stream_target(&run.id, &record, context.peer()?, operation.clone())
            .await?
    {
        let first = head
            .map(Part::Head)
            .into_iter()
            .chain([stream_part(&operation, target), Part::End])
            .collect();
        // Complete as it is: nothing of it is stored.
        let id = AnswerId::from_random(control.environment.random());
        return Ok(Answer::Parts { id, first });
    }
    let wait = Wait::Agent { operation };
    let (waiting, answer) = await_event(context, container, head, wait).await?;
    let found = control
        .store
        .container(context.namespace, &container.id)
        .await?
        .map(|found| found.record);
    let current = found
        .as_ref()
        .and_then(|found| found.lifecycle.current_run());
    match (current, container.lifecycle.current_run()) {
        // The agent may have come between the look-up and the registration.
        (Some(run), _) => {
            if let Some(record) = control.store.run(&run.id).await? {
                control.open_waiting_streams(&run.id, &record).await?;
            }
        }
        // Or its run has ended, and nobody will look for those who wait for it.
        (None, Some(_)) => match &found {
            Some(container) => waiting.end(context, container).await?,
            None => {
                waiting.cancel(context).await?;
                return Err(ApiError::no_such_container(container.id.as_str()));
            }
        },
        (None, None) => {}
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
