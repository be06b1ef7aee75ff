//! `POST /containers/{id}/exec` (Engine API, `ContainerExec`).

use serde_json::{Value, json};
use sockerless_shared::ids::ExecId;
use sockerless_shared::lifecycle::Phase;
use sockerless_shared::protocol::grant::Operation;
use sockerless_shared::spec::{ProcessSpec, Runtime};

use crate::api::containers::attach::open;
use crate::api::containers::spec::{console_size, exec_environment, strings};
use crate::api::go_json::{Absent, Field, Kind};
use crate::api::{ApiError, ApiResult, Context, containers, detach_keys, go_json, json};
use crate::engine::events::{ExecEvent, of_exec};
use crate::store::execs::{Exec, ExecState};

const FIELDS: &[Field] = &[
    Field {
        name: "AttachStdin",
        kind: Kind::Bool,
        absent: Absent::False,
    },
    Field {
        name: "AttachStdout",
        kind: Kind::Bool,
        absent: Absent::False,
    },
    Field {
        name: "AttachStderr",
        kind: Kind::Bool,
        absent: Absent::False,
    },
    Field {
        name: "Cmd",
        kind: Kind::Strings,
        absent: Absent::Null,
    },
    Field {
        name: "ConsoleSize",
        kind: Kind::Any,
        absent: Absent::Null,
    },
    Field {
        name: "Detach",
        kind: Kind::Bool,
        absent: Absent::False,
    },
    Field {
        name: "DetachKeys",
        kind: Kind::String,
        absent: Absent::Empty,
    },
    Field {
        name: "Env",
        kind: Kind::Strings,
        absent: Absent::Null,
    },
    Field {
        name: "Privileged",
        kind: Kind::Bool,
        absent: Absent::False,
    },
    Field {
        name: "Tty",
        kind: Kind::Bool,
        absent: Absent::False,
    },
    Field {
        name: "User",
        kind: Kind::String,
        absent: Absent::Empty,
    },
    Field {
        name: "WorkingDir",
        kind: Kind::String,
        absent: Absent::Empty,
    },
];

/// Notes what is to be run in a running container; nothing runs yet. Where its user is a name, the
/// agent looks for it and answers.
///
/// # Errors
/// 400 without a command or for a user that is not there, 404, 409 when the container does not run, 501 for
/// what the runtime cannot do.
pub async fn create(context: &Context<'_>, reference: &str) -> ApiResult {
    let body = go_json::complete("ExecOptions", FIELDS, &context.json_body_or_nothing()?)?;
    let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
    let flag = |name: &str| body[name].as_bool().unwrap_or(false);
    let args = strings(&body["Cmd"]);
    if args.is_empty() {
        return Err(ApiError::new(400, "No exec command specified"));
    }
    let container = containers::find(context, reference).await?;
    let id = &container.id;
    if container.lifecycle.phase == Phase::Paused {
        return Err(ApiError::new(
            409,
            format!("Container {reference} is paused, unpause the container before exec"),
        ));
    }
    containers::not_restarting(&container)?;
    let Some(run) = container.lifecycle.current_run() else {
        return Err(ApiError::new(409, format!("container {id} is not running")));
    };
    if flag("Privileged") {
        return Err(ApiError::not_implemented(
            "exec --privileged is not implemented by sockerless: there are no privileges to give",
        ));
    }
    let asked_for = text("User");
    if container.shape.runtime == Runtime::Function && !asked_for.is_empty() {
        return Err(ApiError::not_implemented(
            "exec --user is not possible under the runtime function, which runs everything as one fixed unprivileged user: use --runtime microvm",
        ));
    }
    detach_keys::parse(&text("DetachKeys")).map_err(|_| {
        // Docker has other words, and another status, than for attach.
        let keys = text("DetachKeys");
        ApiError::new(500, format!("Invalid escape keys ({keys}) provided"))
    })?;
    let tty = flag("Tty");
    let of_container = |name: &str| container.config[name].as_str().unwrap_or("").to_owned();
    let or = |own: String, inherited: String| if own.is_empty() { inherited } else { own };
    let exec = Exec {
        id: ExecId::from_random(context.control.environment.random()),
        container: id.clone(),
        run: run.id.clone(),
        process: ProcessSpec {
            args,
            env: exec_environment(&container, tty, &strings(&body["Env"])),
            working_dir: or(
                or(text("WorkingDir"), of_container("WorkingDir")),
                "/".to_owned(),
            ),
            user: or(asked_for.clone(), of_container("User")),
            tty,
            open_stdin: flag("AttachStdin"),
            console_size: match &body["ConsoleSize"] {
                Value::Null => None,
                size => console_size(size),
            },
        },
        attach_stdin: flag("AttachStdin"),
        attach_stdout: flag("AttachStdout"),
        attach_stderr: flag("AttachStderr"),
        privileged: false,
        detach_keys: text("DetachKeys"),
        state: ExecState::Created,
    };
    let control = context.control;
    let found_by_agent = to_be_found(&asked_for);
    let now = control.environment.now();
    let event = of_exec(&container, &exec, ExecEvent::Create, now);
    // That of an exec whose user is to be found is said when he is.
    let events = if found_by_agent {
        &[][..]
    } else {
        std::slice::from_ref(&event)
    };
    let created = control.store.create_exec(context.namespace, &exec, events);
    created.await?;
    if found_by_agent {
        let operation = Operation::ExecCreate {
            exec: exec.id,
            user: asked_for,
        };
        return open(context, &container, None, operation).await;
    }
    control.tell_listeners(context.namespace).await;
    json(201, &json!({ "Id": exec.id }))
}

/// Whether `user[:group]` has a name that only the container's files can tell the number of, or a
/// number that is none.
fn to_be_found(user: &str) -> bool {
    let is_id = |part: &str| part.is_empty() || part.parse().is_ok_and(|id: i32| id >= 0);
    !user.splitn(2, ':').all(is_id)
}

#[cfg(test)]
mod tests {
    use super::to_be_found;

    #[test]
    fn numbers_need_not_be_looked_for() {
        for user in ["", "0", "1234", "1234:5", ":5", "1234:", ":", "2147483647"] {
            assert!(!to_be_found(user), "{user}");
        }
        for user in ["root", "0:root", ":root", "-1", "2147483648", "0:0:0", " 0"] {
            assert!(to_be_found(user), "{user}");
        }
    }
}
