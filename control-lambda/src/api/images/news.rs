//! Progress messages as an answer: as they come, or all at once.

use std::time::Duration;

use sockerless_shared::answer::{Answer, Response};
use sockerless_shared::ids::AnswerId;
use tokio::time::Instant;

use crate::api::{ApiError, ApiResult, head};
use crate::engine::jobs::AnswerWriter;
use crate::engine::{Control, EngineError};
use crate::images::Digest;
use crate::images::progress::{Message, Progress};

/// How long news may wait for more news.
const GATHERED_FOR: Duration = Duration::from_millis(200);

/// Messages as the body of an answer that arrives over the relay.
pub(crate) struct News<'a> {
    writer: AnswerWriter<'a>,
    flushed: Instant,
    failed: Option<EngineError>,
    loaded: Vec<Digest>,
}

impl<'a> News<'a> {
    /// Of an answer that this invocation, or one before it, has begun.
    pub(crate) async fn resume(
        control: &'a Control,
        answer: AnswerId,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            writer: AnswerWriter::resume(control, answer).await?,
            flushed: Instant::now(),
            failed: None,
            loaded: Vec::new(),
        })
    }

    /// The images that were loaded.
    pub(super) fn loaded_images(&self) -> &[Digest] {
        &self.loaded
    }

    /// Begins the answer, whatever comes.
    pub(super) async fn begin(&mut self) -> Result<(), EngineError> {
        if !self.writer.head_sent() {
            self.writer.head(head(200, "application/json")).await?;
        }
        Ok(())
    }

    /// Ends the answer. What went wrong is told within it, if it has begun.
    pub(crate) async fn finish(mut self, outcome: Result<(), ApiError>) -> Result<(), EngineError> {
        if let Err(error) = outcome {
            if !self.writer.head_sent() {
                return self.writer.fail(error).await;
            }
            self.message(Message::failure(error.message)).await;
        }
        match self.failed {
            Some(error) => Err(error),
            None => self.writer.end().await,
        }
    }

    async fn write(&mut self, message: &Message) -> Result<(), EngineError> {
        self.begin().await?;
        self.writer.data(message.line().as_bytes()).await?;
        if self.flushed.elapsed() >= GATHERED_FOR {
            self.writer.flush().await?;
            self.flushed = Instant::now();
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Progress for News<'_> {
    async fn message(&mut self, message: Message) {
        // The work goes on: the image may be wanted by others all the same.
        if self.failed.is_none()
            && let Err(error) = self.write(&message).await
        {
            tracing::warn!(%error, "progress could not be told");
            self.failed = Some(error);
        }
    }

    async fn loaded(&mut self, image: &Digest) {
        self.loaded.push(*image);
    }
}

/// For a caller without a relay: all of it in one response.
pub(super) fn at_once(mut messages: Vec<Message>, outcome: Result<(), ApiError>) -> ApiResult {
    if let Err(error) = outcome {
        if messages.is_empty() {
            return Err(error);
        }
        messages.push(Message::failure(error.message));
    }
    let text: String = messages.iter().map(Message::line).collect();
    Ok(Answer::Final(Response {
        head: head(200, "application/json"),
        body: text.into(),
        cache_s: 0,
    }))
}
