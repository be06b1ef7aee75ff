//! Work that outlasts a request: an asynchronous invocation of the control
//! function by itself.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde::{Deserialize, Serialize};
use sockerless_shared::timestamp::Timestamp;

use super::schedule::Schedule;
use super::sdk::{Sdk, describe};
use crate::ports::Jobs;
use crate::ports::function_host::FunctionShape;
use crate::ports::jobs::{Job, JobError};

/// How long one invocation waits for a job's time; then it hands the job to the next.
/// Lambda has no delay of its own for invocations, and a schedule none below a minute; a
/// function that waits costs its smallest memory for that time.
pub const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// So long API Gateway waits for an answer ("HTTP API quotas").
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// What the control function is invoked with by itself and by its schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "sockerless")]
pub enum OwnEvent {
    /// Carry out a job.
    Job {
        /// Which.
        work: Box<Job>,
        /// How much later, in milliseconds.
        #[serde(default)]
        delay_ms: u64,
        /// How often it was carried out before, and did not come to its end.
        #[serde(default)]
        turn: u32,
    },
    /// Make the image of this function ready, and have the function made.
    Prepare {
        /// What it is to be.
        shape: Box<FunctionShape>,
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

    /// Has a job gone on with, in an invocation of its own.
    ///
    /// # Errors
    /// When it was not accepted.
    pub async fn go_on(&self, job: Job, turn: u32) -> Result<(), JobError> {
        self.send(job, Duration::ZERO, turn).await
    }

    async fn send(&self, job: Job, delay: Duration, turn: u32) -> Result<(), JobError> {
        let event = OwnEvent::Job {
            work: Box::new(job),
            delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            turn,
        };
        let payload = serde_json::to_vec(&event).map_err(|error| JobError(error.to_string()))?;
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

    /// The sweep's schedule.
    #[must_use]
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }
}

#[async_trait]
impl Jobs for SelfInvocation {
    async fn submit(&self, job: Job) -> Result<(), JobError> {
        self.submit_later(job, Duration::ZERO).await
    }

    fn request_limit(&self) -> Option<Duration> {
        Some(INTEGRATION_TIMEOUT)
    }

    async fn submit_later(&self, job: Job, delay: Duration) -> Result<(), JobError> {
        self.send(job, delay, 0).await
    }

    async fn wake_at(&self, at: Timestamp) -> Result<(), JobError> {
        self.schedule.set(at).await
    }

    async fn woken(&self) -> Result<(), JobError> {
        self.schedule.forget().await
    }
}
