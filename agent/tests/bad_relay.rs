//! A relay that loses, repeats, reorders, delays and disconnects.

#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod support;

use std::time::{Duration, Instant};

use sockerless_shared::protocol::control::Report;
use sockerless_shared::protocol::stdcopy::OutputStream;
use support::gateway::Weather;
use support::stream::{Client, attach, frames};
use support::{World, container, sh, text};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_of_output_goes_unnoticed() {
    let world = World::new().await;
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.05; done; exit 3";
    let invocation = world.invoke(sh(script));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    let gateway = world.gateway.clone();
    let cutter = tokio::spawn(async move {
        for _ in 0..4 {
            sleep(Duration::from_millis(150)).await;
            gateway.cut();
        }
    });
    let (out, _) = stream.frames().await;
    cutter.await.unwrap();
    let expected: String = (0..2000).map(|n| format!("{n}\n")).collect();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!(world.exited().await.0.code, 3);
    assert!(world.gateway.connects() >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_bad_weather_everything_arrives() {
    let world = World::new().await;
    world.gateway.set_weather(Weather {
        lost: 8,
        repeated: 12,
        late: 60,
    });
    let mut spec = sh("cat; exit 3");
    spec.process.open_stdin = true;
    spec.stdin_once = true;
    let invocation = world.invoke(spec);
    let client = Client::connect(&world.gateway, &invocation).await;
    let support::stream::Stream { mut send, mut recv } = client.open(attach()).await.unwrap();
    let gateway = world.gateway.clone();
    let cutter = tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            gateway.cut();
        }
    });
    let sent: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_be_bytes).collect();
    let copy = sent.clone();
    let sender = tokio::spawn(async move {
        send.write_all(&copy).await.unwrap();
        send.finish().unwrap();
        send
    });
    let (out, _) = frames(&mut recv).await;
    assert!(out == sent, "{} of {}", out.len(), sent.len());
    sender.await.unwrap();
    cutter.abort();
    assert_eq!(world.exited().await.0.code, 3);
    world.answer().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_said_again_until_heard() {
    let world = World::new().await;
    world.invoke(sh("echo x; sleep 0.3; exit 9"));
    assert!(matches!(world.report().await, Report::Started { .. }));
    // Deaf from now on, and then back on a new connection.
    world.gateway.be_silent(true);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.gateway.try_report(), None);
    world.gateway.be_silent(false);
    world.gateway.cut();
    let (status, logs) = world.exited().await;
    assert_eq!(status.code, 9);
    let records = world.records(logs).await;
    assert_eq!(text(&records, OutputStream::Stdout), "x\n");
    assert!(world.answer().await.body.contains("finished"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_never_comes_does_not_hold_the_invocation() {
    let world = World::new().await;
    world.invoke_for(sh("sleep 0.5; exit 9"), Duration::from_secs(5));
    assert!(matches!(world.report().await, Report::Started { .. }));
    world.gateway.be_silent(true);
    let begun = Instant::now();
    let answer = world.answer().await;
    assert!(answer.body.contains("unrecorded"), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_away_for_a_moment_is_tried_again() {
    let world = World::new().await;
    world.invoke(sh("sleep 2; exit 3"));
    assert!(matches!(world.report().await, Report::Started { .. }));
    // Refused after the claim: a deployment under way, not somebody else's run.
    world.gateway.refuse_all(true);
    world.gateway.cut();
    sleep(Duration::from_secs(1)).await;
    world.gateway.refuse_all(false);
    assert_eq!(world.exited().await.0.code, 3);
    assert!(world.answer().await.body.contains("finished"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gateway_nothing_is_started() {
    let world = World::new().await;
    let mut invocation = world.invocation(container(&["touch", "/tmp/ran"]));
    invocation.relay_url = "ws://127.0.0.1:1/relay".to_owned();
    world.server.invoke(
        serde_json::to_vec(&invocation).unwrap(),
        Duration::from_secs(2),
    );
    let answer = world.answer().await;
    assert!(answer.body.contains("unrecorded"), "{answer:?}");
    invocation.relay_url = "not a url".to_owned();
    world.server.invoke(
        serde_json::to_vec(&invocation).unwrap(),
        Duration::from_secs(2),
    );
    assert!(!world.answer().await.ok);
    assert_eq!(world.run(sh("ls -A /tmp")).await.1, "");
}
