//! Lambda's runtime API (version 2018-06-01).

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};
use sockerless_shared::timestamp::Timestamp;
use tokio::time::sleep;

use super::{Received, Reply};
use crate::net::http::{Response, request};

/// Largest payload accepted, in bytes: Lambda's limit for synchronous
/// invocations, which the larger of the two.
const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024 + 64 * 1024;

/// How often a refused connection is tried again, and how long apart. The
/// runtime API is on loopback; it may come up a moment after the agent.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// A client of the runtime API.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    /// `host:port` as in `AWS_LAMBDA_RUNTIME_API`.
    authority: String,
}

impl RuntimeApi {
    /// A client of the API at `host:port`.
    pub(crate) fn new(authority: String) -> Self {
        Self { authority }
    }

    /// Asks for the next invocation; waits for as long as it takes.
    pub(super) async fn next(&self) -> io::Result<Received> {
        let response = self
            .send(Method::GET, "next", Bytes::new(), MAX_PAYLOAD_BYTES)
            .await?;
        let header = |name: &str| {
            response
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let missing = |name| io::Error::other(format!("runtime API: next without {name}"));
        let request_id = header("lambda-runtime-aws-request-id")
            .ok_or_else(|| missing("Lambda-Runtime-Aws-Request-Id"))?
            .to_owned();
        let deadline = header("lambda-runtime-deadline-ms")
            .and_then(|text| text.parse().ok())
            .map(Timestamp::from_millis)
            .ok_or_else(|| missing("Lambda-Runtime-Deadline-Ms"))?;
        Ok(Received {
            request_id,
            payload: response.body,
            deadline,
            reply: Reply::RuntimeApi,
        })
    }

    pub(super) async fn answer(&self, request_id: &str, kind: &str, body: Bytes) -> io::Result<()> {
        let path = format!("{request_id}/{kind}");
        self.send(Method::POST, &path, body, 64 * 1024)
            .await
            .map(|_| ())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: usize,
    ) -> io::Result<Response> {
        let uri: Uri = format!(
            "http://{}/2018-06-01/runtime/invocation/{path}",
            self.authority
        )
        .parse()
        .map_err(io::Error::other)?;
        let mut attempt = 0;
        let response = loop {
            attempt += 1;
            match request(method.clone(), &uri, body.clone(), limit).await {
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionRefused && attempt < ATTEMPTS =>
                {
                    sleep(PAUSE).await;
                }
                other => break other,
            }
        }
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("runtime API: {method} {path}: {error}"),
            )
        })?;
        if response.status.is_success() {
            return Ok(response);
        }
        Err(io::Error::other(format!(
            "runtime API: {method} {path}: answered {}",
            response.status
        )))
    }
}
