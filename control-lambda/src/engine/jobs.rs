//! Work that outlasts a request, and writing its answer part by part.

use std::time::Duration;

use bytes::Bytes;
use sockerless_shared::answer::{Body, Head, Part, Request};
use sockerless_shared::ids::{AnswerId, BlobId};

use super::{Control, EngineError};
use crate::api::router;
use crate::ports::jobs::Job;

/// How often a job is gone on with in another invocation, of a quarter of an hour each.
const MAX_TURNS: u32 = 24;

impl Control {
    /// Carries out a job within some time. One that is not done then, and is still wanted,
    /// is to be carried out again: that goes on where this stopped. `turn` is how often that was
    /// done before.
    pub async fn run_job_within(&self, job: Job, limit: Duration, turn: u32) -> Outcome {
        let again = job.goes_on().is_some().then(|| job.clone());
        let Some(again) = again else {
            return match self.run_job(job).await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(error),
            };
        };
        // What was under way is dropped, and keeps what it has.
        match tokio::time::timeout(limit, self.run_job(job)).await {
            Ok(Ok(())) => return Outcome::Done,
            Ok(Err(error)) => return Outcome::Failed(error),
            Err(_) => {}
        }
        match self.give_up_or_go_on(&again, turn).await {
            Ok(true) => Outcome::GoesOn(Box::new(again)),
            Ok(false) => Outcome::Done,
            Err(error) => {
                tracing::warn!(%error, "whether a job is still wanted is not known");
                Outcome::GoesOn(Box::new(again))
            }
        }
    }

    /// Whether a job that did not end in its time is to go on.
    async fn give_up_or_go_on(&self, job: &Job, turn: u32) -> Result<bool, EngineError> {
        let Some(answer) = job.goes_on() else {
            return Ok(false);
        };
        let is_wanted = self.store.answer(answer).await?.is_some();
        if is_wanted && turn < MAX_TURNS {
            return Ok(true);
        }
        if is_wanted {
            let error = crate::api::ApiError::new(
                500,
                "the transfer did not end within six hours; what has come is kept for a day, so try again",
            );
            let news = crate::api::images::news::News::resume(self, answer.clone()).await?;
            news.finish(Err(error)).await?;
        }
        if let Job::Load { body, .. } = job {
            self.drop_body(body).await;
        }
        if let Job::Import { import, .. } = job
            && let Some(body) = &import.body
        {
            self.drop_body(body).await;
        }
        Ok(false)
    }

    /// Carries out a job that was accepted. What goes wrong with one that has an answer is told
    /// in that.
    ///
    /// # Errors
    /// When a port failed, and nobody was told: it is to be carried out again, where that can be
    /// had, and otherwise the sweep makes it good.
    pub async fn run_job(&self, job: Job) -> Result<(), EngineError> {
        use crate::api::images::{commit as commits, create, import as imports, load, push, save};
        let outcome = match job {
            Job::Pull {
                namespace,
                reference,
                all_tags,
                platform,
                credentials,
                answer,
            } => {
                let wanted = create::Pull {
                    reference: &reference,
                    all_tags,
                    platform: platform.as_deref(),
                    credentials: &credentials,
                };
                create::carry_out(self, &namespace, wanted, answer).await
            }
            Job::Request {
                namespace,
                method,
                path_and_query,
                answer,
            } => {
                let request = Request {
                    method,
                    path_and_query,
                    headers: Vec::new(),
                    body: Body::Inline(Bytes::new()),
                    // Whatever it takes, it is not put off again.
                    peer: None,
                };
                // All that a request may do is within it.
                Box::pin(router::carry_out(self, &namespace, request, answer)).await
            }
            Job::Commit { commit, answer } => commits::carry_out(self, &commit, answer).await,
            Job::Start {
                namespace,
                container,
                run,
            } => return self.start_prepared(&namespace, &container, &run).await,
            Job::StartAnew {
                namespace,
                container,
                run,
            } => return self.start_anew(&namespace, &container, &run).await,
            Job::Restart {
                namespace,
                container,
                ended,
            } => return self.restart_due(&namespace, &container, ended).await,
            Job::Push {
                namespace,
                reference,
                credentials,
                answer,
            } => push::carry_out(self, &namespace, &reference, &credentials, answer).await,
            Job::Load {
                namespace,
                body,
                platform,
                quiet,
                answer,
            } => {
                let wanted = load::Load {
                    body: &body,
                    platform: platform.as_deref(),
                    quiet,
                };
                load::carry_out(self, &namespace, wanted, answer).await
            }
            Job::Import {
                namespace,
                import,
                answer,
            } => imports::carry_out(self, &namespace, &import, answer).await,
            Job::Save {
                namespace,
                names,
                platform,
                answer,
            } => save::carry_out(self, &namespace, &names, platform.as_deref(), answer).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "a job's end could not be told");
        }
        Ok(())
    }
}

/// What became of a job that had some time.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done,
    /// It is to be carried out again.
    GoesOn(Box<Job>),
    /// A port failed, and nobody was told.
    Failed(EngineError),
}

/// The parts of one answer, in order. Data is gathered a little before it is
/// sent, since every message costs.
pub struct AnswerWriter<'a> {
    control: &'a Control,
    id: AnswerId,
    head_sent: bool,
    gathered: Vec<u8>,
}

/// As much data as goes into one message: with base64 and its envelope it fits a frame of 32 KB.
const PIECE_BYTES: usize = 20 * 1024;

impl<'a> AnswerWriter<'a> {
    /// Writes the rest of an answer that was begun with [`Control::begin_answer`] without parts.
    #[must_use]
    pub const fn new(control: &'a Control, id: AnswerId) -> Self {
        Self {
            control,
            id,
            head_sent: false,
            gathered: Vec::new(),
        }
    }

    /// The same for an answer of which another invocation may have written the first parts.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn resume(control: &'a Control, id: AnswerId) -> Result<Self, EngineError> {
        let known = control.store.answer(&id).await?;
        Ok(Self {
            head_sent: known.is_some_and(|known| known.next > 0),
            ..Self::new(control, id)
        })
    }

    /// Whether the head has been sent: from then on an error is told within the body.
    #[must_use]
    pub const fn head_sent(&self) -> bool {
        self.head_sent
    }

    /// Sends status and headers, once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn head(&mut self, head: Head) -> Result<(), EngineError> {
        self.head_sent = true;
        self.control.deliver(&self.id, vec![Part::Head(head)]).await
    }

    /// Adds to the body; sent when there is enough of it, or by [`AnswerWriter::flush`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn data(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.gathered.extend_from_slice(data);
        if self.gathered.len() >= PIECE_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Whether somebody still waits for the rest.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_wanted(&self) -> Result<bool, EngineError> {
        Ok(self.control.store.answer(&self.id).await?.is_some())
    }

    /// Adds a blob to the body. It goes when the answer is done with.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn blob(&mut self, blob: BlobId) -> Result<(), EngineError> {
        self.flush().await?;
        self.control
            .deliver(&self.id, vec![Part::Blob { blob }])
            .await
    }

    /// Sends what has been gathered.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn flush(&mut self) -> Result<(), EngineError> {
        let gathered = std::mem::take(&mut self.gathered);
        let parts: Vec<Part> = gathered
            .chunks(PIECE_BYTES)
            .map(|piece| Part::Data {
                data: Bytes::copy_from_slice(piece),
            })
            .collect();
        if parts.is_empty() {
            Ok(())
        } else {
            self.control.deliver(&self.id, parts).await
        }
    }

    /// Sends what is left and ends the answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end(mut self) -> Result<(), EngineError> {
        self.flush().await?;
        self.control.deliver(&self.id, vec![Part::End]).await
    }

    /// Answers with an error, if nothing has been sent yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fail(self, error: crate::api::ApiError) -> Result<(), EngineError> {
        let response = error.into_response();
        let parts = vec![
            Part::Head(response.head),
            Part::Data {
                data: response.body,
            },
            Part::End,
        ];
        self.control.deliver(&self.id, parts).await
    }
}
