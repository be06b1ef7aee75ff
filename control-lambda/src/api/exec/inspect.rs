//! `GET /exec/{id}/json` (Engine API, `ExecInspect`).

use serde_json::json;

use super::find;
use crate::api::{ApiResult, Context, json};
use crate::store::execs::ExecState;

/// What is known of an exec.
///
/// # Errors
/// 404.
pub async fn inspect(context: &Context<'_>, reference: &str) -> ApiResult {
    let exec = find(context, reference).await?;
    let (running, code, pid) = match exec.state {
        ExecState::Created => (false, None, 0),
        ExecState::Starting => (true, None, 0),
        ExecState::Running { pid } => (true, None, pid),
        ExecState::Exited { pid, code } => (false, Some(code), pid),
    };
    let (program, arguments) = exec
        .process
        .args
        .split_first()
        .map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    let mut process = json!({
        "tty": exec.process.tty,
        "entrypoint": program,
        "arguments": arguments,
        "privileged": exec.privileged,
    });
    if !exec.process.user.is_empty() {
        process["user"] = json!(exec.process.user);
    }
    json(
        200,
        &json!({
            "ID": exec.id,
            "Running": running,
            "ExitCode": code,
            "ProcessConfig": process,
            "OpenStdin": exec.attach_stdin,
            "OpenStderr": exec.attach_stderr,
            "OpenStdout": exec.attach_stdout,
            "CanRemove": false,
            "ContainerID": exec.container,
            "DetachKeys": exec.detach_keys,
            "Pid": pid,
        }),
    )
}
