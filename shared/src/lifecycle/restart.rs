//! Restart policies, with the rules of Docker Engine 28 (moby's `restartmanager`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::Exit;
use crate::timestamp::Timestamp;

/// How long the first restart waits.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// How long a restart waits at most.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A run that lasted so long begins anew with [`FIRST_DELAY`].
const LASTING_RUN: Duration = Duration::from_secs(10);

/// Whether a container is started again when its run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It is not.
    #[default]
    No,
    /// It is, whatever its exit code.
    Always,
    /// It is, but not after somebody stopped it.
    UnlessStopped,
    /// It is when its exit code is not 0.
    OnFailure {
        /// So often in a row; 0 is without end.
        limit: u32,
    },
}

/// A container's restarts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Restarts {
    /// Whether there are any.
    pub policy: RestartPolicy,
    /// Docker's `RestartCount`: how many there were since a client started it.
    pub count: u32,
    /// How long the last one waited.
    pub delay: Duration,
    /// When the next one is due, while it is waited for.
    pub due: Option<Timestamp>,
    /// Whether a client ended the present run, so that it is the last.
    pub canceled: bool,
    /// Whether a client stopped it since it was started; what ends together with its
    /// control plane was not.
    pub stopped_by_hand: bool,
}

impl Restarts {
    /// None yet, under this policy.
    #[must_use]
    pub fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// What they become when a client starts the container.
    #[must_use]
    pub(super) fn begun_anew(&self) -> Self {
        Self::new(self.policy)
    }

    /// What they become when a run that lasted `lasted` ended so at `now`; `None` when
    /// it was the last.
    #[must_use]
    pub(super) fn after(&self, exit: &Exit, lasted: Duration, now: Timestamp) -> Option<Self> {
        if self.canceled || !self.wants(exit.code, self.stopped_by_hand) {
            return None;
        }
        let before = if lasted >= LASTING_RUN {
            Duration::ZERO
        } else {
            self.delay
        };
        let delay = (before * 2).clamp(FIRST_DELAY, LONGEST_DELAY);
        Some(Self {
            count: self.count.saturating_add(1),
            delay,
            due: Some(now.plus(delay)),
            ..self.clone()
        })
    }

    /// Whether the policy wants a container to run whose last run ended with this code.
    #[must_use]
    pub(super) const fn wants(&self, code: i32, stopped_by_hand: bool) -> bool {
        match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !stopped_by_hand,
            RestartPolicy::OnFailure { limit } => code != 0 && (limit == 0 || self.count < limit),
        }
    }
}
