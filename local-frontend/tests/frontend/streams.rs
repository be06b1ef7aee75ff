//! Streams to agents.

use std::time::Duration;

use sockerless_shared::answer::Part;
use tokio::io::AsyncWriteExt as _;

use crate::support::{FAIR, FOUL, ROUGH, World, until};

const UPGRADE: &str = "HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
const PLAIN: &str = "HTTP/1.1\r\nHost: docker\r\n\r\n";

#[tokio::test]
async fn an_attached_client_may_end_its_input_and_listen_on() {
    for weather in [FAIR, FOUL] {
        let world = World::start(weather).await;
        let mut client = world.client().await;
        // The first input comes in the same packet as the request.
        client
            .write(format!("POST /attach?echo {UPGRADE}hello "))
            .await;
        let head = client.head().await;
        assert_eq!(
            head,
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        client.write("world").await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.rest().await, b"hello worldEND");
        assert_eq!(world.agent.saw("gone"), 0);
    }
}

/// Lost, repeated, delayed and overtaken messages, and connections that die on
/// both sides, cost time and no byte.
#[tokio::test(flavor = "multi_thread")]
async fn an_attach_of_fifty_megabytes_comes_back_equal_whatever_the_relay_does() {
    let world = World::start(ROUGH).await;
    let mut client = world.client().await;
    client.write(format!("POST /attach?echo {UPGRADE}")).await;
    client.head().await;
    let sent: Vec<u8> = (0..50_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let (mut reader, mut writer) = client.stream.into_split();
    let all = sent.clone();
    let typing = tokio::spawn(async move {
        writer.write_all(&all).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let reconnecting = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.gateway.disconnect_frontend();
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.gateway.reconnect_agent(&world.agent);
        }
    };
    let mut received = Vec::new();
    tokio::select! {
        read = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut received) => read.unwrap(),
        () = reconnecting => unreachable!(),
    };
    assert!(received == [&sent[..], b"END"].concat());
    typing.await.unwrap();
}

#[tokio::test]
async fn an_old_client_attaches_without_an_upgrade() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client.write(format!("POST /attach-old?echo {PLAIN}")).await;
    assert_eq!(
        client.head().await,
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
    );
    client.write("raw").await;
    assert_eq!(client.exactly(3).await, b"raw");
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"END");
}

#[tokio::test]
async fn a_response_sent_before_a_take_over_arrives_whole() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client
        .write(format!(
            "GET /large {PLAIN}POST /attach?echo {UPGRADE}typed"
        ))
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client.reply().await.body.len(), 3_000_000);
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"typedEND");
}

#[tokio::test]
async fn an_attach_may_come_before_the_agent() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client.write(format!("POST /attach-early {UPGRADE}")).await;
    client.head().await;
    client.write("early ").await;
    world.control.send(world.control.stream("echo"));
    client.write("late").await;
    assert_eq!(client.exactly(10).await, b"early late");
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.exactly(3).await, b"END");
    world.control.send(Part::End);
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn output_of_a_get_is_chunked_and_complete() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    let reply = client.request("GET /logs?output+10000000").await;
    assert!(reply.head.contains("Transfer-Encoding: chunked"));
    assert_eq!(reply.body.len(), 10_000_000);
    // The connection goes on.
    assert_eq!(client.request("GET /_ping").await.text(), "OK");
    until("the answer is done with", || {
        world.control.open_answers() == 0
    })
    .await;
}

#[tokio::test]
async fn an_agent_hears_that_its_client_is_gone() {
    let world = World::start(FAIR).await;
    for (n, path) in ["GET /logs", "POST /attach", "POST /attach-old"]
        .iter()
        .enumerate()
    {
        let mut client = world.client().await;
        client.write(format!("{path}?quiet {PLAIN}")).await;
        client.head().await;
        until("the stream is there", || world.agent.saw("stream") == n + 1).await;
        drop(client);
        until("the agent hears", || world.agent.saw("gone") == n + 1).await;
        until("the answer is given up", || {
            world.control.open_answers() == 0
        })
        .await;
    }
    // One that ended its input first, and closed later.
    let mut client = world.client().await;
    client.write(format!("POST /attach?quiet {UPGRADE}")).await;
    client.head().await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.exactly(5).await, b"quiet");
    assert_eq!(world.agent.saw("gone"), 3);
    drop(client);
    until("the agent hears", || world.agent.saw("gone") == 4).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_agent_back() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client
        .write(format!("GET /logs?output+200000000 {PLAIN}"))
        .await;
    client.head().await;
    let before = resident_bytes();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 40_000_000, "grew by {grown} bytes");
    drop(client);
    until("the agent hears", || world.agent.saw("gone") == 1).await;
}

#[tokio::test]
async fn many_streams_share_one_connection() {
    let world = World::start(FAIR).await;
    let talk = async |n: usize| {
        let mut client = world.client().await;
        client.write(format!("POST /attach?echo {UPGRADE}")).await;
        client.head().await;
        let text = format!("{n}").repeat(10_000);
        client.write(&text).await;
        client.stream.shutdown().await.unwrap();
        assert!(client.rest().await == format!("{text}END").as_bytes());
    };
    futures_util::future::join_all((0..50).map(talk)).await;
    assert_eq!(world.agent.saw("stream"), 50);
    assert_eq!(world.agent.saw("connection"), 1);
}

#[tokio::test]
async fn what_an_agent_refuses_is_said_to_the_client() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client
        .write(format!("POST /attach?refuse+too+late {UPGRADE}"))
        .await;
    client.head().await;
    assert_eq!(client.rest().await, b"too late\r\n");
}

#[tokio::test]
async fn a_stream_ends_when_the_platform_ends_its_agent() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client.write(format!("POST /attach?quiet {UPGRADE}")).await;
    client.head().await;
    assert_eq!(client.exactly(5).await, b"quiet");
    world.control.agent_gone(true);
    assert_eq!(client.rest().await, b"");
    until("the answer is given up", || {
        world.control.open_answers() == 0
    })
    .await;
}

/// An end without a word would be taken for the end of the output.
#[tokio::test]
async fn an_agent_that_leaves_before_the_end_of_its_output_is_an_error() {
    let world = World::start(FAIR).await;
    for path in ["attach", "attach-multiplexed"] {
        let mut client = world.client().await;
        client.write(format!("POST /{path}?quiet {UPGRADE}")).await;
        client.head().await;
        assert_eq!(client.exactly(5).await, b"quiet");
        world.control.agent_gone(false);
        let rest = client.rest().await;
        let text = String::from_utf8_lossy(&rest);
        assert!(text.contains("before all output was taken"), "{text}");
        let frames = [2u8, 3].map(|stream| rest.windows(6).any(|w| w == [stream, 0, 0, 0, 0, 0]));
        assert_eq!(frames, [path != "attach"; 2]);
    }
}

/// Memory of this process that is in use, from `/proc`.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
