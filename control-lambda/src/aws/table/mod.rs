//! The table in DynamoDB.
//!
//! The table has the partition key `pk` and the sort key `sk` (both strings),
//! and `ttl` as its time-to-live attribute. DynamoDB deletes expired items
//! late, and shows them until then; so every read and condition compares the
//! exact time of expiry, `expires`, itself.

mod expression;
mod packing;
mod single;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, TransactWriteItem};
use sockerless_shared::timestamp::Timestamp;

use super::sdk::{Sdk, describe};
use crate::ports::Table;
use crate::ports::table::{Condition, Item, Key, TableError, Write, check_transaction};

/// How often a transaction is begun that others keep from being carried out.
const ATTEMPTS: u32 = 10;

/// How long is waited before the second attempt; twice as long before each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// A [`Table`] in DynamoDB.
#[derive(Debug, Clone)]
pub struct DynamoTable {
    client: Client,
    name: String,
}

impl DynamoTable {
    /// The table of this name, which must exist.
    #[must_use]
    pub fn new(sdk: &Sdk, name: impl Into<String>) -> Self {
        Self {
            client: Client::new(sdk.config()),
            name: name.into(),
        }
    }

    /// Carries a transaction out; `positions` says which write each part of it stands for.
    async fn attempt(
        &self,
        parts: &[TransactWriteItem],
        positions: &[usize],
        token: &str,
    ) -> Result<Outcome, TableError> {
        let sent = self
            .client
            .transact_write_items()
            .set_transact_items(Some(parts.to_vec()))
            .client_request_token(token)
            .send()
            .await;
        let error = match sent {
            Ok(_) => return Ok(Outcome::Done),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                classify(canceled.cancellation_reasons(), positions)
                    .ok_or_else(|| failed("carry out a transaction", &error))
            }
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => {
                Ok(Outcome::InProgress)
            }
            _ => Err(failed("carry out a transaction", &error)),
        }
    }
}

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The condition of this write did not hold.
    Conflict(usize),
    /// Another transaction was at the same items, or there were too many. It was canceled.
    Busy,
    /// The same request was sent before, and is still being carried out.
    InProgress,
}

/// Why a transaction was canceled; `None` for any other reason.
fn classify(reasons: &[CancellationReason], positions: &[usize]) -> Option<Outcome> {
    let code = |wanted: &[&str]| {
        reasons
            .iter()
            .position(|reason| reason.code().is_some_and(|code| wanted.contains(&code)))
    };
    if let Some(part) = code(&["ConditionalCheckFailed"]) {
        return positions.get(part).copied().map(Outcome::Conflict);
    }
    code(&[
        "TransactionConflict",
        "ProvisionedThroughputExceeded",
        "ThrottlingError",
    ])
    .map(|_| Outcome::Busy)
}

#[async_trait]
impl Table for DynamoTable {
    async fn get(&self, key: &Key, now: Timestamp) -> Result<Option<Item>, TableError> {
        if !key.is_valid() {
            return Ok(None);
        }
        let found = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(expression::key(key)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed("read an item", &error))?;
        match found.item {
            Some(attributes) if !is_expired(&attributes, now)? => item(attributes).map(Some),
            _ => Ok(None),
        }
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Item>, TableError> {
        let first = Key::new(partition, "x");
        let Some(start) = start(prefix, after).filter(|_| first.is_valid() && limit > 0) else {
            return Ok(Vec::new());
        };
        let mut start = start.map(|after| expression::key(&Key::new(partition, after)));
        let mut items = Vec::new();
        loop {
            // The limit counts expired items too, so that a page may have to be asked for again.
            let page_limit = i32::try_from(limit - items.len()).unwrap_or(i32::MAX);
            let page = expression::query(self.client.query(), partition, prefix, now)
                .table_name(&self.name)
                .consistent_read(true)
                .limit(page_limit)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| failed("query a partition", &error))?;
            for attributes in page.items.unwrap_or_default() {
                items.push(item(attributes)?);
            }
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() || items.len() >= limit {
                items.truncate(limit);
                return Ok(items);
            }
        }
    }

    async fn transact(&self, writes: Vec<Write>, now: Timestamp) -> Result<(), TableError> {
        check_transaction(&writes)?;
        if let [write] = writes.as_slice()
            && let Some(outcome) = self.single(write, now).await?
        {
            return outcome;
        }
        let mut parts = Vec::with_capacity(writes.len());
        let mut positions = Vec::with_capacity(writes.len());
        for (position, write) in writes.iter().enumerate() {
            if let Some(part) = expression::part(&self.name, write, now)? {
                parts.push(part);
                positions.push(position);
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        // A transaction has a token: should the answer be lost, the SDK's repetition is
        // recognised as such.
        let mut pause = FIRST_PAUSE;
        let mut token = new_token()?;
        for _ in 0..ATTEMPTS {
            match self.attempt(&parts, &positions, &token).await? {
                Outcome::Done => return Ok(()),
                Outcome::Conflict(index) => return Err(TableError::Conflict { index }),
                Outcome::Busy => token = new_token()?,
                Outcome::InProgress => {}
            }
            tokio::time::sleep(jittered(pause)).await;
            pause *= 2;
        }
        Err(TableError::Unavailable(format!(
            "a transaction met others at the same items {ATTEMPTS} times; try again"
        )))
    }
}

/// Where reading begins, so that it stays within the prefix: `None` for
/// nowhere, `Some(None)` for the prefix's first item.
fn start<'a>(prefix: &str, after: Option<&'a str>) -> Option<Option<&'a str>> {
    match after {
        None | Some("") => Some(None),
        // DynamoDB refuses to begin outside of what is asked for.
        Some(after) if after.starts_with(prefix) => Some(Some(after)),
        Some(after) if after < prefix => Some(None),
        Some(_) => None,
    }
}

fn item(mut attributes: HashMap<String, AttributeValue>) -> Result<Item, TableError> {
    let mut text = |name: &str| match attributes.remove(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(malformed(name)),
    };
    let key = Key::new(text(expression::PARTITION)?, text(expression::SORT)?);
    let body = attributes
        .remove(expression::BODY)
        .and_then(packing::unpack)
        .ok_or_else(|| malformed(expression::BODY))??;
    let version = number(&attributes, expression::VERSION)?
        .and_then(|version| u64::try_from(version).ok())
        .ok_or_else(|| malformed(expression::VERSION))?;
    Ok(Item { key, version, body })
}

fn is_expired(
    attributes: &HashMap<String, AttributeValue>,
    now: Timestamp,
) -> Result<bool, TableError> {
    let expires = number(attributes, expression::EXPIRES)?;
    Ok(expires.is_some_and(|expires| expires <= i128::from(now.nanos())))
}

fn number(
    attributes: &HashMap<String, AttributeValue>,
    name: &str,
) -> Result<Option<i128>, TableError> {
    match attributes.get(name) {
        None => Ok(None),
        Some(AttributeValue::N(digits)) => digits.parse().map(Some).map_err(|_| malformed(name)),
        Some(_) => Err(malformed(name)),
    }
}

fn malformed(attribute: &str) -> TableError {
    TableError::Unavailable(format!(
        "an item's attribute {attribute} is not what this program writes; was the table changed by hand?"
    ))
}

fn failed<E, R>(what: &str, error: &SdkError<E, R>) -> TableError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    TableError::Unavailable(format!("cannot {what}: {}", describe(error)))
}

fn new_token() -> Result<String, TableError> {
    let bytes: [u8; 16] = random()?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Between half of it and all of it, so that those who met do not meet again.
fn jittered(pause: Duration) -> Duration {
    let share = random::<1>().map_or(255, |[byte]| u32::from(byte));
    pause / 2 + pause * share / 510
}

fn random<const N: usize>() -> Result<[u8; N], TableError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| TableError::Unavailable(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// Whether a write with this condition can fail.
const fn is_conditional(condition: Condition) -> bool {
    !matches!(condition, Condition::Always)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_within_the_prefix() {
        assert_eq!(start("m/", None), Some(None));
        assert_eq!(start("m/", Some("")), Some(None));
        assert_eq!(start("m/", Some("a")), Some(None));
        assert_eq!(start("m/", Some("m/1")), Some(Some("m/1")));
        assert_eq!(start("m/", Some("n")), None);
        assert_eq!(start("", Some("n")), Some(Some("n")));
    }

    #[test]
    fn the_first_condition_that_failed_is_found() {
        let reasons: Vec<_> = [
            "None",
            "TransactionConflict",
            "ConditionalCheckFailed",
            "ConditionalCheckFailed",
        ]
        .map(|code| CancellationReason::builder().code(code).build())
        .into();
        // The second write was left out, for it always succeeds.
        assert_eq!(
            classify(&reasons, &[0, 2, 3, 4]),
            Some(Outcome::Conflict(3))
        );
        assert_eq!(classify(&reasons[..2], &[0, 2]), Some(Outcome::Busy));
        assert_eq!(classify(&reasons[..1], &[0]), None);
    }
}
