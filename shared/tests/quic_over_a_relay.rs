//! QUIC over a simulated relay: texts only, each with its own delay (so that
//! they overtake each other), some lost, some repeated, connections that die on
//! either side. Time is simulated; randomness comes from a seed that is printed,
//! and set again with `SOCKERLESS_TEST_SEED`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use sockerless_shared::ids::{ConnectionId, PeerId};
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::protocol::relay::{self, Ticket};
use sockerless_shared::quic::{self, Identity, Pace, QuicError, RelayEndpoint, quinn};
use sockerless_shared::timestamp::Timestamp;
use tokio::time::sleep;

const MB: usize = 1024 * 1024;

/// How the relay treats messages.
#[derive(Clone, Copy)]
struct Weather {
    delay_ms: (u64, u64),
    loss_percent: u64,
    repeat_percent: u64,
}

const FAIR: Weather = Weather {
    delay_ms: (50, 90),
    loss_percent: 0,
    repeat_percent: 0,
};
const FOUL: Weather = Weather {
    delay_ms: (50, 90),
    loss_percent: 1,
    repeat_percent: 5,
};

/// SplitMix64: enough for a test, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

struct Relay {
    key: Key,
    weather: Weather,
    state: Mutex<State>,
}

struct State {
    random: Random,
    /// Who is connected, and under which name at present.
    connected: HashMap<ConnectionId, RelayEndpoint>,
    current: HashMap<PeerId, ConnectionId>,
    connections_made: usize,
    messages: usize,
}

impl Relay {
    fn new(weather: Weather) -> Arc<Self> {
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
                random: Random(seed),
                connected: HashMap::new(),
                current: HashMap::new(),
                connections_made: 0,
                messages: 0,
            }),
        })
    }

    /// A new connection for an endpoint; the one before it, if any, is gone.
    fn connect(&self, endpoint: &RelayEndpoint) {
        let mut state = self.state.lock().unwrap();
        state.connections_made += 1;
        let name: ConnectionId = format!("c{}", state.connections_made).parse().unwrap();
        state.connected.insert(name.clone(), endpoint.clone());
        state.current.insert(endpoint.peer().clone(), name);
    }

    fn disconnect(&self, peer: &PeerId) {
        let mut state = self.state.lock().unwrap();
        let name = state.current.remove(peer).unwrap();
        state.connected.remove(&name);
    }

    fn is_connected(&self, peer: &PeerId) -> bool {
        self.state.lock().unwrap().current.contains_key(peer)
    }

    fn ticket(&self, from: &PeerId, to: &PeerId) -> Option<Ticket> {
        let state = self.state.lock().unwrap();
        let connection = state.current.get(to)?;
        let expires = Timestamp::from_secs(1_000_000);
        Some(Ticket::issue(&self.key, from, to, connection, expires))
    }

    fn messages(&self) -> usize {
        self.state.lock().unwrap().messages
    }

    /// A text from an endpoint that is connected.
    fn send(self: &Arc<Self>, from: &PeerId, text: &str) {
        let mut state = self.state.lock().unwrap();
        state.messages += 1;
        let sender = state.current.get(from).unwrap();
        let forward = relay::forward(&self.key, Timestamp::from_secs(0), sender, text).unwrap();
        let copies = if state.random.percent(self.weather.loss_percent) {
            0
        } else if state.random.percent(self.weather.repeat_percent) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let delay = Duration::from_millis(state.random.between(self.weather.delay_ms));
            let (relay, forward, from) = (Arc::clone(self), forward.clone(), from.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                relay.arrive(&from, &forward).await;
            });
        }
    }

    async fn arrive(self: &Arc<Self>, from: &PeerId, forward: &relay::Forward) {
        let receiver = {
            let state = self.state.lock().unwrap();
            state.connected.get(&forward.connection).cloned()
        };
        if let Some(receiver) = receiver {
            receiver.deliver(&forward.text).unwrap();
            return;
        }
        // 410: the sender asks where the peer is now, until it is somewhere.
        loop {
            sleep(Duration::from_millis(200)).await;
            if let Some(ticket) = self.ticket(from, &forward.to) {
                let state = self.state.lock().unwrap();
                let sender = state.current.get(from).and_then(|c| state.connected.get(c));
                if let Some(sender) = sender.cloned() {
                    drop(state);
                    sender.set_route(&forward.to, ticket).unwrap();
                }
                return;
            }
        }
    }
}

fn peer(n: u8) -> PeerId {
    PeerId::from_random([n; 14])
}

/// Carries an endpoint's texts to the relay while it is connected.
fn carry(
    relay: &Arc<Relay>,
    endpoint: &RelayEndpoint,
    mut outbox: sockerless_shared::quic::Outbox,
) {
    let (relay, me) = (Arc::clone(relay), endpoint.peer().clone());
    relay.connect(endpoint);
    tokio::spawn(async move {
        loop {
            while !relay.is_connected(&me) {
                sleep(Duration::from_millis(10)).await;
            }
            let linger = outbox.ready().await;
            if !linger.is_zero() {
                sleep(linger).await;
            }
            let Some(text) = outbox.next().await else {
                return;
            };
            if relay.is_connected(&me) {
                relay.send(&me, &text);
            }
        }
    });
}

struct Pair {
    relay: Arc<Relay>,
    client: RelayEndpoint,
    server: RelayEndpoint,
    connection: quinn::Connection,
}

/// The echo keeps chunks that begin with this byte until its client has finished.
const HOLD: u8 = 0xff;

/// A client's end and a server's, with the server's identity.
fn ends(relay: &Arc<Relay>, pace: Pace) -> (RelayEndpoint, RelayEndpoint, Identity) {
    let runtime = Arc::new(quinn::TokioRuntime);
    let identity = Identity::generate().unwrap();
    let (server, outbox) =
        RelayEndpoint::server(runtime.clone(), peer(2), pace, &identity).unwrap();
    carry(relay, &server, outbox);
    let (client, outbox) = RelayEndpoint::client(runtime, peer(1), pace).unwrap();
    carry(relay, &client, outbox);
    (client, server, identity)
}

async fn connect(relay: &Relay, client: &RelayEndpoint, identity: &Identity) -> quinn::Connection {
    client
        .set_route(&peer(2), relay.ticket(&peer(1), &peer(2)).unwrap())
        .unwrap();
    client
        .connect(&peer(2), &identity.certificate_sha256())
        .await
        .unwrap()
}

/// Two ends with a connection; the server sends back what it receives.
async fn echo(weather: Weather) -> Pair {
    let relay = Relay::new(weather);
    let (client, server, identity) = ends(&relay, Pace::NEAR);
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let connection = incoming.await.unwrap();
            tokio::spawn(async move {
                while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                    tokio::spawn(async move {
                        let mut held = Vec::new();
                        while let Some(chunk) = receive.read_chunk(64 * 1024, true).await.unwrap() {
                            if chunk.bytes[0] == HOLD {
                                held.extend_from_slice(&chunk.bytes);
                            } else {
                                send.write_chunk(chunk.bytes).await.unwrap();
                            }
                        }
                        send.write_all(&held).await.unwrap();
                        send.finish().unwrap();
                    });
                }
            });
        }
    });

    let connection = connect(&relay, &client, &identity).await;
    Pair {
        relay,
        client,
        server,
        connection,
    }
}

/// What is billed: as `docker run` does it, from the first message to the agent's leaving.
#[tokio::test(start_paused = true)]
async fn a_short_stream_takes_few_messages() {
    let relay = Relay::new(FAIR);
    let (client, server, identity) = ends(&relay, Pace::FAR);
    let agent = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        let mut grant = [0; 400];
        receive.read_exact(&mut grant).await.unwrap();
        send.write_all(b"accepted").await.unwrap();
        send.write_all(b"Hello from Lambda!").await.unwrap();
        send.finish().unwrap();
        let _ = send.stopped().await;
        server.close(quic::PEER_GONE, "the run is over");
        server.wait_idle().await;
    });
    let connection = connect(&relay, &client, &identity).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[b'g'; 400]).await.unwrap();
    send.finish().unwrap();
    let all = receive.read_to_end(1000).await.unwrap();
    assert_eq!(all, b"acceptedHello from Lambda!");
    connection.close(quic::IDLE, b"all was taken");
    agent.await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let messages = relay.messages();
    assert!(messages <= 6, "{messages} messages");
}

fn byte(position: usize) -> u8 {
    // Cheap, and with no period that a datagram's size divides.
    (position.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x7f
}

async fn round_trip(connection: &quinn::Connection, length: usize) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let writer = tokio::spawn(async move {
        let mut position = 0;
        while position < length {
            let end = (position + 64 * 1024).min(length);
            let chunk: Vec<u8> = (position..end).map(byte).collect();
            send.write_all(&chunk).await.unwrap();
            position = end;
        }
        send.finish().unwrap();
    });
    let mut position = 0;
    while let Some(chunk) = receive.read_chunk(64 * 1024, true).await.unwrap() {
        for &b in &chunk.bytes {
            assert_eq!(b, byte(position), "byte {position}");
            position += 1;
        }
    }
    assert_eq!(position, length);
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fifty_megabytes_come_back_equal_through_loss_repetition_reordering_and_reconnects() {
    let pair = echo(FOUL).await;
    let (relay, client, server) = (
        Arc::clone(&pair.relay),
        pair.client.clone(),
        pair.server.clone(),
    );
    let disconnects = tokio::spawn(async move {
        for (endpoint, away) in [(&client, 300), (&server, 900), (&client, 5_000)] {
            sleep(Duration::from_millis(1_500)).await;
            relay.disconnect(endpoint.peer());
            sleep(Duration::from_millis(away)).await;
            relay.connect(endpoint);
            endpoint.wake();
        }
    });
    round_trip(&pair.connection, 50 * MB).await;
    disconnects.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bulk_stream_takes_hardly_more_messages_than_its_bytes_need() {
    let pair = echo(FAIR).await;
    let before = pair.relay.messages();
    let begin = tokio::time::Instant::now();
    round_trip(&pair.connection, 10 * MB).await;
    let messages = pair.relay.messages() - before;
    let least = 2 * (10 * MB).div_ceil(relay::MAX_DATAGRAM_BYTES);
    let path = pair.connection.stats().path;
    println!(
        "{messages} messages, at least {least}; {:?}; {path:?}",
        begin.elapsed(),
    );
    assert!(messages * 100 <= least * 115, "{messages} of {least}");
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_keystroke_and_its_echo_take_about_one_message_each_way() {
    let pair = echo(FAIR).await;
    let (mut send, mut receive) = pair.connection.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    receive.read_exact(&mut [0]).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let before = pair.relay.messages();
    for _ in 0..100 {
        send.write_all(b"x").await.unwrap();
        receive.read_exact(&mut [0]).await.unwrap();
        sleep(Duration::from_millis(200)).await;
    }
    let messages = pair.relay.messages() - before;
    println!("{messages} messages for 100 keystrokes");
    assert!(messages <= 420, "{messages}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_takes_one_round_trip_and_few_messages() {
    let begin = tokio::time::Instant::now();
    let pair = echo(FAIR).await;
    let messages = pair.relay.messages();
    println!("{messages} messages, {:?}", begin.elapsed());
    assert!(messages <= 6, "{messages}");
    assert!(begin.elapsed() <= Duration::from_millis(2 * 90 + 20));
}

/// What is lost on the way to a connection that is gone must not wait for a
/// timer that has backed off to minutes.
#[tokio::test(start_paused = true)]
async fn after_a_long_interruption_bytes_flow_again_at_once() {
    // Together more than fits the congestion window, so that it is full of lost
    // datagrams.
    let bulk = 2 * MB;
    for (server_moves, length) in [(false, 1), (true, 1), (false, bulk), (true, bulk)] {
        let pair = echo(FAIR).await;
        let moved = if server_moves {
            &pair.server
        } else {
            &pair.client
        };
        let mut streams = Vec::new();
        for _ in 0..3 {
            let (mut send, receive) = pair.connection.open_bi().await.unwrap();
            send.write_all(&[HOLD]).await.unwrap();
            streams.push((send, receive));
        }
        sleep(Duration::from_secs(1)).await;
        let transfers = futures_util::future::join_all(streams.into_iter().map(
            move |(mut send, mut receive)| async move {
                send.write_all(&vec![HOLD; length]).await.unwrap();
                send.finish().unwrap();
                let received = receive.read_to_end(length + 1).await.unwrap();
                assert_eq!(received.len(), length + 1);
            },
        ));
        let transfers = tokio::spawn(transfers);
        sleep(Duration::from_millis(10)).await;
        pair.relay.disconnect(moved.peer());
        sleep(Duration::from_secs(120)).await;
        pair.relay.connect(moved);
        moved.wake();
        let reconnected = tokio::time::Instant::now();
        transfers.await.unwrap();
        println!("{length} bytes: {:?}", reconnected.elapsed());
        let limit = Duration::from_millis(if length == 1 { 800 } else { 5_000 });
        assert!(reconnected.elapsed() < limit);
    }
}

#[tokio::test(start_paused = true)]
async fn another_certificate_is_refused() {
    let pair = echo(FAIR).await;
    let refused = pair.client.connect(&peer(2), &"00".repeat(32)).await;
    assert!(matches!(refused, Err(QuicError::Connection { .. })));
    let refused = pair.client.connect(&peer(2), "not hex").await;
    assert!(matches!(refused, Err(QuicError::BadPin(_))));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_holds_up_only_its_own_stream() {
    let pair = echo(FAIR).await;
    let mut stopped = Vec::new();
    for _ in 0..4 {
        let (mut send, receive) = pair.connection.open_bi().await.unwrap();
        tokio::spawn(async move {
            let chunk = vec![0; 64 * 1024];
            while send.write_all(&chunk).await.is_ok() {}
        });
        stopped.push(receive);
    }
    sleep(Duration::from_secs(5)).await;
    tokio::time::timeout(Duration::from_secs(10), round_trip(&pair.connection, MB))
        .await
        .expect("other streams go on");
}

#[tokio::test]
async fn texts_for_somebody_else_change_nothing() {
    let runtime = Arc::new(quinn::TokioRuntime);
    let (endpoint, _outbox) = RelayEndpoint::client(runtime, peer(1), Pace::NEAR).unwrap();
    let ticket = |from: u8, to: u8| {
        Ticket::issue(
            &Key::from_random([0; 32]),
            &peer(from),
            &peer(to),
            &"c".parse().unwrap(),
            Timestamp::from_secs(1),
        )
    };
    assert!(
        endpoint
            .deliver(&relay::encode(&ticket(3, 2), &[b"x"]))
            .is_err()
    );
    assert!(endpoint.deliver("").is_err());
    assert!(endpoint.deliver("d a").is_err());
    assert!(endpoint.deliver("dx *").is_err());
    assert_eq!(endpoint.route_expires(&peer(2)), None);
    assert!(
        endpoint
            .deliver(&relay::encode(&ticket(1, 2), &[b"x"]))
            .is_ok()
    );
    assert!(endpoint.route_expires(&peer(2)).is_some());
}
