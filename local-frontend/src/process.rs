//! What every form of serving does as a process.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sockerless_shared::ids::PeerId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::docker_socket::{BindError, Listen, Listener};

/// Listens on all addresses.
pub(crate) async fn bind(addresses: &[Listen]) -> Result<Vec<Listener>, Vec<BindError>> {
    let mut listeners = Vec::new();
    let mut errors = Vec::new();
    for address in addresses {
        match Listener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(listeners)
    } else {
        Err(errors)
    }
}

/// What is said when clients can connect.
pub(crate) fn ready_line(listeners: &[Listener]) -> io::Result<String> {
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.address().map(|address| address.to_string()))
        .collect::<Result<_, _>>()?;
    Ok(format!("sockerless: ready on {}", addresses.join(" and ")))
}

/// Every client and every container takes descriptors; the usual soft limit of
/// 1,024 is for programs that use `select`.
pub(crate) fn allow_many_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files could not be raised");
    }
}

/// The name under which this process is reached over the relay.
pub(crate) fn random_peer() -> io::Result<PeerId> {
    let mut bytes = [0; PeerId::BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(PeerId::from_random(bytes))
}

/// The signals that ask for an end.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
