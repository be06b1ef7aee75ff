//! `POST /exec/{id}/start` (Engine API, `ExecStart`).

use sockerless_shared::answer::{Answer, Head, Part};
use sockerless_shared::ids::AnswerId;
use sockerless_shared::lifecycle::Phase;
use sockerless_shared::protocol::control::Command;
use sockerless_shared::protocol::grant::Operation;
use sockerless_shared::protocol::stdcopy::{self, OutputStream};
use sockerless_shared::spec::ProcessSpec;

use super::{find, no_such_exec};
use crate::api::containers::attach::stream_head;
use crate::api::containers::spec::console_size;
use crate::api::go_json::{Absent, Field, Kind};
use crate::api::{ApiError, ApiResult, Context, common_headers, detach_keys, go_json};
use crate::engine::events::{ExecEvent, of_exec};
use crate::store::containers::Container;
use crate::store::execs::{Exec, ExecState};
use crate::store::runs::{PendingCommand, RunRecord};

const FIELDS: &[Field] = &[
    Field {
        name: "Detach",
        kind: Kind::Bool,
        absent: Absent::False,
    },
    Field {
        name: "Tty",
        kind: Kind::Bool,
        absent: Absent::False,
    },
    Field {
        name: "ConsoleSize",
        kind: Kind::Any,
        absent: Absent::Null,
    },
];

/// Runs an exec: detached, or with its streams carried to the client.
///
/// # Errors
/// 404, also when the run in which it was created is over; 409 when the container
/// is paused, or when it ran already and nobody wants its streams.
pub async fn start(context: &Context<'_>, reference: &str) -> ApiResult {
    let body = go_json::complete("ExecStartOptions", FIELDS, &context.json_body()?)?;
    let exec = find(context, reference).await?;
    let flag = |name: &str| body[name].as_bool().unwrap_or(false);
    let (detach, tty) = (flag("Detach"), flag("Tty"));
    let (container, record) = check_container(context, &exec).await?;
    if tty && !exec.process.tty {
        return Err(ApiError::new(
            400,
            "exec was created without a terminal and cannot be started with one",
        ));
    }
    if let Some(refusal) = claim(context, &container, &exec).await? {
        if detach {
            return Err(ApiError::new(409, refusal));
        }
        return Ok(refused_in_stream(context, tty, &refusal));
    }
    let console = console_size(&body["ConsoleSize"]).or(exec.process.console_size);
    let process = ProcessSpec {
        console_size: console,
        ..exec.process.clone()
    };
    let detach_keys = detach_keys::parse(&exec.detach_keys)?;
    let operation = Operation::Exec {
        exec: exec.id.clone(),
        process,
        stdin: exec.attach_stdin && !detach,
        stdout: exec.attach_stdout && !detach,
        stderr: exec.attach_stderr && !detach,
        // Without a terminal nobody types: the keys' bytes are data like any other.
        detach_keys: if exec.process.tty {
            detach_keys
        } else {
            Vec::new()
        },
        framed: !tty,
    };
    let control = context.control;
    if detach {
        let (id, answer) = control.begin_answer(context.peer()?, Vec::new()).await?;
        let grant = control.sign_grant(&exec.run, operation)?;
        let pending = PendingCommand::plain(Command::StartExec { grant }, Some(id));
        control.tell(&exec.run, pending).await?;
        return Ok(answer);
    }
    let Some(target) = control
        .stream_target(&exec.run, &record, context.peer()?, operation)
        .await?
    else {
        return Err(ApiError::new(
            503,
            format!(
                "the agent of container {} is reconnecting: try again",
                exec.container
            ),
        ));
    };
    let id = AnswerId::from_random(control.environment.random());
    Ok(Answer::Parts {
        id,
        first: vec![
            Part::Head(exec_head(context, tty)),
            Part::Stream(target),
            Part::End,
        ],
    })
}

fn exec_head(context: &Context<'_>, tty: bool) -> Head {
    let mut head = stream_head(context, tty);
    head.headers.extend(common_headers());
    head
}

/// Docker looks at an exec's state only after it has answered a client that
/// attaches, and so tells it where the exec's output would have come.
fn refused_in_stream(context: &Context<'_>, tty: bool, refusal: &str) -> Answer {
    let text = format!("{refusal}\r\n").into_bytes();
    let data = if tty {
        text
    } else {
        let mut frame = Vec::new();
        stdcopy::write_frame(&mut frame, OutputStream::Stdout, &text);
        frame
    };
    Answer::Parts {
        id: AnswerId::from_random(context.control.environment.random()),
        first: vec![
            Part::Head(exec_head(context, tty)),
            Part::Data { data: data.into() },
            Part::End,
        ],
    }
}

/// The run in which the exec was created has to go on: Docker forgets execs at its end.
async fn check_container(
    context: &Context<'_>,
    exec: &Exec,
) -> Result<(Container, RunRecord), ApiError> {
    let store = &context.control.store;
    let container = store
        .container(context.namespace, &exec.container)
        .await?
        .ok_or_else(|| ApiError::no_such_container(exec.container.as_str()))?
        .record;
    if container.lifecycle.phase == Phase::Paused {
        return Err(ApiError::new(
            409,
            format!(
                "Container {} is paused, unpause the container before exec",
                exec.container
            ),
        ));
    }
    if container
        .lifecycle
        .current_run()
        .is_none_or(|run| run.id != exec.run)
    {
        return Err(no_such_exec(exec.id.as_str()));
    }
    let run = store
        .run(&exec.run)
        .await?
        .ok_or_else(|| no_such_exec(exec.id.as_str()))?;
    Ok((container, run))
}

/// An exec is started once; the text is why not again.
async fn claim(
    context: &Context<'_>,
    container: &Container,
    exec: &Exec,
) -> Result<Option<String>, ApiError> {
    let now = context.control.environment.now();
    let changed = context
        .control
        .store
        .update_exec_and_log(context.namespace, &exec.id, |exec| {
            let before = exec.state;
            let mut events = Vec::new();
            if before == ExecState::Created {
                exec.state = ExecState::Starting;
                events.push(of_exec(container, exec, ExecEvent::Start, now));
            }
            (before, events)
        })
        .await?;
    match changed {
        Some((_, ExecState::Created)) => {
            context.control.tell_listeners(context.namespace).await;
            Ok(None)
        }
        Some((_, ExecState::Starting | ExecState::Running { .. })) => {
            Ok(Some(format!("exec command {} is already running", exec.id)))
        }
        Some((_, ExecState::Exited { .. })) => {
            Ok(Some(format!("exec command {} has already run", exec.id)))
        }
        None => Err(no_such_exec(exec.id.as_str())),
    }
}
