//! Making and deleting functions: the work of the one function that may.
//!
//! Lambda takes 15 such calls a second for the whole account. What is to be done
//! waits in the table, and one worker at a time does it, so that a burst queues.

use std::collections::HashMap;
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
use super::{FunctionSettings, failed, in_mib};
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

/// How often a call is tried that Lambda has no room for.
const ATTEMPTS: u32 = 8;

/// What came of one call that Lambda may have no room for.
enum Called {
    Done,
    Busy,
    Refused(Refusal),
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
}

impl Worker<'_> {
    /// Works until nothing is left or the time is used up; whether all is done.
    pub(super) async fn run(&self, until: Instant) -> Result<bool, HostError> {
        loop {
            let work = self.records.next_work(BATCH).await?;
            if work.is_empty() {
                return Ok(true);
            }
            for (name, version, work) in work {
                if Instant::now() >= until {
                    return Ok(false);
                }
                self.carry_out(&name, version, &work).await?;
            }
        }
    }

    async fn carry_out(
        &self,
        name: &FunctionName,
        version: u64,
        work: &Work,
    ) -> Result<(), HostError> {
        let outcome = match work {
            Work::Make {
                uri,
                architecture,
                memory_mib,
                tmp_mib,
            } => Some(
                match self
                    .make(
                        name,
                        uri,
                        architecture.unwrap_or(self.settings.architecture),
                        *memory_mib,
                        *tmp_mib,
                    )
                    .await
                {
                    Ok(()) => Function::Made {
                        used: self.records.now(),
                    },
                    Err(Refusal {
                        reason,
                        image_is_lost,
                    }) => {
                        tracing::warn!(function = %name, reason, "a function could not be made");
                        Function::Failed {
                            reason,
                            image_is_lost,
                        }
                    }
                },
            ),
            Work::Delete => {
                self.repeat(async || self.delete(name).await)
                    .await
                    .map_err(|refusal| HostError::Failed(refusal.reason))?;
                None
            }
        };
        self.records.done(name, version, outcome.as_ref()).await
    }

    async fn make(
        &self,
        name: &FunctionName,
        uri: &str,
        architecture: Architecture,
        memory_mib: u32,
        tmp_mib: u32,
    ) -> Result<(), Refusal> {
        self.repeat(async || {
            self.create(name, uri, architecture, memory_mib, tmp_mib)
                .await
        })
        .await?;
        self.repeat(async || self.set_invocation_rules(name).await)
            .await
    }

    /// Tries until Lambda has room.
    async fn repeat(&self, call: impl AsyncFn() -> Called) -> Result<(), Refusal> {
        let mut pause = PACE;
        for _ in 0..ATTEMPTS {
            tokio::time::sleep(pause).await;
            match call().await {
                Called::Done => return Ok(()),
                Called::Refused(refusal) => return Err(refusal),
                Called::Busy => pause *= 2,
            }
        }
        Err("Lambda takes no more calls that make or delete functions (15 a second for the whole account): try again in a minute".to_owned().into())
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
                Some(CreateFunctionError::TooManyRequestsException(_)) => Called::Busy,
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
            Ok(State::Failed(_)) => match self.delete(name).await {
                Called::Done | Called::Busy => Called::Busy,
                refused @ Called::Refused(_) => refused,
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
                Some(
                    PutFunctionEventInvokeConfigError::TooManyRequestsException(_)
                    // It is still being made.
                    | PutFunctionEventInvokeConfigError::ResourceConflictException(_),
                ) => Called::Busy,
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
                Some(
                    DeleteFunctionError::TooManyRequestsException(_)
                    // It is still being made.
                    | DeleteFunctionError::ResourceConflictException(_),
                ) => Called::Busy,
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
        for (name, _) in self.records.made().await? {
            self.records.ask(&name, &Work::Delete).await?;
        }
        self.records.ask_to_find(false).await
    }
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
