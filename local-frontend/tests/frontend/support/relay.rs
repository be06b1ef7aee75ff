//! The relay's gateway, played.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt as _, StreamExt as _, sink, stream};
use sockerless_frontend::relay::{Dial, Link, LinkError};
use sockerless_shared::ids::{ConnectionId, PeerId};
use sockerless_shared::protocol::control::{ConnectQuery, ControlToFrontend, FrontendMessage};
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::protocol::relay::{self, Ticket};
use sockerless_shared::quic::{Outbox, RelayEndpoint};
use sockerless_shared::timestamp::Timestamp;
use tokio::sync::mpsc;

use super::{Agent, Control};

#[derive(Clone, Copy)]
pub(crate) struct Weather {
    delay_ms: (u64, u64),
    loss_percent: u64,
    repeat_percent: u64,
}

pub(crate) const FAIR: Weather = Weather {
    delay_ms: (0, 0),
    loss_percent: 0,
    repeat_percent: 0,
};
pub(crate) const FOUL: Weather = Weather {
    delay_ms: (1, 6),
    loss_percent: 10,
    repeat_percent: 10,
};

pub(crate) const ROUGH: Weather = Weather {
    delay_ms: (1, 6),
    loss_percent: 1,
    repeat_percent: 5,
};

pub(crate) struct Gateway {
    key: Key,
    weather: Weather,
    state: Mutex<State>,
}

struct State {
    random: u64,
    connections_made: usize,
    ends: HashMap<ConnectionId, End>,
    current: HashMap<PeerId, ConnectionId>,
    control: Weak<Control>,
}

#[derive(Clone)]
enum End {
    Agent(RelayEndpoint),
    Frontend(mpsc::Sender<String>),
}

impl Gateway {
    pub(super) fn new(weather: Weather) -> Arc<Self> {
        let seed = std::env::var("SOCKERLESS_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| {
                std::time::UNIX_EPOCH
                    .elapsed()
                    .map_or(0, |since| u64::from(since.subsec_nanos()))
            });
        println!("SOCKERLESS_TEST_SEED={seed}");
        Arc::new(Self {
            key: Key::from_random([7; 32]),
            weather,
            state: Mutex::new(State {
                random: seed,
                connections_made: 0,
                ends: HashMap::new(),
                current: HashMap::new(),
                control: Weak::new(),
            }),
        })
    }

    pub(super) fn set_control(&self, control: &Arc<Control>) {
        self.state.lock().unwrap().control = Arc::downgrade(control);
    }

    pub(super) fn attach_agent(self: &Arc<Self>, endpoint: &RelayEndpoint, mut outbox: Outbox) {
        self.connected(endpoint.peer(), End::Agent(endpoint.clone()));
        let this = Arc::clone(self);
        let from = endpoint.peer().clone();
        tokio::spawn(async move {
            while let Some(text) = outbox.next().await {
                let connection = this.state.lock().unwrap().current[&from].clone();
                this.relay(&from, &connection, &text);
            }
        });
    }

    /// The agent's connection dies, and it makes another.
    pub(crate) fn reconnect_agent(&self, agent: &Agent) {
        self.disconnect(agent.endpoint.peer());
        self.connected(agent.endpoint.peer(), End::Agent(agent.endpoint.clone()));
        agent.endpoint.wake();
    }

    /// The frontend's connection dies.
    pub(crate) fn disconnect_frontend(&self) {
        self.disconnect(&PeerId::from_random([1; 14]));
    }

    fn disconnect(&self, peer: &PeerId) {
        let mut state = self.state.lock().unwrap();
        if let Some(connection) = state.current.remove(peer) {
            state.ends.remove(&connection);
        }
    }

    /// The present ticket to a peer.
    pub(super) fn ticket(&self, from: &PeerId, to: &PeerId) -> Option<Ticket> {
        let state = self.state.lock().unwrap();
        let connection = state.current.get(to)?;
        let expires = Timestamp::from_secs(1 << 33);
        Some(Ticket::issue(&self.key, from, to, connection, expires))
    }

    /// Posts to the frontend, as reliably as the weather allows.
    pub(crate) fn post(self: &Arc<Self>, message: &ControlToFrontend) {
        let text = serde_json::to_string(message).unwrap();
        let connection = {
            let state = self.state.lock().unwrap();
            state.current.get(&PeerId::from_random([1; 14])).cloned()
        };
        if let Some(connection) = connection {
            self.deliver(connection, text);
        }
    }

    fn connected(&self, peer: &PeerId, end: End) -> ConnectionId {
        let mut state = self.state.lock().unwrap();
        state.connections_made += 1;
        let name: ConnectionId = format!("c{}", state.connections_made).parse().unwrap();
        state.ends.insert(name.clone(), end);
        state.current.insert(peer.clone(), name.clone());
        name
    }

    fn random(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn relay(self: &Arc<Self>, from: &PeerId, sender: &ConnectionId, text: &str) {
        let forward = relay::forward(&self.key, Timestamp::from_secs(0), sender, text).unwrap();
        let gone = !self
            .state
            .lock()
            .unwrap()
            .ends
            .contains_key(&forward.connection);
        if gone && *from == PeerId::from_random([1; 14]) {
            self.post(&ControlToFrontend::Undeliverable { peer: forward.to });
        } else if !gone {
            self.deliver(forward.connection, forward.text);
        }
    }

    fn deliver(self: &Arc<Self>, connection: ConnectionId, text: String) {
        let copies = if self.random() % 100 < self.weather.loss_percent {
            0
        } else if self.random() % 100 < self.weather.repeat_percent {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let (low, high) = self.weather.delay_ms;
            let delay = low + self.random() % (high - low + 1);
            if delay == 0 {
                self.arrive(&connection, text.clone());
                continue;
            }
            let (this, connection, text) = (Arc::clone(self), connection.clone(), text.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                this.arrive(&connection, text);
            });
        }
    }

    fn arrive(&self, connection: &ConnectionId, text: String) {
        let end = self.state.lock().unwrap().ends.get(connection).cloned();
        match end {
            Some(End::Agent(endpoint)) => endpoint.deliver(&text).unwrap(),
            // A full buffer loses the message.
            Some(End::Frontend(sender)) => drop(sender.try_send(text)),
            None => {}
        }
    }

    fn from_frontend(self: &Arc<Self>, peer: &PeerId, connection: &ConnectionId, text: &str) {
        if !self.state.lock().unwrap().ends.contains_key(connection) {
            return;
        }
        if text.starts_with('d') {
            self.relay(peer, connection, text);
            return;
        }
        if self.random() % 100 < self.weather.loss_percent {
            return;
        }
        let control = self.state.lock().unwrap().control.upgrade();
        let message: FrontendMessage = serde_json::from_str(text).unwrap();
        if let Some(control) = control {
            control.message(message);
        }
    }
}

/// Where a frontend connects.
pub(super) struct Door(pub(super) Arc<Gateway>);

#[async_trait]
impl Dial for Door {
    async fn dial(&self, query: ConnectQuery) -> Result<Link, LinkError> {
        let ConnectQuery::Frontend { peer, token, .. } = query else {
            return Err(LinkError("not a frontend".to_owned()));
        };
        assert_eq!(token.reveal(), "a relay token");
        let (sender, receiver) = mpsc::channel(1024);
        let connection = self.0.connected(&peer, End::Frontend(sender));
        let this = Arc::clone(&self.0);
        let outgoing = sink::unfold((), move |(), text: String| {
            this.from_frontend(&peer, &connection, &text);
            std::future::ready(Ok(()))
        });
        let incoming = stream::unfold(receiver, |mut receiver| async {
            let text = receiver.recv().await?;
            Some((Ok(text), receiver))
        });
        Ok(Link {
            outgoing: Box::pin(outgoing.sink_map_err(|never: LinkError| never)),
            incoming: Box::pin(incoming),
        })
    }
}
