//! Who waits for something to happen to a container.

use serde::{Deserialize, Serialize};
use sockerless_shared::ids::{AnswerId, ContainerId, RunId};
use sockerless_shared::protocol::grant::Operation;

use super::{Store, StoreError, put};
use crate::ports::table::{Condition, Key, Write};

/// An answer that is given when something has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiter {
    /// The answer.
    pub answer: AnswerId,
    /// What has to happen, and what is answered then.
    pub wait: Wait,
}

/// What somebody waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Wait {
    /// That the process runs: 204, or the reason why it does not.
    Start,
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
    const fn prefix(&self) -> &'static str {
        match self {
            Self::Start | Self::Restart => STARTS,
            Self::Stop | Self::Exit => EXITS,
            Self::RemovedExit | Self::Removed => REMOVALS,
            Self::Agent { .. } => AGENTS,
            Self::Visit { .. } => VISITS,
        }
    }
}

/// Those who wait for a start.
pub const STARTS: &str = "start#";
/// Those who wait for the end of a run.
pub const EXITS: &str = "exit#";
/// Those who wait for a removal.
pub const REMOVALS: &str = "removed#";
/// Those who wait for the agent of a visit.
pub const VISITS: &str = "visit#";
/// Those who wait for an agent.
pub const AGENTS: &str = "agent#";

impl Store {
    /// Remembers a waiter.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add_waiter(
        &self,
        container: &ContainerId,
        waiter: &Waiter,
    ) -> Result<(), StoreError> {
        self.write(vec![put(
            waiter_key(container, waiter),
            waiter,
            Condition::Always,
        )?])
        .await
    }

    /// The waiters of one kind.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn waiters(
        &self,
        container: &ContainerId,
        kind: &str,
    ) -> Result<Vec<Waiter>, StoreError> {
        let found = self
            .list::<Waiter>(&format!("W#{container}"), kind, usize::MAX)
            .await?;
        Ok(found.into_iter().map(|(_, found)| found.record).collect())
    }

    /// Takes a waiter away; whether it was still there. Whoever takes it answers it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn take_waiter(
        &self,
        container: &ContainerId,
        waiter: &Waiter,
    ) -> Result<bool, StoreError> {
        let key = waiter_key(container, waiter);
        match self
            .write(vec![Write::Delete {
                key,
                condition: Condition::Present,
            }])
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn waiter_key(container: &ContainerId, waiter: &Waiter) -> Key {
    Key::new(
        format!("W#{container}"),
        format!("{}{}", waiter.wait.prefix(), waiter.answer),
    )
}
