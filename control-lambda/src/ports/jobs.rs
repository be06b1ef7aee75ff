//! Work that outlasts a request: done by an asynchronous self-invocation, or a task.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sockerless_shared::ids::{AnswerId, BlobId, ContainerId, Namespace, RunId};
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

use crate::images::remote::Credentials;
use crate::store::runs::Commit;

/// A piece of work. It must be possible to carry it out twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// `docker pull`, whose progress and end are the parts of an answer.
    Pull {
        /// For whom.
        namespace: Namespace,
        /// What, as the client named it.
        reference: String,
        /// Every tag of the repository.
        #[serde(default)]
        all_tags: bool,
        /// `os[/arch[/variant]]`, if the client asked for one.
        platform: Option<String>,
        /// What the registry may ask for.
        #[serde(default)]
        credentials: Credentials,
        /// Where progress goes.
        answer: AnswerId,
    },
    /// The end of `docker commit`: the layer is stored, the image is made.
    Commit {
        /// What of.
        commit: Box<Commit>,
        /// Where the image's id goes.
        answer: AnswerId,
    },
    /// A request without a body that may take longer than a request is given
    /// ([`Jobs::request_limit`]).
    Request {
        /// Whose.
        namespace: Namespace,
        /// HTTP method.
        method: String,
        /// Path and query, as the client wrote them.
        path_and_query: String,
        /// Where the response goes.
        answer: AnswerId,
    },
    /// The invocation of a run whose function is still being prepared.
    Start {
        /// Whose.
        namespace: Namespace,
        /// The container.
        container: ContainerId,
        /// The run that its state names.
        run: RunId,
    },
    /// A start that may have been interrupted before its function was invoked: begun anew, if
    /// its agent has not come.
    StartAnew {
        /// Whose.
        namespace: Namespace,
        /// The container.
        container: ContainerId,
        /// The run that its state names.
        run: RunId,
    },
    /// Starting a container again, as its policy wants.
    Restart {
        /// Whose.
        namespace: Namespace,
        /// Which.
        container: ContainerId,
        /// The run that ended; a restart after any other is not meant.
        ended: RunId,
    },
    /// `docker push`, likewise.
    Push {
        /// Whose image.
        namespace: Namespace,
        /// Which, in its full form.
        reference: String,
        /// What the registry may ask for.
        credentials: Credentials,
        /// Where progress goes.
        answer: AnswerId,
    },
    /// `docker load` of an archive that is in the blob store, likewise.
    Load {
        /// For whom.
        namespace: Namespace,
        /// The archive, which goes with the job.
        body: BlobId,
        /// `os[/arch[/variant]]`, if the client asked for one.
        platform: Option<String>,
        /// Whether the progress of layers is not told.
        quiet: bool,
        /// Where progress goes.
        answer: AnswerId,
    },
    /// `docker import` of a tar that is in the blob store or at a URL, likewise.
    Import {
        /// For whom.
        namespace: Namespace,
        /// What.
        import: Box<Import>,
        /// Where progress goes.
        answer: AnswerId,
    },
    /// `docker save`, whose archive is the answer.
    Save {
        /// Whose images.
        namespace: Namespace,
        /// Which, as the client named them.
        names: Vec<String>,
        /// `os[/arch[/variant]]`, if the client asked for one.
        platform: Option<String>,
        /// Where the archive goes.
        answer: AnswerId,
    },
}

/// What `docker import` is to make, as the client said it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Import {
    /// The tar, which goes with the job; what is at `source` unless there is one.
    pub body: Option<BlobId>,
    /// `-` or a URL.
    pub source: String,
    /// The name that the image is to have, if any.
    pub repo: String,
    /// Its tag.
    pub tag: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// For `inspect`.
    pub message: String,
    /// `os[/arch[/variant]]`, if the client asked for one.
    pub platform: Option<String>,
}

impl Job {
    /// The answer of a job that can be carried out again from where it stopped: what it did
    /// stays, and is found. `None` for one that is short, or cannot.
    #[must_use]
    pub const fn goes_on(&self) -> Option<&AnswerId> {
        match self {
            Self::Pull { answer, .. }
            | Self::Push { answer, .. }
            | Self::Load { answer, .. }
            | Self::Import { answer, .. } => Some(answer),
            // Its archive is being sent, and cannot be begun in its middle.
            Self::Save { .. }
            | Self::Request { .. }
            | Self::Commit { .. }
            | Self::Start { .. }
            | Self::StartAnew { .. }
            | Self::Restart { .. } => None,
        }
    }
}

/// Why a job was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("background work was not accepted: {0}")]
pub struct JobError(pub String);

/// Accepts work to be done after the request has been answered.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Accepts a job; it is carried out by [`crate::engine::Control::run_job`].
    ///
    /// # Errors
    /// When it was not accepted.
    async fn submit(&self, job: Job) -> Result<(), JobError>;

    /// How long a request may take before it has to be answered, where that is bounded: what
    /// may take longer is made a job.
    fn request_limit(&self) -> Option<Duration> {
        None
    }

    /// Has [`crate::engine::Control::sweep`] called at this time or a little later, or
    /// before, if that was asked for. Asked for again and again, it does nothing more.
    /// Nothing to do where the sweep comes all the time.
    ///
    /// # Errors
    /// When that cannot be arranged.
    async fn wake_at(&self, at: Timestamp) -> Result<(), JobError> {
        let _ = at;
        Ok(())
    }

    /// Says that the sweep is about to look: whatever [`Jobs::wake_at`] had arranged
    /// before is over, and has to be arranged again.
    ///
    /// # Errors
    /// When that cannot be noted.
    async fn woken(&self) -> Result<(), JobError> {
        Ok(())
    }

    /// Accepts a job that is carried out about this much later. Should whoever waits die
    /// meanwhile, it is not carried out: the sweep makes that good.
    ///
    /// # Errors
    /// When it was not accepted.
    async fn submit_later(&self, job: Job, delay: Duration) -> Result<(), JobError>;
}
