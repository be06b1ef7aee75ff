//! Calls of the API that several rows make.

use serde_json::Value;

use crate::pair::Side;

/// A container that runs `command`, in no network; its id.
pub(crate) fn create(side: &Side, command: &[&str]) -> Result<String, String> {
    let body = serde_json::json!({
        "Image": "busybox",
        "Cmd": command,
        "HostConfig": {"NetworkMode": "none"},
    });
    let answer = side.call("POST", "/containers/create", Some(&body.to_string()), 201)?;
    id(&answer)
}

fn id(answer: &[u8]) -> Result<String, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    answer["Id"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("no Id in {answer}"))
}

/// Runs `true` in a container that runs, to its end and its exit code.
pub(crate) fn exec(side: &Side, container: &str) -> Result<(), String> {
    let body = r#"{"Cmd": ["true"], "AttachStdout": true, "AttachStderr": true}"#;
    let answer = side.call(
        "POST",
        &format!("/containers/{container}/exec"),
        Some(body),
        201,
    )?;
    let exec = id(&answer)?;
    side.call("POST", &format!("/exec/{exec}/start"), Some("{}"), 200)?;
    let answer = side.call("GET", &format!("/exec/{exec}/json"), None, 200)?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
    if answer["ExitCode"] == 0 {
        return Ok(());
    }
    Err(format!("true ended otherwise: {answer}"))
}

/// Starts it.
pub(crate) fn start(side: &Side, id: &str) -> Result<(), String> {
    side.call("POST", &format!("/containers/{id}/start"), None, 204)
        .map(drop)
}

/// Waits for its end.
pub(crate) fn wait(side: &Side, id: &str) -> Result<(), String> {
    side.call("POST", &format!("/containers/{id}/wait"), None, 200)
        .map(drop)
}

/// Removes it, running or not.
pub(crate) fn remove(side: &Side, id: &str) -> Result<(), String> {
    side.call("DELETE", &format!("/containers/{id}?force=true"), None, 204)
        .map(drop)
}
