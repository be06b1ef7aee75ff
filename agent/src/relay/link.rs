//! The task that keeps the connection: it carries control messages and QUIC's
//! datagrams, and opens the WebSocket again whenever it is lost. Nobody else
//! notices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use sockerless_shared::ids::Nonce;
use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::control::{Command, ConnectQuery, ControlToAgent, Report};
use sockerless_shared::protocol::invocation::Invocation;
use sockerless_shared::quic::{Outbox, RelayEndpoint};
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::{self, Message};

use super::backoff::Backoff;
use super::conversation::{Conversation, Heard, Send};
use super::socket::{NotConnected, Socket, connect};
use crate::note::note;

/// How long one text may take to leave before the connection counts as dead.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// How many messages of datagrams are handed to the socket before it is flushed.
const BATCH: usize = 8;

/// For how long a claimed run goes on when the control plane refuses it: a
/// deployment may refuse everybody for a moment; but a run that nobody can
/// reach any more must not be billed until its deadline.
const REFUSED_LIMIT: Duration = Duration::from_secs(300);

/// How long the goodbye may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What the control plane wants.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The run is claimed: start the process. Once.
    Claimed,
    /// The run is somebody else's: end quietly.
    NotOurs,
    /// The run is refused for so long that nobody wants it any more.
    Disowned,
    /// Do this, once; answer with [`Link::done`].
    Command(u64, Command),
}

/// Why a report is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Unrecorded {
    /// Nobody will ever acknowledge it.
    #[error("the report was not recorded before the link was closed")]
    Closed,
    /// It does not count; the control plane's sentence.
    #[error("{0}")]
    Refused(String),
}

/// A handle to the link. Clones are the same link.
#[derive(Debug, Clone)]
pub(crate) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something is to be sent.
    wake: Notify,
    started: Instant,
}

#[derive(Debug)]
struct State {
    conversation: Conversation,
    recorded: HashMap<u64, oneshot::Sender<Result<(), Unrecorded>>>,
    closing: bool,
    ended: bool,
}

/// What ends a connection.
#[derive(Debug)]
enum Ended {
    Closing,
    Lost(String),
}

impl Link {
    /// Begins to connect for a run. Returns the link, what the control plane
    /// wants, and the task that ends after [`Link::close`].
    ///
    /// # Errors
    /// When the invocation's relay URL is none.
    pub(crate) fn open(
        invocation: &Invocation,
        nonce: Nonce,
        certificate_sha256: String,
        log_stream: Option<String>,
        endpoint: RelayEndpoint,
        outbox: Outbox,
    ) -> Result<(Self, mpsc::UnboundedReceiver<LinkEvent>, JoinHandle<()>), String> {
        let query = ConnectQuery::Agent {
            run: invocation.run.clone(),
            token: invocation.token.clone(),
            nonce,
            version: VERSION,
        };
        let url: Uri = format!("{}?{}", invocation.relay_url, query.to_query())
            .parse()
            .map_err(|error| format!("the relay's URL cannot be read: {error}"))?;
        let link = Self(Arc::new(Shared {
            state: Mutex::new(State {
                conversation: Conversation::new(certificate_sha256, log_stream),
                recorded: HashMap::new(),
                closing: false,
                ended: false,
            }),
            wake: Notify::new(),
            started: Instant::now(),
        }));
        let (events, wanted) = mpsc::unbounded_channel();
        let task = Task {
            link: link.clone(),
            url,
            endpoint,
            outbox,
            events,
        };
        Ok((link, wanted, tokio::spawn(task.run())))
    }

    /// How many streams the control plane is known to have allowed.
    pub(crate) fn promised_streams(&self) -> u64 {
        self.state().conversation.streams()
    }

    /// Reports something; resolves when the control plane has recorded it. The
    /// report is on its way whether or not that is awaited.
    pub(crate) fn report(
        &self,
        report: Report,
    ) -> impl Future<Output = Result<(), Unrecorded>> + std::marker::Send + use<> {
        let (tell, recorded) = oneshot::channel();
        {
            let mut state = self.state();
            if !state.ended {
                let seq = state.conversation.report(report, self.now());
                state.recorded.insert(seq, tell);
            }
        }
        self.0.wake.notify_one();
        recorded.map(|result| result.unwrap_or(Err(Unrecorded::Closed)))
    }

    /// Says how a command went.
    pub(crate) fn done(&self, id: u64, error: Option<String>) {
        self.state().conversation.done(id, error);
        self.0.wake.notify_one();
    }

    /// Ends the link. What is due is still sent once.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.0.wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }
}

struct Task {
    link: Link,
    url: Uri,
    endpoint: RelayEndpoint,
    outbox: Outbox,
    events: mpsc::UnboundedSender<LinkEvent>,
}

impl Task {
    async fn run(mut self) {
        self.keep_connected().await;
        let mut state = self.link.state();
        state.ended = true;
        // Whoever waits for an acknowledgement learns that there will be none.
        state.recorded.clear();
    }

    async fn keep_connected(&mut self) {
        let mut backoff = Backoff::new();
        let mut refused_since: Option<Instant> = None;
        let mut first = true;
        loop {
            if self.link.state().closing {
                return;
            }
            let connecting = connect(&self.url);
            let result = tokio::select! {
                result = connecting => result,
                () = closing(&self.link) => return,
            };
            match result {
                Ok(socket) => {
                    (backoff, refused_since) = (Backoff::new(), None);
                    if !std::mem::take(&mut first) {
                        self.endpoint.wake();
                    }
                    match self.converse(socket).await {
                        Ended::Closing => return,
                        Ended::Lost(why) => note!("relay connection lost: {why}; connecting again"),
                    }
                }
                Err(NotConnected::Refused) => {
                    if !self.link.state().conversation.claimed() {
                        let _ = self.events.send(LinkEvent::NotOurs);
                        return;
                    }
                    let since = *refused_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > REFUSED_LIMIT {
                        let _ = self.events.send(LinkEvent::Disowned);
                        return;
                    }
                }
                Err(NotConnected::Transient(why)) => note!("relay cannot be reached: {why}"),
            }
            tokio::select! {
                () = sleep(backoff.pause(random_byte())) => {}
                () = closing(&self.link) => return,
            }
        }
    }

    /// Talks over one connection until it ends.
    async fn converse(&mut self, socket: Socket) -> Ended {
        let link = self.link.clone();
        link.state().conversation.connected(link.now());
        let (sink, stream) = socket.split();
        let ended = tokio::select! {
            ended = write(&link, sink, &mut self.outbox) => ended,
            ended = read(&link, stream, &self.endpoint, &self.events) => ended,
        };
        link.state().conversation.disconnected();
        ended
    }
}

/// Sends what is due, and QUIC's datagrams as they come.
async fn write<S>(link: &Link, mut sink: S, outbox: &mut Outbox) -> Ended
where
    S: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    let mut datagrams_end = false;
    loop {
        let (due, next, closing) = {
            let now = link.now();
            let mut state = link.state();
            if state.conversation.is_dead(now) {
                return Ended::Lost("nothing was heard from it".to_owned());
            }
            let due = state.conversation.due(now);
            (due, state.conversation.next_due(), state.closing)
        };
        for send in due {
            let message = match send {
                Send::Ping => Message::Ping(bytes::Bytes::new()),
                Send::Message(message) => match serde_json::to_string(&message) {
                    Ok(text) => Message::text(text),
                    Err(error) => return Ended::Lost(format!("unsendable message: {error}")),
                },
            };
            if let Err(ended) = within_limit(sink.send(message)).await {
                return ended;
            }
        }
        if closing {
            // QUIC's own goodbye, if it is ready.
            if let Some(Some(text)) = outbox.next().now_or_never() {
                let _ = send_batch(&mut sink, text, outbox).await;
            }
            let _ = timeout(CLOSE_LIMIT, sink.close()).await;
            return Ended::Closing;
        }
        let next = next.map_or_else(far_future, |next| link.0.started + next);
        tokio::select! {
            () = link.0.wake.notified() => {}
            () = sleep_until(next) => {}
            () = datagrams(outbox), if !datagrams_end => match outbox.next().now_or_never() {
                Some(Some(text)) => {
                    if let Err(ended) = send_batch(&mut sink, text, outbox).await {
                        return ended;
                    }
                }
                Some(None) => datagrams_end = true,
                None => {}
            },
        }
    }
}

/// Resolves when there are datagrams, and those that go with them have had their time to come.
async fn datagrams(outbox: &Outbox) {
    let linger = outbox.ready().await;
    if !linger.is_zero() {
        sleep(linger).await;
    }
}

/// Sends a message of datagrams and those that are ready behind it.
async fn send_batch<S>(sink: &mut S, first: String, outbox: &mut Outbox) -> Result<(), Ended>
where
    S: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    within_limit(sink.feed(Message::text(first))).await?;
    for _ in 1..BATCH {
        match outbox.next().now_or_never() {
            Some(Some(text)) => within_limit(sink.feed(Message::text(text))).await?,
            Some(None) | None => break,
        }
    }
    within_limit(sink.flush()).await
}

async fn within_limit(
    sending: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), Ended> {
    match timeout(SEND_LIMIT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ended::Lost(error.to_string())),
        Err(_) => Err(Ended::Lost("it takes nothing any more".to_owned())),
    }
}

/// Takes in what the gateway sends.
async fn read<S>(
    link: &Link,
    mut stream: S,
    endpoint: &RelayEndpoint,
    events: &mpsc::UnboundedSender<LinkEvent>,
) -> Ended
where
    S: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    loop {
        let message = match stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Ended::Lost(error.to_string()),
            None => return Ended::Lost("the gateway closed it".to_owned()),
        };
        link.state().conversation.heard(link.now());
        let Message::Text(text) = message else {
            continue;
        };
        if text.starts_with('d') {
            if let Err(error) = endpoint.deliver(&text) {
                note!("a datagram was not understood: {error}");
            }
            continue;
        }
        let message: ControlToAgent = match serde_json::from_str(&text) {
            Ok(message) => message,
            Err(error) => {
                note!("a control message was not understood: {error}");
                continue;
            }
        };
        let mut state = link.state();
        match state.conversation.receive(message) {
            Heard::Nothing => {}
            Heard::Claimed => {
                let _ = events.send(LinkEvent::Claimed);
            }
            Heard::Recorded(seq, refused) => {
                if let Some(tell) = state.recorded.remove(&seq) {
                    let _ = tell.send(refused.map_or(Ok(()), |why| Err(Unrecorded::Refused(why))));
                }
            }
            Heard::Do(id, command) => {
                let _ = events.send(LinkEvent::Command(id, command));
            }
        }
        drop(state);
        link.0.wake.notify_one();
    }
}

/// Resolves when the link is being closed.
async fn closing(link: &Link) {
    while !link.state().closing {
        link.0.wake.notified().await;
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(24 * 3600)
}

fn random_byte() -> u8 {
    let mut byte = [0];
    // Without randomness the pause is merely the shortest.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}
