//! From Docker's configuration to what an agent runs.

use std::collections::BTreeMap;

use serde_json::Value;
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::spec::{ConsoleSize, ContainerSpec, ProcessSpec, Runtime};

use super::{confinement, healthcheck, log_options, machine};
use crate::api::signal;
use crate::store::containers::Container;

/// The search path of a container that sets none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const SIGTERM: i32 = 15;

/// Docker's grace between stop signal and SIGKILL, in seconds.
const DEFAULT_STOP_TIMEOUT_S: u32 = 10;

/// Checks what Docker's `create` takes and its `start` refuses.
///
/// # Errors
/// In Docker's words.
pub fn check_start(container: &Container) -> Result<(), StartFailure> {
    let (host, runtime) = (&container.host_config, container.shape.runtime);
    log_options::check_start(&host["LogConfig"])?;
    confinement::confinement(host, runtime)?;
    if runtime == Runtime::Microvm {
        machine::machine(&container.config, host)?;
    }
    Ok(())
}

/// What the agent is to run; see [`check_start`].
#[must_use]
pub fn container_spec(container: &Container) -> ContainerSpec {
    let config = &container.config;
    let flag = |name: &str| config[name].as_bool().unwrap_or(false);
    let text = |name: &str| config[name].as_str().unwrap_or("").to_owned();
    let tty = flag("Tty");
    let process = ProcessSpec {
        args: container.args.clone(),
        env: environment(&text("Hostname"), tty, &strings(&config["Env"])),
        working_dir: match text("WorkingDir") {
            dir if dir.is_empty() => "/".to_owned(),
            dir => dir,
        },
        user: text("User"),
        tty,
        open_stdin: flag("OpenStdin"),
        console_size: console_size(&container.host_config["ConsoleSize"]),
    };
    ContainerSpec {
        runtime: container.shape.runtime,
        healthcheck: healthcheck::healthcheck(config, &process),
        process,
        stdin_once: flag("StdinOnce"),
        hostname: text("Hostname"),
        stop_signal: stop_signal(config),
        stop_timeout_s: stop_timeout(config).unwrap_or(u32::MAX),
        confinement: confinement::confinement(&container.host_config, container.shape.runtime)
            .unwrap_or_default(),
        read_only_root: container.host_config["ReadonlyRootfs"] == true,
    }
}

/// The process of an exec in this container, as far as the container decides it.
#[must_use]
pub fn exec_environment(container: &Container, tty: bool, extra: &[String]) -> Vec<String> {
    let config = &container.config;
    let mut env = environment(
        config["Hostname"].as_str().unwrap_or(""),
        tty,
        &strings(&config["Env"]),
    );
    merge(&mut env, extra);
    env
}

/// The environment as Docker makes it: its own variables, then the container's over them.
fn environment(hostname: &str, tty: bool, configured: &[String]) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    merge(&mut env, configured);
    env
}

/// Sets variables; one without `=` is removed (Docker's `ReplaceOrAppendEnvValues`).
fn merge(env: &mut Vec<String>, overrides: &[String]) {
    for entry in overrides {
        let key = entry.split('=').next().unwrap_or("");
        let same = |existing: &String| existing.split('=').next() == Some(key);
        if !entry.contains('=') {
            env.retain(|existing| !same(existing));
        } else if let Some(existing) = env.iter_mut().find(|existing| same(existing)) {
            existing.clone_from(entry);
        } else {
            env.push(entry.clone());
        }
    }
}

/// The signal that stops a container; checked at `create`.
fn stop_signal(config: &Value) -> i32 {
    match config["StopSignal"].as_str() {
        None | Some("") => SIGTERM,
        Some(text) => signal::parse(text).unwrap_or(SIGTERM),
    }
}

/// Seconds of grace, `None` for without end.
#[must_use]
pub fn stop_timeout(config: &Value) -> Option<u32> {
    config["StopTimeout"]
        .as_i64()
        .map_or(Some(DEFAULT_STOP_TIMEOUT_S), grace)
}

/// A client's seconds of grace: a negative number is without end.
#[must_use]
pub fn grace(seconds: i64) -> Option<u32> {
    (seconds >= 0).then(|| u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// Strings by name in Docker's configuration; what is no string is left out.
#[must_use]
pub fn string_map(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// A list of strings in Docker's configuration.
#[must_use]
pub fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .map(|items| {
            items
                .iter()
                .filter_map(Value::as_str)
                .map(ToOwned::to_owned)
                .collect()
        })
        .unwrap_or_default()
}

/// `[height, width]`; zeroes and anything else are no size.
#[must_use]
pub fn console_size(value: &Value) -> Option<ConsoleSize> {
    let side = |at: usize| {
        value
            .get(at)?
            .as_u64()
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| *n > 0)
    };
    Some(ConsoleSize {
        height: side(0)?,
        width: side(1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_made_as_docker_makes_it() {
        let env = environment(
            "h",
            true,
            &["A=1".into(), "PATH=/x".into(), "A=2".into(), "TERM".into()],
        );
        assert_eq!(env, ["PATH=/x", "HOSTNAME=h", "A=2"]);
    }

    #[test]
    fn a_negative_grace_is_without_end() {
        assert_eq!(grace(-1), None);
        assert_eq!(grace(0), Some(0));
        assert_eq!(grace(i64::MAX), Some(u32::MAX));
    }
}
