//! `docker exec`s.

use serde::{Deserialize, Serialize};
use sockerless_shared::ids::{ContainerId, ExecId, Namespace, RunId};
use sockerless_shared::spec::ProcessSpec;

use super::events::Event;
use super::{ATTEMPTS, Store, StoreError, put};
use crate::ports::table::{Condition, Key, Write};

/// An exec as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// The run it was created in; it cannot be started in another.
    pub run: RunId,
    /// What to run.
    pub process: ProcessSpec,
    /// Whether the client's input goes to stdin.
    pub attach_stdin: bool,
    /// Whether stdout is wanted.
    pub attach_stdout: bool,
    /// Whether stderr is wanted.
    pub attach_stderr: bool,
    /// Docker's `Privileged`, for `inspect`.
    pub privileged: bool,
    /// Docker's detach key sequence as the client wrote it.
    pub detach_keys: String,
    /// How far it is.
    pub state: ExecState,
}

/// How far an exec is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ExecState {
    /// Created, not started.
    Created,
    /// A client asked for its start.
    Starting,
    /// Its process runs.
    Running {
        /// Process id as the agent sees it.
        pid: u32,
    },
    /// It ended.
    Exited {
        /// Process id as the agent saw it; 0 if it never ran.
        pid: u32,
        /// Its exit code.
        code: i32,
    },
}

impl Store {
    /// Stores a new exec.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_exec(
        &self,
        namespace: &Namespace,
        exec: &Exec,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let mut writes = vec![
            put(exec_key(namespace, &exec.id), exec, Condition::Absent)?,
            put(mark_key(&exec.container, &exec.id), &(), Condition::Always)?,
        ];
        writes.extend(self.log_write(namespace, events)?);
        self.write(writes).await
    }

    /// The exec of this id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exec(
        &self,
        namespace: &Namespace,
        id: &ExecId,
    ) -> Result<Option<Exec>, StoreError> {
        Ok(self
            .read(&exec_key(namespace, id))
            .await?
            .map(|found| found.record))
    }

    /// The ids of a container's execs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn execs_of(&self, container: &ContainerId) -> Result<Vec<ExecId>, StoreError> {
        let marks = self
            .list::<()>(&format!("XC#{container}"), "", usize::MAX)
            .await?;
        Ok(marks
            .into_iter()
            .filter_map(|(sort, _)| sort.parse().ok())
            .collect())
    }

    /// Changes an exec. Returns it as saved with what `change` returned, or `None` if there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn update_exec<R>(
        &self,
        namespace: &Namespace,
        id: &ExecId,
        mut change: impl FnMut(&mut Exec) -> R,
    ) -> Result<Option<(Exec, R)>, StoreError> {
        self.update_exec_and_log(namespace, id, |exec| (change(exec), Vec::new()))
            .await
    }

    /// The same, with events that are logged if and only if the change is saved.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn update_exec_and_log<R>(
        &self,
        namespace: &Namespace,
        id: &ExecId,
        mut change: impl FnMut(&mut Exec) -> (R, Vec<Event>),
    ) -> Result<Option<(Exec, R)>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.read::<Exec>(&exec_key(namespace, id)).await? else {
                return Ok(None);
            };
            let mut exec = found.record;
            let (result, events) = change(&mut exec);
            let mut writes = vec![put(
                exec_key(namespace, id),
                &exec,
                Condition::Version(found.version),
            )?];
            writes.extend(self.log_write(namespace, &events)?);
            match self.write(writes).await {
                Ok(()) => return Ok(Some((exec, result))),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Contended(id.to_string()))
    }

    /// Removes a container's execs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_execs(
        &self,
        namespace: &Namespace,
        container: &ContainerId,
    ) -> Result<(), StoreError> {
        for id in self.execs_of(container).await? {
            self.erase_exec(namespace, container, &id).await?;
        }
        Ok(())
    }

    /// Removes one of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_exec(
        &self,
        namespace: &Namespace,
        container: &ContainerId,
        id: &ExecId,
    ) -> Result<(), StoreError> {
        self.write(vec![
            Write::Delete {
                key: exec_key(namespace, id),
                condition: Condition::Always,
            },
            Write::Delete {
                key: mark_key(container, id),
                condition: Condition::Always,
            },
        ])
        .await
    }
}

fn exec_key(namespace: &Namespace, id: &ExecId) -> Key {
    Key::new(format!("X#{namespace}"), id.as_str())
}

fn mark_key(container: &ContainerId, id: &ExecId) -> Key {
    Key::new(format!("XC#{container}"), id.as_str())
}
