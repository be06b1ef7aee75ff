//! What happens to a container, and what follows.

use std::time::Duration;

use thiserror::Error;

use super::{Evidence, Exit};
use crate::health::{Health, HealthStatus};
use crate::ids::{Nonce, RunId};
use crate::protocol::control::{Command, StartFailure};
use crate::timestamp::Timestamp;

/// Something that happens to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A client asks for a start; `run` and `deadline` are for the run it would be.
    Start {
        /// A fresh id.
        run: RunId,
        /// When the platform would end it.
        deadline: Option<Timestamp>,
    },
    /// The run's function could not be invoked at once: its deadline is another.
    Postpone {
        /// Which run.
        run: RunId,
        /// When the platform would end it now.
        deadline: Timestamp,
    },
    /// An agent connects for a run and names its nonce.
    Claim {
        /// Which run.
        run: RunId,
        /// The agent's own.
        nonce: Nonce,
    },
    /// The agent reports that the process runs.
    Started {
        /// Which run.
        run: RunId,
        /// When.
        at: Timestamp,
        /// Its process id.
        pid: u32,
    },
    /// The process could not be started: the agent says so, or the platform
    /// did not accept the invocation.
    StartFailed {
        /// Which run.
        run: RunId,
        /// When.
        at: Timestamp,
        /// Why.
        failure: StartFailure,
    },
    /// The run ended.
    Ended {
        /// Which run.
        run: RunId,
        /// When.
        at: Timestamp,
        /// Docker's exit code.
        code: i32,
        /// Whether memory ran out.
        oom_killed: bool,
        /// What a person needs to know.
        error: String,
        /// How it was learned.
        evidence: Evidence,
        /// Whether the grace of a stop was over and SIGKILL ended it.
        grace_over: bool,
        /// What the last probes said, where there are any.
        health: Option<Health>,
    },
    /// The agent says what probes said.
    Health {
        /// Which run.
        run: RunId,
        /// The verdict now, with the results that are new.
        health: Health,
    },
    /// The restart that its policy wants is due.
    RestartDue {
        /// The run that ended.
        ended: RunId,
        /// A fresh id.
        run: RunId,
        /// When the platform would end it.
        deadline: Option<Timestamp>,
    },
    /// The present exit has been shown to a client.
    Told,
    /// A client asks for a stop.
    Stop {
        /// Signal number.
        signal: i32,
        /// Grace in seconds; `None` for without end.
        timeout_s: Option<u32>,
        /// Whether a client asks, and not a control plane that is ending.
        by_hand: bool,
    },
    /// A client sends a signal.
    Kill {
        /// Signal number.
        signal: i32,
        /// Whether the run is to be the last one, whatever the policy.
        last: bool,
    },
    /// A client asks for a stop and a start.
    Restart {
        /// Signal number.
        signal: i32,
        /// Grace in seconds; `None` for without end.
        timeout_s: Option<u32>,
    },
    /// A client asks for a pause.
    Pause,
    /// A client asks for its end.
    Unpause,
    /// The agent says that the processes are stopped.
    Paused {
        /// Which run.
        run: RunId,
    },
    /// The agent says that they go on.
    Unpaused {
        /// Which run.
        run: RunId,
    },
    /// A client asks for removal.
    Remove {
        /// Whether to kill it first.
        force: bool,
    },
    /// Its removal failed half-way.
    RemoveFailed,
    /// Time passes. Ends a run whose deadline has passed without a word.
    Sweep,
}

/// What follows from an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Invoke the function for this run.
    Invoke {
        /// Which run.
        run: RunId,
    },
    /// Tell the agent of this run; when it is not connected, as soon as it is.
    Tell {
        /// Which run.
        run: RunId,
        /// What.
        command: Command,
    },
    /// Answer everyone who waits for this start.
    AnswerStart(StartResult),
    /// Answer everyone who waits for an exit.
    AnswerExit,
    /// Publish an event.
    Emit(Event),
    /// Make the run's token worthless and close its agent's connection.
    Revoke {
        /// Which run.
        run: RunId,
    },
    /// Step with [`Input::Start`] and a fresh run.
    StartAgain,
    /// Step with [`Input::RestartDue`] and a fresh run, this much later.
    RestartLater {
        /// The run that ended.
        ended: RunId,
        /// How much later.
        delay: Duration,
    },
    /// Remove the container's data and records, then answer those who wait for its removal.
    Erase,
}

/// How a start went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartResult {
    /// The process runs (or ran).
    Running,
    /// It could not be started.
    Failed(StartFailure),
}

/// What Docker's events say of a container's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `start`
    Start,
    /// `die`
    Die {
        /// Docker's exit code.
        code: i32,
        /// Whole seconds that the run lasted.
        duration_s: u64,
    },
    /// `oom`
    Oom,
    /// `kill`
    Kill {
        /// Signal number.
        signal: i32,
    },
    /// `stop`
    Stop,
    /// `restart`
    Restart,
    /// `pause`
    Pause,
    /// `unpause`
    Unpause,
    /// `health_status`
    Health(HealthStatus),
    /// `exec_create` and `exec_start` of a probe
    ProbeBegun {
        /// When.
        at: Timestamp,
    },
    /// `exec_die` of a probe
    ProbeDied {
        /// When it had begun, by which it is known.
        begun: Timestamp,
        /// When.
        at: Timestamp,
        /// Its exit code.
        code: i32,
    },
    /// `destroy`
    Destroy,
}

/// Why an input changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// `start` of what runs: 304.
    #[error("container is already started")]
    AlreadyStarted,
    /// `stop` of what does not run: 304.
    #[error("container is already stopped")]
    AlreadyStopped,
    /// It has to run for this.
    #[error("container is not running")]
    NotRunning,
    /// It must not be paused for this.
    #[error("container is paused")]
    IsPaused,
    /// It has to be paused for this.
    #[error("container is not paused")]
    NotPaused,
    /// It has to be stopped for this.
    #[error("container is running")]
    IsRunning,
    /// It waits to be started again.
    #[error("container is restarting, wait until the container is running")]
    IsRestarting,
    /// Its removal is under way.
    #[error("removal of container is already in progress")]
    IsBeingRemoved,
    /// It is marked for removal or dead.
    #[error("container is marked for removal and cannot be started")]
    MarkedForRemoval,
    /// For a run that is not the present one; nothing to do.
    #[error("input is for a run that is not the present one")]
    OtherRun,
    /// Another agent has the run.
    #[error("the run has been claimed by another agent")]
    ClaimedByOther,
    /// Already known, or weaker than what is known.
    #[error("nothing new")]
    NothingNew,
}

impl Exit {
    /// Whether evidence of this strength may replace this exit.
    #[must_use]
    pub fn yields_to(&self, evidence: Evidence) -> bool {
        !self.told && evidence > self.evidence
    }
}
