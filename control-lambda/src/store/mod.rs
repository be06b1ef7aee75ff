//! What the control plane remembers, as records over the [`Table`] port.
//!
//! | partition | sort | record |
//! |---|---|---|
//! | `C#<namespace>` | container id | [`containers::Container`] |
//! | `N#<namespace>` | name | the container that has the name, and since when |
//! | `LIVE` | `<namespace>#<container>#<mark>` | mark of a run that goes on; what the sweep looks at |
//! | `SPENT` | date | what the spend guard counts |
//! | `R#<agent>` | `run` | [`runs::RunRecord`] |
//! | `M#<run>` | command number | [`runs::PendingCommand`] |
//! | `K#<connection>` | `who` | [`peers::Connected`] |
//! | `P#<frontend>` | `at` | [`peers::Peer`] |
//! | `F#<namespace>` | peer | mark: this frontend belongs to the namespace |
//! | `A#<answer>` | `meta`, `p#<number>` | [`answers::Meta`] and large parts |
//! | `W#<container>` | `<kind>#<answer>` | [`answers::Meta`] of an answer that waits for something to happen to the container |
//! | `E#<namespace>` | time, newest first, and a name | the [`events::Event`]s of one step |
//! | `S#<namespace>` | answer | mark: this answer listens to the namespace's events |
//! | `BOOT` | `<namespace>#<container>` | mark: started again together with its host |
//! | `X#<namespace>` | exec id | [`execs::Exec`] |
//! | `XC#<container>` | exec id | mark: this exec belongs to the container |
//! | `NET#<namespace>` | network id | [`networks::Network`] |
//! | `NETN#<namespace>` | name | the id of the network that has the name |
//! | `NETR#<namespace>` | address range | the id of the network that has the range |
//! | `VOL#<namespace>` | name | [`volumes::Volume`] |

pub mod answers;
pub mod containers;
pub mod events;
pub mod execs;
pub mod networks;
pub mod peers;
pub mod runs;
pub mod volumes;
pub mod waiters;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::ports::Environment;
use crate::ports::table::{Condition, Item, Key, Table, TableError, Write};

/// Why a record could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The table said no.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What is stored cannot be read by this version.
    #[error("store: record {key} cannot be read: {reason}")]
    Damaged {
        /// Which.
        key: String,
        /// Why.
        reason: String,
    },
    /// Somebody else changed the record every time it was tried.
    #[error("store: record {0} is being changed by too many at once; try again")]
    Contended(String),
}

impl StoreError {
    /// Whether a condition did not hold.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Table(TableError::Conflict { .. }))
    }
}

/// A record and the version under which it was read.
#[derive(Debug, Clone)]
pub struct Versioned<T> {
    /// The record.
    pub record: T,
    /// Its version.
    pub version: u64,
}

/// The records.
#[derive(Clone)]
pub struct Store {
    table: Arc<dyn Table>,
    environment: Arc<dyn Environment>,
}

/// How often a change is tried again when somebody else was quicker.
pub(crate) const ATTEMPTS: usize = 50;

impl Store {
    /// The records of this table.
    #[must_use]
    pub fn new(table: Arc<dyn Table>, environment: Arc<dyn Environment>) -> Self {
        Self { table, environment }
    }

    /// The table beneath, for records of other modules.
    #[must_use]
    pub fn table(&self) -> &Arc<dyn Table> {
        &self.table
    }

    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<Option<Versioned<T>>, StoreError> {
        let item = self.table.get(key, self.environment.now()).await?;
        item.map(|item| parse(&item)).transpose()
    }

    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        partition: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<(String, Versioned<T>)>, StoreError> {
        self.list_after(partition, prefix, None, limit).await
    }

    pub(crate) async fn list_after<T: DeserializeOwned>(
        &self,
        partition: &str,
        prefix: &str,
        mut after: Option<String>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned<T>)>, StoreError> {
        let mut found = Vec::new();
        while found.len() < limit {
            let page = PAGE.min(limit - found.len());
            let now = self.environment.now();
            let items = self
                .table
                .query(partition, prefix, after.as_deref(), page, now)
                .await?;
            let last = items.len() < page;
            after = items.last().map(|item| item.key.sort.clone());
            for item in items {
                let record = parse(&item)?;
                found.push((item.key.sort, record));
            }
            if last {
                break;
            }
        }
        Ok(found)
    }

    pub(crate) async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        Ok(self.table.transact(writes, self.environment.now()).await?)
    }
}

const PAGE: usize = 256;

fn parse<T: DeserializeOwned>(item: &Item) -> Result<Versioned<T>, StoreError> {
    let record = serde_json::from_slice(&item.body).map_err(|error| StoreError::Damaged {
        key: format!("{}/{}", item.key.partition, item.key.sort),
        reason: error.to_string(),
    })?;
    Ok(Versioned {
        record,
        version: item.version,
    })
}

/// A write that stores `record`.
pub(crate) fn put<T: Serialize>(
    key: Key,
    record: &T,
    condition: Condition,
) -> Result<Write, StoreError> {
    put_until(key, record, condition, None)
}

/// A write that stores `record` until a point in time.
pub(crate) fn put_until<T: Serialize>(
    key: Key,
    record: &T,
    condition: Condition,
    expires: Option<sockerless_shared::timestamp::Timestamp>,
) -> Result<Write, StoreError> {
    let body = serde_json::to_vec(record)
        .map(Bytes::from)
        .map_err(|error| StoreError::Damaged {
            key: format!("{}/{}", key.partition, key.sort),
            reason: error.to_string(),
        })?;
    Ok(Write::Put {
        key,
        body,
        expires,
        condition,
    })
}
