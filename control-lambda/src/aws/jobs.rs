//! Work that outlasts a request: an asynchronous invocation of the control
//! function by itself.

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde::{Deserialize, Serialize};
use sockerless_shared::timestamp::Timestamp;

use super::schedule::Schedule;
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
        work: Box<Job>,
    },
    /// Look for runs whose deadline has passed.
    Sweep,
    /// Make and delete the functions that this was asked for. For the worker.
    Work,
    /// Delete all functions of containers. For the worker.
    DeleteFunctions,
}

/// [`Jobs`] that the function of this name does itself.
pub struct SelfInvocation {
    client: Client,
    function: String,
    schedule: Schedule,
}

impl SelfInvocation {
    /// `function` is the control function's name or ARN.
    #[must_use]
    pub fn new(sdk: &Sdk, function: impl Into<String>, schedule: Schedule) -> Self {
        Self {
            client: Client::new(sdk.config()),
            function: function.into(),
            schedule,
        }
    }

    /// The sweep's schedule.
    #[must_use]
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }
}

#[async_trait]
impl Jobs for SelfInvocation {
    async fn submit(&self, job: Job) -> Result<(), JobError> {
        let payload = serde_json::to_vec(&OwnEvent::Job {
            work: Box::new(job),
        })
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

    async fn wake_at(&self, at: Timestamp) -> Result<(), JobError> {
        self.schedule.set(at).await
    }

    async fn woken(&self) -> Result<(), JobError> {
        self.schedule.forget().await
    }
}
