//! What the main process holds of one environment.

use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use sockerless_shared::ids::FunctionName;
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::cgroup::{EnvironmentCgroup, Freezer};
use super::config::GatewayAcceptor;
use super::log_stream::LogStream;
use super::runtime_api::{self, Delivery, Runtime};

/// How much of an environment's output is read at a time, in bytes.
const LOG_CHUNK_BYTES: usize = 16 * 1024;

/// One environment, from the decision to make it until it is gone.
pub(super) struct Live {
    pub(super) function: FunctionName,
    pub(super) phase: Phase,
    /// Invocations for its runtime API to hand out.
    pub(super) deliveries: mpsc::UnboundedSender<Delivery>,
    /// The other end, until the runtime API is served.
    pub(super) inbox: Option<mpsc::UnboundedReceiver<Delivery>>,
    /// Whether its network is as it will be.
    pub(super) connected: watch::Sender<bool>,
    /// Held as long as it exists; whoever waits for its end waits for this.
    pub(super) alive: watch::Sender<()>,
    pub(super) log: Option<Log>,
    pub(super) cgroup: Option<EnvironmentCgroup>,
    /// What the warden said about why it failed.
    pub(super) failure: Option<String>,
    /// Ends the init phase, or the running invocation.
    pub(super) timer: Option<Timer>,
    /// Servers; they end with it.
    pub(super) servers: JoinSet<()>,
}

/// How far an environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The warden has not been told yet.
    Planned,
    /// Not wanted any more before the warden was told.
    Cancelled,
    /// The warden has been told.
    Ordered,
}

/// What happens when a time has passed.
pub(super) enum Timer {
    Init(AbortHandle),
    Invocation(AbortHandle),
}

/// An environment's log stream and what fills it.
pub(super) struct Log {
    pub(super) output: Arc<Output>,
    /// Ends when the last process in the environment has.
    pub(super) copying: Option<JoinHandle<()>>,
}

impl Live {
    /// Lets the container's processes go on, should they be stopped.
    pub(super) fn thaw(&self) {
        let freezer = self
            .cgroup
            .as_ref()
            .and_then(|group| group.freezer.as_ref());
        if let Some(Err(error)) = freezer.map(Freezer::thaw) {
            tracing::warn!(%error, "paused processes cannot be let go on");
        }
    }

    pub(super) fn new(function: FunctionName) -> Self {
        let (deliveries, inbox) = mpsc::unbounded_channel();
        Self {
            function,
            phase: Phase::Planned,
            deliveries,
            inbox: Some(inbox),
            connected: watch::Sender::new(false),
            alive: watch::Sender::new(()),
            log: None,
            cgroup: None,
            failure: None,
            timer: None,
            servers: JoinSet::new(),
        }
    }

    pub(super) fn oom_kills(&self) -> u64 {
        self.cgroup.as_ref().map_or(0, EnvironmentCgroup::oom_kills)
    }

    pub(super) fn stop_timer(&mut self) {
        if let Some(Timer::Init(timer) | Timer::Invocation(timer)) = self.timer.take() {
            timer.abort();
        }
    }

    pub(super) fn stop_init_timer(&mut self) {
        if matches!(self.timer, Some(Timer::Init(_))) {
            self.stop_timer();
        }
    }

    /// The platform's own word in the log stream. That it cannot be written is
    /// the operator's trouble, not the container's.
    pub(super) fn platform_line(&self, line: &str) {
        if let Some(log) = &self.log {
            log.output.platform_line(line);
        }
    }
}

/// What an environment writes, on its way to its log stream.
pub(super) struct Output {
    pipe: pipe::Receiver,
    stream: LogStream,
    /// Held while reading and appending, so that nothing overtakes anything.
    copying: Mutex<()>,
}

impl Output {
    pub(super) const fn new(pipe: pipe::Receiver, stream: LogStream) -> Self {
        Self {
            pipe,
            stream,
            copying: Mutex::new(()),
        }
    }

    /// Copies until the last process in the environment has ended.
    pub(super) async fn copy(&self) {
        while self.pipe.readable().await.is_ok() {
            let _order = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
            // The buffer exists only while there is something to read, since
            // most environments are idle most of the time.
            let mut chunk = vec![0; LOG_CHUNK_BYTES];
            match self.pipe.try_read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => self.append(chunk.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Appends the platform's own word, after all that has been written so far.
    fn platform_line(&self, line: &str) {
        let _order = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chunk = [0; LOG_CHUNK_BYTES];
        // The descriptor does not block; whether it has something is asked of
        // the kernel, since the runtime may not have been told yet.
        while let Ok(read @ 1..) = nix::unistd::read(&self.pipe, &mut chunk) {
            self.append(chunk.get(..read).unwrap_or_default());
        }
        self.complain(self.stream.platform_line(line));
    }

    /// Reading goes on without a disk to write to: the environment must not
    /// block on its own output. A write to the page cache does not take long.
    fn append(&self, bytes: &[u8]) {
        self.complain(self.stream.append(bytes));
    }

    fn complain(&self, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(stream = self.stream.name(), %error, "log stream cannot be written");
        }
    }
}

/// A listening socket that was made inside.
pub(super) fn adopt_listener(fd: OwnedFd) -> io::Result<TcpListener> {
    let listener = StdListener::from(fd);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves the runtime API.
pub(super) async fn serve_runtime(listener: TcpListener, runtime: Arc<dyn Runtime>) {
    runtime_api::serve(listener, runtime).await;
}

/// Hands connections to the gateway.
pub(super) async fn serve_gateway(listener: TcpListener, gateway: Arc<dyn GatewayAcceptor>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                gateway.accept(stream);
            }
            Err(error) => tracing::debug!(%error, "gateway: connection was not accepted"),
        }
    }
}

/// The receiving end of an environment's deliveries, for its runtime API.
pub(super) struct Inbox {
    deliveries: AsyncMutex<mpsc::UnboundedReceiver<Delivery>>,
    connected: watch::Receiver<bool>,
}

impl Inbox {
    pub(super) fn new(
        deliveries: mpsc::UnboundedReceiver<Delivery>,
        connected: watch::Receiver<bool>,
    ) -> Self {
        Self {
            deliveries: AsyncMutex::new(deliveries),
            connected,
        }
    }

    /// The next delivery, not before the network stands.
    pub(super) async fn next(&self) -> Option<Delivery> {
        let mut connected = self.connected.clone();
        connected.wait_for(|connected| *connected).await.ok()?;
        self.deliveries.lock().await.recv().await
    }
}
