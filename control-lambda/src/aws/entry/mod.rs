//! What the control function is invoked with: requests from the HTTP API,
//! messages from the WebSocket API, Lambda's word on failed invocations, its own
//! jobs, and its schedule.

mod checks;
mod http;
mod websocket;

use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayWebsocketProxyRequest};
use serde_json::Value;
use thiserror::Error;

use super::functions::ended::FailureRecord;
use super::jobs::{LONGEST_WAIT, OwnEvent};
use super::wiring::Plane;
use crate::engine::EngineError;
use crate::engine::jobs::Outcome;
use crate::ports::Jobs as _;
use crate::ports::jobs::Job;

/// So long one invocation of the worker works, which has five minutes.
const WORK_LIMIT: Duration = Duration::from_secs(240);

/// So long before an invocation ends, a job that is not done is handed to the next one.
const HANDING_OVER: Duration = Duration::from_secs(40);

/// An event that cannot be handled. Lambda is told, and writes it down.
#[derive(Debug, Error)]
pub enum EventError {
    /// Of a kind that this function is not for.
    #[error("this function does not know what to do with such an event")]
    Unknown,
    /// Of a known kind, but not of its form.
    #[error("the event cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It was understood but could not be carried out; Lambda tries again.
    #[error("{0}")]
    Failed(String),
}

/// The kinds of events, told apart by the one field that each alone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    WebSocket,
    Failure,
    Own,
}

impl Kind {
    fn of(event: &Value) -> Option<Self> {
        let context = &event["requestContext"];
        if event.get("sockerless").is_some() {
            Some(Self::Own)
        } else if context.get("connectionId").is_some() {
            Some(Self::WebSocket)
        } else if context.get("http").is_some() {
            Some(Self::Http)
        } else if context.get("condition").is_some() && event.get("requestPayload").is_some() {
            Some(Self::Failure)
        } else {
            None
        }
    }
}

impl Plane {
    /// Handles one event, for which so much time is left, and returns what Lambda is to give
    /// back.
    ///
    /// # Errors
    /// See [`EventError`].
    pub async fn handle(&self, event: Value, left: Duration) -> Result<Value, EventError> {
        match Kind::of(&event).ok_or(EventError::Unknown)? {
            Kind::Http => {
                let request: ApiGatewayV2httpRequest = serde_json::from_value(event)?;
                let response = Box::pin(self.http(request)).await;
                Ok(serde_json::to_value(response)?)
            }
            Kind::WebSocket => {
                let request: ApiGatewayWebsocketProxyRequest = serde_json::from_value(event)?;
                Ok(self.websocket(request).await)
            }
            Kind::Failure => {
                let record: FailureRecord = serde_json::from_value(event)?;
                self.failed_invocation(&record)
                    .await
                    .map_err(|error| EventError::Failed(error.to_string()))?;
                Ok(Value::Null)
            }
            Kind::Own => {
                match serde_json::from_value(event)? {
                    OwnEvent::Job {
                        work,
                        delay_ms,
                        turn,
                    } => {
                        let delay = Duration::from_millis(delay_ms);
                        Box::pin(self.job(work, delay, turn, left)).await?;
                    }
                    OwnEvent::Prepare { shape } => self
                        .host
                        .prepare(&shape)
                        .await
                        .map_err(|error| EventError::Failed(error.to_string()))?,
                    OwnEvent::Sweep => self
                        .control
                        .sweep()
                        .await
                        .map_err(|error| EventError::Failed(error.to_string()))?,
                    OwnEvent::Work => self
                        .host
                        .work(WORK_LIMIT)
                        .await
                        .map_err(|error| EventError::Failed(error.to_string()))?,
                    OwnEvent::DeleteFunctions => {
                        // Before the functions, whose end is what is waited for; they go whatever
                        // becomes of this.
                        let cached = self.cached.delete().await;
                        self.host
                            .delete_all(WORK_LIMIT)
                            .await
                            .map_err(|error| EventError::Failed(error.to_string()))?;
                        cached.map_err(|error| EventError::Failed(error.to_string()))?;
                    }
                }
                Ok(Value::Null)
            }
        }
    }
}

impl Plane {
    /// Takes Lambda's word on an invocation that failed. Done twice, it finds the run ended.
    async fn failed_invocation(&self, record: &FailureRecord) -> Result<(), EngineError> {
        let run = record.run();
        // Of a container that is gone there is nobody to read the sentence, but those who wait for a
        // visit to it are answered.
        let memory_mib = self.control.memory_of(run).await?.unwrap_or_default();
        self.control
            .platform_report(run, record.end(memory_mib))
            .await?;
        self.control.free_environment(run).await
    }

    /// Carries out a job when its time has come.
    async fn job(
        &self,
        work: Box<Job>,
        delay: Duration,
        turn: u32,
        left: Duration,
    ) -> Result<(), EventError> {
        let wait = delay.min(LONGEST_WAIT);
        tokio::time::sleep(wait).await;
        let later = delay - wait;
        let submitted = if later.is_zero() {
            let limit = left.saturating_sub(wait + HANDING_OVER);
            match self.control.run_job_within(*work, limit, turn).await {
                Outcome::Done => Ok(()),
                Outcome::GoesOn(work) => self.jobs.go_on(*work, turn + 1).await,
                Outcome::Failed(error) => return Err(EventError::Failed(error.to_string())),
            }
        } else {
            self.jobs.submit_later(*work, later).await
        };
        submitted.map_err(|error| EventError::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_told_apart() {
        for (event, kind) in [
            (json!({"requestContext": {"http": {}}}), Some(Kind::Http)),
            (
                json!({"requestContext": {"connectionId": "x"}}),
                Some(Kind::WebSocket),
            ),
            (
                json!({"requestContext": {"condition": "x"}, "requestPayload": {}}),
                Some(Kind::Failure),
            ),
            (
                serde_json::to_value(OwnEvent::Sweep).unwrap(),
                Some(Kind::Own),
            ),
            (json!({"Records": []}), None),
            (json!("text"), None),
        ] {
            assert_eq!(Kind::of(&event), kind, "{event}");
        }
    }
}
