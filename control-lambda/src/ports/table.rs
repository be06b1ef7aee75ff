//! The store: one table of small items, as DynamoDB has it.
//!
//! Items are found by a partition key and a sort key, carry a version that
//! every write raises, and are changed in transactions whose conditions all
//! hold or none of whose writes happen. Reads see every write that was
//! answered before they began (consistent reads).

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

/// Largest body of an item, in bytes (DynamoDB: 400 KB with keys and attribute names).
pub const MAX_BODY_BYTES: usize = 390 * 1024;

/// Most writes in one transaction (DynamoDB: 100).
pub const MAX_TRANSACTION_WRITES: usize = 100;

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The partition.
    pub partition: String,
    /// The place within the partition; items of a partition are read in its order (bytes).
    pub sort: String,
}

impl Key {
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
    /// The transaction has more than [`MAX_TRANSACTION_WRITES`] writes, two for one key, or none.
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
