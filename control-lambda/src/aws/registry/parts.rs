//! Uploads that go on in another invocation: who is storing which blob, and how far it is.
//!
//! ECR keeps the parts of an upload under the upload's own URL. A record in the table has that
//! URL with the number of bytes sent and the state of their hash, so that whoever comes next
//! sends only the rest, and still knows that the whole is what was announced. The record names
//! the one who is at it, for as long as it says so.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2_resumable::digest::common::hazmat::SerializableState as _;
use sha2_resumable::{Digest as _, Sha256};
use sockerless_shared::timestamp::Timestamp;

use crate::images::digest::Digest;
use crate::ports::registry::RegistryError;
use crate::ports::table::{Condition, Key, TableError, Write};
use crate::ports::{Environment, Table};

/// The partition of the records.
const PARTITION: &str = "uploads";
/// After which an upload that nobody went on with is begun anew. What ECR keeps it for is
/// nowhere said; one that is gone there is begun anew, too.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Who has not said for so long that it is at it is not any more.
const LEASE: Duration = Duration::from_secs(30);

/// The records.
pub(super) struct UploadRecords {
    table: Arc<dyn Table>,
    environment: Arc<dyn Environment>,
}

/// How far an upload is.
#[derive(Clone)]
pub(super) struct Progress {
    /// Where the registry said to go on.
    pub(super) location: String,
    /// How many bytes were sent.
    pub(super) sent: u64,
    /// Of these.
    pub(super) hash: Sha256,
}

#[derive(Serialize, Deserialize)]
struct Record {
    location: String,
    sent: u64,
    /// The hash's state, in base64.
    hash: String,
    /// Until when somebody is at it, in nanoseconds since 1970; 0 for nobody.
    until: i64,
}

impl UploadRecords {
    pub(super) fn new(table: Arc<dyn Table>, environment: Arc<dyn Environment>) -> Self {
        Self { table, environment }
    }

    /// How far the upload of a blob is.
    pub(super) async fn sent(&self, digest: &Digest) -> Result<u64, RegistryError> {
        match self.read(digest).await? {
            Some((record, _)) if record.until > self.environment.now().nanos() => {
                Err(RegistryError::Busy(*digest))
            }
            found => Ok(found.map_or(0, |(record, _)| record.sent)),
        }
    }

    /// The right to go on with a blob's upload, of which `kept` bytes are there. The progress
    /// is `None` for an upload that has to be begun.
    pub(super) async fn claim(
        self: &Arc<Self>,
        digest: &Digest,
        kept: u64,
    ) -> Result<(Claim, Option<Progress>), RegistryError> {
        let now = self.environment.now();
        let (found, version) = match self.read(digest).await? {
            Some((record, version)) => (Some(record), version),
            None => (None, 0),
        };
        if let Some(record) = &found
            && record.until > now.nanos()
        {
            return Err(RegistryError::Busy(*digest));
        }
        let progress = match &found {
            Some(record) if !record.location.is_empty() => Some(progress(record)?),
            _ => None,
        };
        let there = progress.as_ref().map_or(0, |progress| progress.sent);
        if there != kept {
            return Err(RegistryError::Unavailable(format!(
                "{there} bytes of {digest} are kept, and not {kept}"
            )));
        }
        let mut claim = Claim {
            records: Arc::clone(self),
            digest: *digest,
            version,
            progress: progress.clone(),
            said: now,
            is_open: false,
        };
        claim.write(true).await?;
        claim.is_open = true;
        if version == 0 {
            // One that had expired, and was still there, goes on counting.
            claim.version = self.read(digest).await?.map_or(1, |(_, version)| version);
        }
        Ok((claim, progress))
    }

    async fn read(&self, digest: &Digest) -> Result<Option<(Record, u64)>, RegistryError> {
        let found = self
            .table
            .get(&key(digest), self.environment.now())
            .await
            .map_err(failed)?;
        found
            .map(|item| {
                let record = serde_json::from_slice(&item.body).map_err(|_| damaged())?;
                Ok((record, item.version))
            })
            .transpose()
    }
}

/// The right to store a blob. When it is dropped, the next may go on.
pub(super) struct Claim {
    records: Arc<UploadRecords>,
    digest: Digest,
    /// Of the record; 0 for one that is not there.
    version: u64,
    progress: Option<Progress>,
    /// When it was last said that it is held.
    said: Timestamp,
    is_open: bool,
}

impl Claim {
    /// Says how far it is, and that it goes on.
    pub(super) async fn note(&mut self, progress: Progress) -> Result<(), RegistryError> {
        self.progress = Some(progress);
        self.write(true).await
    }

    /// Says that it goes on, if that has not been said for a while.
    pub(super) async fn renew(&mut self) -> Result<(), RegistryError> {
        let now = self.records.environment.now();
        if now < self.said.plus(LEASE / 3) {
            return Ok(());
        }
        self.write(true).await
    }

    /// Leaves the parts to the next who wants the blob.
    pub(super) async fn leave(mut self) -> Result<(), RegistryError> {
        self.is_open = false;
        self.write(false).await
    }

    /// Nothing is to be gone on with: it is done, or was in vain.
    pub(super) async fn end(mut self) -> Result<(), RegistryError> {
        self.is_open = false;
        let write = Write::Delete {
            key: key(&self.digest),
            condition: Condition::Always,
        };
        let now = self.records.environment.now();
        self.records
            .table
            .transact(vec![write], now)
            .await
            .map_err(failed)
    }

    /// Somebody else has it.
    pub(super) fn lose(mut self) {
        self.is_open = false;
    }

    async fn write(&mut self, is_held: bool) -> Result<(), RegistryError> {
        let now = self.records.environment.now();
        let (record, condition) = (self.record(is_held, now), self.condition());
        put(&self.records, &self.digest, &record, condition, now).await?;
        self.version += 1;
        self.said = now;
        Ok(())
    }

    fn record(&self, is_held: bool, now: Timestamp) -> Record {
        let until = if is_held { now.plus(LEASE).nanos() } else { 0 };
        match &self.progress {
            None => Record {
                location: String::new(),
                sent: 0,
                hash: String::new(),
                until,
            },
            Some(progress) => Record {
                location: progress.location.clone(),
                sent: progress.sent,
                hash: STANDARD.encode(progress.hash.serialize()),
                until,
            },
        }
    }

    const fn condition(&self) -> Condition {
        match self.version {
            0 => Condition::Absent,
            version => Condition::Version(version),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let now = self.records.environment.now();
        let (record, condition) = (self.record(false, now), self.condition());
        let (records, digest) = (Arc::clone(&self.records), self.digest);
        // Should it not come to this, the claim ends by itself.
        runtime.spawn(async move {
            if let Err(error) = put(&records, &digest, &record, condition, now).await {
                tracing::info!(%error, %digest, "an upload was not given free");
            }
        });
    }
}

async fn put(
    records: &UploadRecords,
    digest: &Digest,
    record: &Record,
    condition: Condition,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let body = serde_json::to_vec(record).map_err(|_| damaged())?;
    let write = Write::Put {
        key: key(digest),
        body: Bytes::from(body),
        expires: Some(now.plus(LIFETIME)),
        condition,
    };
    match records.table.transact(vec![write], now).await {
        Ok(()) => Ok(()),
        Err(TableError::Conflict { .. }) => Err(RegistryError::Busy(*digest)),
        Err(error) => Err(failed(error)),
    }
}

fn progress(record: &Record) -> Result<Progress, RegistryError> {
    let state = STANDARD.decode(&record.hash).map_err(|_| damaged())?;
    let state = state.as_slice().try_into().map_err(|_| damaged())?;
    Ok(Progress {
        location: record.location.clone(),
        sent: record.sent,
        hash: Sha256::deserialize(state).map_err(|_| damaged())?,
    })
}

/// The digest of a hash that has come to its end.
pub(super) fn finished(hash: Sha256) -> Result<Digest, RegistryError> {
    format!("sha256:{}", hex::encode(hash.finalize()))
        .parse()
        .map_err(|_| damaged())
}

fn key(digest: &Digest) -> Key {
    Key::new(PARTITION, digest.to_string())
}

fn damaged() -> RegistryError {
    RegistryError::Unavailable("the record of an upload is damaged".to_owned())
}

fn failed(error: TableError) -> RegistryError {
    RegistryError::Unavailable(error.to_string())
}
