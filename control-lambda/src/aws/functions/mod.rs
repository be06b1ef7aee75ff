//! Functions in Lambda: one for each image and shape, shared by containers;
//! one asynchronous invocation for each run.

pub mod ended;
mod name;
mod wait;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::create_function::CreateFunctionError;
use aws_sdk_lambda::operation::delete_function::DeleteFunctionError;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationError;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    Architecture, DestinationConfig, EphemeralStorage, FunctionCode, InvocationType, OnFailure,
    PackageType,
};
use bytes::Bytes;
use sockerless_shared::ids::{ContainerId, FunctionName, ImageDigest, RunId};
use sockerless_shared::protocol::invocation::MAX_PAYLOAD_BYTES;
use sockerless_shared::spec::Runtime;

use super::sdk::{Sdk, describe};
use crate::ports::FunctionHost;
use crate::ports::function_host::{EnsuredFunction, FunctionShape, HostError, Network};

/// An event that was not taken up within so many seconds is not taken up any
/// more; Lambda allows no less. A container that starts later than that
/// surprises whoever started it.
const MAX_EVENT_AGE_S: i32 = 60;

/// Makes images ready to be functions: the agent is in them, and Lambda can
/// pull them.
#[async_trait]
pub trait RunnableImages: Send + Sync {
    /// The URI under which Lambda pulls the image with this config, agent
    /// included. Idempotent.
    ///
    /// # Errors
    /// A sentence.
    async fn uri(&self, image: &ImageDigest) -> Result<String, HostError>;
}

/// What functions are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSettings {
    /// ARN of the role that containers' functions have.
    pub role: String,
    /// Where agents find the relay (`wss://…/<stage>`).
    pub relay_url: String,
    /// ARN of the function that is told of invocations that failed.
    pub on_failure: String,
    /// Which processors containers run on: `x86_64` or `arm64`.
    pub architecture: String,
    /// Time limit of an invocation in seconds, 1–900.
    pub time_limit_s: i32,
}

/// [`FunctionHost`] on Lambda.
pub struct LambdaHost {
    client: Client,
    images: Arc<dyn RunnableImages>,
    settings: FunctionSettings,
    /// Functions that this process has seen ready to be invoked.
    ready: Mutex<HashSet<FunctionName>>,
}

impl LambdaHost {
    /// A host that makes functions of these images, in this way.
    #[must_use]
    pub fn new(sdk: &Sdk, images: Arc<dyn RunnableImages>, settings: FunctionSettings) -> Self {
        Self {
            client: Client::new(sdk.config()),
            images,
            settings,
            ready: Mutex::default(),
        }
    }

    /// A function's memory in MiB, by name or ARN.
    ///
    /// # Errors
    /// When it is gone or Lambda does not answer.
    pub async fn memory_mib(&self, function: &str) -> Result<u32, HostError> {
        let found = self
            .client
            .get_function_configuration()
            .function_name(function)
            .send()
            .await
            .map_err(|error| failed("look at", function, &error))?;
        found
            .memory_size()
            .and_then(|memory| u32::try_from(memory).ok())
            .ok_or_else(|| {
                HostError::Failed(format!("function {function}: its memory is not known"))
            })
    }

    fn is_ready(&self, function: &FunctionName) -> bool {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(function)
    }

    fn set_ready(&self, function: &FunctionName, ready: bool) {
        let mut known = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready {
            known.insert(function.clone());
        } else {
            known.remove(function);
        }
    }

    async fn exists(&self, function: &FunctionName) -> Result<bool, HostError> {
        let found = self
            .client
            .get_function_configuration()
            .function_name(function.as_str())
            .send()
            .await;
        match found {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(GetFunctionConfigurationError::ResourceNotFoundException(_)) => Ok(false),
                _ => Err(failed("look at", function.as_str(), &error)),
            },
        }
    }

    async fn create(
        &self,
        function: &FunctionName,
        shape: &FunctionShape,
        uri: &str,
    ) -> Result<(), HostError> {
        let tmp = EphemeralStorage::builder()
            .size(in_mib(shape.tmp_mib))
            .build()
            .map_err(|error| HostError::Failed(error.to_string()))?;
        let created = self
            .client
            .create_function()
            .function_name(function.as_str())
            .package_type(PackageType::Image)
            .code(FunctionCode::builder().image_uri(uri).build())
            .role(&self.settings.role)
            .architectures(Architecture::from(self.settings.architecture.as_str()))
            .memory_size(in_mib(shape.memory_mib))
            .ephemeral_storage(tmp)
            .timeout(self.settings.time_limit_s)
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                // Somebody else was faster.
                Some(CreateFunctionError::ResourceConflictException(_)) => Ok(()),
                Some(CreateFunctionError::TooManyRequestsException(_)) => Err(throttled()),
                _ => Err(failed("create", function.as_str(), &error)),
            },
        }
    }

    /// No retries, no stale events, and word of failures. Said again by every
    /// process that comes to know the function, for whoever created it may have
    /// ended before it said so.
    async fn set_invocation_rules(&self, function: &FunctionName) -> Result<(), HostError> {
        let on_failure = OnFailure::builder()
            .destination(&self.settings.on_failure)
            .build();
        self.client
            .put_function_event_invoke_config()
            .function_name(function.as_str())
            .maximum_retry_attempts(0)
            .maximum_event_age_in_seconds(MAX_EVENT_AGE_S)
            .destination_config(DestinationConfig::builder().on_failure(on_failure).build())
            .send()
            .await
            .map_err(|error| failed("set the rules of", function.as_str(), &error))?;
        Ok(())
    }
}

#[async_trait]
impl FunctionHost for LambdaHost {
    async fn ensure(&self, shape: &FunctionShape) -> Result<EnsuredFunction, HostError> {
        match shape.runtime {
            Runtime::Function => {}
            Runtime::Microvm => {
                return Err(HostError::Unsupported(
                    "--runtime microvm is not available on AWS yet: use --runtime function, or sockerless local".to_owned(),
                ));
            }
        }
        match shape.network {
            Network::Outbound => {}
            Network::None => {
                return Err(HostError::Unsupported(
                    "--network none cannot be had on AWS Lambda, whose functions always reach the network: \
                     leave it out, or use sockerless local"
                        .to_owned(),
                ));
            }
        }
        let uri = self.images.uri(&shape.image).await?;
        let name = name::of(shape, &uri, &self.settings)?;
        if !self.is_ready(&name) {
            if !self.exists(&name).await? {
                self.create(&name, shape, &uri).await?;
            }
            self.set_invocation_rules(&name).await?;
        }
        Ok(EnsuredFunction {
            name,
            warnings: Vec::new(),
        })
    }

    async fn invoke(
        &self,
        function: &FunctionName,
        run: &RunId,
        payload: Bytes,
    ) -> Result<(), HostError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(HostError::PayloadTooLarge(payload.len()));
        }
        if !self.is_ready(function) {
            wait::until_active(&self.client, function).await?;
        }
        let sent = self
            .client
            .invoke()
            .function_name(function.as_str())
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload))
            .send()
            .await;
        let Err(error) = sent else {
            self.set_ready(function, true);
            tracing::debug!(%function, %run, "invocation accepted");
            return Ok(());
        };
        self.set_ready(function, false);
        Err(match error.as_service_error() {
            Some(InvokeError::ResourceNotFoundException(_)) => {
                HostError::NoSuchFunction(function.clone())
            }
            Some(InvokeError::TooManyRequestsException(_)) => throttled(),
            // It fell asleep after weeks without an invocation; this one has woken it.
            Some(InvokeError::ResourceConflictException(_)) => HostError::Throttled(format!(
                "Lambda is preparing function {function}; start the container again in a minute"
            )),
            Some(InvokeError::RequestTooLargeException(_)) => {
                HostError::PayloadTooLarge(MAX_PAYLOAD_BYTES)
            }
            _ => failed("invoke", function.as_str(), &error),
        })
    }

    async fn delete(&self, function: &FunctionName) -> Result<(), HostError> {
        self.set_ready(function, false);
        let deleted = self
            .client
            .delete_function()
            .function_name(function.as_str())
            .send()
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(DeleteFunctionError::ResourceNotFoundException(_)) => Ok(()),
                Some(DeleteFunctionError::TooManyRequestsException(_)) => Err(throttled()),
                _ => Err(failed("delete", function.as_str(), &error)),
            },
        }
    }

    async fn remove_writable(&self, _: &ContainerId) -> Result<(), HostError> {
        // A function's writable place is its environment's, and goes with it.
        Ok(())
    }

    async fn operator_log(&self, run: &RunId, _: usize) -> Result<Bytes, HostError> {
        Err(HostError::Unsupported(format!(
            "the container ended without storing its log; what it printed last is in CloudWatch Logs, \
             in the group of its function, in the stream that names run {run}"
        )))
    }

    fn relay_url(&self) -> String {
        self.settings.relay_url.clone()
    }
}

fn in_mib(mib: u32) -> i32 {
    i32::try_from(mib).unwrap_or(i32::MAX)
}

fn throttled() -> HostError {
    HostError::Throttled(
        "Lambda takes no more requests at the moment (15 a second for the whole account to create and delete, \
         and the account's concurrency to run); try again in a few seconds"
            .to_owned(),
    )
}

fn failed<E, R>(what: &str, function: &str, error: &SdkError<E, R>) -> HostError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    HostError::Failed(format!(
        "cannot {what} function {function}: {}",
        describe(error)
    ))
}
