//! What every [`Registry`] does.
//!
//! The registry may hold other things: every case makes content of its own.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt as _;
use sockerless_control::images::Digest;
use sockerless_control::images::manifest::{Descriptor, Manifest, media};
use sockerless_control::ports::Registry;
use sockerless_control::ports::blobs::{BlobError, ByteStream};
use sockerless_control::ports::registry::{Expected, RegistryError};

/// Makes a test of every case. `$make` is an async expression that gives an
/// `Arc<dyn Registry>` or a pair of one and whatever must live as long.
macro_rules! registry_contract {
    ($make:expr) => {
        crate::registry::registry_contract!($make;
            what_was_put_is_read,
            the_digest_is_found_out_when_it_is_not_announced,
            an_empty_blob_is_a_blob,
            a_large_blob_comes_back_whole,
            wrong_bytes_are_refused,
            a_wrong_size_is_refused,
            too_much_is_refused,
            a_body_that_breaks_off_leaves_nothing,
            a_put_that_is_dropped_leaves_nothing,
            the_same_blob_may_be_put_by_many_at_once,
            what_came_of_a_body_that_broke_off_is_gone_on_with,
            what_was_kept_and_does_not_fit_is_refused_and_forgotten,
            one_alone_stores_a_blob_that_others_may_want,
            a_put_that_was_dropped_is_gone_on_with,
            what_was_deleted_is_gone,
            manifests_keep_their_bytes_and_media_type,
            a_deleted_manifest_is_listed_no_more,
            a_deleted_manifest_is_gone,
            a_manifest_is_no_listed_blob,
        );
    };
    ($make:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (registry, _keep) = $make.await;
                crate::registry::$case(registry).await;
            }
        )*
    };
}
pub(crate) use registry_contract;

const LIMIT: u64 = 64 * 1024 * 1024;

/// Bytes that no other case and no other run has.
fn unique(length: usize) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut seed = Digest::of(format!("{now:?} {:?}", std::thread::current().id()).as_bytes());
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        seed = Digest::of(seed.to_string().as_bytes());
        bytes.extend_from_slice(seed.hex().as_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

fn stream(pieces: Vec<Result<Bytes, BlobError>>) -> ByteStream {
    Box::pin(futures_util::stream::iter(pieces))
}

fn body(bytes: &Bytes) -> ByteStream {
    stream(
        bytes
            .chunks(50_000)
            .map(|c| Ok(bytes.slice_ref(c)))
            .collect(),
    )
}

fn expected(digest: Option<Digest>) -> Expected {
    Expected {
        digest,
        size: None,
        limit: LIMIT,
    }
}

async fn read(registry: &dyn Registry, digest: &Digest) -> Vec<u8> {
    let mut stream = registry.get_blob(digest).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

async fn is_absent(registry: &dyn Registry, digest: &Digest) {
    assert_eq!(registry.stat_blob(digest).await, Ok(None));
    assert!(!registry.list_blobs().await.unwrap().contains(digest));
    match registry.get_blob(digest).await {
        Err(RegistryError::NotFound(missing)) => assert_eq!(missing, *digest),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a blob that is not there was read"),
    }
}

pub(crate) async fn what_was_put_is_read(registry: Arc<dyn Registry>) {
    let bytes = unique(123_456);
    let digest = Digest::of(&bytes);
    is_absent(&*registry, &digest).await;
    let announced = Expected {
        digest: Some(digest),
        size: Some(123_456),
        limit: LIMIT,
    };
    let stored = registry.put_blob(body(&bytes), announced).await.unwrap();
    assert_eq!((stored.digest, stored.size), (digest, 123_456));
    assert_eq!(registry.stat_blob(&digest).await, Ok(Some(123_456)));
    assert_eq!(read(&*registry, &digest).await, bytes);
}

pub(crate) async fn the_digest_is_found_out_when_it_is_not_announced(registry: Arc<dyn Registry>) {
    let bytes = unique(1000);
    let stored = registry
        .put_blob(body(&bytes), expected(None))
        .await
        .unwrap();
    assert_eq!(stored.digest, Digest::of(&bytes));
    assert_eq!(read(&*registry, &stored.digest).await, bytes);
}

pub(crate) async fn an_empty_blob_is_a_blob(registry: Arc<dyn Registry>) {
    let stored = registry
        .put_blob(stream(vec![]), expected(None))
        .await
        .unwrap();
    assert_eq!((stored.digest, stored.size), (Digest::of(b""), 0));
    assert!(read(&*registry, &stored.digest).await.is_empty());
}

pub(crate) async fn a_large_blob_comes_back_whole(registry: Arc<dyn Registry>) {
    let bytes = unique(30 * 1024 * 1024);
    let digest = Digest::of(&bytes);
    registry
        .put_blob(body(&bytes), expected(Some(digest)))
        .await
        .unwrap();
    assert!(read(&*registry, &digest).await == bytes);
}

pub(crate) async fn wrong_bytes_are_refused(registry: Arc<dyn Registry>) {
    let (announced, sent) = (Digest::of(&unique(10)), unique(11));
    let refused = registry
        .put_blob(body(&sent), expected(Some(announced)))
        .await;
    assert_eq!(
        refused,
        Err(RegistryError::WrongDigest {
            expected: announced,
            actual: Digest::of(&sent)
        })
    );
    is_absent(&*registry, &announced).await;
    is_absent(&*registry, &Digest::of(&sent)).await;
}

pub(crate) async fn a_wrong_size_is_refused(registry: Arc<dyn Registry>) {
    let bytes = unique(100);
    for size in [99, 101] {
        let announced = Expected {
            digest: None,
            size: Some(size),
            limit: LIMIT,
        };
        let refused = registry.put_blob(body(&bytes), announced).await;
        assert!(
            matches!(refused, Err(RegistryError::WrongSize { .. })),
            "{refused:?}"
        );
    }
    is_absent(&*registry, &Digest::of(&bytes)).await;
}

pub(crate) async fn too_much_is_refused(registry: Arc<dyn Registry>) {
    let bytes = unique(100_001);
    for size in [None, Some(100_001)] {
        let announced = Expected {
            digest: None,
            size,
            limit: 100_000,
        };
        let refused = registry.put_blob(body(&bytes), announced).await;
        assert_eq!(refused, Err(RegistryError::TooLarge(100_000)));
    }
    is_absent(&*registry, &Digest::of(&bytes)).await;
}

pub(crate) async fn a_body_that_breaks_off_leaves_nothing(registry: Arc<dyn Registry>) {
    let bytes = unique(100);
    let cut = BlobError::Interrupted("cut".to_owned());
    let broken = stream(vec![Ok(bytes.clone()), Err(cut)]);
    let refused = registry.put_blob(broken, expected(None)).await;
    assert!(
        matches!(refused, Err(RegistryError::Interrupted(_))),
        "{refused:?}"
    );
    is_absent(&*registry, &Digest::of(&bytes)).await;
}

pub(crate) async fn a_put_that_is_dropped_leaves_nothing(registry: Arc<dyn Registry>) {
    let bytes = unique(100);
    let endless: ByteStream = Box::pin(
        futures_util::stream::iter([Ok(bytes.clone())]).chain(futures_util::stream::pending()),
    );
    let put = registry.put_blob(endless, expected(None));
    let moment = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(moment, put).await.is_err());
    is_absent(&*registry, &Digest::of(&bytes)).await;
}

pub(crate) async fn the_same_blob_may_be_put_by_many_at_once(registry: Arc<dyn Registry>) {
    let bytes = unique(300_000);
    let puts = (0..8).map(|_| {
        let (registry, bytes) = (Arc::clone(&registry), bytes.clone());
        tokio::spawn(async move { registry.put_blob(body(&bytes), expected(None)).await })
    });
    for put in puts.collect::<Vec<_>>() {
        assert_eq!(put.await.unwrap().unwrap().digest, Digest::of(&bytes));
    }
    assert_eq!(read(&*registry, &Digest::of(&bytes)).await, bytes);
}

/// As large as two parts and a half, whatever parts there are.
const PARTS_BYTES: usize = 40 * 1024 * 1024;

fn announced(bytes: &Bytes) -> Expected {
    Expected {
        digest: Some(Digest::of(bytes)),
        size: Some(bytes.len() as u64),
        limit: LIMIT,
    }
}

/// The first so many bytes; then it breaks off.
fn broken(bytes: &Bytes, after: usize) -> ByteStream {
    let cut = BlobError::Interrupted("cut".to_owned());
    Box::pin(body(&bytes.slice(..after)).chain(stream(vec![Err(cut)])))
}

/// Puts until it breaks off; gives how many bytes are kept.
async fn interrupted(registry: &dyn Registry, bytes: &Bytes, after: usize) -> u64 {
    let expected = announced(bytes);
    let kept = registry
        .kept_bytes(&expected.digest.unwrap())
        .await
        .unwrap();
    let rest = bytes.slice(usize::try_from(kept).unwrap()..);
    let put = registry
        .put_blob_from(kept, broken(&rest, after), expected)
        .await;
    assert!(matches!(put, Err(RegistryError::Interrupted(_))), "{put:?}");
    registry
        .kept_bytes(&expected.digest.unwrap())
        .await
        .unwrap()
}

pub(crate) async fn what_came_of_a_body_that_broke_off_is_gone_on_with(
    registry: Arc<dyn Registry>,
) {
    let bytes = unique(PARTS_BYTES);
    let digest = Digest::of(&bytes);
    let first = interrupted(&*registry, &bytes, 20 << 20).await;
    assert!((1..=20 << 20).contains(&first), "{first}");
    is_absent(&*registry, &digest).await;
    let more = interrupted(&*registry, &bytes, 17 << 20).await;
    assert!(more > first && more <= first + (17 << 20), "{more}");
    let rest = bytes.slice(usize::try_from(more).unwrap()..);
    // Not at a place where it does not go on.
    let put = registry
        .put_blob_from(1, body(&rest), announced(&bytes))
        .await;
    assert!(matches!(put, Err(RegistryError::Unavailable(_))), "{put:?}");
    let stored = registry
        .put_blob_from(more, body(&rest), announced(&bytes))
        .await
        .unwrap();
    assert_eq!((stored.digest, stored.size), (digest, bytes.len() as u64));
    assert!(read(&*registry, &digest).await == bytes);
    assert_eq!(registry.kept_bytes(&digest).await, Ok(0));
}

pub(crate) async fn what_was_kept_and_does_not_fit_is_refused_and_forgotten(
    registry: Arc<dyn Registry>,
) {
    let bytes = unique(PARTS_BYTES);
    let expected = announced(&bytes);
    let digest = Digest::of(&bytes);
    let kept = interrupted(&*registry, &bytes, 20 << 20).await;
    let mut other = bytes.slice(usize::try_from(kept).unwrap()..).to_vec();
    other[0] ^= 1;
    let put = registry
        .put_blob_from(kept, body(&other.into()), expected)
        .await;
    assert!(
        matches!(put, Err(RegistryError::WrongDigest { .. })),
        "{put:?}"
    );
    assert_eq!(registry.kept_bytes(&digest).await, Ok(0));
    is_absent(&*registry, &digest).await;
    let kept = interrupted(&*registry, &bytes, 20 << 20).await;
    let short = bytes.slice(usize::try_from(kept).unwrap()..bytes.len() - 1);
    let put = registry.put_blob_from(kept, body(&short), expected).await;
    assert!(
        matches!(put, Err(RegistryError::WrongSize { .. })),
        "{put:?}"
    );
    assert_eq!(registry.kept_bytes(&digest).await, Ok(0));
    // It may come again.
    registry
        .put_blob_from(0, body(&bytes), expected)
        .await
        .unwrap();
    assert!(read(&*registry, &digest).await == bytes);
}

/// Puts until nobody else is at it.
async fn put_at_last(registry: &dyn Registry, bytes: &Bytes) {
    let expected = announced(bytes);
    let digest = expected.digest.unwrap();
    let put = async {
        loop {
            let put = match registry.kept_bytes(&digest).await {
                Ok(kept) => {
                    let rest = bytes.slice(usize::try_from(kept).unwrap()..);
                    registry.put_blob_from(kept, body(&rest), expected).await
                }
                Err(error) => Err(error),
            };
            match put {
                Ok(stored) => return stored,
                Err(RegistryError::Busy(busy)) => assert_eq!(busy, digest),
                Err(RegistryError::Unavailable(why)) if why.contains("are kept") => {}
                Err(other) => panic!("{other}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let stored = tokio::time::timeout(std::time::Duration::from_secs(60), put)
        .await
        .expect("whoever was at it is not any more");
    assert_eq!(stored.digest, digest);
    assert!(read(registry, &digest).await == *bytes);
}

pub(crate) async fn one_alone_stores_a_blob_that_others_may_want(registry: Arc<dyn Registry>) {
    let bytes = unique(2 << 20);
    let expected = announced(&bytes);
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel::<()>();
    // The second half comes when it is told to.
    let (half, rest) = (bytes.slice(..1 << 20), bytes.slice(1 << 20..));
    let second = futures_util::stream::once(async move {
        begun.send(()).unwrap();
        wait.await.unwrap();
        Ok(rest)
    });
    let slow: ByteStream = Box::pin(body(&half).chain(second));
    let first = {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.put_blob_from(0, slow, expected).await })
    };
    has_begun.await.unwrap();
    for _ in 0..2 {
        let other = registry.put_blob_from(0, body(&bytes), expected).await;
        assert_eq!(other, Err(RegistryError::Busy(expected.digest.unwrap())));
    }
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap().size, 2 << 20);
    assert!(read(&*registry, &expected.digest.unwrap()).await == bytes);
    // It is there, and may be put again.
    put_at_last(&*registry, &bytes).await;
}

pub(crate) async fn a_put_that_was_dropped_is_gone_on_with(registry: Arc<dyn Registry>) {
    let bytes = unique(PARTS_BYTES);
    let (begun, has_begun) = tokio::sync::oneshot::channel::<()>();
    let stuck = futures_util::stream::once(async move {
        begun.send(()).unwrap();
        std::future::pending().await
    });
    let endless: ByteStream = Box::pin(body(&bytes.slice(..20 << 20)).chain(stuck));
    let expected = announced(&bytes);
    tokio::select! {
        put = registry.put_blob_from(0, endless, expected) => panic!("{put:?}"),
        begun = has_begun => begun.unwrap(),
    }
    put_at_last(&*registry, &bytes).await;
}

#[allow(dead_code)] // not every adapter has it
pub(crate) async fn what_was_deleted_is_gone(registry: Arc<dyn Registry>) {
    let bytes = unique(100);
    let digest = Digest::of(&bytes);
    registry.delete_blob(&digest).await.unwrap();
    registry
        .put_blob(body(&bytes), expected(None))
        .await
        .unwrap();
    registry.delete_blob(&digest).await.unwrap();
    is_absent(&*registry, &digest).await;
    // And it may come again.
    registry
        .put_blob(body(&bytes), expected(None))
        .await
        .unwrap();
    assert_eq!(read(&*registry, &digest).await, bytes);
}

async fn manifest(registry: &dyn Registry) -> Bytes {
    let config = unique(200);
    let stored = registry
        .put_blob(body(&config), expected(None))
        .await
        .unwrap();
    let config = Descriptor::new(media::OCI_CONFIG, stored.digest, stored.size);
    Bytes::from(Manifest::oci(config, vec![]).to_bytes().unwrap())
}

pub(crate) async fn manifests_keep_their_bytes_and_media_type(registry: Arc<dyn Registry>) {
    let bytes = manifest(&*registry).await;
    let digest = Digest::of(&bytes);
    assert_eq!(
        registry.get_manifest(&digest).await,
        Err(RegistryError::NotFound(digest))
    );
    for _ in 0..2 {
        let put = registry
            .put_manifest(media::OCI_MANIFEST, bytes.clone())
            .await;
        assert_eq!(put, Ok(digest));
    }
    assert_eq!(
        registry.get_manifest(&digest).await,
        Ok((media::OCI_MANIFEST.to_owned(), bytes))
    );
    let listed = registry.list_manifests().await.unwrap();
    assert_eq!(listed.iter().filter(|d| **d == digest).count(), 1);
}

/// A manifest that was there, and was deleted twice.
async fn deleted_manifest(registry: &dyn Registry) -> Digest {
    let bytes = manifest(registry).await;
    let digest = registry
        .put_manifest(media::OCI_MANIFEST, bytes)
        .await
        .unwrap();
    registry.delete_manifest(&digest).await.unwrap();
    registry.delete_manifest(&digest).await.unwrap();
    digest
}

pub(crate) async fn a_deleted_manifest_is_listed_no_more(registry: Arc<dyn Registry>) {
    let digest = deleted_manifest(&*registry).await;
    assert!(!registry.list_manifests().await.unwrap().contains(&digest));
}

#[allow(dead_code)] // not every adapter has it
pub(crate) async fn a_deleted_manifest_is_gone(registry: Arc<dyn Registry>) {
    let digest = deleted_manifest(&*registry).await;
    assert_eq!(
        registry.get_manifest(&digest).await,
        Err(RegistryError::NotFound(digest))
    );
}

pub(crate) async fn a_manifest_is_no_listed_blob(registry: Arc<dyn Registry>) {
    let bytes = manifest(&*registry).await;
    let digest = registry
        .put_manifest(media::OCI_MANIFEST, bytes)
        .await
        .unwrap();
    assert!(!registry.list_blobs().await.unwrap().contains(&digest));
}
