//! The sweep's schedule: a one-time schedule of EventBridge Scheduler that exists
//! only while something has to be looked at, and goes when it has fired.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_scheduler::Client;
use aws_sdk_scheduler::error::{BuildError, SdkError};
use aws_sdk_scheduler::operation::create_schedule::CreateScheduleError;
use aws_sdk_scheduler::operation::delete_schedule::DeleteScheduleError;
use aws_sdk_scheduler::operation::update_schedule::UpdateScheduleError;
use aws_sdk_scheduler::types::{
    ActionAfterCompletion, FlexibleTimeWindow, FlexibleTimeWindowMode, Target,
};
use bytes::Bytes;
use sockerless_shared::timestamp::Timestamp;

use super::jobs::OwnEvent;
use super::sdk::{Sdk, describe};
use crate::ports::jobs::JobError;
use crate::ports::table::{Condition, Key, TableError, Write};
use crate::ports::{Environment, Table};

/// A look that comes so much later than wanted is soon enough: containers that are
/// started one after the other do not each move it.
const CLOSE_ENOUGH: Duration = Duration::from_secs(120);

/// A look that should have been so long ago was lost, and is arranged anew.
const OVERDUE: Duration = Duration::from_secs(300);

/// How often it is tried again when somebody else arranges one at the same time.
const ATTEMPTS: usize = 10;

/// What is scheduled, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// The schedule's name, in the group `default`.
    pub name: String,
    /// ARN of the control function.
    pub function: String,
    /// ARN of the role in which it is invoked.
    pub role: String,
}

/// The schedule, and in the table the time for which it is set, so that a start
/// costs a read of that and no call.
pub struct Schedule {
    client: Client,
    table: Arc<dyn Table>,
    environment: Arc<dyn Environment>,
    settings: ScheduleSettings,
}

impl Schedule {
    /// A schedule that this table keeps the time of.
    #[must_use]
    pub fn new(
        sdk: &Sdk,
        table: Arc<dyn Table>,
        environment: Arc<dyn Environment>,
        settings: ScheduleSettings,
    ) -> Self {
        Self {
            client: Client::new(sdk.config()),
            table,
            environment,
            settings,
        }
    }

    /// Sets it to this time, unless it is set to one that will do.
    ///
    /// # Errors
    /// When the table or the scheduler fails.
    pub async fn set(&self, at: Timestamp) -> Result<(), JobError> {
        let mut at = at;
        for attempt in 0..ATTEMPTS {
            let now = self.environment.now();
            let known = self.table.get(&key(), now).await.map_err(table_failed)?;
            let set_to = known
                .as_ref()
                .and_then(|item| serde_json::from_slice::<Timestamp>(&item.body).ok());
            if set_to.is_some_and(|set_to| will_do(set_to, at, now)) {
                if attempt == 0 {
                    return Ok(());
                }
                // Somebody else has noted this, and this one may have put another over it.
                at = set_to.map_or(at, |set_to| set_to.min(at));
            }
            // Before it is noted: what is noted is relied on.
            self.put(at).await?;
            let body = serde_json::to_vec(&at).map_err(|error| JobError(error.to_string()))?;
            let note = Write::Put {
                key: key(),
                body: Bytes::from(body),
                expires: None,
                condition: known.map_or(Condition::Absent, |item| Condition::Version(item.version)),
            };
            match self.table.transact(vec![note], now).await {
                Ok(()) => return Ok(()),
                Err(TableError::Conflict { .. }) => {}
                Err(error) => return Err(table_failed(error)),
            }
        }
        Err(JobError(
            "the sweep's schedule is being changed by too many at once".to_owned(),
        ))
    }

    /// Forgets for when it is set.
    ///
    /// # Errors
    /// When the table fails.
    pub async fn forget(&self) -> Result<(), JobError> {
        let forget = Write::Delete {
            key: key(),
            condition: Condition::Always,
        };
        self.table
            .transact(vec![forget], self.environment.now())
            .await
            .map_err(table_failed)
    }

    /// Removes it; one that is not there is no error.
    ///
    /// # Errors
    /// When the table or the scheduler fails.
    pub async fn remove(&self) -> Result<(), JobError> {
        self.forget().await?;
        let deleted = self
            .client
            .delete_schedule()
            .name(&self.settings.name)
            .send()
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(DeleteScheduleError::ResourceNotFoundException(_)) => Ok(()),
                _ => Err(failed("delete", &error)),
            },
        }
    }

    /// It may be there or not, and goes by itself when it has fired.
    async fn put(&self, at: Timestamp) -> Result<(), JobError> {
        let payload =
            serde_json::to_string(&OwnEvent::Sweep).map_err(|error| JobError(error.to_string()))?;
        let target = Target::builder()
            .arn(&self.settings.function)
            .role_arn(&self.settings.role)
            .input(payload)
            .build()
            .map_err(malformed)?;
        let window = FlexibleTimeWindow::builder()
            .mode(FlexibleTimeWindowMode::Off)
            .build()
            .map_err(malformed)?;
        let expression = expression(at);
        for _ in 0..ATTEMPTS {
            let updated = self
                .client
                .update_schedule()
                .name(&self.settings.name)
                .schedule_expression(&expression)
                .action_after_completion(ActionAfterCompletion::Delete)
                .flexible_time_window(window.clone())
                .target(target.clone())
                .send()
                .await;
            match updated {
                Ok(_) => return Ok(()),
                Err(error) => match error.as_service_error() {
                    Some(UpdateScheduleError::ResourceNotFoundException(_)) => {}
                    _ => return Err(failed("change", &error)),
                },
            }
            let created = self
                .client
                .create_schedule()
                .name(&self.settings.name)
                .schedule_expression(&expression)
                .action_after_completion(ActionAfterCompletion::Delete)
                .flexible_time_window(window.clone())
                .target(target.clone())
                .send()
                .await;
            match created {
                Ok(_) => return Ok(()),
                Err(error) => match error.as_service_error() {
                    // Somebody else was faster.
                    Some(CreateScheduleError::ConflictException(_)) => {}
                    _ => return Err(failed("make", &error)),
                },
            }
        }
        Err(JobError(format!(
            "the schedule {} is being changed by too many at once",
            self.settings.name
        )))
    }
}

/// Whether a schedule that is set to `set_to` does for a look at `at`.
fn will_do(set_to: Timestamp, at: Timestamp, now: Timestamp) -> bool {
    set_to <= at.plus(CLOSE_ENOUGH) && set_to.plus(OVERDUE) > now
}

/// In UTC, to the second; the scheduler fires within a minute after it.
fn expression(at: Timestamp) -> String {
    let text = at.plus(Duration::from_secs(1)).rfc3339_fixed();
    format!("at({})", text.get(..19).unwrap_or(&text))
}

fn key() -> Key {
    Key::new("WAKE", "sweep")
}

fn malformed(error: BuildError) -> JobError {
    JobError(error.to_string())
}

fn table_failed(error: TableError) -> JobError {
    JobError(error.to_string())
}

fn failed<E, R>(what: &str, error: &SdkError<E, R>) -> JobError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    JobError(format!(
        "cannot {what} the sweep's schedule: {}",
        describe(error)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_does_for_many_starts() {
        let second = |s: i64| Timestamp::from_millis(s * 1000);
        assert!(will_do(second(1000), second(1000), second(0)));
        // A later start does not move it, an earlier need does.
        assert!(will_do(second(1000), second(5000), second(0)));
        assert!(will_do(second(1000), second(900), second(0)));
        assert!(!will_do(second(1000), second(800), second(0)));
        // One that never came.
        assert!(!will_do(second(1000), second(5000), second(1301)));
    }

    #[test]
    fn the_expression_is_a_time_in_utc() {
        let at = Timestamp::parse_rfc3339("2026-01-02T03:04:05.5Z").unwrap();
        assert_eq!(expression(at), "at(2026-01-02T03:04:06)");
    }
}
