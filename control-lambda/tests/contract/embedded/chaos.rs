//! The gateway's misbehaviour on purpose, seen from both ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sockerless_control::embedded::gateway::{ChaosPolicy, GatewayConfig, Mischief};
use sockerless_control::ports::Relay as _;
use sockerless_control::ports::relay::PostError;

use super::harness::{Harness, Told};
use crate::relay::Client as _;

async fn harness(inbound: Mischief, outbound: Mischief, forget_disconnect: f64) -> Arc<Harness> {
    let chaos = ChaosPolicy {
        seed: 7,
        inbound,
        outbound,
        forget_disconnect,
    };
    Harness::new(GatewayConfig {
        chaos: Some(chaos),
        ..GatewayConfig::default()
    })
    .await
}

fn bad() -> Mischief {
    Mischief {
        drop: 0.1,
        repeat: 0.1,
        delay: Duration::ZERO..Duration::from_millis(3),
        reorder: 0.1,
        reorder_by: Duration::from_millis(20),
        disconnect: 0.0,
    }
}

/// What came of 500 numbered messages: some are missing, some twice, and they
/// are not in order, but every one is whole.
fn check(seen: &[String]) {
    let numbers: Vec<u32> = seen.iter().map(|text| text.parse().unwrap()).collect();
    let mut times = BTreeMap::new();
    for number in &numbers {
        *times.entry(number).or_insert(0) += 1;
    }
    assert!(
        (400..490).contains(&times.len()),
        "{} of 500 came",
        times.len()
    );
    assert!(times.values().any(|times| *times == 2));
    assert!(times.values().all(|times| *times <= 2));
    assert!(!numbers.is_sorted());
}

const QUIET: Duration = Duration::from_millis(300);

#[tokio::test]
async fn messages_from_a_connection_are_lost_repeated_and_reordered() {
    let harness = harness(bad(), Mischief::default(), 0.0).await;
    let (_, mut socket) = harness.connect().await;
    for n in 0..500 {
        socket.send(&n.to_string()).await;
    }
    let mut seen = Vec::new();
    while let Ok(told) = tokio::time::timeout(QUIET, harness.told()).await {
        if let Told::Message(_, text) = told {
            seen.push(text);
        }
    }
    check(&seen);
}

#[tokio::test]
async fn posts_are_lost_repeated_and_reordered() {
    let harness = harness(Mischief::default(), bad(), 0.0).await;
    let (id, mut socket) = harness.connect().await;
    for n in 0..500 {
        harness.gateway.post(&id, n.to_string()).await.unwrap();
    }
    let mut seen = Vec::new();
    while let Ok(Some(text)) = tokio::time::timeout(QUIET, socket.receive()).await {
        seen.push(text);
    }
    check(&seen);
}

#[tokio::test]
async fn connections_are_cut_from_either_side_and_can_be_made_again() {
    let cut = Mischief {
        disconnect: 1.0,
        ..Mischief::default()
    };
    let harness = harness(cut.clone(), cut, 0.0).await;
    for round in 0..4 {
        let (id, mut socket) = harness.connect().await;
        if round % 2 == 0 {
            socket.send("x").await;
        } else {
            harness.gateway.post(&id, "x".into()).await.unwrap();
        }
        assert_eq!(socket.receive().await, None);
        assert_eq!(harness.told().await, Told::Disconnected(id.clone()));
        let gone = harness.gateway.post(&id, "x".into()).await;
        assert_eq!(gone, Err(PostError::Gone(id)));
    }
}

#[tokio::test]
async fn the_end_of_a_connection_may_never_be_told() {
    let harness = harness(Mischief::default(), Mischief::default(), 1.0).await;
    let (_, socket) = harness.connect().await;
    Box::new(socket).close().await;
    assert!(tokio::time::timeout(QUIET, harness.told()).await.is_err());
}
