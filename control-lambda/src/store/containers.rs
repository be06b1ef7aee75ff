//! Containers, their names, and the marks of those that run.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sockerless_shared::ids::{ContainerId, FunctionName, Namespace, RunId};
use sockerless_shared::lifecycle::{Lifecycle, RestartPolicy};
use sockerless_shared::protocol::kept::Kept;
use sockerless_shared::timestamp::Timestamp;

use super::events::Event;
use super::{ATTEMPTS, Store, StoreError, Versioned, put};
use crate::ports::function_host::FunctionShape;
use crate::ports::table::{Condition, Key, Write};

/// A container as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Whose it is.
    pub namespace: Namespace,
    /// Its name, without a slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The image as the client named it.
    pub image_reference: String,
    /// Docker's `Config`, complete, the image's part merged in.
    pub config: Value,
    /// Docker's `HostConfig`, complete.
    pub host_config: Value,
    /// Docker's `NetworkSettings.Networks` as asked for.
    pub networks: Value,
    /// Program and arguments: entrypoint and command together.
    pub args: Vec<String>,
    /// What its function is like.
    pub shape: FunctionShape,
    /// Its function.
    pub function: FunctionName,
    /// Its life.
    pub lifecycle: Lifecycle,
    /// What was kept of its files, where an environment keeps none, and by whom: its last run,
    /// or a visit since; `None` when they are those of its image.
    #[serde(default)]
    pub files: Option<Files>,
    /// Events of its last step that are logged when it is removed, which follows at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaid: Vec<Event>,
    /// Its runs that had output, oldest first; at most [`MAX_REMEMBERED_RUNS`].
    pub runs: Vec<RunId>,
    /// Whether the volumes that nobody named go with it.
    #[serde(default)]
    pub remove_volumes: bool,
}

/// What was kept of a container's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The run or visit that kept them.
    pub by: RunId,
    /// What it kept.
    pub kept: Kept,
}

impl Container {
    /// Whether its policy may want it to run when its host begins to work.
    fn starts_with_host(&self) -> bool {
        self.lifecycle.restarts.policy != RestartPolicy::No
    }
}

/// So many runs' logs are kept of a container that is started again and again.
pub const MAX_REMEMBERED_RUNS: usize = 64;

/// What came of a lookup by id, name or beginning of an id.
#[derive(Debug, Clone)]
pub enum Found {
    /// One container.
    One(Box<Versioned<Container>>),
    /// None.
    None,
    /// More than one id begins so.
    Ambiguous,
}

impl Store {
    /// Stores a new container and claims its name, if all of `held` holds.
    ///
    /// # Errors
    /// [`StoreError::is_conflict`] when the name is taken, or something does not hold.
    pub async fn create_container(
        &self,
        container: &Container,
        events: &[Event],
        held: Vec<Write>,
    ) -> Result<(), StoreError> {
        let mut writes = vec![
            put(
                name_key(&container.namespace, &container.name),
                &container.id,
                Condition::Absent,
            )?,
            put(
                container_key(&container.namespace, &container.id),
                container,
                Condition::Absent,
            )?,
        ];
        writes.extend(held);
        writes.extend(self.log_write(&container.namespace, events)?);
        if container.starts_with_host() {
            let key = boot_key(&container.namespace, &container.id);
            writes.push(put(key, &(), Condition::Always)?);
        }
        self.write(writes).await
    }

    /// The container of this id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn container(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
    ) -> Result<Option<Versioned<Container>>, StoreError> {
        self.read(&container_key(namespace, id)).await
    }

    /// Who has this name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn container_id_by_name(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<Option<ContainerId>, StoreError> {
        Ok(self
            .read::<ContainerId>(&name_key(namespace, name))
            .await?
            .map(|found| found.record))
    }

    /// As Docker looks containers up: by full id, by name, by the beginning of an id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_container(
        &self,
        namespace: &Namespace,
        reference: &str,
    ) -> Result<Found, StoreError> {
        if let Ok(id) = reference.parse::<ContainerId>()
            && let Some(found) = self.container(namespace, &id).await?
        {
            return Ok(Found::One(Box::new(found)));
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(id) = self.container_id_by_name(namespace, name).await?
            && let Some(found) = self.container(namespace, &id).await?
        {
            return Ok(Found::One(Box::new(found)));
        }
        let hex = !reference.is_empty()
            && reference.len() <= 64
            && reference
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return Ok(Found::None);
        }
        let mut found = self
            .list::<Container>(&partition(namespace), reference, 2)
            .await?;
        Ok(match (found.pop(), found.pop()) {
            (Some((_, one)), None) => Found::One(Box::new(one)),
            (None, _) => Found::None,
            (Some(_), Some(_)) => Found::Ambiguous,
        })
    }

    /// All containers of a namespace, in the order of their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn containers(&self, namespace: &Namespace) -> Result<Vec<Container>, StoreError> {
        let found = self
            .list::<Container>(&partition(namespace), "", usize::MAX)
            .await?;
        Ok(found.into_iter().map(|(_, found)| found.record).collect())
    }

    /// Changes a container: loads it, lets `change` decide, saves it unless
    /// somebody else was quicker, and then begins again. `change` may be called
    /// several times. Returns the saved container, or `None` if there is none.
    ///
    /// # Errors
    /// What `change` returns, or when the store fails.
    pub async fn update_container<R, E: From<StoreError>>(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        mut change: impl FnMut(&mut Container) -> Result<R, E>,
    ) -> Result<Option<(Container, R)>, E> {
        self.update_and_log(namespace, id, |container| {
            Ok((change(container)?, Vec::new()))
        })
        .await
    }

    /// The same, with events that are logged if and only if the change is saved.
    ///
    /// # Errors
    /// What `change` returns, or when the store fails.
    pub async fn update_and_log<R, E: From<StoreError>>(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        mut change: impl FnMut(&mut Container) -> Result<(R, Vec<Event>), E>,
    ) -> Result<Option<(Container, R)>, E> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.container(namespace, id).await? else {
                return Ok(None);
            };
            let was_live = found.record.lifecycle.is_live();
            let started_with_host = found.record.starts_with_host();
            let mut container = found.record;
            let (result, events) = change(&mut container)?;
            let key = container_key(namespace, id);
            let mut writes = vec![put(key, &container, Condition::Version(found.version))?];
            writes.extend(self.log_write(namespace, &events)?);
            let is_live = container.lifecycle.is_live();
            if is_live && !was_live {
                writes.push(put(live_key(namespace, id), &(), Condition::Always)?);
            } else if was_live && !is_live {
                writes.push(Write::Delete {
                    key: live_key(namespace, id),
                    condition: Condition::Always,
                });
            }
            let key = boot_key(namespace, id);
            match (started_with_host, container.starts_with_host()) {
                (false, true) => writes.push(put(key, &(), Condition::Always)?),
                (true, false) => writes.push(Write::Delete {
                    key,
                    condition: Condition::Always,
                }),
                (true, true) | (false, false) => {}
            }
            match self.write(writes).await {
                Ok(()) => return Ok(Some((container, result))),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Contended(id.to_string()).into())
    }

    /// Gives a container another name, both claims in one transaction. The
    /// result is false when the new name is taken.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rename_container(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        name: &str,
        events: impl Fn(&Container, &str) -> Vec<Event>,
    ) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.container(namespace, id).await? else {
                return Ok(true);
            };
            let mut container = found.record;
            let old = std::mem::replace(&mut container.name, name.to_owned());
            let mut writes = vec![
                put(name_key(namespace, name), id, Condition::Absent)?,
                Write::Delete {
                    key: name_key(namespace, &old),
                    condition: Condition::Always,
                },
                put(
                    container_key(namespace, id),
                    &container,
                    Condition::Version(found.version),
                )?,
            ];
            writes.extend(self.log_write(namespace, &events(&container, &old))?);
            match self.write(writes).await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_conflict() => {
                    if self.container_id_by_name(namespace, name).await?.is_some() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Contended(id.to_string()))
    }

    /// Removes a container's record and gives its name back. Idempotent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_container(
        &self,
        container: &Container,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let namespace = &container.namespace;
        let mut writes = vec![
            Write::Delete {
                key: container_key(namespace, &container.id),
                // Who comes second has nothing to tell.
                condition: Condition::Present,
            },
            Write::Delete {
                key: name_key(namespace, &container.name),
                condition: Condition::Always,
            },
        ];
        // The mark of one whose run is over is gone.
        if container.lifecycle.is_live() {
            writes.push(Write::Delete {
                key: live_key(namespace, &container.id),
                condition: Condition::Always,
            });
        }
        if container.starts_with_host() {
            writes.push(Write::Delete {
                key: boot_key(namespace, &container.id),
                condition: Condition::Always,
            });
        }
        writes.extend(self.log_write(namespace, events)?);
        match self.write(writes).await {
            Err(error) if error.is_conflict() => Ok(()),
            other => other,
        }
    }

    /// Every container, of any namespace, whose policy may want it to run when its host begins to work.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn restarted_containers(&self) -> Result<Vec<(Namespace, ContainerId)>, StoreError> {
        self.marked("BOOT").await
    }

    /// Every container, of any namespace, whose run goes on or which is to be started again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn live_containers(&self) -> Result<Vec<(Namespace, ContainerId)>, StoreError> {
        self.marked("LIVE").await
    }

    async fn marked(&self, partition: &str) -> Result<Vec<(Namespace, ContainerId)>, StoreError> {
        let marks = self.list::<()>(partition, "", usize::MAX).await?;
        Ok(marks
            .into_iter()
            .filter_map(|(sort, _)| {
                let (namespace, id) = sort.rsplit_once('#')?;
                Some((namespace.parse().ok()?, id.parse().ok()?))
            })
            .collect())
    }
}

fn partition(namespace: &Namespace) -> String {
    format!("C#{namespace}")
}

fn container_key(namespace: &Namespace, id: &ContainerId) -> Key {
    Key::new(partition(namespace), id.as_str())
}

fn name_key(namespace: &Namespace, name: &str) -> Key {
    Key::new(format!("N#{namespace}"), name)
}

fn boot_key(namespace: &Namespace, id: &ContainerId) -> Key {
    Key::new("BOOT", format!("{namespace}#{id}"))
}

fn live_key(namespace: &Namespace, id: &ContainerId) -> Key {
    Key::new("LIVE", format!("{namespace}#{id}"))
}
