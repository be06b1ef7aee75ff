//! The AWS adapters, against an emulator. `scripts/test-aws` starts one and
//! sets the variables that these tests read.

use std::sync::Arc;

use sockerless_control::aws::blobs::BucketBlobs;
use sockerless_control::aws::registry::EcrRegistry;
use sockerless_control::aws::relay::GatewayRelay;
use sockerless_control::aws::sdk::Sdk;
use sockerless_control::aws::table::DynamoTable;
use sockerless_control::ports::{Blobs, Environment, Registry, Table};
use sockerless_shared::timestamp::Timestamp;

#[path = "../../images/archives.rs"]
#[allow(dead_code, reason = "others use all of it")]
mod archives;
mod functions;
mod host;
mod invocation;
mod meter;
mod preparation;
mod pull;
mod relay;
#[path = "../../images/registry.rs"]
#[allow(dead_code, reason = "others use all of it")]
mod remote;
mod schedule;

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests with scripts/test-aws"))
}

/// Bytes that cannot be compressed, for the same seed the same.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

struct Clock;

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::from_nanos(now.unwrap().as_nanos().try_into().unwrap())
    }

    fn fill_random(&self, _: &mut [u8]) {
        unreachable!("the AWS adapters draw no random numbers from it");
    }
}

mod table {
    use super::*;

    async fn table() -> Arc<dyn Table> {
        let sdk = Sdk::from_environment().await;
        Arc::new(DynamoTable::new(&sdk, variable("SOCKERLESS_TEST_TABLE")))
    }

    crate::table::table_contract!(table());
}

mod blobs {
    use super::*;

    async fn blobs() -> (Arc<dyn Blobs>, ()) {
        let sdk = Sdk::from_environment().await;
        let bucket = variable("SOCKERLESS_TEST_BUCKET");
        (
            Arc::new(BucketBlobs::new(&sdk, bucket, Arc::new(Clock))),
            (),
        )
    }

    crate::blobs::blobs_contract!(blobs());
}

/// The registry as an invocation has it: one of its own.
async fn registry_of() -> EcrRegistry {
    let sdk = Sdk::from_environment().await;
    let repository = variable("SOCKERLESS_TEST_REPOSITORY");
    let table = Arc::new(DynamoTable::new(&sdk, variable("SOCKERLESS_TEST_TABLE")));
    EcrRegistry::new(&sdk, &repository, table, Arc::new(Clock)).unwrap()
}

mod registry {
    use bytes::Bytes;
    use sockerless_control::images::Digest;
    use sockerless_control::ports::blobs::ByteStream;
    use sockerless_control::ports::registry::{Expected, RegistryError};

    use super::meter::Meter;
    use super::*;

    async fn registry() -> (Arc<dyn Registry>, ()) {
        (Arc::new(super::registry_of().await), ())
    }

    const LIMIT: u64 = 1 << 20;

    fn expected(bytes: &[u8]) -> Expected {
        Expected {
            digest: Some(Digest::of(bytes)),
            size: Some(bytes.len() as u64),
            limit: LIMIT,
        }
    }

    fn body(bytes: &[u8]) -> ByteStream {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        Box::pin(futures_util::stream::iter([piece]))
    }

    #[tokio::test]
    async fn a_blob_beside_it_is_taken_without_its_bytes() {
        let invocation = invocation::at(&invocation::emulator(), b"agent").await;
        let beside = &invocation.registry;
        let bytes = noise(11, 4096);
        let digest = Digest::of(&bytes);
        beside
            .put_blob(body(&bytes), expected(&bytes))
            .await
            .unwrap();
        let repository = variable("SOCKERLESS_TEST_IMAGES_REPOSITORY");
        let (host, name) = repository.split_once('/').unwrap();
        let registry = super::registry_of().await;
        let mount = async |digest: &Digest, host| registry.mount_blob(digest, host, name).await;
        assert_eq!(mount(&digest, "registry.example.com").await, Ok(false));
        assert_eq!(registry.stat_blob(&digest).await, Ok(None));
        assert_eq!(mount(&digest, host).await, Ok(true));
        assert_eq!(registry.stat_blob(&digest).await, Ok(Some(4096)));
        assert_eq!(mount(&Digest::of(b"nothing"), host).await, Ok(false));
        // One that refuses it is no reason to fail: the bytes are fetched then.
        let meter = Meter::before(&invocation::emulator()).await;
        let refusing = invocation::at(&meter.address, b"agent").await.registry;
        meter.refuse("POST /v2/", 1, (403, "DENIED"));
        let refused = refusing.mount_blob(&digest, &meter.address, "other").await;
        assert_eq!(refused, Ok(false));
    }

    #[tokio::test]
    async fn what_the_registry_has_no_room_for_is_asked_again() {
        let meter = Meter::before(&invocation::emulator()).await;
        let invocation = invocation::at(&meter.address, b"agent").await;
        let registry = &invocation.registry;
        let bytes = noise(12, 4096);
        let digest = Digest::of(&bytes);
        let throttled = (429, "TOOMANYREQUESTS");
        meter.refuse("POST /v2/", 2, (503, "UNAVAILABLE"));
        meter.refuse("PATCH /v2/", 2, throttled);
        meter.refuse("PUT /v2/", 2, throttled);
        meter.refuse("HEAD /v2/", 1, (401, "UNAUTHORIZED"));
        registry
            .put_blob(body(&bytes), expected(&bytes))
            .await
            .unwrap();
        assert_eq!(registry.stat_blob(&digest).await, Ok(Some(4096)));
        // Not for ever, and not what may have been done.
        meter.refuse("HEAD /v2/", usize::MAX, throttled);
        let refused = registry.stat_blob(&digest).await;
        assert!(
            matches!(&refused, Err(RegistryError::Unavailable(why)) if why.contains("429")),
            "{refused:?}"
        );
        meter.refuse_nothing();
        meter.refuse("PATCH /v2/", 1, (503, "UNAVAILABLE"));
        let other = noise(13, 4096);
        let refused = registry.put_blob(body(&other), expected(&other)).await;
        assert!(
            matches!(&refused, Err(RegistryError::Unavailable(why)) if why.contains("503")),
            "{refused:?}"
        );
    }

    // All but what cannot be had: only ECR itself deletes its blobs, and MiniStack
    // 1.5 goes on giving out a manifest by its digest after BatchDeleteImage.
    crate::registry::registry_contract!(registry();
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
        manifests_keep_their_bytes_and_media_type,
        a_deleted_manifest_is_listed_no_more,
        a_manifest_is_no_listed_blob,
    );
}
