//! [`Gateway`]: the contract, and API Gateway's manners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use sockerless_control::embedded::gateway::GatewayConfig;
use sockerless_control::ports::Relay as _;
use sockerless_control::ports::relay::PostError;
use tokio_tungstenite::tungstenite::Message;

use super::harness::{Harness, InThisProcess, OverSockets, Told};
use crate::relay::Client as _;
use crate::socket::Socket;

mod contract_over_sockets {
    use super::*;

    async fn gateway() -> Arc<dyn crate::relay::Gateway> {
        Arc::new(OverSockets(Harness::new(GatewayConfig::default()).await))
    }

    crate::relay::relay_contract!(gateway());
}

mod contract_in_process {
    use super::*;

    async fn gateway() -> Arc<dyn crate::relay::Gateway> {
        Arc::new(InThisProcess(Harness::new(GatewayConfig::default()).await))
    }

    crate::relay::relay_contract!(gateway());
}

async fn default() -> Arc<Harness> {
    Harness::new(GatewayConfig::default()).await
}

#[tokio::test]
async fn whoever_has_no_credentials_gets_no_connection() {
    let harness = default().await;
    for status in [401, 403] {
        assert_eq!(
            harness.try_connect(&status.to_string()).await.err(),
            Some(status)
        );
        let refused = harness
            .gateway
            .connect_in_process(&status.to_string())
            .await;
        assert_eq!(refused.unwrap_err().status, status);
    }
    // A handler that panics (it cannot parse this as a number).
    assert_eq!(harness.try_connect("nonsense").await.err(), Some(500));
    harness.connect().await;
}

#[tokio::test]
async fn without_a_control_plane_everybody_is_refused() {
    let harness = default().await;
    let harness = Arc::into_inner(harness).unwrap();
    let (gateway, address) = harness.drop_control_plane();
    assert_eq!(Socket::open(address, "/?ok").await.err(), Some(503));
    assert_eq!(
        gateway.connect_in_process("ok").await.unwrap_err().status,
        503
    );
}

#[tokio::test]
async fn ids_look_like_api_gateways() {
    let harness = default().await;
    let (a, _a) = harness.connect().await;
    let (b, _b) = harness.connect().await;
    assert_ne!(a, b);
    for id in [a, b] {
        assert_eq!(id.as_str().len(), 16);
        assert!(id.as_str().ends_with('='));
    }
}

#[tokio::test]
async fn messages_and_the_end_are_told() {
    let harness = default().await;
    let (id, mut socket) = harness.connect().await;
    socket.send("hello \u{1F980}").await;
    assert_eq!(
        harness.told().await,
        Told::Message(id.clone(), "hello \u{1F980}".into())
    );
    Box::new(socket).close().await;
    assert_eq!(harness.told().await, Told::Disconnected(id));

    let (sender, receiver) = harness.gateway.connect_in_process("ok").await.unwrap();
    let Told::Connect(id) = harness.told().await else {
        panic!()
    };
    sender.send("from inside".into()).await.unwrap();
    assert_eq!(
        harness.told().await,
        Told::Message(id.clone(), "from inside".into())
    );
    drop(receiver);
    assert_eq!(harness.told().await, Told::Disconnected(id));
}

#[tokio::test]
async fn nothing_can_be_posted_before_connect_has_returned() {
    let harness = default().await;
    let connecting = {
        let harness = Arc::clone(&harness);
        tokio::spawn(async move { harness.try_connect("slow").await })
    };
    // The control plane is still thinking: the client waits for its 101.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!connecting.is_finished());
    harness.events.admit.notify_one();
    let Told::Connect(id) = harness.told().await else {
        panic!()
    };
    let mut socket = connecting.await.unwrap().unwrap();
    harness.gateway.post(&id, "now".into()).await.unwrap();
    assert_eq!(socket.receive().await.as_deref(), Some("now"));
}

#[tokio::test]
async fn a_client_that_gives_up_during_connect_is_told_as_disconnected() {
    let harness = default().await;
    let attempt = harness.try_connect("slow");
    tokio::time::timeout(Duration::from_millis(50), attempt)
        .await
        .err()
        .unwrap();
    harness.events.admit.notify_one();
    let Told::Connect(id) = harness.told().await else {
        panic!()
    };
    assert_eq!(harness.told().await, Told::Disconnected(id));
}

#[tokio::test]
async fn a_slow_handler_holds_up_neither_others_nor_its_own_connection() {
    let harness = default().await;
    let (_, mut one) = harness.connect().await;
    let (_, mut two) = harness.connect().await;
    one.send("block").await;
    one.send("second").await;
    two.send("third").await;
    let mut seen = [harness.message().await, harness.message().await];
    seen.sort();
    assert_eq!(seen, ["second", "third"]);
    harness.events.release.notify_one();
    assert_eq!(harness.message().await, "block");
}

#[tokio::test]
async fn a_handler_outlives_its_connection() {
    let harness = default().await;
    let (id, mut socket) = harness.connect().await;
    socket.send("block").await;
    socket.send("seen").await;
    assert_eq!(harness.message().await, "seen");
    Box::new(socket).close().await;
    assert_eq!(harness.told().await, Told::Disconnected(id));
    harness.events.release.notify_one();
    assert_eq!(harness.message().await, "block");
}

#[tokio::test]
async fn only_so_many_messages_are_handled_at_once() {
    let harness = Harness::new(GatewayConfig {
        concurrency: 2,
        ..GatewayConfig::default()
    })
    .await;
    let (id, mut socket) = harness.connect().await;
    for text in ["block 1", "block 2", "not yet"] {
        socket.send(text).await;
    }
    // Posts go on meanwhile.
    harness.gateway.post(&id, "post".into()).await.unwrap();
    assert_eq!(socket.receive().await.as_deref(), Some("post"));
    let early = tokio::time::timeout(Duration::from_millis(50), harness.told()).await;
    assert!(early.is_err(), "{early:?}");
    harness.events.release.notify_one();
    let mut seen = [harness.message().await, harness.message().await];
    seen.sort();
    assert!(
        seen[0].starts_with("block") && seen[1] == "not yet",
        "{seen:?}"
    );
}

#[tokio::test]
async fn binary_messages_close_with_1003() {
    let harness = default().await;
    let (id, mut socket) = harness.connect().await;
    socket.0.send(Message::binary(&b"x"[..])).await.unwrap();
    assert_eq!(socket.close_code().await, 1003);
    assert_eq!(harness.told().await, Told::Disconnected(id));
}

#[tokio::test]
async fn frames_beyond_32_kb_close_with_1009() {
    let harness = default().await;
    let (_, mut socket) = harness.connect().await;
    let fits = "x".repeat(32 * 1024);
    socket.send(&fits).await;
    assert_eq!(harness.message().await, fits);
    socket.send(&(fits + "x")).await;
    assert_eq!(socket.close_code().await, 1009);
}

#[tokio::test]
async fn messages_beyond_128_kb_close_with_1009_however_they_are_cut() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    let harness = default().await;
    let (_, mut socket) = harness.connect().await;
    let frame = |opcode, last| {
        Message::Frame(Frame::message(
            vec![b'x'; 32 * 1024],
            OpCode::Data(opcode),
            last,
        ))
    };
    for end in [true, false] {
        socket.0.send(frame(Data::Text, false)).await.unwrap();
        for _ in 0..2 {
            socket.0.send(frame(Data::Continue, false)).await.unwrap();
        }
        socket.0.send(frame(Data::Continue, end)).await.unwrap();
        if end {
            assert_eq!(harness.message().await.len(), 128 * 1024);
        }
    }
    let _ = socket.0.send(frame(Data::Continue, true)).await;
    assert_eq!(socket.close_code().await, 1009);

    let (sender, mut receiver) = harness.gateway.connect_in_process("ok").await.unwrap();
    sender.send("x".repeat(128 * 1024 + 1)).await.unwrap();
    assert_eq!(receiver.recv().await, None);
}

#[tokio::test]
async fn what_is_not_websocket_ends_with_a_status_and_no_harm() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let harness = default().await;
    for (request, status) in [
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "426",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "426",
        ),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n",
            "400",
        ),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
            "400",
        ),
        ("\x16\x03\x01 not even HTTP\r\n\r\n", "400"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(harness.address)
            .await
            .unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[9..], status.as_bytes(), "{request}");
    }
    // After the upgrade: bytes that are no frame.
    let (id, socket) = harness.connect().await;
    let mut raw = socket.0.into_inner();
    raw.write_all(&[0xff; 64]).await.unwrap();
    let mut rest = Vec::new();
    raw.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest[2..4], 1002u16.to_be_bytes());
    drop(raw);
    assert_eq!(harness.told().await, Told::Disconnected(id));
    harness.connect().await;
}

#[tokio::test]
async fn a_full_buffer_throttles_until_the_client_reads() {
    let harness = Harness::new(GatewayConfig {
        queue_bytes: 1_000_000,
        ..GatewayConfig::default()
    })
    .await;
    let (id, mut socket) = harness.connect().await;
    let text = "x".repeat(100_000);
    let mut posted = 0;
    let throttled = loop {
        match harness.gateway.post(&id, text.clone()).await {
            Ok(()) => posted += 1,
            Err(error) => break error,
        }
        assert!(posted < 1000, "never throttled");
        tokio::task::yield_now().await;
    };
    assert_eq!(throttled, PostError::Throttled(id.clone()));
    for _ in 0..posted {
        assert_eq!(socket.receive().await.unwrap().len(), text.len());
    }
    harness
        .gateway
        .post(&id, "room again".into())
        .await
        .unwrap();
    assert_eq!(socket.receive().await.as_deref(), Some("room again"));
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let harness = Harness::new(GatewayConfig {
        idle: Duration::from_millis(400),
        ..GatewayConfig::default()
    })
    .await;
    let (idle, mut at_idle) = harness.connect().await;
    let (posted, mut at_posted) = harness.connect().await;
    let (_, mut busy) = harness.connect().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        harness.gateway.post(&posted, "x".into()).await.unwrap();
        busy.send("x").await;
        // A ping is no message.
        let _ = at_idle.0.send(Message::Ping(Vec::new().into())).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(at_idle.close_code().await, 1001);
    let gone = harness.gateway.post(&idle, "x".into()).await;
    assert_eq!(gone, Err(PostError::Gone(idle)));
    assert_eq!(at_posted.receive().await.as_deref(), Some("x"));
    busy.send("still open").await;
}

#[tokio::test]
async fn no_connection_outlives_its_lifetime() {
    let harness = Harness::new(GatewayConfig {
        lifetime: Duration::from_millis(300),
        ..GatewayConfig::default()
    })
    .await;
    let (id, mut socket) = harness.connect().await;
    let began = Instant::now();
    assert_eq!(socket.close_code().await, 1001);
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert_eq!(harness.told().await, Told::Disconnected(id));
    let (_, mut receiver) = harness.gateway.connect_in_process("ok").await.unwrap();
    assert_eq!(receiver.recv().await, None);
}

#[tokio::test]
async fn closing_the_gateway_closes_every_connection() {
    let harness = default().await;
    let (_, mut socket) = harness.connect().await;
    let (_sender, mut receiver) = harness.gateway.connect_in_process("ok").await.unwrap();
    harness.gateway.close();
    assert_eq!(socket.close_code().await, 1000);
    assert_eq!(receiver.recv().await, None);
}
