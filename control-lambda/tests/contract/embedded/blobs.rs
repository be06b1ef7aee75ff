//! [`FolderBlobs`]: the contract, and what it promises beyond it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sockerless_control::embedded::blobs::{FolderBlobs, UrlMethod};
use sockerless_control::embedded::environment::SystemEnvironment;
use sockerless_control::embedded::gateway::GatewayConfig;
use sockerless_control::ports::Blobs;
use sockerless_control::ports::blobs::{BlobName, ByteStream};
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::timestamp::Timestamp;

use super::harness::Harness;
use crate::http;

mod contract {
    use super::*;

    async fn blobs() -> (Arc<dyn Blobs>, Arc<Harness>) {
        let harness = Harness::new(GatewayConfig::default()).await;
        (harness.blobs.clone(), harness)
    }

    crate::blobs::blobs_contract!(blobs());
}

fn open(folder: &Path) -> FolderBlobs {
    let key = Key::from_random([1; 32]);
    FolderBlobs::open(folder, "http://h/blobs", key, Arc::new(SystemEnvironment)).unwrap()
}

fn name(text: &str) -> BlobName {
    BlobName::new(text).unwrap()
}

fn body(text: &'static str) -> ByteStream {
    stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed()
}

fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

#[tokio::test]
async fn what_was_put_is_there_after_reopening_and_leftovers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    blobs.put(&name("logs/a"), body("kept"), 9).await.unwrap();
    // An upload that a killed process left half-way.
    std::fs::write(folder.path().join("incoming/half"), "x").unwrap();
    let blobs = open(folder.path());
    assert_eq!(files(folder.path()), BTreeSet::from(["a.blob".to_owned()]));
    let mut stream = blobs.get(&name("logs/a")).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "kept");
}

#[tokio::test]
async fn failed_and_abandoned_puts_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    blobs
        .put(&name("a"), body("too long"), 3)
        .await
        .unwrap_err();
    let endless = body("x").chain(stream::pending()).boxed();
    let a = name("a");
    let put = blobs.put(&a, endless, 9);
    tokio::time::timeout(std::time::Duration::from_millis(20), put)
        .await
        .unwrap_err();
    assert_eq!(files(folder.path()), BTreeSet::new());
}

#[tokio::test]
async fn deleting_leaves_no_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    blobs.put(&name("a/b/c"), body("1"), 9).await.unwrap();
    blobs.put(&name("a/d"), body("2"), 9).await.unwrap();
    blobs.delete(&name("a/b/c")).await.unwrap();
    assert!(!folder.path().join("stored/a/b").exists());
    assert!(folder.path().join("stored/a/d.blob").exists());
    blobs.delete(&name("a/d")).await.unwrap();
    assert!(!folder.path().join("stored/a").exists());
    assert!(folder.path().join("stored").exists());
}

#[tokio::test]
async fn folders_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("blobs");
    let blobs = open(&folder);
    blobs.put(&name("a/b"), body("1"), 9).await.unwrap();
    for path in ["", "incoming", "stored", "stored/a"] {
        let mode = folder.join(path).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{path}");
    }
}

#[tokio::test]
async fn urls_are_served_by_the_gateway() {
    let harness = Harness::new(GatewayConfig {
        max_upload: 10,
        ..GatewayConfig::default()
    })
    .await;
    let later = Timestamp::from_secs(9_000_000_000);
    let put = harness
        .blobs
        .signed_url(UrlMethod::Put, &name("a/b"), later);
    let get = harness
        .blobs
        .signed_url(UrlMethod::Get, &name("a/b"), later);
    assert_eq!(http::request("GET", &get, 0, b"").await.status, 404);
    assert_eq!(http::put(&put, b"0123456789").await, 200);
    let answer = http::request("GET", &get, 0, b"").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"0123456789"[..]));
    assert_eq!(http::put(&put, b"0123456789x").await, 413);
    assert_eq!(http::put(&get, b"x").await, 403);
    assert_eq!(http::request("DELETE", &put, 0, b"").await.status, 405);
    let address = harness.address;
    for path in [
        "/blobs/",
        "/blobs/../x",
        "/blobs/a%2Fb?expires=1&signature=x",
        "/blobs/a",
    ] {
        let answer = http::request("GET", &format!("http://{address}{path}"), 0, b"").await;
        assert_eq!(answer.status, 403, "{path}");
    }
    let elsewhere = http::request("GET", &format!("http://{address}/x"), 0, b"").await;
    assert_eq!(elsewhere.status, 404);
}
