//! Requests and final answers.

use std::time::Duration;

use sockerless_shared::answer::{Body, Request};

use crate::support::{FAIR, World, until};

const MB: usize = 1024 * 1024;

#[tokio::test]
async fn a_request_is_forwarded_as_it_is() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client
        .write("PUT /a%20b?c=%2F&d HTTP/1.1\r\nHost: docker\r\nX-Registry-Auth: e30=\r\nContent-Length: 3\r\n\r\n{}\n")
        .await;
    let reply = client.reply().await;
    assert_eq!(reply.status(), 404);
    assert_eq!(reply.text(), r#"{"message":"page not found"}"#);
    assert!(
        reply.head.contains("\r\nApi-Version: 1.51\r\n"),
        "{}",
        reply.head
    );
    let request = &world.control.requests()[0];
    assert_eq!(request.method, "PUT");
    assert_eq!(request.path_and_query, "/a%20b?c=%2F&d");
    assert_eq!(request.header("x-registry-auth"), Some("e30="));
    assert!(matches!(&request.body, Body::Inline(bytes) if bytes == "{}\n"));
    assert!(request.peer.is_some());
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order_on_one_connection() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    let paths = [
        "/_ping", "/nowhere", "/large", "/soon", "/_ping", "/refused", "/nothing", "/_ping",
    ];
    let all: String = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n"))
        .collect();
    client.write(all).await;
    for (status, length) in [
        (200, 2),
        (404, 28),
        (200, 3_000_000),
        (200, 2),
        (200, 2),
        (404, 2),
        (204, 0),
        (200, 2),
    ] {
        let reply = client.reply().await;
        assert_eq!((reply.status(), reply.body.len()), (status, length));
    }
    until("all is done with", || world.control.open_answers() == 0).await;
}

#[tokio::test]
async fn an_answer_that_may_be_cached_is_asked_for_once() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    for _ in 0..3 {
        assert_eq!(client.request("GET /cached").await.text(), "OK");
    }
    assert_eq!(world.control.requests().len(), 1);
    client.request("POST /cached").await;
    client.request("POST /cached").await;
    assert_eq!(world.control.requests().len(), 3);
}

#[tokio::test]
async fn small_bodies_travel_inline_and_large_ones_as_blobs() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    let mut ask = async |length: usize| {
        let head =
            format!("POST /length HTTP/1.1\r\nHost: docker\r\nContent-Length: {length}\r\n\r\n");
        client.write(head).await;
        client.write(vec![b'x'; length]).await;
        client.reply().await.text().to_owned()
    };
    assert_eq!(ask(0).await, "inline 0");
    assert_eq!(ask(4 * MB).await, format!("inline {}", 4 * MB));
    assert_eq!(ask(4 * MB + 1).await, format!("blob {}", 4 * MB + 1));
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_length_pass_through() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    client
        .write("POST /length HTTP/1.1\r\nHost: docker\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut chunk = format!("{MB:x}\r\n").into_bytes();
    chunk.extend(vec![b'x'; MB]);
    chunk.extend(b"\r\n");
    for _ in 0..100 {
        client.write(&chunk).await;
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(client.reply().await.text(), format!("blob {}", 100 * MB));
    assert_eq!(world.control.blob_bytes(), 100 * MB);
    assert_eq!(client.request("GET /_ping").await.text(), "OK");
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_nobody() {
    let world = World::start(FAIR).await;
    for framing in [
        "Content-Length: 100",
        "Content-Length: 100000000",
        "Transfer-Encoding: chunked",
    ] {
        let mut client = world.client().await;
        client
            .write(format!(
                "POST /length HTTP/1.1\r\nHost: docker\r\n{framing}\r\n\r\n5\r\nabcde\r\n"
            ))
            .await;
        drop(client);
    }
    let mut client = world.client().await;
    client
        .write("POST /length HTTP/1.1\r\nHost: docker\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n")
        .await;
    let reply = client.reply().await;
    assert_eq!(reply.status(), 400);
    assert!(
        reply
            .text()
            .starts_with(r#"{"message":"request body broke off"#)
    );
    assert_eq!(
        world.client().await.request("GET /_ping").await.text(),
        "OK"
    );
    // A large body is announced before it is there.
    let complete = |request: &&Request| !matches!(request.body, Body::Waiting);
    assert_eq!(world.control.requests().iter().filter(complete).count(), 1);
}

#[tokio::test]
async fn an_error_of_the_control_plane_has_dockers_form() {
    let world = World::start(FAIR).await;
    let mut client = world.client().await;
    for (path, status, message) in [
        (
            "/unavailable",
            503,
            "control plane is not available: no answer",
        ),
        ("/failed", 502, "control plane failed: not JSON"),
        (
            "/split",
            502,
            "control plane sent a header that HTTP does not allow",
        ),
    ] {
        let reply = client.request(&format!("GET {path}")).await;
        assert_eq!(reply.status(), status);
        assert!(reply.head.contains("Content-Type: application/json\r\n"));
        let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(json, serde_json::json!({ "message": message }));
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_harms_nobody() {
    let world = World::start(FAIR).await;
    let many_headers = "a: b\r\n".repeat(1000);
    let long_header = format!("a: {}\r\n", "b".repeat(1_000_000));
    for (text, status) in [
        ("\0\0\0\0\r\n\r\n".to_owned(), 400),
        ("GET\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.7\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400),
        (
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(),
            400,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
            400,
        ),
        (format!("GET / HTTP/1.1\r\n{many_headers}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{long_header}\r\n"), 431),
    ] {
        let mut client = world.client().await;
        // The frontend may stop reading half-way.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, text.as_bytes()).await;
        let short: String = text.chars().take(40).collect();
        assert_eq!(client.reply().await.status(), status, "{short:?}");
    }
    assert!(world.control.requests().is_empty());
    assert_eq!(
        world.client().await.request("GET /_ping").await.text(),
        "OK"
    );
}

#[tokio::test]
async fn a_client_that_ended_its_side_still_gets_its_answer() {
    let world = World::start(FAIR).await;
    for path in ["/_ping", "/soon"] {
        let mut client = world.client().await;
        client
            .write(format!("GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n"))
            .await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream)
            .await
            .unwrap();
        assert_eq!(client.reply().await.status(), 200);
    }
}

#[tokio::test]
async fn a_port_on_loopback_serves_clients_but_not_web_pages() {
    let world = World::start(FAIR).await;
    let mut client = world.tcp_client().await;
    assert_eq!(client.request("GET /_ping").await.text(), "OK");
    client
        .write("GET /_ping HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status(), 403);
    client
        .write("GET /_ping HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status(), 403);
    assert_eq!(world.control.requests().len(), 1);
}

#[tokio::test]
async fn stopping_lets_what_is_under_way_end() {
    let mut world = World::start(FAIR).await;
    let mut idle = world.client().await;
    idle.request("GET /_ping").await;
    let mut busy = world.client().await;
    busy.write("GET /head HTTP/1.1\r\nHost: docker\r\n\r\n")
        .await;
    busy.head().await;
    let control = world.control.clone();
    let server = world.take_server();
    let stopping = tokio::spawn(server.stop().finished(Duration::from_secs(20)));
    assert!(idle.rest().await.is_empty());
    until("the socket is gone", || !world.socket_exists()).await;
    assert!(!stopping.is_finished());
    control.send(crate::support::data("last words"));
    control.send(sockerless_shared::answer::Part::End);
    assert_eq!(busy.chunk().await.unwrap(), b"last words");
    assert_eq!(busy.chunk().await, None);
    stopping.await.unwrap();
}
