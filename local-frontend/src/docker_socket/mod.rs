//! The Docker socket: HTTP/1.1 over Unix sockets and TCP on loopback, every
//! request forwarded to the control plane, every answer carried out.

mod body;
mod cache;
mod connection;
mod error;
mod head;
mod http2;
mod io;
mod listen;
mod player;
mod request;
mod service;
mod take_over;
mod watch;
mod websocket;

use std::io::Result;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch as channel};

pub use self::listen::{BindError, Listen, ListenSyntax, Listener, SocketFile};

use self::cache::Cache;
use self::watch::HalfClose;
use crate::control_plane::ControlPlane;
use crate::relay::Relay;

/// How long to wait when the system has no descriptor for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What every connection needs.
pub(crate) struct Frontend {
    control: Arc<dyn ControlPlane>,
    relay: Arc<Relay>,
    cache: Cache,
    /// Whether a request with these headers may come this way at all.
    admit: fn(&HeaderMap) -> std::result::Result<(), &'static str>,
}

/// Serves clients on a set of listeners.
pub struct Server {
    stop: channel::Sender<bool>,
    /// Closed once the last connection has ended.
    running: mpsc::Receiver<()>,
}

impl Server {
    /// Begins to accept clients.
    #[must_use]
    pub fn start(
        listeners: Vec<Listener>,
        control: &Arc<dyn ControlPlane>,
        relay: &Arc<Relay>,
    ) -> Self {
        let (stop, stopped) = channel::channel(false);
        let (alive, running) = mpsc::channel(1);
        for listener in listeners {
            let frontend = Arc::new(Frontend {
                control: Arc::clone(control),
                relay: Arc::clone(relay),
                cache: Cache::default(),
                admit: match listener {
                    Listener::Unix(..) => service::admit_all,
                    Listener::Tcp(_) => service::admit_local,
                },
            });
            tokio::spawn(accept(alive.clone(), listener, frontend, stopped.clone()));
        }
        Self { stop, running }
    }

    /// Stops accepting, removes the sockets' files, and lets what is under way go on.
    #[must_use]
    pub fn stop(self) -> Stopping {
        let _ = self.stop.send(true);
        Stopping(self.running)
    }
}

/// A server that has stopped accepting.
pub struct Stopping(mpsc::Receiver<()>);

impl Stopping {
    /// Waits until the last client has got its answer, but at most this long.
    pub async fn finished(mut self, patience: Duration) {
        // Nothing is ever sent; it ends with the last connection.
        let _ = tokio::time::timeout(patience, self.0.recv()).await;
    }
}

/// `alive` comes first, since parameters are dropped from the last to the first: whoever
/// sees it closed is to find the socket's file removed.
async fn accept(
    alive: mpsc::Sender<()>,
    listener: Listener,
    frontend: Arc<Frontend>,
    mut stop: channel::Receiver<bool>,
) {
    let stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = next(&listener) => accepted,
        };
        let (frontend, stop, alive) = (Arc::clone(&frontend), stopping.clone(), alive.clone());
        match accepted {
            Ok(Stream::Unix(stream)) => {
                spawn(stream, HalfClose::StillListens, frontend, stop, alive);
            }
            Ok(Stream::Tcp(stream)) => spawn(stream, HalfClose::Gone, frontend, stop, alive),
            Err(error) => {
                tracing::warn!(%error, "a client could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

async fn next(listener: &Listener) -> Result<Stream> {
    match listener {
        Listener::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        Listener::Tcp(listener) => {
            let stream = listener.accept().await?.0;
            // Keystrokes must not wait for company.
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
    }
}

fn spawn<S>(
    stream: S,
    half_close: HalfClose,
    frontend: Arc<Frontend>,
    stop: channel::Receiver<bool>,
    alive: mpsc::Sender<()>,
) where
    S: AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection::serve(stream, half_close, frontend, stop).await {
            tracing::debug!(%error, "a client's connection failed");
        }
        drop(alive);
    });
}
