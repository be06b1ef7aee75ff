//! What every [`Table`] does.
//!
//! The table may hold other things: every case works in partitions of its own.

mod concurrency;
mod expiry;
mod queries;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sockerless_control::ports::Table;
use sockerless_control::ports::table::{
    Condition, Item, Key, MAX_BODY_BYTES, MAX_PARTITION_BYTES, MAX_SORT_BYTES,
    MAX_TRANSACTION_WRITES, TableError, Write,
};
use sockerless_shared::timestamp::Timestamp;

/// Makes a test of every case. `$make` is an async expression that gives an `Arc<dyn Table>`.
macro_rules! table_contract {
    ($make:expr) => {
        crate::table::table_contract!($make;
            what_was_put_is_read,
            an_empty_table_answers_nothing,
            every_write_raises_the_version,
            absent_holds_only_for_what_is_not_there,
            present_holds_only_for_what_is_there,
            a_version_holds_only_for_itself,
            conditions_on_delete,
            a_delete_without_condition_is_no_error,
            a_check_writes_nothing,
            a_transaction_is_all_or_nothing,
            the_first_failed_condition_is_named,
            a_claim_in_two_items_is_taken_once,
            invalid_transactions_are_refused,
            the_largest_body_fits_and_one_more_byte_does_not,
            the_largest_transaction_fits,
            too_many_bytes_in_one_transaction_are_refused,
            the_longest_keys_fit,
            keys_are_compared_by_bytes,
            partitions_are_apart,
            a_query_keeps_to_its_prefix,
            pages_add_up_to_the_whole,
            large_pages_are_whole,
            a_query_after_any_key_begins_behind_it,
            expired_items_count_as_absent,
            expired_items_do_not_shorten_pages,
            an_expiry_can_be_moved_and_removed,
            of_concurrent_claims_one_wins,
            concurrent_counters_lose_nothing,
            a_read_sees_what_was_answered_before,
        );
    };
    ($make:expr; $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let table = $make.await;
                crate::table::$case(table).await;
            }
        )*
    };
}
pub(crate) use table_contract;

pub(crate) use concurrency::*;
pub(crate) use expiry::*;
pub(crate) use queries::*;
pub(crate) use writes::*;

type Shared = Arc<dyn Table>;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A partition that no other test uses, in this run or another.
fn partition() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    format!(
        "contract/{nanos}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

fn json(text: &str) -> Bytes {
    Bytes::from(format!("{text:?}"))
}

fn put(key: &Key, body: &str, condition: Condition) -> Write {
    Write::Put {
        key: key.clone(),
        body: json(body),
        expires: None,
        condition,
    }
}

fn put_until(key: &Key, body: &str, expires: Timestamp, condition: Condition) -> Write {
    Write::Put {
        key: key.clone(),
        body: json(body),
        expires: Some(expires),
        condition,
    }
}

fn put_bytes(key: &Key, body: Vec<u8>) -> Write {
    Write::Put {
        key: key.clone(),
        body: body.into(),
        expires: None,
        condition: Condition::Always,
    }
}

fn delete(key: &Key, condition: Condition) -> Write {
    Write::Delete {
        key: key.clone(),
        condition,
    }
}

fn check(key: &Key, condition: Condition) -> Write {
    Write::Check {
        key: key.clone(),
        condition,
    }
}

async fn get(table: &Shared, key: &Key) -> Option<Item> {
    table.get(key, NOW).await.unwrap()
}

async fn body_of(table: &Shared, key: &Key) -> Option<Bytes> {
    get(table, key).await.map(|item| item.body)
}

async fn write(table: &Shared, writes: Vec<Write>) -> Result<(), TableError> {
    table.transact(writes, NOW).await
}

async fn sorts(table: &Shared, partition: &str, prefix: &str, after: Option<&str>) -> Vec<String> {
    let items = table
        .query(partition, prefix, after, 1000, NOW)
        .await
        .unwrap();
    items.into_iter().map(|item| item.key.sort).collect()
}

const CONFLICT: Result<(), TableError> = Err(TableError::Conflict { index: 0 });

fn body_of_length(length: usize) -> Vec<u8> {
    let mut body = vec![b'x'; length];
    body[0] = b'"';
    body[length - 1] = b'"';
    body
}
