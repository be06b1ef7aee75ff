//! The table in one SQLite file.
//!
//! Calls run on the caller's thread under a mutex: a read takes a few
//! microseconds and a transaction some tens of them, less than handing either
//! to another thread and back.
//!
//! # What survives
//! An answered transaction survives the death of this process, `kill -9`
//! included: it is in the write-ahead log, which is in the kernel's page cache.
//! It need not survive a power cut. `synchronous=NORMAL` waits for the disk only
//! at checkpoints, so that after a power cut the last transactions may be
//! missing but the file is whole.

mod schema;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use sockerless_shared::timestamp::Timestamp;

use crate::ports::Table;
use crate::ports::table::{Condition, Item, Key, TableError, Write, check_transaction};

pub use schema::OpenTableError;

/// After so many transactions some expired items are deleted.
const SWEEP_EVERY: u32 = 256;

/// So many expired items at most are deleted by one transaction, lest it be slow.
const SWEEP_ITEMS: u32 = 512;

/// A [`Table`] in an SQLite file, held by this process alone.
#[derive(Debug)]
pub struct SqliteTable {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    until_sweep: u32,
}

impl SqliteTable {
    /// Opens the table in the file `path`, making it (mode 0600) if it does
    /// not exist. Its folder must exist.
    ///
    /// # Errors
    /// When another process has it open, when it is not such a table or one of
    /// a later version, and when it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, OpenTableError> {
        schema::open(path).map(Self::with)
    }

    /// A table that is gone when it is dropped.
    ///
    /// # Errors
    /// When SQLite cannot be set up.
    pub fn in_memory() -> Result<Self, OpenTableError> {
        schema::open_in_memory().map(Self::with)
    }

    fn with(connection: Connection) -> Self {
        Self {
            state: Mutex::new(State {
                connection,
                until_sweep: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held has rolled its transaction back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Table for SqliteTable {
    async fn get(&self, key: &Key, now: Timestamp) -> Result<Option<Item>, TableError> {
        let state = self.lock();
        let mut statement = state
            .connection
            .prepare_cached(
                "SELECT version, body FROM items
                 WHERE partition = ?1 AND sort = ?2 AND (expires IS NULL OR expires > ?3)",
            )
            .map_err(|e| failed("read an item", &e))?;
        statement
            .query_row(
                params![key.partition.as_bytes(), key.sort.as_bytes(), now.nanos()],
                |row| {
                    Ok(Item {
                        key: key.clone(),
                        version: row.get(0)?,
                        body: body(row, 1)?,
                    })
                },
            )
            .optional()
            .map_err(|e| failed("read an item", &e))
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Item>, TableError> {
        let (from, to) = sort_range(prefix, after);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let state = self.lock();
        let mut statement = state
            .connection
            .prepare_cached(
                "SELECT sort, version, body FROM items
                 WHERE partition = ?1 AND sort >= ?2 AND sort < ?3
                   AND (expires IS NULL OR expires > ?4)
                 ORDER BY sort LIMIT ?5",
            )
            .map_err(|e| failed("query a partition", &e))?;
        let rows = statement
            .query_map(
                params![partition.as_bytes(), from, to, now.nanos(), limit],
                |row| {
                    Ok(Item {
                        key: Key::new(partition, text(row, 0)?),
                        version: row.get(1)?,
                        body: body(row, 2)?,
                    })
                },
            )
            .map_err(|e| failed("query a partition", &e))?;
        rows.collect::<Result<_, _>>()
            .map_err(|e| failed("query a partition", &e))
    }

    async fn transact(&self, writes: Vec<Write>, now: Timestamp) -> Result<(), TableError> {
        check_transaction(&writes)?;
        let mut state = self.lock();
        let sweep = state.until_sweep == 0;
        // Dropping a transaction rolls it back, on every early return below.
        let transaction = state
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| failed("begin a transaction", &e))?;
        for (index, write) in writes.iter().enumerate() {
            apply(&transaction, index, write, now)?;
        }
        if sweep {
            delete_expired(&transaction, now).map_err(|e| failed("delete expired items", &e))?;
        }
        transaction
            .commit()
            .map_err(|e| failed("commit a transaction", &e))?;
        state.until_sweep = if sweep {
            SWEEP_EVERY
        } else {
            state.until_sweep - 1
        };
        Ok(())
    }
}

/// The sort keys that begin with `prefix` and are greater than `after`, as a
/// half-open range of bytes.
fn sort_range(prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let mut from = prefix.as_bytes().to_vec();
    if let Some(after) = after {
        // The least text greater than `after`.
        let mut next = after.as_bytes().to_vec();
        next.push(0);
        from = from.max(next);
    }
    // 0xff occurs in no UTF-8 text, so this is greater than all that begin with the prefix.
    let mut to = prefix.as_bytes().to_vec();
    to.push(0xff);
    (from, to)
}

fn apply(
    connection: &Connection,
    index: usize,
    write: &Write,
    now: Timestamp,
) -> Result<(), TableError> {
    let stored = stored_version(connection, write.key())
        .map_err(|e| failed("check the condition of a write", &e))?;
    let version = stored.and_then(|stored| stored.live_version(now));
    if !holds(write.condition(), version) {
        return Err(TableError::Conflict { index });
    }
    match write {
        Write::Put {
            key, body, expires, ..
        } => put(
            connection,
            key,
            version.unwrap_or(0) + 1,
            body,
            expires.map(Timestamp::nanos),
        )
        .map_err(|e| failed("write an item", &e)),
        Write::Delete { key, .. } if stored.is_some() => {
            delete(connection, key).map_err(|e| failed("delete an item", &e))
        }
        Write::Delete { .. } | Write::Check { .. } => Ok(()),
    }
}

const fn holds(condition: Condition, version: Option<u64>) -> bool {
    match (condition, version) {
        (Condition::Always, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
        (Condition::Version(wanted), Some(version)) => wanted == version,
        (Condition::Absent, Some(_)) | (Condition::Present | Condition::Version(_), None) => false,
    }
}

/// What a write needs to know of the row under its key.
#[derive(Debug, Clone, Copy)]
struct Stored {
    version: u64,
    expires: Option<i64>,
}

impl Stored {
    fn live_version(self, now: Timestamp) -> Option<u64> {
        self.expires
            .is_none_or(|expires| expires > now.nanos())
            .then_some(self.version)
    }
}

fn stored_version(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached("SELECT version, expires FROM items WHERE partition = ?1 AND sort = ?2")?
        .query_row(
            params![key.partition.as_bytes(), key.sort.as_bytes()],
            |row| {
                Ok(Stored {
                    version: row.get(0)?,
                    expires: row.get(1)?,
                })
            },
        )
        .optional()
}

fn put(
    connection: &Connection,
    key: &Key,
    version: u64,
    body: &[u8],
    expires: Option<i64>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO items (partition, sort, version, expires, body)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (partition, sort) DO UPDATE
             SET version = excluded.version, expires = excluded.expires, body = excluded.body",
        )?
        .execute(params![
            key.partition.as_bytes(),
            key.sort.as_bytes(),
            version,
            expires,
            body
        ])
        .map(|_| ())
}

fn delete(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM items WHERE partition = ?1 AND sort = ?2")?
        .execute(params![key.partition.as_bytes(), key.sort.as_bytes()])
        .map(|_| ())
}

fn delete_expired(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM items WHERE id IN
             (SELECT id FROM items WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
        )?
        .execute(params![now.nanos(), SWEEP_ITEMS])
        .map(|_| ())
}

fn body(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_bytes()?))
}

fn text(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes: Vec<u8> = row.get(column)?;
    String::from_utf8(bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Blob,
            Box::new(error),
        )
    })
}

fn failed(what: &str, error: &rusqlite::Error) -> TableError {
    TableError::Unavailable(format!("cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_exactly_the_keys_with_the_prefix_after_the_given_one() {
        let keys = ["", "a", "a/", "a/1", "a/10", "a/2", "a/ü", "a0", "b", "ü"];
        for prefix in keys {
            for after in std::iter::once(None).chain(keys.map(Some)) {
                let (from, to) = sort_range(prefix, after);
                for key in keys {
                    let wanted = key.starts_with(prefix) && after.is_none_or(|after| key > after);
                    let found = *key.as_bytes() >= *from && *key.as_bytes() < *to;
                    assert_eq!(found, wanted, "{key:?} with {prefix:?} after {after:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn expired_items_are_deleted_in_time() {
        let table = SqliteTable::in_memory().unwrap();
        let put = |sort: String, expires| Write::Put {
            key: Key::new("p", sort),
            body: Bytes::from_static(b"{}"),
            expires: Some(Timestamp::from_secs(expires)),
            condition: Condition::Always,
        };
        for n in 0..SWEEP_EVERY {
            table
                .transact(vec![put(n.to_string(), 10)], Timestamp::from_secs(1))
                .await
                .unwrap();
        }
        for n in 0..=SWEEP_EVERY {
            table
                .transact(
                    vec![put(format!("later{n}"), 100)],
                    Timestamp::from_secs(10),
                )
                .await
                .unwrap();
        }
        let rows: u32 = table
            .lock()
            .connection
            .query_row(
                "SELECT count(*) FROM items WHERE expires < 11000000000",
                [],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(rows, 0);
    }
}
