//! [`Schedule`]: there while something has to be looked at, for the first of the times.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_scheduler::operation::get_schedule::GetScheduleOutput;
use aws_sdk_scheduler::types::ActionAfterCompletion;
use sockerless_control::aws::schedule::{Schedule, ScheduleSettings};
use sockerless_control::ports::Environment as _;
use sockerless_shared::timestamp::Timestamp;

use super::{Clock, DynamoTable, Sdk, variable};

const NAME: &str = "contract-sweep";

async fn schedule() -> Schedule {
    let sdk = Sdk::from_environment().await;
    let table = DynamoTable::new(&sdk, variable("SOCKERLESS_TEST_TABLE"));
    let settings = ScheduleSettings {
        name: NAME.to_owned(),
        function: "arn:aws:lambda:us-east-1:000000000000:function:who-am-i".to_owned(),
        role: variable("SOCKERLESS_TEST_ROLE"),
    };
    Schedule::new(&sdk, Arc::new(table), Arc::new(Clock), settings)
}

/// What the scheduler has, if it has any.
async fn seen() -> Option<GetScheduleOutput> {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    let scheduler = aws_sdk_scheduler::Client::new(&config);
    match scheduler.get_schedule().name(NAME).send().await {
        Ok(found) => Some(found),
        Err(error) => {
            let error = error.into_service_error();
            assert!(error.is_resource_not_found_exception(), "{error}");
            None
        }
    }
}

/// The time for which it is set, to the second.
async fn set_to() -> String {
    let found = seen().await.expect("there is no schedule");
    found.schedule_expression().unwrap().to_owned()
}

fn minutes(minutes: u64) -> Timestamp {
    Clock.now().plus(Duration::from_secs(60 * minutes))
}

#[tokio::test]
async fn it_is_armed_for_the_first_of_the_times_and_goes_by_itself() {
    let schedule = schedule().await;
    assert!(seen().await.is_none());
    schedule.set(minutes(20)).await.unwrap();
    let found = seen().await.unwrap();
    assert_eq!(
        found.action_after_completion(),
        Some(&ActionAfterCompletion::Delete)
    );
    assert_eq!(
        found.target().and_then(|to| to.input()),
        Some(r#"{"sockerless":"sweep"}"#)
    );
    let first = set_to().await;

    // What is later, or hardly sooner, does not move it; what is sooner does.
    schedule.set(minutes(30)).await.unwrap();
    schedule.set(minutes(19)).await.unwrap();
    assert_eq!(set_to().await, first);
    schedule.set(minutes(10)).await.unwrap();
    let sooner = set_to().await;
    assert!(sooner < first, "{sooner} {first}");

    // A look forgets what it was set to, and arms it for the next.
    schedule.forget().await.unwrap();
    schedule.set(minutes(40)).await.unwrap();
    assert!(set_to().await > first);
    schedule.remove().await.unwrap();
    assert!(seen().await.is_none());
    schedule.remove().await.unwrap();
}
