//! Lambda's runtime API (2018-06-01), one server an environment, reachable from
//! inside that environment only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use sockerless_shared::ids::RunId;
use tokio::net::TcpListener;

use super::log_stream::{request_id, run_of_request};
use super::pool::Answer;

/// Largest response to an invocation, in bytes (AWS Lambda quotas: 6 MB).
const MAX_RESPONSE_BYTES: usize = 6 * 1024 * 1024;
/// Largest error document that is read, in bytes.
const MAX_ERROR_BYTES: usize = 256 * 1024;
/// Longest part of an error that is repeated to people, in characters.
const MAX_REASON_CHARS: usize = 1000;
/// Connections that one environment may have open at the same time.
const MAX_CONNECTIONS: usize = 16;
/// How long a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

const PREFIX: &str = "/2018-06-01/runtime/";

/// An invocation as the runtime sees it.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) run: RunId,
    pub(super) payload: Bytes,
    /// When the time limit passes, in milliseconds since 1970.
    pub(super) deadline_ms: u64,
}

/// What stands behind one environment's runtime API.
#[async_trait]
pub(super) trait Runtime: Send + Sync + 'static {
    /// The next invocation, however long it takes; `None` when there will be none.
    async fn next(&self) -> Option<Delivery>;
    /// The runtime's answer to a run. False when that run is not running here.
    fn answered(&self, run: &RunId, answer: Answer) -> bool;
    /// The runtime cannot start, and says why.
    fn init_failed(&self, reason: String);
    /// The function's ARN.
    fn arn(&self) -> &str;
}

/// Serves until the task is dropped.
pub(super) async fn serve(listener: TcpListener, runtime: Arc<dyn Runtime>) {
    let connections = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Errors of accept concern one connection that is gone already.
            Err(error) => {
                tracing::debug!(%error, "runtime API: connection was not accepted");
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let runtime = Arc::clone(&runtime);
        tasks.spawn(async move {
            let service = service_fn(|request| {
                let runtime = Arc::clone(&runtime);
                async move { Ok::<_, Infallible>(answer(request, runtime.as_ref()).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "runtime API: connection ended");
            }
            drop(permit);
        });
    }
}

/// What is asked, by method and path.
#[derive(Debug, PartialEq, Eq)]
enum Call<'a> {
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
    Unknown,
}

fn call<'a>(method: &Method, path: &'a str) -> Call<'a> {
    let Some(rest) = path.strip_prefix(PREFIX) else {
        return Call::Unknown;
    };
    let parts: Vec<_> = rest.splitn(4, '/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["invocation", "next"]) => Call::Next,
        ("POST", ["invocation", id, "response"]) => Call::Response(id),
        ("POST", ["invocation", id, "error"]) => Call::Error(id),
        ("POST", ["init", "error"]) => Call::InitError,
        _ => Call::Unknown,
    }
}

async fn answer(request: Request<Incoming>, runtime: &dyn Runtime) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    match call(&head.method, head.uri.path()) {
        Call::Next => match runtime.next().await {
            Some(delivery) => invocation(&delivery, runtime.arn()),
            None => problem(StatusCode::FORBIDDEN, "Gone", "the environment is ending"),
        },
        Call::Response(id) => match read(body, MAX_RESPONSE_BYTES).await {
            Ok(_) => finish(runtime, id, Answer::Response),
            Err(Unread::TooLarge) => {
                let reason = format!("the response is larger than {MAX_RESPONSE_BYTES} bytes");
                finish(runtime, id, Answer::Error(reason));
                problem(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "RequestEntityTooLarge",
                    "the response is larger than 6 MB",
                )
            }
            Err(Unread::Broken) => broken(),
        },
        Call::Error(id) => match read(body, MAX_ERROR_BYTES).await {
            Ok(bytes) => finish(runtime, id, Answer::Error(reason(&bytes))),
            Err(Unread::TooLarge) => finish(
                runtime,
                id,
                Answer::Error("the runtime reported an error too large to read".to_owned()),
            ),
            Err(Unread::Broken) => broken(),
        },
        Call::InitError => match read(body, MAX_ERROR_BYTES).await {
            Ok(bytes) => {
                runtime.init_failed(reason(&bytes));
                accepted()
            }
            Err(Unread::TooLarge | Unread::Broken) => broken(),
        },
        Call::Unknown => problem(StatusCode::NOT_FOUND, "NotFound", "no such call"),
    }
}

fn finish(runtime: &dyn Runtime, id: &str, answer: Answer) -> Response<Full<Bytes>> {
    let running = run_of_request(id).is_some_and(|run| runtime.answered(&run, answer));
    if running {
        accepted()
    } else {
        problem(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "this environment does not run that invocation",
        )
    }
}

fn invocation(delivery: &Delivery, arn: &str) -> Response<Full<Bytes>> {
    let run = delivery.run.as_str();
    let trace = format!(
        "Root=1-{:08x}-{};Parent={};Sampled=0",
        (delivery.deadline_ms / 1000) & 0xffff_ffff,
        run.get(..24).unwrap_or_default(),
        run.get(16..).unwrap_or_default()
    );
    let mut response = Response::new(Full::new(delivery.payload.clone()));
    for (name, value) in [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", request_id(&delivery.run)),
        (
            "lambda-runtime-deadline-ms",
            delivery.deadline_ms.to_string(),
        ),
        ("lambda-runtime-invoked-function-arn", arn.to_owned()),
        ("lambda-runtime-trace-id", trace),
    ] {
        // All of them are visible ASCII.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn accepted() -> Response<Full<Bytes>> {
    json(StatusCode::ACCEPTED, r#"{"status":"OK"}"#.into())
}

fn broken() -> Response<Full<Bytes>> {
    problem(
        StatusCode::BAD_REQUEST,
        "InvalidRequest",
        "the body cannot be read",
    )
}

fn problem(status: StatusCode, kind: &str, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({"errorType": kind, "errorMessage": message});
    json(status, body.to_string().into())
}

fn json(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    response
}

enum Unread {
    TooLarge,
    Broken,
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, Unread> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Err(_) => Err(Unread::Broken),
    }
}

/// A runtime's error document as a sentence.
fn reason(document: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        #[serde(default)]
        error_type: String,
        #[serde(default)]
        error_message: String,
    }
    let text = match serde_json::from_slice::<Document>(document) {
        Ok(Document {
            error_type,
            error_message,
        }) => [error_type, error_message]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(": "),
        Err(_) => String::new(),
    };
    if text.is_empty() {
        "the runtime reported an error without a reason".to_owned()
    } else {
        text.chars().take(MAX_REASON_CHARS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart() {
        let get = |path| call(&Method::GET, path);
        let post = |path| call(&Method::POST, path);
        assert_eq!(get("/2018-06-01/runtime/invocation/next"), Call::Next);
        assert_eq!(
            post("/2018-06-01/runtime/invocation/a-b/response"),
            Call::Response("a-b")
        );
        assert_eq!(
            post("/2018-06-01/runtime/invocation/a-b/error"),
            Call::Error("a-b")
        );
        assert_eq!(post("/2018-06-01/runtime/init/error"), Call::InitError);
        assert_eq!(post("/2018-06-01/runtime/invocation/next"), Call::Unknown);
        assert_eq!(get("/2018-06-01/runtime/invocation/a/b/c/d"), Call::Unknown);
        assert_eq!(get("/"), Call::Unknown);
    }

    #[test]
    fn an_error_document_becomes_a_sentence() {
        assert_eq!(
            reason(br#"{"errorType":"Agent.Spec","errorMessage":"no such field"}"#),
            "Agent.Spec: no such field"
        );
        let none = "the runtime reported an error without a reason";
        assert_eq!(reason(b"{}"), none);
        assert_eq!(reason(b"\xff"), none);
        let long = format!(r#"{{"errorMessage":"{}"}}"#, "x".repeat(5000));
        assert_eq!(reason(long.as_bytes()).len(), MAX_REASON_CHARS);
    }
}
