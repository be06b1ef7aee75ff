//! The store: one table of small items, as DynamoDB has it.
//!
//! Items are found by a partition key and a sort key, carry a version that
//! every write raises, and are changed in transactions whose conditions all
//! hold or none of whose writes happen. Reads see every write that was
//! answered before they began (consistent reads).

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

/// Largest body of an item, in bytes (DynamoDB: 400 KB with keys and attribute names).
pub const MAX_BODY_BYTES: usize = 390 * 1024;

/// Most writes in one transaction (DynamoDB: 100).
pub const MAX_TRANSACTION_WRITES: usize = 100;

/// Most bytes in one transaction, keys and bodies together (DynamoDB: 4 MB).
pub const MAX_TRANSACTION_BYTES: usize = 4_000_000;

/// Longest partition key in bytes (DynamoDB: 2,048); the shortest is 1.
pub const MAX_PARTITION_BYTES: usize = 2048;

/// Longest sort key in bytes (DynamoDB: 1,024); the shortest is 1.
pub const MAX_SORT_BYTES: usize = 1024;

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The partition.
    pub partition: String,
    /// The place within the partition; items of a partition are read in its order (bytes).
    pub sort: String,
}

impl Key {
    /// Whether both parts are of a length that every store takes. Nothing can
    /// be stored under any other key.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        (1..=MAX_PARTITION_BYTES).contains(&self.partition.len())
            && (1..=MAX_SORT_BYTES).contains(&self.sort.len())
    }

    /// A key of these two parts.
    #[must_use]
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self {
            partition: partition.into(),
            sort: sort.into(),
        }
    }
}

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it is.
    pub key: Key,
    /// Raised by one with every write; the first is 1.
    pub version: u64,
    /// JSON text, of at most [`MAX_BODY_BYTES`].
    pub body: Bytes,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// No item is there (an expired one counts as none).
    Absent,
    /// An item is there, of whatever version.
    Present,
    /// The item has this version.
    Version(u64),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Stores a body.
    Put {
        /// Where.
        key: Key,
        /// What.
        body: Bytes,
        /// From when on the item counts as absent; it may be deleted at any time after.
        expires: Option<Timestamp>,
        /// What must hold.
        condition: Condition,
    },
    /// Removes an item. Removing what is not there is no error unless the condition says so.
    Delete {
        /// Where.
        key: Key,
        /// What must hold.
        condition: Condition,
    },
    /// Writes nothing, only demands the condition.
    Check {
        /// Where.
        key: Key,
        /// What must hold.
        condition: Condition,
    },
}

impl Write {
    /// Where.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Check { key, .. } => key,
        }
    }

    /// What must hold.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        match self {
            Self::Put { condition, .. }
            | Self::Delete { condition, .. }
            | Self::Check { condition, .. } => *condition,
        }
    }
}

/// The rules of [`Table::transact`] that can be checked without the store.
/// Every adapter begins with them, so that no store is more lenient than another.
///
/// # Errors
/// [`TableError::TooLarge`] and [`TableError::InvalidTransaction`].
pub fn check_transaction(writes: &[Write]) -> Result<(), TableError> {
    let invalid = |why: String| Err(TableError::InvalidTransaction(why));
    if writes.is_empty() || writes.len() > MAX_TRANSACTION_WRITES {
        return invalid(format!(
            "{} writes, where 1 to {MAX_TRANSACTION_WRITES} are allowed",
            writes.len()
        ));
    }
    let mut keys = HashSet::with_capacity(writes.len());
    let mut total = 0;
    for write in writes {
        let key = write.key();
        if !key.is_valid() {
            return invalid(format!(
                "a key of {} and {} bytes, where 1 to {MAX_PARTITION_BYTES} and 1 to {MAX_SORT_BYTES} are allowed",
                key.partition.len(),
                key.sort.len()
            ));
        }
        if !keys.insert(key) {
            return invalid(format!("two writes for {} {}", key.partition, key.sort));
        }
        total += key.partition.len() + key.sort.len();
        if let Write::Put { body, .. } = write {
            if body.len() > MAX_BODY_BYTES {
                return Err(TableError::TooLarge(body.len()));
            }
            if std::str::from_utf8(body).is_err() {
                return invalid(format!(
                    "the body for {} {} is not UTF-8",
                    key.partition, key.sort
                ));
            }
            total += body.len();
        }
    }
    if total > MAX_TRANSACTION_BYTES {
        return invalid(format!(
            "{total} bytes, where at most {MAX_TRANSACTION_BYTES} are allowed"
        ));
    }
    Ok(())
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TableError {
    /// A condition did not hold; nothing was written. `index` is the first such write.
    #[error("store: condition of write {index} did not hold")]
    Conflict {
        /// Index into the transaction's writes.
        index: usize,
    },
    /// The body is larger than [`MAX_BODY_BYTES`].
    #[error("store: item of {0} bytes is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge(usize),
    /// The transaction has more than [`MAX_TRANSACTION_WRITES`] writes, two for
    /// one key, or none; or a key is too long or empty, or a body no text.
    #[error("store: transaction is not valid: {0}")]
    InvalidTransaction(String),
    /// The store did not answer or failed.
    #[error("store: {0}")]
    Unavailable(String),
}

/// The store.
#[async_trait]
pub trait Table: Send + Sync {
    /// The item under a key, unless it has expired at `now`.
    ///
    /// # Errors
    /// [`TableError::Unavailable`].
    async fn get(&self, key: &Key, now: Timestamp) -> Result<Option<Item>, TableError>;

    /// Up to `limit` items of a partition whose sort key begins with `prefix`
    /// and is greater than `after`, in order, without those expired at `now`.
    /// Fewer than `limit` means that there are no more.
    ///
    /// # Errors
    /// [`TableError::Unavailable`].
    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Item>, TableError>;

    /// Carries out all writes or none.
    ///
    /// # Errors
    /// Every kind of [`TableError`].
    async fn transact(&self, writes: Vec<Write>, now: Timestamp) -> Result<(), TableError>;
}
