//! QUIC connections to agents: one for each, made when the first stream needs
//! it, used by all that follow, closed a while after the last.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sockerless_shared::answer::StreamTarget;
use sockerless_shared::ids::PeerId;
use sockerless_shared::protocol::control::FrontendMessage;
use sockerless_shared::protocol::relay::Ticket;
use sockerless_shared::quic::{self, QuicError, RelayEndpoint};
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::agent_stream::AgentStream;

/// A connection without streams is kept this long for the next.
const IDLE: Duration = Duration::from_secs(10);

/// An agent that does not answer for this long is given up. It may be
/// reconnecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the way to an agent that cannot be reached is asked for.
const LOCATE_AGAIN: Duration = Duration::from_secs(1);

/// A ticket is renewed this long before it expires.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// Why there is no stream to an agent.
#[derive(Debug, Error)]
pub enum StreamError {
    /// No connection.
    #[error("agent cannot be reached: {0}")]
    Connect(#[from] QuicError),
    /// It did not answer in time.
    #[error("agent {0} does not answer")]
    Timeout(PeerId),
    /// Its run is over.
    #[error("its agent left before all output was taken; `docker logs` has what is kept of it")]
    Gone,
    /// The platform ended it; the container's state says why.
    #[error("its agent was ended by the platform")]
    Crashed,
    /// The connection ended.
    #[error("connection to agent was lost: {0}")]
    Lost(#[from] quinn::ConnectionError),
    /// The grant is larger than a stream's head can be.
    #[error("{0}")]
    Grant(#[from] sockerless_shared::protocol::stream::HeadTooLong),
    /// The agent ended or reset the stream before its reply.
    #[error("agent broke off the stream: {0}")]
    Broken(String),
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
    /// The ticket does not lead to the agent.
    #[error("control plane named a way that does not lead to the agent: {0}")]
    Ticket(#[from] sockerless_shared::protocol::relay::RelayError),
}

/// All connections to agents.
pub(super) struct Agents {
    endpoint: RelayEndpoint,
    slots: Mutex<HashMap<PeerId, Arc<Slot>>>,
    outgoing: mpsc::Sender<FrontendMessage>,
}

#[derive(Default)]
struct Slot {
    connection: tokio::sync::Mutex<Option<Pinned>>,
    usage: Mutex<Usage>,
    /// Set once the peer will not be back.
    gone: AtomicBool,
    /// Set before, if it was the platform that ended it.
    crashed: AtomicBool,
    gone_now: Notify,
}

struct Pinned {
    connection: quinn::Connection,
    certificate_sha256: String,
}

#[derive(Default)]
struct Usage {
    streams: usize,
    idle_since: Option<Instant>,
    /// When the way to it may be asked for again; set while it is not reachable.
    locate_at: Option<Instant>,
}

/// One use of a slot.
pub(super) struct Lease {
    slot: Arc<Slot>,
    /// Whether the connection is not kept for others once the stream has ended.
    last: bool,
    ended: bool,
}

impl Agents {
    pub(super) fn new(endpoint: RelayEndpoint, outgoing: mpsc::Sender<FrontendMessage>) -> Self {
        Self {
            endpoint,
            slots: Mutex::default(),
            outgoing,
        }
    }

    /// Opens a stream and presents its grant. Returns before the agent has replied.
    pub(super) async fn open(&self, target: &StreamTarget) -> Result<AgentStream, StreamError> {
        self.endpoint
            .set_route(&target.peer, target.ticket.clone())?;
        let lease = self.lease(&target.peer, target.last);
        let connection = lease.connection(&self.endpoint, target).await?;
        let (send, receive) = connection.open_bi().await?;
        AgentStream::begin(send, receive, &target.grant, lease).await
    }

    /// A datagram to this peer was not delivered.
    pub(super) fn undeliverable(&self, peer: &PeerId) {
        let Some(slot) = lock(&self.slots).get(peer).cloned() else {
            return;
        };
        let mut usage = lock(&slot.usage);
        if usage.streams > 0 && usage.locate_at.is_none() {
            usage.locate_at = Some(Instant::now() + LOCATE_AGAIN);
            drop(usage);
            self.locate(peer);
        }
    }

    /// The answer to `Locate`.
    pub(super) fn located(&self, peer: &PeerId, ticket: Option<Ticket>) {
        let Some(ticket) = ticket else {
            return;
        };
        if let Some(slot) = lock(&self.slots).get(peer) {
            lock(&slot.usage).locate_at = None;
        }
        if let Err(error) = self.endpoint.set_route(peer, ticket) {
            tracing::warn!(%peer, %error, "control plane sent a bad ticket");
        }
    }

    /// The peer will not be back; whether the platform ended it.
    pub(super) fn gone(&self, peer: &PeerId, crashed: bool) {
        if let Some(slot) = lock(&self.slots).remove(peer) {
            slot.crashed.store(crashed, Ordering::SeqCst);
            slot.gone.store(true, Ordering::SeqCst);
            // Whoever holds the lock is connecting, and gives up.
            slot.gone_now.notify_waiters();
            slot.close(quic::PEER_GONE, "the run is over");
        }
        self.endpoint.forget_route(peer);
    }

    /// Whether there is anything for [`Agents::tick`] to look after.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.slots).is_empty()
    }

    /// To be called about once a second: closes what is idle, asks for ways.
    pub(super) fn tick(&self, now: Instant, wall_clock: Timestamp) {
        let mut locate = Vec::new();
        lock(&self.slots).retain(|peer, slot| {
            let mut usage = lock(&slot.usage);
            if usage.streams == 0 {
                let keep = usage.idle_since.is_none_or(|since| now < since + IDLE);
                if !keep {
                    slot.close(quic::IDLE, "idle");
                }
                return keep;
            }
            let expires_soon = self
                .endpoint
                .route_expires(peer)
                .is_none_or(|expires| expires < wall_clock.plus(RENEW_BEFORE));
            if expires_soon && usage.locate_at.is_none() {
                usage.locate_at = Some(now);
            }
            if usage.locate_at.is_some_and(|at| at <= now) {
                usage.locate_at = Some(now + LOCATE_AGAIN);
                locate.push(peer.clone());
            }
            true
        });
        for peer in locate {
            self.locate(&peer);
        }
    }

    fn locate(&self, peer: &PeerId) {
        // When the queue is full or the relay away, the next tick asks again.
        let _ = self
            .outgoing
            .try_send(FrontendMessage::Locate { peer: peer.clone() });
    }

    fn lease(&self, peer: &PeerId, last: bool) -> Lease {
        let mut slots = lock(&self.slots);
        let slot = slots.entry(peer.clone()).or_default();
        lock(&slot.usage).streams += 1;
        Lease {
            slot: Arc::clone(slot),
            last,
            ended: false,
        }
    }
}

impl Slot {
    /// Closes the connection, unless it is just being made.
    fn close(&self, code: quinn::VarInt, reason: &str) {
        if let Ok(pinned) = self.connection.try_lock()
            && let Some(pinned) = pinned.as_ref()
        {
            pinned.connection.close(code, reason.as_bytes());
        }
    }
}

impl Lease {
    /// The agent has ended the stream, and all of it was taken.
    pub(super) fn ended(&mut self) {
        self.ended = true;
    }

    /// Why there will be nothing more from the peer, once there will not.
    pub(super) fn over(&self) -> Option<StreamError> {
        if !self.slot.gone.load(Ordering::SeqCst) {
            None
        } else if self.slot.crashed.load(Ordering::SeqCst) {
            Some(StreamError::Crashed)
        } else {
            Some(StreamError::Gone)
        }
    }

    /// The slot's connection, made now if need be; others wait meanwhile.
    async fn connection(
        &self,
        endpoint: &RelayEndpoint,
        target: &StreamTarget,
    ) -> Result<quinn::Connection, StreamError> {
        let mut slot = self.slot.connection.lock().await;
        if let Some(pinned) = slot.as_ref()
            && pinned.connection.close_reason().is_none()
            && pinned.certificate_sha256 == target.certificate_sha256
        {
            return Ok(pinned.connection.clone());
        }
        let gone = self.slot.gone_now.notified();
        if let Some(error) = self.over() {
            return Err(error);
        }
        let connecting = endpoint.connect(&target.peer, &target.certificate_sha256);
        let connection = tokio::select! {
            connection = connecting => connection?,
            () = gone => return Err(self.over().unwrap_or(StreamError::Gone)),
            () = tokio::time::sleep(CONNECT_TIMEOUT) => {
                return Err(StreamError::Timeout(target.peer.clone()));
            }
        };
        *slot = Some(Pinned {
            connection: connection.clone(),
            certificate_sha256: target.certificate_sha256.clone(),
        });
        Ok(connection)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut usage = lock(&self.slot.usage);
        usage.streams -= 1;
        if usage.streams == 0 {
            usage.idle_since = Some(Instant::now());
            usage.locate_at = None;
            if self.last && self.ended {
                self.slot.close(quic::IDLE, "all was taken");
            }
        }
    }
}

/// Nothing that holds one of these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
