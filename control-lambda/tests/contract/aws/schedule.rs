//! [`Schedule`]: there while something has to be looked at, for the first of the times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_scheduler::operation::get_schedule::GetScheduleOutput;
use aws_sdk_scheduler::types::ActionAfterCompletion;
use sockerless_control::aws::schedule::{Schedule, ScheduleSettings};
use sockerless_control::ports::table::{Item, Key, TableError, Write};
use sockerless_control::ports::{Environment as _, Table};
use sockerless_shared::timestamp::Timestamp;

use super::functions::Apart;
use super::{Clock, Sdk, variable};

/// A schedule of this name, and what is noted of it in a part of the table.
async fn schedule(name: &'static str) -> Schedule {
    let table = Apart::of(&Sdk::from_environment().await, name);
    schedule_over(name, Arc::new(table)).await
}

async fn schedule_over(name: &str, table: Arc<dyn Table>) -> Schedule {
    let sdk = Sdk::from_environment().await;
    let settings = ScheduleSettings {
        name: name.to_owned(),
        function: "arn:aws:lambda:us-east-1:000000000000:function:who-am-i".to_owned(),
        role: variable("SOCKERLESS_TEST_ROLE"),
    };
    Schedule::new(&sdk, table, Arc::new(Clock), settings)
}

/// What the scheduler has, if it has any.
async fn seen(name: &str) -> Option<GetScheduleOutput> {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    let scheduler = aws_sdk_scheduler::Client::new(&config);
    match scheduler.get_schedule().name(name).send().await {
        Ok(found) => Some(found),
        Err(error) => {
            let error = error.into_service_error();
            assert!(error.is_resource_not_found_exception(), "{error}");
            None
        }
    }
}

/// The time for which it is set, to the second.
async fn set_to(name: &str) -> String {
    let found = seen(name).await.expect("there is no schedule");
    found.schedule_expression().unwrap().to_owned()
}

fn minutes(minutes: u64) -> Timestamp {
    Clock.now().plus(Duration::from_secs(60 * minutes))
}

#[tokio::test]
async fn it_is_armed_for_the_first_of_the_times_and_goes_by_itself() {
    const NAME: &str = "contract-sweep";
    let schedule = schedule(NAME).await;
    assert!(seen(NAME).await.is_none());
    schedule.set(minutes(20)).await.unwrap();
    let found = seen(NAME).await.unwrap();
    assert_eq!(
        found.action_after_completion(),
        Some(&ActionAfterCompletion::Delete)
    );
    assert_eq!(
        found.target().and_then(|to| to.input()),
        Some(r#"{"sockerless":"sweep"}"#)
    );
    let first = set_to(NAME).await;

    // What is later, or hardly sooner, does not move it; what is sooner does.
    schedule.set(minutes(30)).await.unwrap();
    schedule.set(minutes(19)).await.unwrap();
    assert_eq!(set_to(NAME).await, first);
    schedule.set(minutes(10)).await.unwrap();
    let sooner = set_to(NAME).await;
    assert!(sooner < first, "{sooner} {first}");

    // A look forgets what it was set to, and arms it for the next.
    schedule.forget().await.unwrap();
    schedule.set(minutes(40)).await.unwrap();
    assert!(set_to(NAME).await > first);
    schedule.remove().await.unwrap();
    assert!(seen(NAME).await.is_none());
    schedule.remove().await.unwrap();
}

/// A table in which somebody else sets the schedule between the first look and what follows it.
struct Overtaken {
    table: Apart,
    is_overtaken: AtomicBool,
    other: Schedule,
    to: Timestamp,
}

#[async_trait]
impl Table for Overtaken {
    async fn get(&self, key: &Key, now: Timestamp) -> Result<Option<Item>, TableError> {
        let found = self.table.get(key, now).await;
        if !self.is_overtaken.swap(true, Ordering::SeqCst) {
            self.other.set(self.to).await.unwrap();
        }
        found
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Item>, TableError> {
        self.table.query(partition, prefix, after, limit, now).await
    }

    async fn transact(&self, writes: Vec<Write>, now: Timestamp) -> Result<(), TableError> {
        self.table.transact(writes, now).await
    }
}

#[tokio::test]
async fn of_two_who_set_it_at_once_the_sooner_time_stays() {
    const NAME: &str = "contract-race";
    let sdk = Sdk::from_environment().await;
    for (mine, other) in [(20, 10), (10, 20)] {
        let alone = schedule(NAME).await;
        alone.set(minutes(10)).await.unwrap();
        let sooner = set_to(NAME).await;
        alone.remove().await.unwrap();
        let table = Overtaken {
            table: Apart::of(&sdk, NAME),
            is_overtaken: AtomicBool::new(false),
            other: schedule(NAME).await,
            to: minutes(other),
        };
        let overtaken = schedule_over(NAME, Arc::new(table)).await;
        overtaken.set(minutes(mine)).await.unwrap();
        // Within the minute that this may take.
        let set = set_to(NAME).await;
        let minute = |expression: &str| expression[..19].to_owned();
        assert!(
            minute(&set) <= minute(&later_by_a_minute(&sooner)),
            "{set} {sooner}"
        );
        alone.remove().await.unwrap();
    }
}

/// `at(yyyy-mm-ddThh:mm:ss)`, a minute later.
fn later_by_a_minute(expression: &str) -> String {
    let at = expression.trim_start_matches("at(").trim_end_matches(')');
    let at = Timestamp::parse_rfc3339(&format!("{at}Z")).unwrap();
    format!(
        "at({})",
        &at.plus(Duration::from_secs(60)).rfc3339_fixed()[..19]
    )
}
