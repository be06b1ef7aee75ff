//! Answers whose parts come over the relay.

use std::time::{Duration, Instant};

use sockerless_shared::answer::Part;

use crate::support::{FAIR, FOUL, World, data, head, until};

#[tokio::test]
async fn deferred_answers_arrive_whatever_the_relay_does() {
    let world = World::start(FOUL).await;
    let ask = async |n: usize| {
        if n % 10 == 9 {
            world.gateway.disconnect_frontend();
        }
        let mut client = world.client().await;
        let reply = client.request("POST /soon").await;
        assert_eq!((reply.status(), reply.text()), (200, "ab"));
    };
    futures_util::future::join_all((0..50).map(ask)).await;
}

#[tokio::test]
async fn a_head_is_sent_before_there_is_a_body() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client
        .write("POST /head HTTP/1.1\r\nHost: docker\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    world.control.send(data("now"));
    assert_eq!(client.chunk().await.unwrap(), b"now");
    world.control.send(data("later"));
    assert_eq!(client.chunk().await.unwrap(), b"later");
    world.control.send(Part::End);
    assert_eq!(client.chunk().await, None);
    until("the answer is done with", || {
        world.control.open_answers() == 0
    })
    .await;
    assert_eq!(client.request("GET /_ping").await.text(), "OK");
}

#[tokio::test]
async fn an_interruption_of_the_relay_costs_time_and_no_answer() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client
        .write("POST /deferred HTTP/1.1\r\nHost: docker\r\n\r\n")
        .await;
    until("the request is there", || world.control.open_answers() == 1).await;
    world.gateway.disconnect_frontend();
    // Into the void.
    world.control.send(head(200, "text/plain"));
    world.control.send(data("kept"));
    world.control.send(Part::End);
    assert_eq!(client.reply().await.text(), "kept");
}

#[tokio::test]
async fn an_answer_that_the_control_plane_forgot_ends_with_a_sentence() {
    let world = World::start(FAIR).await;
    let mut waiting = world.client().await;
    waiting
        .write("POST /deferred HTTP/1.1\r\nHost: docker\r\n\r\n")
        .await;
    until("the request is there", || world.control.open_answers() == 1).await;
    world.control.forget();
    let reply = waiting.reply().await;
    assert_eq!(reply.status(), 502);
    assert!(
        reply.text().contains("repeat the request"),
        "{}",
        reply.text()
    );

    let mut begun = world.client().await;
    begun
        .write("POST /head HTTP/1.1\r\nHost: docker\r\n\r\n")
        .await;
    begun.head().await;
    world.control.forget();
    assert_eq!(begun.rest().await, b"", "not ended as if it were complete");
}

#[tokio::test]
async fn a_client_that_goes_while_it_waits_is_noticed_at_once() {
    let world = World::start(FAIR).await;
    for path in ["/deferred", "/head", "/attach-early"] {
        let mut client = world.client().await;
        client
            .write(format!("POST {path} HTTP/1.1\r\nHost: docker\r\n\r\n"))
            .await;
        until("the request is there", || world.control.open_answers() == 1).await;
        let begin = Instant::now();
        drop(client);
        until("it is given up", || world.control.open_answers() == 0).await;
        assert!(begin.elapsed() < Duration::from_millis(500), "{path}");
    }
    // TCP: to end one's side is to go.
    let mut client = world.tcp_client().await;
    client
        .write("POST /deferred HTTP/1.1\r\nHost: docker\r\n\r\n")
        .await;
    until("the request is there", || world.control.open_answers() == 1).await;
    drop(client);
    until("it is given up", || world.control.open_answers() == 0).await;
}

#[tokio::test]
async fn a_blob_is_passed_on() {
    let world = World::start(FAIR).await;
    let reply = world.client().await.request("GET /blob").await;
    assert_eq!(reply.body.len(), 6_400_000);
    assert!(reply.body.iter().all(|&b| b == b'b'));
}
