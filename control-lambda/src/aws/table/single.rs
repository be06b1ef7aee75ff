//! One write alone: half the price of a transaction of one.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use sockerless_shared::timestamp::Timestamp;

use super::{DynamoTable, expression, failed, is_conditional, new_token};
use crate::ports::table::{Condition, TableError, Write};

impl DynamoTable {
    /// Carries one write out without a transaction, if that may be repeated: the SDK
    /// does so when an answer is lost. `None` for a write that may not: who finds a
    /// conditional deletion refused could not tell whether it was its own.
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
            Write::Delete {
                key,
                condition: Condition::Always,
            } => {
                let sent = self
                    .client
                    .delete_item()
                    .table_name(&self.name)
                    .set_key(Some(expression::key(key)))
                    .send()
                    .await;
                match sent {
                    Ok(_) => Ok(Some(Ok(()))),
                    Err(error)
                        if error
                            .as_service_error()
                            .is_some_and(|error| error.is_transaction_conflict_exception()) =>
                    {
                        Ok(None)
                    }
                    Err(error) => Err(failed("delete an item", &error)),
                }
            }
            Write::Delete { .. } | Write::Check { .. } => Ok(None),
        }
    }
}
