//! What every [`Blobs`] does.
//!
//! The store may hold other things: every case has names of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use sockerless_control::ports::Blobs;
use sockerless_control::ports::blobs::{BlobError, BlobName, ByteStream};
use sockerless_shared::timestamp::Timestamp;

use crate::http;

/// Makes a test of every case. `$make` is an async expression that gives an
/// `Arc<dyn Blobs>` and whatever must be kept alive for it.
macro_rules! blobs_contract {
    ($make:expr) => {
        crate::blobs::blobs_contract!($make;
            what_was_put_is_got,
            an_empty_body_is_a_blob,
            what_was_never_put_is_not_found,
            a_large_body_passes_in_pieces,
            putting_again_replaces,
            a_body_may_be_as_large_as_the_limit,
            a_body_beyond_the_limit_leaves_nothing,
            a_body_beyond_the_limit_leaves_the_old_one,
            an_interrupted_body_leaves_nothing,
            an_interrupted_body_leaves_the_old_one,
            an_abandoned_put_leaves_the_old_one,
            deleting_is_idempotent,
            names_that_begin_alike_are_different_blobs,
            the_longest_name_is_a_name,
            concurrent_puts_leave_one_of_them_whole,
            concurrent_puts_and_deletes_do_not_fail,
            an_upload_url_takes_the_body,
            an_upload_url_is_for_its_blob_and_method_only,
            an_upload_url_expires,
            a_download_url_gives_the_body,
            an_upload_that_breaks_off_leaves_the_old_one,
        );
    };
    ($make:expr; $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let (blobs, _keep) = $make.await;
                crate::blobs::$case(blobs).await;
            }
        )*
    };
}
pub(crate) use blobs_contract;

type Shared = Arc<dyn Blobs>;

const LIMIT: u64 = 64 * 1024 * 1024;

fn name() -> BlobName {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    BlobName::new(format!("contract/{nanos}-{}-{next}", std::process::id())).unwrap()
}

fn below(name: &BlobName, rest: &str) -> BlobName {
    BlobName::new(format!("{}{rest}", name.as_str())).unwrap()
}

fn body(pieces: &[&[u8]]) -> ByteStream {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    // As most streams, it may not be asked again when it has ended.
    stream::unfold(pieces.into_iter(), |mut rest| async {
        rest.next().map(|piece| (piece, rest))
    })
    .boxed()
}

fn broken(pieces: &[&[u8]]) -> ByteStream {
    let broken = Err(BlobError::Interrupted("the client went away".into()));
    body(pieces).chain(stream::iter([broken])).boxed()
}

async fn put(blobs: &Shared, name: &BlobName, text: &str) -> Result<u64, BlobError> {
    blobs.put(name, body(&[text.as_bytes()]), LIMIT).await
}

async fn get(blobs: &Shared, name: &BlobName) -> Result<Vec<u8>, BlobError> {
    let mut stream = blobs.get(name).await?;
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

async fn holds(blobs: &Shared, name: &BlobName, text: &str) {
    let found = get(blobs, name).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&found), text);
}

async fn is_absent(blobs: &Shared, name: &BlobName) {
    let expected = BlobError::NotFound(name.as_str().to_owned());
    assert_eq!(get(blobs, name).await, Err(expected));
}

fn in_an_hour() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_secs(now.as_secs().try_into().unwrap()).plus(Duration::from_secs(3600))
}

pub(crate) async fn what_was_put_is_got(blobs: Shared) {
    let name = name();
    let size = blobs
        .put(&name, body(&[b"one ", b"", b"\0\xfftwo"]), LIMIT)
        .await;
    assert_eq!(size, Ok(9));
    assert_eq!(get(&blobs, &name).await.unwrap(), b"one \0\xfftwo");
}

pub(crate) async fn an_empty_body_is_a_blob(blobs: Shared) {
    let name = name();
    assert_eq!(blobs.put(&name, body(&[]), 0).await, Ok(0));
    holds(&blobs, &name, "").await;
}

pub(crate) async fn what_was_never_put_is_not_found(blobs: Shared) {
    is_absent(&blobs, &name()).await;
}

pub(crate) async fn a_large_body_passes_in_pieces(blobs: Shared) {
    // More than one part of a multipart upload, in pieces of uneven length.
    let all: Vec<u8> = (0..12_000_000u32).map(|n| (n / 251) as u8).collect();
    let mut pieces = Vec::new();
    let mut rest = &all[..];
    while !rest.is_empty() {
        let length = rest.len().min(1 + rest.len() % 100_003);
        let (piece, next) = rest.split_at(length);
        pieces.push(piece);
        rest = next;
    }
    let name = name();
    let size = blobs.put(&name, body(&pieces), LIMIT).await;
    assert_eq!(size, Ok(all.len() as u64));
    assert!(get(&blobs, &name).await.unwrap() == all);
}

pub(crate) async fn putting_again_replaces(blobs: Shared) {
    let name = name();
    put(&blobs, &name, "a longer first one").await.unwrap();
    put(&blobs, &name, "second").await.unwrap();
    holds(&blobs, &name, "second").await;
}

pub(crate) async fn a_body_may_be_as_large_as_the_limit(blobs: Shared) {
    let name = name();
    assert_eq!(blobs.put(&name, body(&[b"123", b"45"]), 5).await, Ok(5));
    holds(&blobs, &name, "12345").await;
}

pub(crate) async fn a_body_beyond_the_limit_leaves_nothing(blobs: Shared) {
    let name = name();
    let outcome = blobs.put(&name, body(&[b"123", b"456"]), 5).await;
    assert_eq!(outcome, Err(BlobError::TooLarge(5)));
    is_absent(&blobs, &name).await;
}

pub(crate) async fn a_body_beyond_the_limit_leaves_the_old_one(blobs: Shared) {
    let name = name();
    put(&blobs, &name, "old").await.unwrap();
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![b'x'; 1 << 20]))).boxed();
    let outcome = blobs.put(&name, endless, 20_000_000).await;
    assert_eq!(outcome, Err(BlobError::TooLarge(20_000_000)));
    holds(&blobs, &name, "old").await;
}

pub(crate) async fn an_interrupted_body_leaves_nothing(blobs: Shared) {
    let name = name();
    let outcome = blobs.put(&name, broken(&[b"half"]), LIMIT).await;
    assert!(
        matches!(outcome, Err(BlobError::Interrupted(_))),
        "{outcome:?}"
    );
    is_absent(&blobs, &name).await;
}

pub(crate) async fn an_interrupted_body_leaves_the_old_one(blobs: Shared) {
    let name = name();
    put(&blobs, &name, "old").await.unwrap();
    let large = vec![b'x'; 7_000_000];
    let outcome = blobs.put(&name, broken(&[&large, &large]), LIMIT).await;
    assert!(
        matches!(outcome, Err(BlobError::Interrupted(_))),
        "{outcome:?}"
    );
    holds(&blobs, &name, "old").await;
}

pub(crate) async fn an_abandoned_put_leaves_the_old_one(blobs: Shared) {
    let name = name();
    put(&blobs, &name, "old").await.unwrap();
    let (sent, mut was_read) = tokio::sync::mpsc::channel(1);
    let never_ends = body(&[b"new"])
        .chain(stream::once(async move {
            sent.send(()).await.unwrap();
            std::future::pending().await
        }))
        .boxed();
    tokio::select! {
        outcome = blobs.put(&name, never_ends, LIMIT) => panic!("{outcome:?}"),
        _ = was_read.recv() => {}
    }
    holds(&blobs, &name, "old").await;
}

pub(crate) async fn deleting_is_idempotent(blobs: Shared) {
    let name = name();
    blobs.delete(&name).await.unwrap();
    put(&blobs, &name, "x").await.unwrap();
    blobs.delete(&name).await.unwrap();
    is_absent(&blobs, &name).await;
    blobs.delete(&name).await.unwrap();
    put(&blobs, &name, "again").await.unwrap();
    holds(&blobs, &name, "again").await;
}

pub(crate) async fn names_that_begin_alike_are_different_blobs(blobs: Shared) {
    let name = name();
    let names = [
        name.clone(),
        below(&name, "/a"),
        below(&name, "/a/b"),
        below(&name, "-a"),
    ];
    for name in &names {
        put(&blobs, name, name.as_str()).await.unwrap();
    }
    for name in &names {
        holds(&blobs, name, name.as_str()).await;
    }
    blobs.delete(&names[1]).await.unwrap();
    is_absent(&blobs, &names[1]).await;
    for name in [&names[0], &names[2], &names[3]] {
        holds(&blobs, name, name.as_str()).await;
    }
}

pub(crate) async fn the_longest_name_is_a_name(blobs: Shared) {
    let short = name();
    let long = below(
        &short,
        &format!("-{}", "x".repeat(511 - short.as_str().len())),
    );
    assert_eq!(long.as_str().len(), 512);
    put(&blobs, &long, "far").await.unwrap();
    holds(&blobs, &long, "far").await;
}

pub(crate) async fn concurrent_puts_leave_one_of_them_whole(blobs: Shared) {
    let name = name();
    let writers: Vec<_> = (0..8u8)
        .map(|who| {
            let (blobs, name) = (Arc::clone(&blobs), name.clone());
            tokio::spawn(async move {
                let piece = vec![who; 50_000 + usize::from(who)];
                blobs
                    .put(&name, body(&[&piece, &piece]), LIMIT)
                    .await
                    .unwrap();
                // Whoever reads meanwhile sees one whole body too.
                let seen = get(&blobs, &name).await.unwrap();
                assert_eq!(seen.len(), 2 * (50_000 + usize::from(seen[0])));
                assert!(seen.iter().all(|byte| *byte == seen[0]));
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

pub(crate) async fn concurrent_puts_and_deletes_do_not_fail(blobs: Shared) {
    let folder = name();
    let tasks: Vec<_> = (0..4)
        .map(|who| {
            let (blobs, name) = (Arc::clone(&blobs), below(&folder, &format!("/a/{who}")));
            tokio::spawn(async move {
                for _ in 0..20 {
                    put(&blobs, &name, "x").await.unwrap();
                    holds(&blobs, &name, "x").await;
                    blobs.delete(&name).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

pub(crate) async fn an_upload_url_takes_the_body(blobs: Shared) {
    let name = name();
    let url = blobs.upload_url(&name, in_an_hour()).await.unwrap();
    assert_eq!(http::put(&url, b"first").await, 200);
    holds(&blobs, &name, "first").await;
    // Once or more.
    let large = vec![b'y'; 3_000_000];
    assert_eq!(http::put(&url, &large).await, 200);
    assert!(get(&blobs, &name).await.unwrap() == large);
}

pub(crate) async fn an_upload_url_is_for_its_blob_and_method_only(blobs: Shared) {
    let name = name();
    let other = below(&name, "x");
    let url = blobs.upload_url(&name, in_an_hour()).await.unwrap();
    put(&blobs, &name, "secret").await.unwrap();
    let foreign = url.replacen(name.as_str(), other.as_str(), 1);
    assert_eq!(http::put(&foreign, b"x").await, 403);
    is_absent(&blobs, &other).await;
    let answer = http::request("GET", &url, 0, b"").await;
    assert_eq!(answer.status, 403);
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    let unsigned = url.split_once('?').unwrap().0;
    assert_eq!(http::put(unsigned, b"x").await, 403);
    holds(&blobs, &name, "secret").await;
}

pub(crate) async fn an_upload_url_expires(blobs: Shared) {
    let name = name();
    let long_ago = Timestamp::from_secs(in_an_hour().secs() - 2 * 3600);
    let url = blobs.upload_url(&name, long_ago).await.unwrap();
    assert_eq!(http::put(&url, b"late").await, 403);
    is_absent(&blobs, &name).await;
}

pub(crate) async fn an_upload_that_breaks_off_leaves_the_old_one(blobs: Shared) {
    let name = name();
    put(&blobs, &name, "old").await.unwrap();
    let url = blobs.upload_url(&name, in_an_hour()).await.unwrap();
    let answer = http::request("PUT", &url, 1_000_000, b"only the beginning").await;
    assert_ne!(answer.status, 200);
    holds(&blobs, &name, "old").await;
}

pub(crate) async fn a_download_url_gives_the_body(blobs: Shared) {
    let name = name();
    let url = blobs.download_url(&name, in_an_hour()).await.unwrap();
    assert_eq!(http::request("GET", &url, 0, b"").await.status, 404);
    put(&blobs, &name, "what it holds").await.unwrap();
    let answer = http::request("GET", &url, 0, b"").await;
    assert_eq!(
        (answer.status, &answer.body[..]),
        (200, &b"what it holds"[..])
    );
    assert_eq!(http::put(&url, b"x").await, 403);
    let long_ago = Timestamp::from_secs(in_an_hour().secs() - 2 * 3600);
    let late = blobs.download_url(&name, long_ago).await.unwrap();
    assert_eq!(http::request("GET", &late, 0, b"").await.status, 403);
}
