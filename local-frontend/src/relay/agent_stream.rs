//! One stream to an agent: the grant, the agent's reply, then raw bytes.

use bytes::Bytes;
use sockerless_shared::answer::Head;
use sockerless_shared::protocol::stream::{StreamReply, encode_head, head_length};
use sockerless_shared::quic;

use super::agents::{Lease, StreamError};

/// Longest reply that is read, in bytes: a sentence.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// Largest piece of output taken at a time, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// A stream that the agent has yet to accept. Dropping it before its end tells the agent
/// that the client is gone.
pub struct AgentStream {
    /// To the agent.
    pub input: AgentInput,
    /// From the agent.
    pub output: AgentOutput,
}

/// What the client sends.
pub struct AgentInput {
    send: quinn::SendStream,
    ended: bool,
}

/// What the agent sends.
pub struct AgentOutput {
    receive: quinn::RecvStream,
    replied: bool,
    ended: bool,
    lease: Lease,
}

impl AgentStream {
    pub(super) async fn begin(
        send: quinn::SendStream,
        receive: quinn::RecvStream,
        grant: &str,
        lease: Lease,
    ) -> Result<Self, StreamError> {
        let mut stream = Self {
            input: AgentInput { send, ended: false },
            output: AgentOutput {
                receive,
                replied: false,
                ended: false,
                lease,
            },
        };
        let head = encode_head(grant)?;
        stream.input.write(Bytes::from(head)).await?;
        Ok(stream)
    }
}

impl AgentInput {
    /// Sends bytes, as fast as the agent takes them.
    ///
    /// # Errors
    /// When the agent wants no more, or is gone.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.send
            .write_chunk(bytes)
            .await
            .map_err(|error| StreamError::Broken(error.to_string()))
    }

    /// The client has no more to say; it goes on listening.
    pub fn end(&mut self) {
        self.ended = true;
        // It fails only for a stream that the agent has stopped already.
        let _ = self.send.finish();
    }
}

impl AgentStream {
    /// For a client that has gone: waits until the agent has begun what it was asked
    /// for. Dropped before that, the stream might take its own request back.
    ///
    /// # Errors
    /// As [`AgentOutput::read`].
    pub async fn begun(mut self) -> Result<(), StreamError> {
        self.output.accepted().await
    }
}

impl AgentOutput {
    async fn accepted(&mut self) -> Result<(), StreamError> {
        if !self.replied {
            match self.read_reply().await? {
                StreamReply::Accepted | StreamReply::Answer { .. } => self.replied = true,
                StreamReply::Refused { message } => return Err(StreamError::Refused(message)),
            }
        }
        Ok(())
    }

    /// The head that the agent answers with; its body is what [`AgentOutput::read`] returns.
    ///
    /// # Errors
    /// As [`AgentOutput::read`], and when the agent answers with a stream and no head.
    pub async fn head(&mut self) -> Result<Head, StreamError> {
        match self.read_reply().await? {
            StreamReply::Answer { status, headers } => {
                self.replied = true;
                Ok(Head { status, headers })
            }
            StreamReply::Refused { message } => Err(StreamError::Refused(message)),
            StreamReply::Accepted => Err(StreamError::Broken("no head in its reply".to_owned())),
        }
    }

    /// The next bytes; `None` when the agent has ended the stream.
    ///
    /// # Errors
    /// When the agent refused the grant, broke off or is gone.
    pub async fn read(&mut self) -> Result<Option<Bytes>, StreamError> {
        self.accepted().await?;
        match self.receive.read_chunk(CHUNK_BYTES, true).await {
            Ok(Some(chunk)) => Ok(Some(chunk.bytes)),
            Ok(None) => {
                self.ended = true;
                self.lease.ended();
                Ok(None)
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Why a stream broke off.
    fn broken(&self, error: &quinn::ReadError) -> StreamError {
        if let Some(over) = self.lease.over() {
            return over;
        }
        match error {
            quinn::ReadError::ConnectionLost(quinn::ConnectionError::ApplicationClosed(close))
                if close.error_code == quic::PEER_GONE =>
            {
                StreamError::Gone
            }
            error => StreamError::Broken(error.to_string()),
        }
    }

    async fn read_reply(&mut self) -> Result<StreamReply, StreamError> {
        let mut length = [0; 4];
        self.read_whole(&mut length).await?;
        let length = head_length(length, MAX_REPLY_BYTES)?;
        let mut reply = vec![0; length];
        self.read_whole(&mut reply).await?;
        serde_json::from_slice(&reply)
            .map_err(|error| StreamError::Broken(format!("unreadable reply: {error}")))
    }

    async fn read_whole(&mut self, buffer: &mut [u8]) -> Result<(), StreamError> {
        match self.receive.read_exact(buffer).await {
            Ok(()) => Ok(()),
            Err(quinn::ReadExactError::ReadError(error)) => Err(self.broken(&error)),
            Err(error @ quinn::ReadExactError::FinishedEarly(_)) => {
                Err(StreamError::Broken(error.to_string()))
            }
        }
    }
}

// Without these, quinn would end the streams as if all had been said.

impl Drop for AgentInput {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.send.reset(quic::CLIENT_GONE);
        }
    }
}

impl Drop for AgentOutput {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.receive.stop(quic::CLIENT_GONE);
        }
    }
}
