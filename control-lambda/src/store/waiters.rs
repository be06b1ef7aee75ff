//! Who waits for something to happen to a container.

use serde::{Deserialize, Serialize};
use sockerless_shared::ids::{AnswerId, ContainerId, PeerId, RunId};
use sockerless_shared::protocol::grant::Operation;

use super::answers::Meta;
use super::{Store, StoreError};

/// An answer that is given when something has happened. Answer and waiter are one record
/// ([`Meta`]), which stands with the container's others.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiter {
    /// The answer.
    pub answer: AnswerId,
    /// The frontend that carries it out.
    pub peer: PeerId,
    /// What has to happen, and what is answered then.
    pub wait: Wait,
}

/// What somebody waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Wait {
    /// That the process runs: 204, or the reason why it does not.
    Start,
    /// The same of a start that somebody else has asked for: 304.
    BegunStart,
    /// The same, asked for by `restart`.
    Restart,
    /// That the run ends: 204.
    Stop,
    /// That the run ends: the exit code, as `wait` answers it.
    Exit,
    /// That the container is removed: the exit code, as `wait` answers it.
    RemovedExit,
    /// That the container is removed: 204.
    Removed,
    /// That the agent of a visit is there: then this stream is opened to it.
    Visit {
        /// Which visit.
        run: RunId,
        /// What the stream does.
        operation: Operation,
    },
    /// That the agent is there: then this stream is opened to it.
    Agent {
        /// What the stream does.
        operation: Operation,
    },
}

impl Wait {
    /// Of which kind it is; the names below.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Start | Self::BegunStart | Self::Restart => STARTS,
            Self::Stop | Self::Exit => EXITS,
            Self::RemovedExit | Self::Removed => REMOVALS,
            // One may become the other, under the same name.
            Self::Agent { .. } | Self::Visit { .. } => AGENTS,
        }
    }
}

/// Those who wait for a start.
pub const STARTS: &str = "start";
/// Those who wait for the end of a run.
pub const EXITS: &str = "exit";
/// Those who wait for a removal.
pub const REMOVALS: &str = "removed";
/// Those who wait for an agent, be it of a run or of a visit.
pub const AGENTS: &str = "agent";

impl Store {
    /// Those of one kind who wait for something to happen to a container.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn waiters(
        &self,
        container: &ContainerId,
        kind: &str,
    ) -> Result<Vec<Waiter>, StoreError> {
        self.waiting(container, &format!("{kind}#")).await
    }

    /// All who wait for something to happen to a container.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn all_waiters(&self, container: &ContainerId) -> Result<Vec<Waiter>, StoreError> {
        self.waiting(container, "").await
    }

    async fn waiting(
        &self,
        container: &ContainerId,
        prefix: &str,
    ) -> Result<Vec<Waiter>, StoreError> {
        let found = self
            .list::<Meta>(&format!("W#{container}"), prefix, usize::MAX)
            .await?;
        Ok(found
            .into_iter()
            .filter_map(|(sort, found)| {
                let (kind, digits) = sort.split_once('#')?;
                Some(Waiter {
                    answer: format!("{digits}.{kind}.{container}").parse().ok()?,
                    peer: found.record.peer,
                    wait: found.record.wait?,
                })
            })
            .collect())
    }
}
