//! What is known of a container's life.

use serde::{Deserialize, Serialize};

use super::restart::{RestartPolicy, Restarts};
use crate::health::Health;
use crate::ids::{Nonce, RunId};
use crate::timestamp::Timestamp;

/// A container's life so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// What is known.
    pub phase: Phase,
    /// What the last client asked for.
    pub desired: Desired,
    /// The present run, or the last one.
    pub run: Option<Run>,
    /// How the last run ended; `None` while there has been none, and while one goes on.
    pub exit: Option<Exit>,
    /// How the run before the present one ended.
    #[serde(default)]
    pub previous: Option<Exit>,
    /// Whether the container goes when its run ends (`--rm`).
    pub auto_remove: bool,
    /// When it is started again by itself.
    #[serde(default)]
    pub restarts: Restarts,
    /// Whether it is probed while it runs.
    #[serde(default)]
    pub probed: bool,
    /// What probes said; `None` where nobody probes, and before the first start.
    #[serde(default)]
    pub health: Option<Health>,
}

impl Lifecycle {
    /// A container that was just created.
    #[must_use]
    pub fn created(auto_remove: bool, policy: RestartPolicy, probed: bool) -> Self {
        Self {
            phase: Phase::Created,
            desired: Desired::Stopped,
            run: None,
            exit: None,
            previous: None,
            auto_remove,
            restarts: Restarts::new(policy),
            probed,
            health: None,
        }
    }

    /// The run that is going on, if one is.
    #[must_use]
    pub fn current_run(&self) -> Option<&Run> {
        match self.phase {
            Phase::Starting | Phase::Running | Phase::Paused => self.run.as_ref(),
            Phase::Created | Phase::Restarting | Phase::Exited | Phase::Removing | Phase::Dead => {
                None
            }
        }
    }

    /// Whether it was started, and no agent has come to carry that out.
    #[must_use]
    pub fn waits_for_agent(&self) -> bool {
        self.phase == Phase::Starting && self.run.as_ref().is_some_and(|run| run.nonce.is_none())
    }

    /// Whether something will happen to it without a client: a run goes on, or a restart
    /// is due. What the sweep looks at.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Restarting || self.current_run().is_some()
    }

    /// Whether Docker shows it as restarting: from the end of a run until the next one,
    /// which the policy wants, has begun.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        match self.phase {
            Phase::Restarting => true,
            Phase::Starting => self
                .run
                .as_ref()
                .is_some_and(|run| run.cause == Cause::Policy),
            Phase::Created
            | Phase::Running
            | Phase::Paused
            | Phase::Exited
            | Phase::Removing
            | Phase::Dead => false,
        }
    }

    /// Whether it is to be started when its control plane begins to work, having ended
    /// everything when it stopped (`dockerd` after its own restart).
    #[must_use]
    pub fn starts_with_its_host(&self) -> bool {
        let ran = self
            .run
            .as_ref()
            .is_some_and(|run| run.started_at.is_some());
        let code = self.exit.as_ref().map_or(0, |exit| exit.code);
        match self.phase {
            Phase::Exited => ran && self.restarts.wants(code, self.restarts.stopped_by_hand),
            Phase::Created
            | Phase::Starting
            | Phase::Running
            | Phase::Paused
            | Phase::Restarting
            | Phase::Removing
            | Phase::Dead => false,
        }
    }
}

/// What is known of a container. Docker's `State.Status`, with `starting`,
/// which Docker shows as what was before, since `start` has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Never started.
    Created,
    /// Invoked; its process does not run yet.
    Starting,
    /// Its process runs.
    Running,
    /// Its processes are stopped.
    Paused,
    /// Its last run ended, and its policy wants another, which waits for its time.
    Restarting,
    /// Its last run ended.
    Exited,
    /// Its records and data are being removed.
    Removing,
    /// Its removal failed.
    Dead,
}

/// What a client wants of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// That it does not run.
    Stopped,
    /// That it runs.
    Running,
    /// That it ends and runs again.
    Restarted,
    /// That it ends and is removed.
    Removed,
}

/// One execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The nonce of the agent that claimed it.
    pub nonce: Option<Nonce>,
    /// When its invocation was asked for.
    pub requested_at: Timestamp,
    /// When its process began to run.
    pub started_at: Option<Timestamp>,
    /// When the platform ends it at the latest; `None` where there is no limit.
    pub deadline: Option<Timestamp>,
    /// Process id as the agent sees it; 0 before the start.
    pub pid: u32,
    /// Why it was started.
    #[serde(default)]
    pub cause: Cause,
}

/// Why a run was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A client asked for a start.
    #[default]
    Start,
    /// A client asked for a restart.
    Restart,
    /// Its policy wants it to run.
    Policy,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// When.
    pub at: Timestamp,
    /// Docker's exit code.
    pub code: i32,
    /// Whether memory ran out.
    pub oom_killed: bool,
    /// What a person needs to know beyond the code; empty when nothing.
    pub error: String,
    /// How it was learned.
    pub evidence: Evidence,
    /// Whether a client has been told; from then on it stays as it is.
    pub told: bool,
}

/// How the end of a run was learned. The later in this order, the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The deadline passed without a word.
    Sweep,
    /// The platform says so.
    Platform,
    /// The agent reported it.
    Agent,
}
