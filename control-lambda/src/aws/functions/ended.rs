//! What Lambda says of an invocation that failed (Developer Guide, "Capturing
//! records of Lambda asynchronous invocations").

use serde::Deserialize;
use sockerless_shared::ids::RunId;

use crate::ports::function_host::InvocationEnd;

/// So many characters of a reason are shown in a container's state.
const MOST_OF_A_REASON: usize = 300;

/// The record that an on-failure destination is given. Only what is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRecord {
    request_context: RequestContext,
    request_payload: RequestPayload,
    #[serde(default)]
    response_payload: Option<ResponsePayload>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    condition: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct RequestPayload {
    run: RunId,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResponsePayload {
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
}

impl FailureRecord {
    /// The run that was invoked.
    #[must_use]
    pub const fn run(&self) -> &RunId {
        &self.request_payload.run
    }

    /// How the invocation ended. `memory_mib` is the function's memory.
    #[must_use]
    pub fn end(&self, memory_mib: u32) -> InvocationEnd {
        if self.request_context.condition == "EventAgeExceeded" {
            return InvocationEnd::Crashed {
                reason: "Lambda had no room to start it in time; start it again".to_owned(),
            };
        }
        let payload = self.response_payload.as_ref();
        let kind = payload
            .and_then(|p| p.error_type.as_deref())
            .unwrap_or_default();
        let message = payload
            .and_then(|p| p.error_message.as_deref())
            .unwrap_or("Lambda does not say why");
        if let Some(limit_s) = timed_out_after(message) {
            return InvocationEnd::TimedOut { limit_s };
        }
        // A process that Lambda kills has used up its memory: nobody else kills it.
        if kind == "Runtime.OutOfMemory" || message.contains("signal: killed") {
            return InvocationEnd::OutOfMemory {
                limit_mib: memory_mib,
            };
        }
        // The first line says it; what may follow is a log.
        let reason = message.lines().next().unwrap_or_default();
        InvocationEnd::Crashed {
            reason: reason.chars().take(MOST_OF_A_REASON).collect(),
        }
    }
}

/// The seconds in `… Task timed out after 3.00 seconds`.
fn timed_out_after(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once("Task timed out after ")?;
    let (seconds, _) = rest.split_once('.').or_else(|| rest.split_once(' '))?;
    seconds.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(condition: &str, payload: &str) -> FailureRecord {
        let run = RunId::from_random([7; 16]);
        serde_json::from_str(&format!(
            r#"{{"version":"1.0","timestamp":"2026-01-01T00:00:00.000Z",
                "requestContext":{{"requestId":"x","functionArn":"arn:aws:lambda:us-east-1:1:function:skls-a:$LATEST",
                    "condition":"{condition}","approximateInvokeCount":1}},
                "requestPayload":{{"run":"{run}","other":1}},
                "responseContext":{{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"}},
                "responsePayload":{payload}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn lambdas_records_are_understood() {
        let timeout = record(
            "RetriesExhausted",
            r#"{"errorMessage":"2026-01-01T00:00:00.000Z 1-2 Task timed out after 900.00 seconds"}"#,
        );
        assert_eq!(timeout.run(), &RunId::from_random([7; 16]));
        assert_eq!(timeout.end(128), InvocationEnd::TimedOut { limit_s: 900 });
        let killed = record(
            "RetriesExhausted",
            r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 1 Error: Runtime exited with error: signal: killed"}"#,
        );
        assert_eq!(
            killed.end(128),
            InvocationEnd::OutOfMemory { limit_mib: 128 }
        );
        let crashed = record(
            "RetriesExhausted",
            r#"{"errorType":"Runtime.ExitError","errorMessage":"exit status 1\nand its log"}"#,
        );
        assert_eq!(
            crashed.end(128),
            InvocationEnd::Crashed {
                reason: "exit status 1".into()
            }
        );
        let late = record("EventAgeExceeded", "null");
        assert!(matches!(late.end(128), InvocationEnd::Crashed { .. }));
    }
}
