//! Runs: what an agent needs to prove itself, and what it has yet to be told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sockerless_shared::ids::{
    AnswerId, ConnectionId, ContainerId, FunctionName, ImageDigest, Namespace, Nonce, PeerId, RunId,
};
use sockerless_shared::protocol::control::{Command, LogSpool};
use sockerless_shared::protocol::mac::TokenHash;
use sockerless_shared::timestamp::Timestamp;

use super::{ATTEMPTS, Store, StoreError, put, put_until};
use crate::ports::table::{Condition, Key, Write};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Whose.
    pub namespace: Namespace,
    /// Of which container.
    pub container: ContainerId,
    /// The agent's address on the relay.
    pub peer: PeerId,
    /// The hash of the run's token; `None` once it is revoked.
    pub token: Option<TokenHash>,
    /// Until when the token is good; `None` for as long as the run goes on.
    pub token_expires: Option<Timestamp>,
    /// The agent's present connection.
    pub connection: Option<ConnectionId>,
    /// The agent's certificate, since it said hello.
    pub certificate_sha256: Option<String>,
    /// How many streams to its agent have been allowed.
    pub streams: u64,
    /// The number of the next command.
    pub next_command: u64,
    /// Whether its invocation is over, and with it its environment free.
    pub ended: bool,
    /// Whether its container is gone, and what only it could write is to be removed
    /// once the invocation is over.
    pub orphaned: bool,
    /// The function of its container, which is gone: to be deleted once its agent has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Where its log is, since it ended.
    pub logs: Option<LogSpool>,
    /// When its end was recorded. Its agent may have output for clients for a while after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Whether the platform ended it: its agent will not be back.
    #[serde(default)]
    pub over: bool,
    /// Whether its container goes with it (`--rm`).
    #[serde(default)]
    pub fleeting: bool,
    /// Whether its container is gone: the record goes by itself.
    #[serde(default)]
    pub retired: bool,
    /// Set if no process of the container runs, and only its files are looked after. Such a
    /// record goes with its token.
    #[serde(default)]
    pub visit: Option<Visit>,
    /// The log stream of its environment, if its agent named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_stream: Option<String>,
}

/// How long the record of a run is kept whose container is gone: its agent may want an
/// acknowledgement again, and its environment may have something to be removed.
const RETIRED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

impl RunRecord {
    /// Makes its token good until then at the latest; one that ends sooner is left alone.
    pub fn revoke(&mut self, expires: Timestamp) {
        let revoked = self.ended_at.is_some() && self.token_expires.is_some();
        if !revoked {
            self.token_expires = Some(expires);
        }
    }
}

/// A run without a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Visit {
    /// The agent that has it.
    pub claimed_by: Option<Nonce>,
    /// Whose files it began with ([`super::containers::Container::files`]).
    pub from: Option<RunId>,
}

/// A command that the agent has not confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingCommand {
    /// What to do.
    pub command: Command,
    /// Who waits for it to be done.
    pub answer: Option<AnswerId>,
    /// What is made of the layer that it stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Box<Commit>>,
}

impl PendingCommand {
    /// A command of which nothing more is made.
    #[must_use]
    pub const fn plain(command: Command, answer: Option<AnswerId>) -> Self {
        Self {
            command,
            answer,
            commit: None,
        }
    }
}

/// An image to be made of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Whose.
    pub namespace: Namespace,
    /// Of which container.
    pub container: ContainerId,
    /// Of which image that was made.
    pub parent: ImageDigest,
    /// The blob with the layer.
    pub layer: String,
    /// The image's name, if it is to have one.
    pub reference: Option<String>,
    /// Docker's `Config` of the image.
    pub config: Value,
    /// Docker's `Config` of the container.
    pub container_config: Value,
    /// Who made it.
    pub author: String,
    /// What they say of it.
    pub comment: String,
    /// The run whose processes were stopped meanwhile.
    pub paused: Option<RunId>,
}

impl Store {
    /// Stores a new run.
    ///
    /// # Errors
    /// When the store fails or knows the run.
    pub async fn create_run(&self, id: &RunId, run: &RunRecord) -> Result<(), StoreError> {
        self.write(vec![self.put_run(id, run, Condition::Absent)?])
            .await
    }

    /// The run whose agent has this address.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run_of(&self, agent: &PeerId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self
            .read(&agent_key(agent))
            .await?
            .map(|found| found.record))
    }

    /// The run of this id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(&self, id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.read(&run_key(id)).await?.map(|found| found.record))
    }

    /// Changes a run, again and again until nobody else was quicker; writes nothing where nothing
    /// is changed. Returns it
    /// as saved, or `None` if there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn update_run<R>(
        &self,
        id: &RunId,
        mut change: impl FnMut(&mut RunRecord) -> R,
    ) -> Result<Option<(RunRecord, R)>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.read::<RunRecord>(&run_key(id)).await? else {
                return Ok(None);
            };
            let mut run = found.record.clone();
            let result = change(&mut run);
            if run == found.record {
                return Ok(Some((run, result)));
            }
            let write = self.put_run(id, &run, Condition::Version(found.version))?;
            match self.write(vec![write]).await {
                Ok(()) => return Ok(Some((run, result))),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Contended(id.to_string()))
    }

    /// Removes a run with its commands.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_run(&self, id: &RunId) -> Result<(), StoreError> {
        for (number, _) in self.pending_commands(id).await? {
            self.remove_command(id, number).await?;
        }
        self.write(vec![Write::Delete {
            key: run_key(id),
            condition: Condition::Always,
        }])
        .await
    }

    /// Remembers a command until the agent confirms it; its number, and the run.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add_command(
        &self,
        id: &RunId,
        pending: &PendingCommand,
    ) -> Result<Option<(u64, RunRecord)>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.read::<RunRecord>(&run_key(id)).await? else {
                return Ok(None);
            };
            let mut run = found.record;
            let number = run.next_command;
            run.next_command += 1;
            let writes = vec![
                self.put_run(id, &run, Condition::Version(found.version))?,
                put(command_key(id, number), pending, Condition::Absent)?,
            ];
            match self.write(writes).await {
                Ok(()) => return Ok(Some((number, run))),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Contended(id.to_string()))
    }

    /// The commands that have not been confirmed, in the order of their numbers.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pending_commands(
        &self,
        id: &RunId,
    ) -> Result<Vec<(u64, PendingCommand)>, StoreError> {
        let found = self
            .list::<PendingCommand>(&format!("M#{id}"), "", usize::MAX)
            .await?;
        Ok(found
            .into_iter()
            .filter_map(|(sort, found)| Some((sort.parse().ok()?, found.record)))
            .collect())
    }

    /// The unconfirmed command of this number.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pending_command(
        &self,
        id: &RunId,
        number: u64,
    ) -> Result<Option<PendingCommand>, StoreError> {
        Ok(self
            .read(&command_key(id, number))
            .await?
            .map(|found| found.record))
    }

    fn put_run(
        &self,
        id: &RunId,
        run: &RunRecord,
        condition: Condition,
    ) -> Result<Write, StoreError> {
        let expires = if run.visit.is_some() {
            run.token_expires
        } else if run.retired || (run.fleeting && run.ended_at.is_some()) {
            Some(self.environment.now().plus(RETIRED_LIFETIME))
        } else {
            None
        };
        put_until(run_key(id), run, condition, expires)
    }

    /// Forgets a command.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_command(&self, id: &RunId, number: u64) -> Result<(), StoreError> {
        let key = command_key(id, number);
        self.write(vec![Write::Delete {
            key,
            condition: Condition::Always,
        }])
        .await
    }
}

fn run_key(id: &RunId) -> Key {
    agent_key(&PeerId::of_run(id))
}

fn agent_key(agent: &PeerId) -> Key {
    Key::new(format!("R#{agent}"), "run")
}

fn command_key(id: &RunId, number: u64) -> Key {
    Key::new(format!("M#{id}"), format!("{number:020}"))
}
