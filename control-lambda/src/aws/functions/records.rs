//! What is known of functions, and what is to be done to them, as records over
//! the [`Table`] port.
//!
//! | partition | sort | record |
//! |---|---|---|
//! | `FN` | function | [`Function`] |
//! | `FA` | `all` | mark: functions that are not recorded are to be found and deleted |
//! | `FW` | function | [`Work`]: one item a function, so that no burst makes two of one |
//! | `FP` | function | mark: its image is being made ready, until it expires |
//! | `FT` | `turn` | mark: a worker is at work, until it expires |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sockerless_shared::ids::FunctionName;
use sockerless_shared::timestamp::Timestamp;

use crate::ports::function_host::{Architecture, HostError};
use crate::ports::table::{Condition, Item, Key, TableError, Write};
use crate::ports::{Environment, Table};

/// For how long a failure is remembered: who tries again after that may be luckier.
const FAILURE_LIFETIME: Duration = Duration::from_secs(60);

/// How long a preparation is waited for before another is begun in its place: longer than an
/// invocation may take.
const PREPARATION_LIFETIME: Duration = Duration::from_secs(16 * 60);

/// How long a worker that says nothing any more keeps the turn.
const TURN: Duration = Duration::from_secs(30);

/// A function that was made, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Function {
    /// It exists, unless somebody else has deleted it.
    Made {
        /// When it was last asked for; written now and then, not every time.
        used: Timestamp,
    },
    /// Lambda refused to make it.
    Failed {
        /// A sentence.
        reason: String,
        /// Whether it was that the registry does not have the image any more.
        #[serde(default)]
        image_is_lost: bool,
    },
}

/// A function that was made, as it was found.
pub(super) struct Made {
    pub(super) name: FunctionName,
    pub(super) version: u64,
    /// When it was last asked for.
    pub(super) used: Timestamp,
}

/// What is to be done to a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub(super) enum Work {
    /// Make it.
    Make {
        /// The image, as Lambda pulls it.
        uri: String,
        /// Its processors; those of the deployment where it does not say.
        #[serde(default)]
        architecture: Option<Architecture>,
        /// Its memory in MiB.
        memory_mib: u32,
        /// The size of its `/tmp` in MiB.
        tmp_mib: u32,
    },
    /// Delete it.
    Delete,
}

/// The records.
#[derive(Clone)]
pub(super) struct Records {
    table: Arc<dyn Table>,
    environment: Arc<dyn Environment>,
}

impl Records {
    pub(super) fn new(table: Arc<dyn Table>, environment: Arc<dyn Environment>) -> Self {
        Self { table, environment }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.environment.now()
    }

    pub(super) async fn function(
        &self,
        name: &FunctionName,
    ) -> Result<Option<Function>, HostError> {
        self.read(&function_key(name)).await
    }

    pub(super) async fn work(&self, name: &FunctionName) -> Result<Option<Work>, HostError> {
        self.read(&work_key(name)).await
    }

    /// Every function.
    pub(super) async fn made(&self) -> Result<Vec<Made>, HostError> {
        let found: Vec<(FunctionName, u64, Function)> =
            self.list(FUNCTIONS, None, usize::MAX).await?;
        Ok(found
            .into_iter()
            .filter_map(|(name, version, function)| match function {
                Function::Made { used } => Some(Made {
                    name,
                    version,
                    used,
                }),
                Function::Failed { .. } => None,
            })
            .collect())
    }

    /// The first pieces of work after that for a function, at most so many, each with its version.
    pub(super) async fn work_after(
        &self,
        after: Option<&FunctionName>,
        limit: usize,
    ) -> Result<Vec<(FunctionName, u64, Work)>, HostError> {
        self.list(WORK, after, limit).await
    }

    /// Takes the turn to work, unless another worker has it; whether it was taken.
    pub(super) async fn take_turn(&self) -> Result<bool, HostError> {
        match self.write(vec![self.turn(Condition::Absent)?]).await {
            Ok(()) => Ok(true),
            Err(TableError::Conflict { .. }) => Ok(false),
            Err(error) => Err(table_failed(error)),
        }
    }

    /// Keeps the turn for longer. Two workers that both believe to have it do no harm.
    pub(super) async fn keep_turn(&self) -> Result<(), HostError> {
        let turn = self.turn(Condition::Always)?;
        self.write(vec![turn]).await.map_err(table_failed)
    }

    /// Gives up the turn.
    pub(super) async fn end_turn(&self) -> Result<(), HostError> {
        self.write(vec![delete(turn_key())])
            .await
            .map_err(table_failed)
    }

    fn turn(&self, condition: Condition) -> Result<Write, HostError> {
        put(turn_key(), &(), Some(self.now().plus(TURN)), condition)
    }

    /// Notes that functions of which nothing is recorded are to be found and deleted, too.
    pub(super) async fn ask_to_find(&self, wanted: bool) -> Result<(), HostError> {
        let write = if wanted {
            put(find_key(), &(), None, Condition::Always)?
        } else {
            delete(find_key())
        };
        self.write(vec![write]).await.map_err(table_failed)
    }

    /// Whether that is still to be done.
    pub(super) async fn is_to_find(&self) -> Result<bool, HostError> {
        Ok(self.read::<()>(&find_key()).await?.is_some())
    }

    /// Asks for work; whatever was asked for before is not wanted any more. A function that is
    /// to be deleted counts as gone from now on: whoever wants it has it made again.
    pub(super) async fn ask(&self, name: &FunctionName, work: &Work) -> Result<(), HostError> {
        let mut writes = vec![put(work_key(name), work, None, Condition::Always)?];
        if *work == Work::Delete {
            writes.push(delete(function_key(name)));
        }
        self.write(writes).await.map_err(table_failed)
    }

    /// Asks for a function to be made, unless that was asked for already.
    pub(super) async fn ask_to_make(
        &self,
        name: &FunctionName,
        make: &Work,
    ) -> Result<(), HostError> {
        if self.work(name).await?.as_ref() == Some(make) {
            return Ok(());
        }
        self.ask(name, make).await
    }

    /// Asks for the deletion of a function that is still as it was found; whether it was.
    pub(super) async fn ask_to_delete(&self, found: &Made) -> Result<bool, HostError> {
        let Made { name, version, .. } = found;
        let forget = Write::Delete {
            key: function_key(name),
            condition: Condition::Version(*version),
        };
        let ask = put(work_key(name), &Work::Delete, None, Condition::Always)?;
        match self.write(vec![ask, forget]).await {
            Ok(()) => Ok(true),
            Err(TableError::Conflict { .. }) => Ok(false),
            Err(error) => Err(table_failed(error)),
        }
    }

    /// Notes that a function is not there any more.
    pub(super) async fn forget(&self, name: &FunctionName) -> Result<(), HostError> {
        self.write(vec![delete(function_key(name))])
            .await
            .map_err(table_failed)
    }

    /// Whether this is the first to want the function's image made ready. What is known of
    /// the function is forgotten.
    pub(super) async fn begin_preparation(&self, name: &FunctionName) -> Result<bool, HostError> {
        let mark = self.preparation(name, Condition::Absent)?;
        match self.write(vec![mark, delete(function_key(name))]).await {
            Ok(()) => Ok(true),
            Err(TableError::Conflict { .. }) => Ok(false),
            Err(error) => Err(table_failed(error)),
        }
    }

    /// Notes that a preparation goes on.
    pub(super) async fn renew_preparation(&self, name: &FunctionName) -> Result<(), HostError> {
        let mark = self.preparation(name, Condition::Always)?;
        self.write(vec![mark]).await.map_err(table_failed)
    }

    fn preparation(&self, name: &FunctionName, condition: Condition) -> Result<Write, HostError> {
        let expires = self.now().plus(PREPARATION_LIFETIME);
        put(preparation_key(name), &(), Some(expires), condition)
    }

    /// Whether its image is being made ready.
    pub(super) async fn is_being_prepared(&self, name: &FunctionName) -> Result<bool, HostError> {
        Ok(self.read::<()>(&preparation_key(name)).await?.is_some())
    }

    /// Takes back that a preparation was begun.
    pub(super) async fn forget_preparation(&self, name: &FunctionName) -> Result<(), HostError> {
        self.write(vec![delete(preparation_key(name))])
            .await
            .map_err(table_failed)
    }

    /// Notes what came of a preparation: what is to be done now, or why it failed.
    pub(super) async fn end_preparation(
        &self,
        name: &FunctionName,
        outcome: Result<Work, String>,
    ) -> Result<(), HostError> {
        let next = match outcome {
            Ok(work) => put(work_key(name), &work, None, Condition::Always)?,
            Err(reason) => {
                let failed = Function::Failed {
                    reason,
                    image_is_lost: false,
                };
                let expires = self.now().plus(FAILURE_LIFETIME);
                put(
                    function_key(name),
                    &failed,
                    Some(expires),
                    Condition::Always,
                )?
            }
        };
        self.write(vec![next, delete(preparation_key(name))])
            .await
            .map_err(table_failed)
    }

    /// Notes that a function was asked for; whether it was still there.
    pub(super) async fn used(&self, name: &FunctionName) -> Result<bool, HostError> {
        let made = Function::Made { used: self.now() };
        let write = put(function_key(name), &made, None, Condition::Present)?;
        match self.write(vec![write]).await {
            Ok(()) => Ok(true),
            Err(TableError::Conflict { .. }) => Ok(false),
            Err(error) => Err(table_failed(error)),
        }
    }

    /// Notes what came of a piece of work: `None` for a function that is gone. Should something
    /// else have been asked for meanwhile, that stays to be done, and decides.
    pub(super) async fn done(
        &self,
        name: &FunctionName,
        version: u64,
        outcome: Option<&Function>,
    ) -> Result<(), HostError> {
        let outcome = match outcome {
            Some(function) => {
                let expires = match function {
                    Function::Made { .. } => None,
                    Function::Failed { .. } => Some(self.now().plus(FAILURE_LIFETIME)),
                };
                put(function_key(name), function, expires, Condition::Always)?
            }
            None => delete(function_key(name)),
        };
        let work = Write::Delete {
            key: work_key(name),
            condition: Condition::Version(version),
        };
        match self.write(vec![outcome, work]).await {
            Ok(()) | Err(TableError::Conflict { .. }) => Ok(()),
            Err(error) => Err(table_failed(error)),
        }
    }

    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, HostError> {
        let found = self
            .table
            .get(key, self.now())
            .await
            .map_err(table_failed)?;
        found.map(|item| parse(&item)).transpose()
    }

    async fn list<T: DeserializeOwned>(
        &self,
        partition: &str,
        after: Option<&FunctionName>,
        limit: usize,
    ) -> Result<Vec<(FunctionName, u64, T)>, HostError> {
        let mut found = Vec::new();
        let mut after = after.map(|name| name.as_str().to_owned());
        while found.len() < limit {
            let page = PAGE.min(limit - found.len());
            let items = self
                .table
                .query(partition, "", after.as_deref(), page, self.now())
                .await
                .map_err(table_failed)?;
            let last = items.len() < page;
            after = items.last().map(|item| item.key.sort.clone());
            for item in items {
                if let Ok(name) = item.key.sort.parse() {
                    found.push((name, item.version, parse(&item)?));
                }
            }
            if last {
                break;
            }
        }
        Ok(found)
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        self.table.transact(writes, self.now()).await
    }
}

const FUNCTIONS: &str = "FN";
const WORK: &str = "FW";
const PREPARATIONS: &str = "FP";
const PAGE: usize = 256;

fn function_key(name: &FunctionName) -> Key {
    Key::new(FUNCTIONS, name.as_str())
}

fn work_key(name: &FunctionName) -> Key {
    Key::new(WORK, name.as_str())
}

fn preparation_key(name: &FunctionName) -> Key {
    Key::new(PREPARATIONS, name.as_str())
}

fn turn_key() -> Key {
    Key::new("FT", "turn")
}

fn find_key() -> Key {
    Key::new("FA", "all")
}

fn put<T: Serialize>(
    key: Key,
    record: &T,
    expires: Option<Timestamp>,
    condition: Condition,
) -> Result<Write, HostError> {
    let body = serde_json::to_vec(record).map_err(|error| HostError::Failed(error.to_string()))?;
    Ok(Write::Put {
        key,
        body: Bytes::from(body),
        expires,
        condition,
    })
}

fn delete(key: Key) -> Write {
    Write::Delete {
        key,
        condition: Condition::Always,
    }
}

fn parse<T: DeserializeOwned>(item: &Item) -> Result<T, HostError> {
    serde_json::from_slice(&item.body).map_err(|error| {
        HostError::Failed(format!(
            "the record of function {} cannot be read: {error}",
            item.key.sort
        ))
    })
}

fn table_failed(error: TableError) -> HostError {
    HostError::Failed(error.to_string())
}
