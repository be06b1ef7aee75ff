//! Starts everything, serves until a signal, ends everything.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sockerless_control::embedded::local::{Local, LocalError};
use sockerless_control::images::remote::RegistrySettings;
use sockerless_control::images::remote::certificates::CertificateFolders;
use sockerless_shared::quic::{Pace, QuicError};
use thiserror::Error;

use super::{InProcess, InProcessDial};
use crate::agent_binary::AgentBinary;
use crate::config::{LocalConfig, Registries};
use crate::control_plane::ControlPlane;
use crate::docker_socket::{BindError, Server};
use crate::process::{Signals, allow_many_descriptors, bind, random_peer, ready_line};
use crate::relay::Relay;

/// Largest request body: an image to be loaded.
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// How long clients get to read what is left, once every container has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why `sockerless local` ended otherwise than asked.
#[derive(Debug, Error)]
pub enum RunError {
    /// Addresses on which nobody can listen.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nsockerless: "))]
    Bind(Vec<BindError>),
    /// The control plane did not start.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// Streams cannot be set up.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The built-in agent could not be put into the data folder.
    #[error("cannot write the agent to {}: {source}", .path.display())]
    Agent {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT. A second signal ends the process at once.
///
/// # Errors
/// When something could not be started.
pub async fn run(config: LocalConfig) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    tokio::select! {
        biased;
        // Nothing has been promised to anybody yet.
        () = signals.next() => Ok(()),
        running = start(&config) => {
            let running = running?;
            signals.next().await;
            let ending = running.end(config.shutdown_timeout);
            tokio::select! {
                () = ending => Ok(()),
                () = signals.next() => {
                    tracing::warn!("told twice to end: containers are killed");
                    Ok(())
                }
            }
        }
    }
}

struct Running {
    local: Local,
    server: Server,
    relay: tokio::task::JoinHandle<()>,
}

async fn start(config: &LocalConfig) -> Result<Running, RunError> {
    allow_many_descriptors();
    let listeners = bind(&config.listen).await.map_err(RunError::Bind)?;
    let agent = agent_file(&config.agent, &config.data_dir)?;
    let mut settings =
        sockerless_control::embedded::local::LocalConfig::new(config.data_dir.clone(), agent);
    settings.default_runtime = config.default_runtime;
    settings.gateway.chaos.clone_from(&config.chaos);
    settings.registries = registries(&config.registries)?;
    let local = Local::start(settings).await?;
    let control: Arc<dyn ControlPlane> = Arc::new(InProcess {
        control: Arc::clone(local.control()),
        namespace: config.namespace.clone(),
        max_body_bytes: MAX_BODY_BYTES,
    });
    let relay = Relay::new(random_peer()?, Pace::NEAR)?;
    let relay_task = {
        let (relay, control) = (Arc::clone(&relay), Arc::clone(&control));
        let dial = InProcessDial(local.gateway().clone());
        tokio::spawn(async move { relay.run(control.as_ref(), &dial).await })
    };
    let ready = ready_line(&listeners)?;
    let server = Server::start(listeners, &control, &relay);
    // Whoever started this may have closed its end; that is no reason not to serve.
    let _ = writeln!(io::stderr(), "{ready}");
    Ok(Running {
        local,
        server,
        relay: relay_task,
    })
}

/// The control plane's own form of what was checked before.
fn registries(texts: &Registries) -> Result<RegistrySettings, LocalError> {
    fn read<T: FromStr>(texts: &[String]) -> Result<Vec<T>, LocalError>
    where
        T::Err: std::fmt::Display,
    {
        let read = texts.iter().map(|text| text.parse());
        read.collect::<Result<_, _>>()
            .map_err(|error: T::Err| LocalError::new(error.to_string()))
    }
    Ok(RegistrySettings {
        insecure: read(&texts.insecure)?,
        mirrors: read(&texts.mirrors)?,
        hub_fallback: texts.hub_fallback.clone(),
        certificates: Some(Arc::new(CertificateFolders::new(&texts.certificates))),
        hub: None,
    })
}

impl Running {
    /// As `dockerd` ends: no new clients; every container gets its stop signal and its
    /// grace; clients get what is left.
    async fn end(self, limit: Duration) {
        let stopping = self.server.stop();
        if let Err(error) = self.local.control().shut_down(limit).await {
            tracing::error!(%error, "containers could not be stopped one by one");
        }
        stopping.finished(LAST_WORDS).await;
        self.relay.abort();
        let killed = self.local.shut_down().await;
        if killed > 0 {
            tracing::warn!(killed, "containers did not end in time and were killed");
        }
    }
}

/// The agent as a file; the built-in one is put into the data folder.
fn agent_file(agent: &AgentBinary, data_dir: &Path) -> Result<PathBuf, RunError> {
    let bytes = match agent {
        AgentBinary::File(path) => return Ok(fs::canonicalize(path)?),
        AgentBinary::BuiltIn(bytes) => bytes,
    };
    let path = data_dir.join("sockerless-agent");
    let write = || {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)?;
        // Written aside and renamed: an older one may still run somewhere.
        let part = path.with_extension("part");
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(&part)?
            .write_all(bytes)?;
        fs::rename(&part, &path)
    };
    match write() {
        Ok(()) => Ok(path),
        Err(source) => Err(RunError::Agent { path, source }),
    }
}
