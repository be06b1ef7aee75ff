//! What the control function may do, for `sockerless doctor`: one call of each service, which
//! leaves nothing behind.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sockerless_shared::ids::BlobId;
use sockerless_shared::wire::Check;

use crate::api::containers::logs::blob_name;
use crate::aws::wiring::Plane;
use crate::images::digest::Digest;
use crate::ports::Registry as _;
use crate::ports::table::{Condition, Key, Write};

/// What was written for a check goes by itself, should it not be deleted.
const LEFT: Duration = Duration::from_secs(60);

/// What is written.
const TEXT: Bytes = Bytes::from_static(b"check");

impl Plane {
    /// All of them, at once.
    pub(super) async fn checks(&self) -> Vec<Check> {
        let (table, bucket, repository, functions, logs) = tokio::join!(
            self.check_table(),
            self.check_bucket(),
            self.check_repository(),
            self.host.check_functions(),
            self.host.check_logs(),
        );
        [
            ("table", table),
            ("bucket", bucket),
            ("repository", repository),
            ("functions", functions.map_err(|error| error.to_string())),
            ("logs", logs.map_err(|error| error.to_string())),
        ]
        .map(|(what, outcome)| Check {
            what: what.to_owned(),
            problem: outcome.err(),
        })
        .into()
    }

    pub(super) fn random_blob(&self) -> BlobId {
        BlobId::from_random(self.environment.random())
    }

    async fn check_table(&self) -> Result<(), String> {
        let table = self.control.store().table();
        let now = self.environment.now();
        let key = Key::new("CHECK", self.random_blob().to_string());
        let put = Write::Put {
            key: key.clone(),
            body: TEXT,
            expires: Some(now.plus(LEFT)),
            condition: Condition::Absent,
        };
        let delete = Write::Delete {
            key: key.clone(),
            condition: Condition::Always,
        };
        let outcome = async {
            table.transact(vec![put], now).await?;
            let found = table.get(&key, now).await?;
            table.query(&key.partition, "", None, 1, now).await?;
            table.transact(vec![delete], now).await?;
            Ok(found)
        };
        let found = outcome
            .await
            .map_err(|error: crate::ports::table::TableError| error.to_string())?;
        match found {
            Some(item) if item.body == TEXT => Ok(()),
            _ => Err("it does not give back what was put there".to_owned()),
        }
    }

    async fn check_bucket(&self) -> Result<(), String> {
        let name = blob_name(&self.random_blob()).map_err(|error| error.message)?;
        let blobs = self.control.blobs();
        let body = Box::pin(stream::iter([Ok(TEXT)]));
        let outcome = async {
            blobs.put(&name, body, TEXT.len() as u64).await?;
            let got: Vec<_> = blobs.get(&name).await?.collect().await;
            blobs.delete(&name).await?;
            got.into_iter().collect::<Result<Vec<_>, _>>()
        };
        let got = outcome.await.map_err(|error| error.to_string())?.concat();
        if got == TEXT {
            Ok(())
        } else {
            Err("it does not give back what was put there".to_owned())
        }
    }

    async fn check_repository(&self) -> Result<(), String> {
        // Whether it is there is of no concern.
        let looked = self.registry.stat_blob(&Digest::of(b"")).await;
        looked.map(|_| ()).map_err(|error| error.to_string())
    }
}
