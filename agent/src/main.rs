//! The agent: the supervisor inside an invocation.
//!
//! It fetches invocations, and for each claims the run at the control plane,
//! starts the container's process, carries its streams, reports its end and
//! leaves nothing of it behind.

mod cleanup;
mod clock;
mod config;
mod container;
mod deadline;
mod files;
mod harden;
mod health;
mod net;
mod note;
mod oom;
mod operator_log;
mod process;
mod relay;
mod runtime_api;
mod spool;
mod streams;
mod supervisor;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use sockerless_shared::protocol::invocation::Invocation;
use sockerless_shared::quic::Identity;

use crate::cleanup::Scratch;
use crate::config::Config;
use crate::files::layers::Layers;
use crate::note::note;
use crate::operator_log::OperatorLog;
use crate::process::init;
use crate::process::namespace::{Namespace, Seat, SeatError};
use crate::process::reaper::Reaper;
use crate::process::tree::kill_all;
use crate::runtime_api::{Emulator, Received, RuntimeApi, Source};
use crate::supervisor::Agent;

fn main() -> ExitCode {
    if let Some(args) = init::wanted(std::env::args_os()) {
        return match init::run(args) {
            Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            Err(error) => {
                note!("init: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let get = |name: &str| std::env::var(name).ok();
    let (seat, config) = (Seat::read(get), Config::read(get));
    let layers = Layers::read(get);
    // Before any thread is started.
    harden::forget_environment();
    match run(seat, config, layers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    seat: Result<Seat, SeatError>,
    config: Result<Config, config::ConfigError>,
    layers: Result<Option<Layers>, String>,
) -> Result<(), String> {
    harden::harden().map_err(|error| format!("hardening: {error}"))?;
    let namespace = match seat.map_err(|error| error.to_string())? {
        Seat::Agent(namespace) => namespace,
        Seat::Main(socket) => {
            return Namespace::wait_as_main(&socket).map_err(|error| format!("main: {error}"));
        }
        Seat::Exec(socket) => {
            return Namespace::serve_execs(&socket).map_err(|error| format!("exec: {error}"));
        }
    };
    let config = config.map_err(|error| error.to_string())?;
    let layers = layers?.map(Arc::new);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?
        .block_on(serve(config, namespace, layers))
        .map_err(|error| error.to_string())
}

/// Serves one invocation after the other, for as long as the environment lives.
async fn serve(
    config: Config,
    namespace: Option<Namespace>,
    layers: Option<Arc<Layers>>,
) -> std::io::Result<()> {
    let agent = Agent {
        reaper: Reaper::start(namespace)?,
        log: OperatorLog::start(std::io::stdout()),
        scratch: Scratch::note(Path::new("/tmp")),
        layers,
        log_stream: std::env::var("AWS_LAMBDA_LOG_STREAM_NAME").ok(),
    };
    let mut source = match config {
        Config::RuntimeApi(authority) => Source::RuntimeApi(RuntimeApi::new(authority)),
        Config::Emulator { port, time_limit } => {
            Source::Emulator(Emulator::listen(port, time_limit).await?)
        }
    };
    loop {
        // Drawn while nothing waits for it; a new one for every run.
        let identity = Identity::generate().map_err(std::io::Error::other)?;
        let received = source.next().await?;
        match carry_out(&agent, &received, identity).await {
            Ok(answer) => source.answer(received, answer).await?,
            Err(error) => {
                note!("invocation {}: {error}", received.request_id);
                source.fail(received, &error).await?;
            }
        }
    }
}

async fn carry_out(
    agent: &Agent,
    received: &Received,
    identity: Identity,
) -> Result<Bytes, String> {
    // The position of an error is told, never the text: the payload holds secrets.
    let invocation: Invocation = serde_json::from_slice(&received.payload).map_err(|error| {
        format!(
            "the payload is no invocation (line {}, column {}); the control plane and the agent may be of different versions",
            error.line(),
            error.column()
        )
    })?;
    let run = invocation.run.clone();
    let result = supervisor::serve(agent, invocation, identity, received.deadline).await;
    // Also after a failure: nothing of this run may be left for the next.
    if !kill_all(&agent.reaper).await {
        note!("some processes of run {run} could not be ended");
    }
    let outcome = result?;
    let answer = serde_json::json!({ "run": run, "outcome": outcome.word() });
    Ok(answer.to_string().into())
}
