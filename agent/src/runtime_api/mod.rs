//! Where invocations come from: Lambda's runtime API, or, when there is none,
//! the endpoint of the runtime interface emulator, so that a prepared image
//! also runs under plain Docker.

mod client;
mod emulator;

use std::io;

use bytes::Bytes;
use sockerless_shared::timestamp::Timestamp;

pub(crate) use client::RuntimeApi;
pub(crate) use emulator::Emulator;

/// One invocation as it was handed over.
#[derive(Debug)]
pub(crate) struct Received {
    /// The platform's id for it.
    pub(crate) request_id: String,
    /// The payload.
    pub(crate) payload: Bytes,
    /// When the platform ends it.
    pub(crate) deadline: Timestamp,
    /// How it was received.
    reply: Reply,
}

#[derive(Debug)]
enum Reply {
    RuntimeApi,
    Emulator(tokio::sync::oneshot::Sender<Bytes>),
}

/// Where invocations come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Lambda, or the local sandbox.
    RuntimeApi(RuntimeApi),
    /// Whoever posts to port 8080.
    Emulator(Emulator),
}

impl Source {
    /// Waits for the next invocation.
    ///
    /// # Errors
    /// When the runtime API cannot be reached or answers nonsense: the
    /// environment is of no use any more.
    pub(crate) async fn next(&mut self) -> io::Result<Received> {
        match self {
            Self::RuntimeApi(api) => api.next().await,
            Self::Emulator(emulator) => emulator.next().await,
        }
    }

    /// Answers an invocation.
    ///
    /// # Errors
    /// When the runtime API cannot be reached.
    pub(crate) async fn answer(&self, received: Received, body: Bytes) -> io::Result<()> {
        match (self, received.reply) {
            (Self::RuntimeApi(api), Reply::RuntimeApi) => {
                api.answer(&received.request_id, "response", body).await
            }
            (_, Reply::Emulator(reply)) => {
                // The caller may have gone away.
                let _ = reply.send(body);
                Ok(())
            }
            (Self::Emulator(_), Reply::RuntimeApi) => Ok(()),
        }
    }

    /// Says that an invocation failed, so that the platform records it as such.
    ///
    /// # Errors
    /// When the runtime API cannot be reached.
    pub(crate) async fn fail(&self, received: Received, message: &str) -> io::Result<()> {
        let body = serde_json::json!({
            "errorType": "Sockerless.Agent",
            "errorMessage": message,
        });
        let body = Bytes::from(body.to_string());
        match (self, received.reply) {
            (Self::RuntimeApi(api), Reply::RuntimeApi) => {
                api.answer(&received.request_id, "error", body).await
            }
            (_, Reply::Emulator(reply)) => {
                let _ = reply.send(body);
                Ok(())
            }
            (Self::Emulator(_), Reply::RuntimeApi) => Ok(()),
        }
    }
}
