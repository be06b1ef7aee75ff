//! Work that outlasts a request: an asynchronous invocation of the control
//! function by itself.

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde::{Deserialize, Serialize};

use super::sdk::{Sdk, describe};
use crate::ports::Jobs;
use crate::ports::jobs::{Job, JobError};

/// What the control function is invoked with by itself and by its schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "sockerless")]
pub enum OwnEvent {
    /// Carry out a job.
    Job {
        /// Which.
        work: Job,
    },
    /// Look for runs whose deadline has passed.
    Sweep,
}

/// [`Jobs`] that the function of this name does itself.
#[derive(Debug, Clone)]
pub struct SelfInvocation {
    client: Client,
    function: String,
}

impl SelfInvocation {
    /// `function` is the control function's name or ARN.
    #[must_use]
    pub fn new(sdk: &Sdk, function: impl Into<String>) -> Self {
        Self {
            client: Client::new(sdk.config()),
            function: function.into(),
        }
    }
}

#[async_trait]
impl Jobs for SelfInvocation {
    async fn submit(&self, job: Job) -> Result<(), JobError> {
        let payload = serde_json::to_vec(&OwnEvent::Job { work: job })
            .map_err(|error| JobError(error.to_string()))?;
        self.client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload))
            .send()
            .await
            .map_err(|error| JobError(describe(&error)))?;
        Ok(())
    }
}
