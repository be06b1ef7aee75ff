//! Pulls by several invocations at once, and one after another.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sockerless_control::images::Digest;
use sockerless_control::images::progress::Message;
use sockerless_control::images::pull::{PullError, Wanted};
use sockerless_control::images::reference::Reference;
use sockerless_control::images::remote::Credentials;
use sockerless_control::ports::table::Key;
use sockerless_control::ports::{Environment as _, Registry as _};

use super::archives::{Tar, gzip};
use super::invocation::{self, Invocation, emulator, namespace};
use super::remote::Registry;
use super::{Clock, noise};

/// As large as two parts of an upload and a half.
const LAYER_BYTES: usize = 40 << 20;

/// A registry with an image of one layer that cannot be compressed; the layer's path.
async fn registry(seed: u64) -> (Registry, String, usize) {
    let registry = Registry::start().await;
    let layer = Tar::new().file("noise", &noise(seed, LAYER_BYTES)).end();
    let blob = gzip(&layer);
    registry.image("v1", &[layer]);
    let path = format!("/v2/r/blobs/{}", Digest::of(&blob));
    (registry, path, blob.len())
}

async fn pull(invocation: &Invocation, registry: &Registry) -> Result<Vec<Message>, PullError> {
    let reference = Reference::parse(&format!("{}/r:v1", registry.address)).unwrap();
    let wanted = Wanted {
        reference: &reference,
        all_tags: false,
        platform: None,
        credentials: &Credentials::default(),
    };
    let mut messages = Vec::new();
    invocation
        .images
        .pull(&namespace(), wanted, &mut messages)
        .await
        .map(|()| messages)
}

/// How many bytes of a blob were sent, whoever is at it.
async fn sent(invocation: &Invocation, blob: &Digest) -> u64 {
    let key = Key::new("uploads", blob.to_string());
    let found = invocation.table.get(&key, Clock.now()).await.unwrap();
    found.map_or(0, |item| {
        let record: Value = serde_json::from_slice(&item.body).unwrap();
        record["sent"].as_u64().unwrap()
    })
}

fn digest(path: &str) -> Digest {
    path.rsplit('/').next().unwrap().parse().unwrap()
}

async fn until(what: impl AsyncFn() -> bool) {
    let waited = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited)
        .await
        .expect("it never came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_invocation_goes_on_where_one_stopped() {
    let (registry, path, size) = registry(0x1234_5678_9abc_def1).await;
    let blob = digest(&path);
    registry.stall(&path, size - 1000);
    let first = invocation::at(&emulator(), b"agent").await;
    // What an invocation is that ends in the middle: all of it is dropped.
    tokio::select! {
        pulled = pull(&first, &registry) => panic!("{pulled:?}"),
        () = until(async || sent(&first, &blob).await == 32 << 20) => {}
    }
    registry.release();
    registry.asked();
    let second = invocation::at(&emulator(), b"agent").await;
    let kept = 32 << 20;
    until(async || second.registry.kept_bytes(&blob).await == Ok(kept)).await;
    pull(&second, &registry).await.unwrap();
    let asked = registry.asked();
    assert!(asked.contains(&format!("{path} from {kept}")), "{asked:?}");
    assert!(!asked.contains(&path), "{asked:?}");
    assert_eq!(second.registry.kept_bytes(&blob).await, Ok(0));
    assert_eq!(
        second.registry.stat_blob(&blob).await,
        Ok(Some(size as u64))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_invocations_that_want_the_same_fetch_it_once() {
    let (registry, path, size) = registry(0xfeed_f00d_cafe_0001).await;
    let config = registry.config_path("v1");
    registry.stall(&path, size / 2);
    let registry = Arc::new(registry);
    let invocations = [
        invocation::at(&emulator(), b"agent").await,
        invocation::at(&emulator(), b"agent").await,
    ];
    let blob = digest(&path);
    let release = async {
        until(async || sent(&invocations[0], &blob).await > 0 && registry.count(&config) == 2)
            .await;
        registry.release();
    };
    let [one, two] = &invocations;
    let (one, two, ()) = tokio::join!(pull(one, &registry), pull(two, &registry), release);
    let messages = [one.unwrap(), two.unwrap()];
    // Whoever waits has asked for it, found it taken, and read nothing of it.
    let fetched = registry.count(&path);
    let waited = messages
        .iter()
        .filter(|told| told.iter().any(|message| message.status == "Waiting"))
        .count();
    assert_eq!(waited, 1, "{messages:?}");
    assert_eq!(fetched, 1, "{:?}", registry.asked());
}
