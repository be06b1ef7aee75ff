//! The AWS adapters, against an emulator. `scripts/test-aws` starts one and
//! sets the variables that these tests read.

use std::sync::Arc;

use sockerless_control::aws::blobs::BucketBlobs;
use sockerless_control::aws::relay::GatewayRelay;
use sockerless_control::aws::sdk::Sdk;
use sockerless_control::aws::table::DynamoTable;
use sockerless_control::ports::{Blobs, Environment, Table};
use sockerless_shared::timestamp::Timestamp;

mod relay;

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests with scripts/test-aws"))
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
