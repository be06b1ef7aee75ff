//! One write alone: half the price of a transaction of one.
//!
//! The SDK repeats a request whose answer is lost, and the repetition of a conditional write
//! finds its condition broken by the first. A put recognises itself by its token; a conditional
//! deletion leaves nothing behind to be recognised by, and is sent once: what came of it is
//! then known, or it is said that it is not.

use aws_sdk_dynamodb::config::Config;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use sockerless_shared::timestamp::Timestamp;

use super::{DynamoTable, expression, failed, is_conditional, new_token};
use crate::ports::table::{TableError, Write};

impl DynamoTable {
    /// Carries one write out without a transaction. `None` for a check, and where a transaction
    /// has the item.
    pub(super) async fn single(
        &self,
        write: &Write,
        now: Timestamp,
    ) -> Result<Option<Result<(), TableError>>, TableError> {
        match write {
            Write::Put {
                key,
                body,
                expires,
                condition,
            } => {
                let (mut names, mut update) =
                    expression::setting(key, body, *expires, *condition, now)?;
                let token = new_token()?;
                if is_conditional(*condition) {
                    // What is refused because it has been done shows this.
                    names.name("#writer", expression::WRITER);
                    names.value(":writer", AttributeValue::S(token.clone()));
                    update = update.replacen("SET ", "SET #writer = :writer, ", 1);
                }
                let sent = self
                    .client
                    .update_item()
                    .table_name(&self.name)
                    .set_key(Some(expression::key(key)))
                    .update_expression(update)
                    .set_condition_expression(names.condition.clone())
                    .set_expression_attribute_names(names.names())
                    .set_expression_attribute_values(names.values())
                    .return_values_on_condition_check_failure(
                        ReturnValuesOnConditionCheckFailure::AllOld,
                    )
                    .send()
                    .await;
                let Err(error) = sent else {
                    return Ok(Some(Ok(())));
                };
                match error.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                        let writer = refused.item().and_then(|item| item.get(expression::WRITER));
                        Ok(Some(match writer {
                            Some(AttributeValue::S(writer)) if *writer == token => Ok(()),
                            _ => Err(TableError::Conflict { index: 0 }),
                        }))
                    }
                    // A transaction has the item; the other way waits for its turn.
                    Some(UpdateItemError::TransactionConflictException(_)) => Ok(None),
                    _ => Err(failed("write an item", &error)),
                }
            }
            Write::Delete { key, condition } => {
                let names = expression::conditions(*condition, now);
                let request = self
                    .client
                    .delete_item()
                    .table_name(&self.name)
                    .set_key(Some(expression::key(key)))
                    .set_condition_expression(names.condition.clone())
                    .set_expression_attribute_names(names.names())
                    .set_expression_attribute_values(names.values());
                let sent = if is_conditional(*condition) {
                    let once = Config::builder().retry_config(RetryConfig::disabled());
                    request.customize().config_override(once).send().await
                } else {
                    request.send().await
                };
                let Err(error) = sent else {
                    return Ok(Some(Ok(())));
                };
                match error.as_service_error() {
                    Some(DeleteItemError::ConditionalCheckFailedException(_)) => {
                        Ok(Some(Err(TableError::Conflict { index: 0 })))
                    }
                    Some(DeleteItemError::TransactionConflictException(_)) => Ok(None),
                    _ => Err(failed("delete an item", &error)),
                }
            }
            Write::Check { .. } => Ok(None),
        }
    }
}
