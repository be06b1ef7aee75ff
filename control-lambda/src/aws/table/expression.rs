//! Writes and queries in DynamoDB's expressions.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, Delete, TransactWriteItem, Update};
use sockerless_shared::timestamp::Timestamp;

use super::{is_conditional, packing};
use crate::ports::table::{Condition, Key, TableError, Write};

/// The partition key.
pub(super) const PARTITION: &str = "pk";
/// The sort key.
pub(super) const SORT: &str = "sk";
/// The version, a number.
pub(super) const VERSION: &str = "version";
/// Who wrote it last, where that was one conditional write: what recognises its repetition.
pub(super) const WRITER: &str = "writer";
/// The body, a string, or one that is packed.
pub(super) const BODY: &str = "body";
/// When the item expires, in nanoseconds since 1970; what decides.
pub(super) const EXPIRES: &str = "expires";
/// The same in seconds, for DynamoDB to delete it some time after.
pub(super) const TTL: &str = "ttl";

/// It exists as far as this program is concerned.
const LIVE: &str = "attribute_exists(#pk) AND (attribute_not_exists(#expires) OR #expires > :now)";
/// The opposite.
const ABSENT: &str = "attribute_not_exists(#pk) OR #expires <= :now";

pub(super) fn key(key: &Key) -> HashMap<String, AttributeValue> {
    HashMap::from([
        (
            PARTITION.to_owned(),
            AttributeValue::S(key.partition.clone()),
        ),
        (SORT.to_owned(), AttributeValue::S(key.sort.clone())),
    ])
}

/// A query for a partition's live items with a prefix.
pub(super) fn query(
    query: QueryFluentBuilder,
    partition: &str,
    prefix: &str,
    now: Timestamp,
) -> QueryFluentBuilder {
    let query = query
        .expression_attribute_names("#pk", PARTITION)
        .expression_attribute_names("#expires", EXPIRES)
        .expression_attribute_values(":pk", AttributeValue::S(partition.to_owned()))
        .expression_attribute_values(":now", number(now.nanos()))
        .filter_expression("attribute_not_exists(#expires) OR #expires > :now");
    if prefix.is_empty() {
        query.key_condition_expression("#pk = :pk")
    } else {
        query
            .key_condition_expression("#pk = :pk AND begins_with(#sk, :prefix)")
            .expression_attribute_names("#sk", SORT)
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
    }
}

/// A write as a part of a transaction; `None` for a check of nothing.
pub(super) fn part(
    table: &str,
    write: &Write,
    now: Timestamp,
) -> Result<Option<TransactWriteItem>, TableError> {
    let part = TransactWriteItem::builder();
    let built = match write {
        Write::Put {
            key,
            body,
            expires,
            condition,
        } => put(table, key, body, *expires, *condition, now)?.map(|put| part.update(put)),
        Write::Delete { key: at, condition } => {
            let names = Names::of(*condition, now);
            Delete::builder()
                .table_name(table)
                .set_key(Some(key(at)))
                .set_condition_expression(names.condition.clone())
                .set_expression_attribute_names(names.names())
                .set_expression_attribute_values(names.values())
                .build()
                .map(|delete| part.delete(delete))
        }
        Write::Check { condition, .. } if !is_conditional(*condition) => return Ok(None),
        Write::Check { key: at, condition } => {
            let names = Names::of(*condition, now);
            ConditionCheck::builder()
                .table_name(table)
                .set_key(Some(key(at)))
                .set_condition_expression(names.condition.clone())
                .set_expression_attribute_names(names.names())
                .set_expression_attribute_values(names.values())
                .build()
                .map(|check| part.condition_check(check))
        }
    };
    built
        .map(|part| Some(part.build()))
        .map_err(|error| TableError::Unavailable(format!("cannot form a transaction: {error}")))
}

fn put(
    table: &str,
    at: &Key,
    body: &[u8],
    expires: Option<Timestamp>,
    condition: Condition,
    now: Timestamp,
) -> Result<Result<Update, aws_sdk_dynamodb::error::BuildError>, TableError> {
    let (names, update) = setting(at, body, expires, condition, now)?;
    Ok(Update::builder()
        .table_name(table)
        .set_key(Some(key(at)))
        .update_expression(update)
        .set_condition_expression(names.condition.clone())
        .set_expression_attribute_names(names.names())
        .set_expression_attribute_values(names.values())
        .build())
}

/// What a put sets, as an expression with its names.
pub(super) fn setting(
    at: &Key,
    body: &[u8],
    expires: Option<Timestamp>,
    condition: Condition,
    now: Timestamp,
) -> Result<(Names, String), TableError> {
    let body = String::from_utf8(body.to_vec()).map_err(|_| {
        TableError::InvalidTransaction(format!(
            "the body for {} {} is not UTF-8",
            at.partition, at.sort
        ))
    })?;
    let mut names = Names::of(condition, now);
    names.name("#version", VERSION);
    names.name("#body", BODY);
    names.name("#expires", EXPIRES);
    names.name("#ttl", TTL);
    names.value(":body", packing::pack(&body));
    names.value(":one", number(1));
    let version = match condition {
        Condition::Absent => ":one",
        Condition::Present | Condition::Version(_) => "#version + :one",
        Condition::Always => {
            names.value(":zero", number(0));
            "if_not_exists(#version, :zero) + :one"
        }
    };
    let update = match expires {
        Some(expires) => {
            names.value(":expires", number(expires.nanos()));
            // Rounded up: the item must not go before its time.
            names.value(":ttl", number(expires.secs().saturating_add(1)));
            format!("SET #version = {version}, #body = :body, #expires = :expires, #ttl = :ttl")
        }
        None => format!("SET #version = {version}, #body = :body REMOVE #expires, #ttl"),
    };
    Ok((names, update))
}

/// A condition alone.
pub(super) fn conditions(condition: Condition, now: Timestamp) -> Names {
    Names::of(condition, now)
}

/// A condition with the names and values that an expression uses. DynamoDB
/// refuses any that are not used, and an empty map.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) condition: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Names {
    fn of(condition: Condition, now: Timestamp) -> Self {
        let mut names = Self::default();
        let text = match condition {
            Condition::Always => return names,
            Condition::Absent => ABSENT.to_owned(),
            Condition::Present => LIVE.to_owned(),
            Condition::Version(version) => {
                names.name("#version", VERSION);
                names.value(":wanted", AttributeValue::N(version.to_string()));
                format!("#version = :wanted AND {LIVE}")
            }
        };
        names.name("#pk", PARTITION);
        names.name("#expires", EXPIRES);
        names.value(":now", number(now.nanos()));
        names.condition = Some(text);
        names
    }

    pub(super) fn name(&mut self, placeholder: &str, attribute: &str) {
        self.names
            .insert(placeholder.to_owned(), attribute.to_owned());
    }

    pub(super) fn value(&mut self, placeholder: &str, value: AttributeValue) {
        self.values.insert(placeholder.to_owned(), value);
    }

    pub(super) fn names(&self) -> Option<HashMap<String, String>> {
        (!self.names.is_empty()).then(|| self.names.clone())
    }

    pub(super) fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
