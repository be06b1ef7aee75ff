//! Serves until a signal.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use sockerless_shared::quic::{Pace, QuicError};
use thiserror::Error;

use super::{ConnectError, WebSocketDial, control_plane};
use crate::config::ServeConfig;
use crate::control_plane::ControlPlane;
use crate::docker_socket::{BindError, Server};
use crate::process::{Signals, allow_many_descriptors, bind, random_peer, ready_line};
use crate::relay::Relay;

/// How long clients get to read what is left.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why `sockerless serve` ended otherwise than asked.
#[derive(Debug, Error)]
pub enum RunError {
    /// Addresses on which nobody can listen.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nsockerless: "))]
    Bind(Vec<BindError>),
    /// The control plane cannot be asked.
    #[error(transparent)]
    Control(#[from] ConnectError),
    /// Streams cannot be set up.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The system refused something else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT. Containers go on: they are not this process's.
///
/// # Errors
/// When something could not be started.
pub async fn run(config: ServeConfig) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    allow_many_descriptors();
    let listeners = bind(&config.listen).await.map_err(RunError::Bind)?;
    let (control, connection) = control_plane(&config.control).await?;
    let dial = WebSocketDial::new(connection, control.relay_url());
    let control: Arc<dyn ControlPlane> = Arc::new(control);
    let relay = Relay::new(random_peer()?, Pace::FAR)?;
    let relay_task = {
        let (relay, control) = (Arc::clone(&relay), Arc::clone(&control));
        tokio::spawn(async move { relay.run(control.as_ref(), &dial).await })
    };
    let ready = ready_line(&listeners)?;
    let server = Server::start(listeners, &control, &relay);
    // Whoever started this may have closed its end; that is no reason not to serve.
    let _ = writeln!(io::stderr(), "{ready}");
    signals.next().await;
    let ending = server.stop().finished(LAST_WORDS);
    tokio::select! {
        _ = ending => {}
        () = signals.next() => {}
    }
    relay_task.abort();
    Ok(())
}
