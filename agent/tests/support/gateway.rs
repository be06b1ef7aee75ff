//! The gateway and the control plane behind it: claims, welcomes, acknowledges,
//! commands and relays, and behaves as badly as it is told to.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt, StreamExt};
use sockerless_shared::ids::{ConnectionId, Nonce, PeerId, RunId};
use sockerless_shared::protocol::control::{
    AgentMessage, Command, ConnectQuery, ControlToAgent, MAX_MESSAGE_BYTES, Report,
};
use sockerless_shared::protocol::invocation::Invocation;
use sockerless_shared::protocol::mac::{Key, TokenHash};
use sockerless_shared::protocol::relay::{self, Ticket};
use sockerless_shared::timestamp::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, broadcast, mpsc, oneshot};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) url: String,
    shared: Arc<Shared>,
    reports: Arc<AsyncMutex<mpsc::UnboundedReceiver<Report>>>,
}

/// How badly it behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Of 256 messages, so many are lost.
    pub(crate) lost: u8,
    /// Of 256 messages, so many come twice.
    pub(crate) repeated: u8,
    /// Of 256 messages, so many come up to 50 ms late.
    pub(crate) late: u8,
}

struct Shared {
    key: Key,
    state: Mutex<State>,
    reports: mpsc::UnboundedSender<Report>,
    next_connection: AtomicU64,
    next_command: AtomicU64,
    cut: broadcast::Sender<()>,
}

#[derive(Default)]
struct State {
    runs: HashMap<RunId, Known>,
    seen_reports: HashSet<(RunId, u64)>,
    done: HashMap<u64, oneshot::Sender<Option<String>>>,
    done_counts: HashMap<u64, u32>,
    refuse_all: bool,
    silent: bool,
    refuse_changes: bool,
    keep_back_exits: bool,
    keep_back_health: bool,
    weather: Weather,
    agent: Option<Online>,
    clients: HashMap<ConnectionId, mpsc::UnboundedSender<String>>,
    connects: u32,
}

struct Known {
    token: TokenHash,
    peer: PeerId,
    claimed_by: Option<Nonce>,
}

#[derive(Clone)]
struct Online {
    peer: PeerId,
    connection: ConnectionId,
    send: mpsc::UnboundedSender<String>,
    certificate: Option<String>,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/relay", listener.local_addr().unwrap());
        let (reports, received) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            key: Key::from_random(super::random()),
            state: Mutex::default(),
            reports,
            next_connection: AtomicU64::new(1),
            next_command: AtomicU64::new(1),
            cut: broadcast::channel(4).0,
        });
        let state = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&state).connection(stream));
            }
        });
        Self {
            url,
            shared,
            reports: Arc::new(AsyncMutex::new(received)),
        }
    }

    /// Makes a run known.
    pub(crate) fn expect(&self, invocation: &Invocation) {
        let known = Known {
            token: invocation.token.hash(),
            peer: invocation.peer.clone(),
            claimed_by: None,
        };
        self.state().runs.insert(invocation.run.clone(), known);
    }

    /// Claims a run for somebody else.
    pub(crate) fn claim(&self, run: &RunId) {
        self.state().runs.get_mut(run).unwrap().claimed_by =
            Some(Nonce::from_random(super::random()));
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Whether nobody is let in.
    pub(crate) fn refuse_all(&self, refuse: bool) {
        self.state().refuse_all = refuse;
    }

    /// Lets no change of files count.
    pub(crate) fn refuse_changes(&self) {
        self.state().refuse_changes = true;
    }

    /// Whether the end of a run is not acknowledged yet.
    pub(crate) fn keep_back_exits(&self, keep: bool) {
        self.state().keep_back_exits = keep;
    }

    /// Whether what probes say is not acknowledged.
    pub(crate) fn keep_back_health(&self, keep: bool) {
        self.state().keep_back_health = keep;
    }

    /// Whether nothing is answered; datagrams pass.
    pub(crate) fn be_silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        let _ = self.shared.cut.send(());
    }

    /// How many connections were let in.
    pub(crate) fn connects(&self) -> u32 {
        self.state().connects
    }

    pub(crate) async fn next_report(&self) -> Report {
        self.reports.lock().await.recv().await.unwrap()
    }

    /// A report that has come already.
    pub(crate) fn try_report(&self) -> Option<Report> {
        self.reports.try_lock().unwrap().try_recv().ok()
    }

    /// Sends a command, again and again, until it is done.
    pub(crate) async fn command(&self, command: Command) -> Option<String> {
        let id = self.shared.next_command.fetch_add(1, Ordering::Relaxed);
        let (tell, mut done) = oneshot::channel();
        self.state().done.insert(id, tell);
        loop {
            self.send_command(id, command.clone());
            tokio::select! {
                result = &mut done => return result.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
    }

    /// Sends a command of this number once.
    pub(crate) fn send_command(&self, id: u64, command: Command) {
        let message = ControlToAgent::Command { id, command };
        let agent = self.state().agent.clone();
        if let Some(agent) = agent {
            let text = serde_json::to_string(&message).unwrap();
            self.shared.deliver(&agent.send, text);
        }
    }

    /// How often the agent said that this command is done.
    pub(crate) fn done_count(&self, id: u64) -> u32 {
        self.state().done_counts.get(&id).copied().unwrap_or(0)
    }

    /// A client's connection: texts to it come out of the receiver.
    pub(crate) fn client(&self) -> (ConnectionId, mpsc::UnboundedReceiver<String>) {
        let connection = self.shared.new_connection();
        let (send, receive) = mpsc::unbounded_channel();
        self.state().clients.insert(connection.clone(), send);
        (connection, receive)
    }

    /// A client sent a datagram.
    pub(crate) fn relay_from(&self, client: &ConnectionId, text: &str) {
        self.shared.relay(client, text);
    }

    /// A ticket to the agent's present connection and its certificate's hash,
    /// once it has said hello. Never to the agent of the run before, whose
    /// connection may outlast its answer.
    pub(crate) fn locate_agent(&self, client: &PeerId, agent: &PeerId) -> Option<(Ticket, String)> {
        let online = self.state().agent.clone()?;
        if online.peer != *agent {
            return None;
        }
        let ticket = Ticket::issue(
            &self.shared.key,
            client,
            agent,
            &online.connection,
            now().plus(Duration::from_secs(600)),
        );
        Some((ticket, online.certificate?))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl Shared {
    fn new_connection(&self) -> ConnectionId {
        let number = self.next_connection.fetch_add(1, Ordering::Relaxed);
        format!("c{number}").parse().unwrap()
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let mut run = None;
        // The type is tungstenite's.
        #[allow(clippy::result_large_err)]
        let check = |request: &Request, response: Response| {
            let fields: HashMap<String, String> = request
                .uri()
                .query()
                .unwrap_or_default()
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let query = ConnectQuery::from_fields(|name| fields.get(name).map(String::as_str));
            match self.admit(query) {
                Some(admitted) => {
                    run = Some(admitted);
                    Ok(response)
                }
                None => {
                    let mut refusal = http::Response::new(None);
                    *refusal.status_mut() = http::StatusCode::FORBIDDEN;
                    Err(refusal)
                }
            }
        };
        let Ok(socket) = accept_hdr_async(stream, check).await else {
            return;
        };
        let (run, peer) = run.expect("set when admitted");
        let connection = self.new_connection();
        let (send, mut outgoing) = mpsc::unbounded_channel::<String>();
        let online = Online {
            peer,
            connection: connection.clone(),
            send,
            certificate: None,
        };
        {
            let mut state = self.state.lock().unwrap();
            state.connects += 1;
            state.agent = Some(online.clone());
        }
        let mut cut = self.cut.subscribe();
        let (mut sink, mut stream) = socket.split();
        loop {
            tokio::select! {
                text = outgoing.recv() => match text {
                    Some(text) => {
                        assert!(text.len() <= MAX_MESSAGE_BYTES);
                        if sink.send(Message::text(text)).await.is_err() {
                            break;
                        }
                    }
                    None => break,
                },
                message = stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        assert!(text.len() <= 32 * 1024, "one frame of API Gateway");
                        self.incoming(&run, &online, &text);
                    }
                    Some(Ok(Message::Binary(_))) => panic!("the gateway takes text only"),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                },
                _ = cut.recv() => break,
            }
        }
        let mut state = self.state.lock().unwrap();
        if state
            .agent
            .as_ref()
            .is_some_and(|agent| agent.connection == connection)
        {
            state.agent = None;
        }
    }

    fn admit(&self, query: Option<ConnectQuery>) -> Option<(RunId, PeerId)> {
        let Some(ConnectQuery::Agent {
            run, token, nonce, ..
        }) = query
        else {
            return None;
        };
        let mut state = self.state.lock().unwrap();
        if state.refuse_all {
            return None;
        }
        let known = state.runs.get_mut(&run)?;
        if !known.token.matches(&token) {
            return None;
        }
        let claimed = known.claimed_by.get_or_insert_with(|| nonce.clone());
        (*claimed == nonce).then(|| (run, known.peer.clone()))
    }

    fn incoming(&self, run: &RunId, online: &Online, text: &str) {
        if text.starts_with('d') {
            self.relay(&online.connection, text);
            return;
        }
        let message: AgentMessage = serde_json::from_str(text).expect("a message of the protocol");
        let mut state = self.state.lock().unwrap();
        if chance(state.weather.lost) {
            return;
        }
        if let AgentMessage::Hello {
            certificate_sha256, ..
        } = &message
            && let Some(agent) = &mut state.agent
            && agent.connection == online.connection
        {
            agent.certificate = Some(certificate_sha256.clone());
        }
        if state.silent {
            return;
        }
        let answer = match message {
            AgentMessage::Hello { .. } => ControlToAgent::Welcome { version: 1 },
            AgentMessage::Report { seq, report } => {
                let changes = matches!(report, Report::Changed { .. });
                let refused = changes && state.refuse_changes;
                let kept_back = match report {
                    Report::Exited { .. } => state.keep_back_exits,
                    Report::Health { .. } => state.keep_back_health,
                    _ => false,
                };
                if state.seen_reports.insert((run.clone(), seq)) {
                    self.reports.send(report).unwrap();
                }
                if kept_back {
                    return;
                }
                ControlToAgent::Ack {
                    seq,
                    streams: 0,
                    refused: refused.then(|| "too late".to_owned()),
                }
            }
            AgentMessage::CommandDone { id, error } => {
                *state.done_counts.entry(id).or_default() += 1;
                if let Some(tell) = state.done.remove(&id) {
                    let _ = tell.send(error);
                }
                return;
            }
            AgentMessage::Heartbeat => return,
        };
        drop(state);
        self.deliver(&online.send, serde_json::to_string(&answer).unwrap());
    }

    fn relay(&self, from: &ConnectionId, text: &str) {
        let forward = relay::forward(&self.key, now(), from, text).expect("a good ticket");
        let state = self.state.lock().unwrap();
        let to = match &state.agent {
            Some(agent) if agent.connection == forward.connection => Some(agent.send.clone()),
            _ => state.clients.get(&forward.connection).cloned(),
        };
        drop(state);
        if let Some(to) = to {
            self.deliver(&to, forward.text);
        }
    }

    /// Sends a text on, through the weather.
    fn deliver(&self, to: &mpsc::UnboundedSender<String>, text: String) {
        let weather = self.state.lock().unwrap().weather;
        if chance(weather.lost) {
            return;
        }
        let times = if chance(weather.repeated) { 2 } else { 1 };
        for _ in 0..times {
            let (to, text) = (to.clone(), text.clone());
            if chance(weather.late) {
                let [delay] = super::random::<1>();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(u64::from(delay) / 5)).await;
                    let _ = to.send(text);
                });
            } else {
                let _ = to.send(text);
            }
        }
    }
}

fn chance(of_256: u8) -> bool {
    super::random::<1>()[0] < of_256
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
}
