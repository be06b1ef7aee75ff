//! What clients do with a container over QUIC streams: attach, exec, logs, cp, stats, top.
//!
//! The operations are written for any pair of reader and writer; this module
//! takes them from QUIC, checks the grant at a stream's head, and keeps count, so
//! that the end of a run can wait for them.

mod answer;
mod attach;
mod detach;
mod exec;
mod exec_runner;
mod files;
mod logs;
mod output;
mod serve;
mod stats;
mod top;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use sockerless_shared::ids::RunId;
use sockerless_shared::protocol::control::{Deed, Report};
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::quic::{CLIENT_GONE, RelayEndpoint, quinn};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock;
use crate::container::Container;
use crate::relay::{Link, Unrecorded};

pub(crate) use exec::run_detached;
pub(crate) use files::{Keeper, Place};
pub(crate) use serve::Gone;

/// How long after the end of a run a client that takes nothing is waited for.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_secs(10);

/// How long a stream is waited for that a frontend has been promised and has not opened yet,
/// without a word from it, where messages travel far and many that come at once wait. The
/// frontend tries for as long. Within one machine the client is gone after [`DRAIN_IDLE`].
const FAR_PATIENCE: Duration = Duration::from_secs(60);

/// How far a run is.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Not started yet. Streams may be opened and wait.
    Starting,
    /// Runs, or has ended and its end is not recorded yet.
    Running(Arc<Container>),
    /// Its end is recorded.
    Ended(Arc<Container>),
    /// It could not be started, and that is recorded.
    Failed,
    /// There is nothing to start: only the files are asked for. Why they are not there, if
    /// they are not.
    Visited(Option<String>),
}

/// What every stream needs.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The run that grants must be for.
    pub(crate) run: RunId,
    /// The key that signed them.
    pub(crate) grant_key: Key,
    /// How far the run is.
    pub(crate) phase: watch::Receiver<Phase>,
    /// For exec's reports.
    pub(crate) link: Link,
    /// The streams at work.
    pub(crate) active: Arc<Active>,
    /// What the files depend on.
    pub(crate) place: Arc<Place>,
}

impl Session {
    /// The container once it runs; `None` if it could not be started.
    pub(crate) async fn container(&self) -> Option<Arc<Container>> {
        let mut phase = self.phase.clone();
        let settled = phase
            .wait_for(|phase| !matches!(phase, Phase::Starting))
            .await;
        match settled.as_deref() {
            Ok(Phase::Running(container) | Phase::Ended(container)) => Some(Arc::clone(container)),
            Ok(Phase::Starting | Phase::Failed | Phase::Visited(_)) | Err(_) => None,
        }
    }

    /// Reports what was done for a client, unless it was refused.
    fn did_if(&self, done: bool, deed: Deed) {
        if done {
            self.did(deed);
        }
    }

    /// Reports what was done for a client.
    pub(crate) fn did(&self, deed: Deed) {
        drop(self.did_and_recorded(deed));
    }

    /// The same; resolves when the control plane has recorded it.
    fn did_and_recorded(
        &self,
        deed: Deed,
    ) -> impl Future<Output = Result<(), Unrecorded>> + Send + use<> {
        let at = clock::now();
        self.link.report(Report::Done { at, deed })
    }

    /// Resolves when the process runs, or never will.
    ///
    /// # Errors
    /// When the container's files are not there; why.
    pub(crate) async fn begun(&self) -> Result<(), String> {
        let _ = self.container().await;
        match &*self.phase.borrow() {
            Phase::Visited(Some(why)) => Err(why.clone()),
            Phase::Visited(None)
            | Phase::Starting
            | Phase::Running(_)
            | Phase::Ended(_)
            | Phase::Failed => Ok(()),
        }
    }

    /// Resolves when the end of the run is recorded.
    pub(crate) async fn recorded(&self) {
        let mut phase = self.phase.clone();
        // An error means that the run is gone altogether.
        let _ = phase
            .wait_for(|phase| matches!(phase, Phase::Ended(_) | Phase::Failed | Phase::Visited(_)))
            .await;
    }
}

/// Counts the streams at work and the bytes they got rid of.
#[derive(Debug)]
pub(crate) struct Active {
    /// What clients are heard on.
    endpoint: Option<RelayEndpoint>,
    /// How long a promised stream is waited for without a word.
    open_patience: Duration,
    streams: AtomicUsize,
    begun: AtomicU64,
    progress: AtomicU64,
    changed: Notify,
}

/// One stream at work.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<Active>);

impl Active {
    /// Streams of this endpoint's connections; whether they come from afar.
    pub(crate) fn of(endpoint: RelayEndpoint, far: bool) -> Self {
        Self::new(Some(endpoint), far)
    }

    fn new(endpoint: Option<RelayEndpoint>, far: bool) -> Self {
        Self {
            endpoint,
            open_patience: if far { FAR_PATIENCE } else { DRAIN_IDLE },
            streams: AtomicUsize::default(),
            begun: AtomicU64::default(),
            progress: AtomicU64::default(),
            changed: Notify::default(),
        }
    }

    fn heard(&self) -> u64 {
        self.endpoint.as_ref().map_or(0, RelayEndpoint::heard)
    }

    fn begin(self: &Arc<Self>) -> AtWork {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
        AtWork(Arc::clone(self))
    }

    /// A client took something.
    pub(crate) fn took(&self, bytes: usize) {
        self.progress.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits until `expected` streams have come and every one has ended, but no longer than
    /// [`FAR_PATIENCE`] or, within one machine, [`DRAIN_IDLE`] without a word from a client whose
    /// stream has not come, than [`DRAIN_IDLE`] without any client taking anything, and not
    /// beyond `end`.
    pub(crate) async fn drain(&self, expected: u64, end: Instant) {
        loop {
            let changed = self.changed.notified();
            let begun = self.begun.load(Ordering::Relaxed);
            let progress = self.progress.load(Ordering::Relaxed);
            let missing = begun < expected;
            if !missing && self.streams.load(Ordering::Relaxed) == 0 {
                return;
            }
            let heard = self.heard();
            let patience = if missing {
                self.open_patience
            } else {
                DRAIN_IDLE
            };
            tokio::select! {
                result = timeout(patience, changed) => {
                    let moved = self.progress.load(Ordering::Relaxed) != progress;
                    let trying = missing && self.heard() != heard;
                    if result.is_err() && !moved && !trying {
                        return;
                    }
                }
                () = sleep_until(end) => return,
            }
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

/// Takes in connections and their streams until the endpoint is closed.
pub(crate) async fn accept(endpoint: RelayEndpoint, session: Session) {
    while let Some(incoming) = endpoint.accept().await {
        let session = session.clone();
        tokio::spawn(async move {
            // A client that gives up half-way is none.
            let Ok(connection) = incoming.await else {
                return;
            };
            while let Ok((send, recv)) = connection.accept_bi().await {
                tokio::spawn(carry(session.clone(), send, recv));
            }
        });
    }
}

/// One stream from its head to its end.
async fn carry(session: Session, mut send: quinn::SendStream, recv: quinn::RecvStream) {
    let at_work = session.active.begin();
    // Also resolves when everything has been sent and acknowledged, which
    // happens after `finish` alone.
    let gone = send.stopped();
    let result = serve::serve(&session, recv, &mut send, async {
        let _ = gone.await;
    })
    .await;
    match result {
        Ok(()) if send.finish().is_ok() => {
            let _ = send.stopped().await;
        }
        Ok(()) => {}
        Err(Gone) => {
            let _ = send.reset(CLIENT_GONE);
        }
    }
    drop(at_work);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(900)
    }

    /// How long a drain takes in which `clients` do this.
    async fn drained(expected: u64, clients: impl AsyncFnOnce(&Arc<Active>)) -> Duration {
        let active = Arc::new(Active::new(None, true));
        let begin = Instant::now();
        let at_work = async {
            clients(&active).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = active.drain(expected, far()) => begin.elapsed(),
            () = at_work => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_promised_stream_may_come_late() {
        let took = drained(1, async |active| {
            tokio::time::sleep(FAR_PATIENCE - Duration::from_secs(1)).await;
            let stream = active.begin();
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(stream);
        });
        assert_eq!(took.await, FAR_PATIENCE + Duration::from_secs(4));
        assert_eq!(drained(1, async |_| ()).await, FAR_PATIENCE);
        assert_eq!(drained(0, async |_| ()).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_waited_for_while_it_takes_something() {
        let took = drained(1, async |active| {
            let _stream = active.begin();
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                active.took(1);
            }
            std::future::pending::<()>().await;
        });
        // What was taken within the last patience is noticed at its end.
        let (least, most) = (Duration::from_secs(45), Duration::from_secs(65));
        let took = took.await;
        assert!(least < took && took <= most, "{took:?}");
    }
}
