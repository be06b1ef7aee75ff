//! One connection, whatever carries it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Sink, SinkExt as _, Stream, StreamExt as _};
use sockerless_shared::ids::ConnectionId;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::chaos::{Chaos, Plan};
use super::{GatewayConfig, Membership};
use crate::ports::GatewayEvents;
use crate::ports::relay::PostError;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other side closed it, or cannot be reached any more.
    Gone,
    /// The control plane, or this process, asked for it.
    Closed,
    /// No message for too long.
    Idle,
    /// It was open for too long.
    Lifetime,
    /// A binary message came.
    Binary,
    /// A message or frame was too large.
    TooLarge,
    /// What came is not WebSocket.
    Protocol,
    /// Cut by a [`super::ChaosPolicy`].
    Cut,
    /// There is no control plane any more.
    NoControlPlane,
}

/// What the rest of the gateway holds of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    id: ConnectionId,
    queue: mpsc::Sender<String>,
    queued_bytes: Arc<AtomicUsize>,
    max_queued_bytes: usize,
    end: watch::Sender<Option<End>>,
    opened: Instant,
    /// When the last message passed, in milliseconds since `opened`.
    active: AtomicU64,
    chaos: Option<Chaos>,
}

impl Connection {
    /// A connection and what is to be sent on it.
    pub(super) fn open(id: ConnectionId, config: &GatewayConfig) -> (Self, mpsc::Receiver<String>) {
        static ORDINAL: AtomicU64 = AtomicU64::new(0);
        let (queue, receiver) = mpsc::channel(config.queue_messages.max(1));
        let connection = Self {
            id,
            queue,
            queued_bytes: Arc::default(),
            max_queued_bytes: config.queue_bytes,
            end: watch::Sender::new(None),
            opened: Instant::now(),
            active: AtomicU64::new(0),
            chaos: config
                .chaos
                .clone()
                .map(|policy| Chaos::new(policy, ORDINAL.fetch_add(1, Ordering::Relaxed))),
        };
        (connection, receiver)
    }

    pub(super) const fn id(&self) -> &ConnectionId {
        &self.id
    }

    /// Ends it; only the first reason counts.
    pub(super) fn end(&self, why: End) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(why);
            first
        });
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(super) fn forgets_disconnect(&self) -> bool {
        self.chaos.as_ref().is_some_and(Chaos::forgets_disconnect)
    }

    /// Accepts a text to be sent.
    pub(super) fn post(self: Arc<Self>, text: String) -> Result<(), PostError> {
        self.touch();
        let Some(chaos) = &self.chaos else {
            return self.offer(text);
        };
        match chaos.outbound() {
            Plan::Disconnect => {
                self.end(End::Cut);
                Ok(())
            }
            Plan::Deliver(times) => times.into_iter().try_for_each(|time| {
                if time.is_zero() {
                    return self.offer(text.clone());
                }
                let (connection, text) = (Arc::clone(&self), text.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    // What no longer fits or is too late is one more message lost.
                    let _ = connection.offer(text);
                });
                Ok(())
            }),
        }
    }

    fn offer(&self, text: String) -> Result<(), PostError> {
        let length = text.len();
        let before = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let outcome = if before.saturating_add(length) > self.max_queued_bytes {
            Err(PostError::Throttled(self.id.clone()))
        } else {
            self.queue.try_send(text).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => PostError::Throttled(self.id.clone()),
                mpsc::error::TrySendError::Closed(_) => PostError::Gone(self.id.clone()),
            })
        };
        if outcome.is_err() {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        outcome
    }

    fn touch(&self) {
        let active = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.store(active, Ordering::Relaxed);
    }

    /// Waits until the connection must end because of the time.
    async fn outlived(&self, config: &GatewayConfig) -> End {
        let last = self.opened + config.lifetime;
        loop {
            let idle = self.opened
                + Duration::from_millis(self.active.load(Ordering::Relaxed))
                + config.idle;
            let now = Instant::now();
            if now >= last {
                return End::Lifetime;
            }
            if now >= idle {
                return End::Idle;
            }
            tokio::time::sleep_until(last.min(idle)).await;
        }
    }

    async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End::Gone),
            Err(_) => End::Gone,
        }
    }
}

impl Membership {
    /// Carries messages both ways until the connection ends, and says why. The
    /// ends of what is being handled then are not waited for.
    pub(super) async fn run<R, W>(
        &self,
        queue: mpsc::Receiver<String>,
        incoming: &mut R,
        outgoing: &mut W,
    ) -> End
    where
        R: Stream<Item = Result<String, End>> + Send + Unpin,
        W: Sink<String, Error = End> + Send + Unpin,
    {
        let connection = &self.connection;
        let why = tokio::select! {
            why = self.receive(incoming) => why,
            why = send(connection, queue, outgoing) => why,
            why = connection.outlived(&self.shared.config) => why,
            why = connection.ended() => why,
        };
        connection.end(why);
        tracing::debug!(connection = %connection.id(), ?why, "relay connection ended");
        why
    }

    /// Hands messages to the control plane, several at the same time.
    async fn receive<R>(&self, incoming: &mut R) -> End
    where
        R: Stream<Item = Result<String, End>> + Send + Unpin,
    {
        let mut handling = Handling::default();
        loop {
            let room = handling.0.len() < self.shared.config.concurrency.max(1);
            let message = tokio::select! {
                Some(()) = handling.0.next(), if !handling.0.is_empty() => continue,
                message = incoming.next(), if room => message,
            };
            let text = match message {
                Some(Ok(text)) => text,
                Some(Err(why)) => return why,
                None => return End::Gone,
            };
            self.connection.touch();
            let Some(events) = self.shared.events() else {
                return End::NoControlPlane;
            };
            let times = match self.connection.chaos.as_ref().map(Chaos::inbound) {
                None => {
                    handling
                        .0
                        .push(handle(events, self.connection.id().clone(), text).boxed());
                    continue;
                }
                Some(Plan::Disconnect) => return End::Cut,
                Some(Plan::Deliver(times)) => times,
            };
            for time in times {
                let message = handle(
                    Arc::clone(&events),
                    self.connection.id().clone(),
                    text.clone(),
                );
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    message.await;
                });
            }
        }
    }
}

async fn handle(events: Arc<dyn GatewayEvents>, connection: ConnectionId, text: String) {
    events.message(&connection, text).await;
}

/// Messages being handled. A handler is not cut short because its connection
/// ended; as a function's invocation would, it goes on without it.
#[derive(Default)]
struct Handling(FuturesUnordered<futures_util::future::BoxFuture<'static, ()>>);

impl Drop for Handling {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.0);
        if !rest.is_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(rest.collect::<()>());
        }
    }
}

/// Sends what is in the queue, as much at once as there is.
async fn send<W>(connection: &Connection, mut queue: mpsc::Receiver<String>, out: &mut W) -> End
where
    W: Sink<String, Error = End> + Send + Unpin,
{
    while let Some(text) = queue.recv().await {
        let mut next = Some(text);
        while let Some(text) = next {
            connection
                .queued_bytes
                .fetch_sub(text.len(), Ordering::Relaxed);
            if let Err(why) = out.feed(text).await {
                return why;
            }
            next = queue.try_recv().ok();
        }
        if let Err(why) = out.flush().await {
            return why;
        }
    }
    End::Gone
}
