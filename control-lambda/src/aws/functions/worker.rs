//! Making and deleting functions: the work of the one function that may.
//!
//! Lambda takes 15 such calls a second for the whole account. What is to be done
//! waits in the table, and one worker at a time does it, so that a burst queues.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::create_function::CreateFunctionError;
use aws_sdk_lambda::operation::delete_function::DeleteFunctionError;
use aws_sdk_lambda::operation::put_function_event_invoke_config::PutFunctionEventInvokeConfigError;
use aws_sdk_lambda::types::{
    Architecture as LambdaArchitecture, DestinationConfig, EphemeralStorage, FunctionCode,
    LoggingConfig, OnFailure, PackageType, VpcConfig,
};
use sockerless_shared::ids::FunctionName;
use tokio::time::Instant;

use super::records::{Function, Records, Work};
use super::wait::{self, State};
use super::{FunctionSettings, cannot_run, failed, in_mib};
use crate::aws::sdk::describe;
use crate::ports::function_host::{Architecture, HostError};

/// An event that was not taken up within so many seconds is not taken up any
/// more; Lambda allows no less. A container that starts later than that
/// surprises whoever started it.
const MAX_EVENT_AGE_S: i32 = 60;

/// Time between two control calls: ten a second leave room for others of the account.
const PACE: Duration = Duration::from_millis(100);

/// So many pieces of work are read at once.
const BATCH: usize = 25;

/// The longest pause before Lambda is asked again for what it had no room for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often a worker says that it is at work: often enough for the turn to be kept.
const TURN_IS_KEPT_EVERY: Duration = Duration::from_secs(8);

/// What came of one call.
enum Called {
    Done,
    /// Lambda takes no more calls at the moment, for whatever function.
    Throttled,
    /// This function is not in a state for it, and will be.
    Busy,
    Refused(Refusal),
}

/// Why a piece of work is not done.
enum Undone {
    /// It is left for the next round.
    Left,
    Refused(Refusal),
}

/// What came of one look at everything that was asked for.
#[derive(Default)]
struct Round {
    done: usize,
    /// What was not ready for it, and will be.
    left: usize,
    /// Deletions that Lambda refuses; the last reason.
    refused: Option<HostError>,
    /// Whether the time was used up before everything was looked at.
    out_of_time: bool,
}

/// Why Lambda does not do it.
struct Refusal {
    /// A sentence.
    reason: String,
    /// Whether the registry does not have the image any more.
    image_is_lost: bool,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self {
            reason,
            image_is_lost: false,
        }
    }
}

/// Does the work.
pub(super) struct Worker<'a> {
    pub(super) client: &'a Client,
    pub(super) records: &'a Records,
    pub(super) settings: &'a FunctionSettings,
    /// When the turn was last kept.
    pub(super) kept: Mutex<Instant>,
}

impl Worker<'_> {
    /// Works until nothing is left or the time is used up; whether all is done. What Lambda has
    /// no room for stays asked for.
    ///
    /// # Errors
    /// When nothing is left but deletions that Lambda refuses, which stay asked for, too; or when
    /// the table fails.
    pub(super) async fn run(&self, until: Instant) -> Result<bool, HostError> {
        let mut pause = PACE;
        loop {
            match self.round(until).await? {
                Round {
                    out_of_time: true, ..
                } => return Ok(false),
                Round {
                    done: 0,
                    left: 0,
                    refused,
                    ..
                } => return refused.map_or(Ok(true), Err),
                Round { done: 0, .. } => {
                    self.keep_turn().await?;
                    tokio::time::sleep(pause).await;
                    pause = longer(pause);
                }
                Round { .. } => pause = PACE,
            }
        }
    }

    /// Takes up each piece of work once.
    async fn round(&self, until: Instant) -> Result<Round, HostError> {
        let mut round = Round::default();
        let mut after = None;
        loop {
            let work = self.records.work_after(after.as_ref(), BATCH).await?;
            if work.is_empty() {
                return Ok(round);
            }
            for (name, version, work) in work {
                if Instant::now() >= until {
                    round.out_of_time = true;
                    return Ok(round);
                }
                match self.carry_out(&name, version, &work, until).await? {
                    Ok(()) => round.done += 1,
                    Err(Undone::Left) => round.left += 1,
                    Err(Undone::Refused(Refusal { reason, .. })) => {
                        tracing::error!(function = %name, reason, "a function could not be deleted");
                        round.refused = Some(HostError::Failed(reason));
                    }
                }
                after = Some(name);
            }
        }
    }

    /// Does one piece of work and notes what came of it. Only a deletion that Lambda refuses
    /// stays asked for.
    async fn carry_out(
        &self,
        name: &FunctionName,
        version: u64,
        work: &Work,
        until: Instant,
    ) -> Result<Result<(), Undone>, HostError> {
        let outcome = match work {
            Work::Make {
                uri,
                architecture,
                memory_mib,
                tmp_mib,
            } => {
                let architecture = architecture.unwrap_or(self.settings.architecture);
                let create = async || {
                    self.create(name, uri, architecture, *memory_mib, *tmp_mib)
                        .await
                };
                let set_rules = async || self.set_invocation_rules(name).await;
                let made = match self.repeat(until, create).await? {
                    Ok(()) => self.repeat(until, set_rules).await?,
                    undone => undone,
                };
                Some(match made {
                    Ok(()) => Function::Made {
                        used: self.records.now(),
                    },
                    Err(Undone::Left) => return Ok(Err(Undone::Left)),
                    Err(Undone::Refused(Refusal {
                        reason,
                        image_is_lost,
                    })) => {
                        tracing::warn!(function = %name, reason, "a function could not be made");
                        Function::Failed {
                            reason,
                            image_is_lost,
                        }
                    }
                })
            }
            Work::Delete => {
                let delete = async || self.delete(name).await;
                match self.repeat(until, delete).await? {
                    Ok(()) => None,
                    undone => return Ok(undone),
                }
            }
        };
        self.records.done(name, version, outcome.as_ref()).await?;
        Ok(Ok(()))
    }

    /// Calls, at Lambda's pace, until it has room or the time is used up. The turn is kept
    /// meanwhile.
    async fn repeat(
        &self,
        until: Instant,
        call: impl AsyncFn() -> Called,
    ) -> Result<Result<(), Undone>, HostError> {
        let mut pause = PACE;
        loop {
            self.keep_turn().await?;
            tokio::time::sleep(pause).await;
            return Ok(match call().await {
                Called::Done => Ok(()),
                Called::Throttled if Instant::now() < until => {
                    pause = longer(pause);
                    continue;
                }
                Called::Throttled | Called::Busy => Err(Undone::Left),
                Called::Refused(refusal) => Err(Undone::Refused(refusal)),
            });
        }
    }

    /// Says now and then that this worker still has the turn.
    async fn keep_turn(&self) -> Result<(), HostError> {
        let now = Instant::now();
        let is_due = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = now.duration_since(*kept) >= TURN_IS_KEPT_EVERY;
            if is_due {
                *kept = now;
            }
            is_due
        };
        if is_due {
            self.records.keep_turn().await?;
        }
        Ok(())
    }

    async fn create(
        &self,
        name: &FunctionName,
        uri: &str,
        architecture: Architecture,
        memory_mib: u32,
        tmp_mib: u32,
    ) -> Called {
        let settings = self.settings;
        let tmp = match EphemeralStorage::builder().size(in_mib(tmp_mib)).build() {
            Ok(tmp) => tmp,
            Err(error) => return Called::Refused(error.to_string().into()),
        };
        let mut request = self
            .client
            .create_function()
            .function_name(name.as_str())
            .package_type(PackageType::Image)
            .code(FunctionCode::builder().image_uri(uri).build())
            .role(&settings.role)
            .architectures(LambdaArchitecture::from(architecture.as_str()))
            .memory_size(in_mib(memory_mib))
            .ephemeral_storage(tmp)
            .timeout(settings.time_limit_s)
            .logging_config(
                LoggingConfig::builder()
                    .log_group(&settings.log_group)
                    .build(),
            )
            .set_tags(Some(HashMap::from_iter(settings.tags.clone())));
        if !settings.subnets.is_empty() {
            request = request.vpc_config(
                VpcConfig::builder()
                    .set_subnet_ids(Some(settings.subnets.clone()))
                    .set_security_group_ids(Some(settings.security_groups.clone()))
                    .build(),
            );
        }
        match request.send().await {
            Ok(_) => Called::Done,
            Err(error) => match error.as_service_error() {
                // An earlier attempt made it, whose answer was lost, or it was to be deleted.
                Some(CreateFunctionError::ResourceConflictException(_)) => {
                    self.take_over(name).await
                }
                Some(CreateFunctionError::TooManyRequestsException(_)) => Called::Throttled,
                Some(CreateFunctionError::CodeStorageExceededException(_)) => Called::Refused(
                    "the account's quota for functions is reached: delete some, or ask AWS for more".to_owned().into(),
                ),
                Some(CreateFunctionError::InvalidParameterValueException(said))
                    if said.message().is_some_and(is_of_a_lost_image) =>
                {
                    let said = said.message().unwrap_or_default();
                    Called::Refused(Refusal {
                        reason: format!(
                            "the image is not in ECR any more: start the container again, which prepares it again, or pull or load the image again ({said})"
                        ),
                        image_is_lost: true,
                    })
                }
                _ => refused("make", name, &error),
            },
        }
    }

    /// Whether a function that is there already can be used: one that failed makes room first.
    async fn take_over(&self, name: &FunctionName) -> Called {
        match wait::look(self.client, name).await {
            Ok(State::Pending | State::Active) => Called::Done,
            Ok(State::Absent) => Called::Busy,
            // Of no use to anybody. Another would fail as it did: whether to try is not for the queue.
            Ok(State::Failed(reason)) => match self.delete(name).await {
                Called::Done => Called::Refused(cannot_run(&reason).into()),
                Called::Busy => Called::Busy,
                other @ (Called::Throttled | Called::Refused(_)) => other,
            },
            Err(error) => Called::Refused(error.to_string().into()),
        }
    }

    /// No retries, no stale events, and word of failures.
    async fn set_invocation_rules(&self, name: &FunctionName) -> Called {
        let on_failure = OnFailure::builder()
            .destination(&self.settings.control)
            .build();
        let set = self
            .client
            .put_function_event_invoke_config()
            .function_name(name.as_str())
            .maximum_retry_attempts(0)
            .maximum_event_age_in_seconds(MAX_EVENT_AGE_S)
            .destination_config(DestinationConfig::builder().on_failure(on_failure).build())
            .send()
            .await;
        match set {
            Ok(_) => Called::Done,
            Err(error) => match error.as_service_error() {
                Some(PutFunctionEventInvokeConfigError::TooManyRequestsException(_)) => {
                    Called::Throttled
                }
                // It is still being made.
                Some(PutFunctionEventInvokeConfigError::ResourceConflictException(_)) => {
                    Called::Busy
                }
                _ => refused("set the rules of", name, &error),
            },
        }
    }

    async fn delete(&self, name: &FunctionName) -> Called {
        let deleted = self
            .client
            .delete_function()
            .function_name(name.as_str())
            .send()
            .await;
        match deleted {
            Ok(_) => Called::Done,
            Err(error) => match error.as_service_error() {
                Some(DeleteFunctionError::ResourceNotFoundException(_)) => Called::Done,
                Some(DeleteFunctionError::TooManyRequestsException(_)) => Called::Throttled,
                // It is still being made.
                Some(DeleteFunctionError::ResourceConflictException(_)) => Called::Busy,
                _ => refused("delete", name, &error),
            },
        }
    }

    /// Asks for the deletion of every function that has the role of containers,
    /// those of which nothing is recorded included.
    pub(super) async fn ask_to_delete_all(&self) -> Result<(), HostError> {
        let mut marker: Option<String> = None;
        loop {
            let page = self
                .client
                .list_functions()
                .set_marker(marker)
                .send()
                .await
                .map_err(|error| failed("list", "of this deployment", &error))?;
            for function in page.functions() {
                let name = function
                    .function_name()
                    .and_then(|name| name.parse::<FunctionName>().ok());
                if let Some(name) = name
                    && name.as_str().starts_with(super::name::PREFIX)
                    && function.role() == Some(&self.settings.role)
                {
                    self.records.ask(&name, &Work::Delete).await?;
                }
            }
            marker = page.next_marker().map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        for made in self.records.made().await? {
            self.records.ask(&made.name, &Work::Delete).await?;
        }
        self.records.ask_to_find(false).await
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

/// Whether Lambda says that the registry does not have the image.
fn is_of_a_lost_image(said: &str) -> bool {
    said.starts_with("Source image") && said.contains("does not exist")
}

fn refused<E, R>(what: &str, name: &FunctionName, error: &SdkError<E, R>) -> Called
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let said = describe(error);
    Called::Refused(format!("Lambda does not {what} function {name}: {said}").into())
}
