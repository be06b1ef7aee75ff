//! Containers, their names, and the marks of those that run.

use std::time::Duration;

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
    /// Events that the log has yet to be given: at once when somebody listens, else with those
    /// of its removal, or when somebody asks ([`Store::log_unsaid`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaid: Vec<Event>,
    /// Its mark among those that live, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_mark: Option<String>,
    /// Since when it is to be erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Timestamp>,
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

/// So many events a record holds: a write is billed by the kilobyte.
const MAX_UNSAID: usize = 16;

/// So long a mark may stand before what it marks is saved, and a name's claim after its container
/// is gone. What is older was left behind by a control plane that died.
const CLAIM_LIMIT: Duration = Duration::from_secs(60);

/// Who has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    id: ContainerId,
    at: Timestamp,
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
    /// Stores a new container and claims its name, if all of `held` holds: all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::is_conflict`] when the name is taken, or something does not hold.
    pub async fn create_container(
        &self,
        container: &Container,
        held: Vec<Write>,
    ) -> Result<(), StoreError> {
        let created = self.create(container, &held, Condition::Absent).await;
        let Err(refused) = created else {
            return Ok(());
        };
        if refused.is_conflict()
            && let Some(version) = self.left_behind(container).await?
        {
            let condition = Condition::Version(version);
            return self.create(container, &held, condition).await;
        }
        Err(refused)
    }

    async fn create(
        &self,
        container: &Container,
        held: &[Write],
        claimed: Condition,
    ) -> Result<(), StoreError> {
        let (namespace, id) = (&container.namespace, &container.id);
        let claim = Claim {
            id: id.clone(),
            at: self.environment.now(),
        };
        let mut writes = vec![
            put(name_key(namespace, &container.name), &claim, claimed)?,
            put(container_key(namespace, id), container, Condition::Absent)?,
        ];
        if container.starts_with_host() {
            writes.push(put(boot_key(namespace, id), &(), Condition::Always)?);
        }
        writes.extend_from_slice(held);
        self.write(writes).await
    }

    /// The version of a claim of the container's name that a removal which did not come to its
    /// end has left behind.
    async fn left_behind(&self, container: &Container) -> Result<Option<u64>, StoreError> {
        let namespace = &container.namespace;
        let key = name_key(namespace, &container.name);
        let Some(found) = self.read::<Claim>(&key).await? else {
            return Ok(None);
        };
        let old = self.environment.now().since(found.record.at) > CLAIM_LIMIT;
        let left = old && self.container(namespace, &found.record.id).await?.is_none();
        Ok(left.then_some(found.version))
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
            .read::<Claim>(&name_key(namespace, name))
            .await?
            .map(|found| found.record.id))
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

    /// The same, with events that are said if and only if the change is saved.
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
            let started_with_host = found.record.starts_with_host();
            let mut container = found.record;
            let (result, events) = change(&mut container)?;
            container.unsaid.extend(events);
            let ended = self.mark(&mut container).await?;
            let unsaid = if container.unsaid.len() > MAX_UNSAID && container.erased.is_none() {
                std::mem::take(&mut container.unsaid)
            } else {
                Vec::new()
            };
            let key = container_key(namespace, id);
            let mut writes = vec![put(key, &container, Condition::Version(found.version))?];
            writes.extend(self.log_write(namespace, &unsaid)?);
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
                Ok(()) => {
                    if let Some(mark) = ended {
                        self.unmark(namespace, id, &mark).await?;
                    }
                    return Ok(Some((container, result)));
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Contended(id.to_string()).into())
    }

    /// Marks a container that begins to live, before that is saved; for one that has ended, the
    /// mark that is to go once that is saved. A mark that is left behind is the sweep's.
    async fn mark(&self, container: &mut Container) -> Result<Option<String>, StoreError> {
        if !container.lifecycle.is_live() {
            return Ok(container.live_mark.take());
        }
        if container.live_mark.is_none() {
            let mark = hex::encode(self.environment.random::<4>());
            let key = live_key(&container.namespace, &container.id, &mark);
            let now = self.environment.now();
            self.write(vec![put(key, &now, Condition::Always)?]).await?;
            container.live_mark = Some(mark);
        }
        Ok(None)
    }

    /// Takes a container's mark away.
    ///
    /// # Errors
    /// When the store fails.
    async fn unmark(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        mark: &str,
    ) -> Result<(), StoreError> {
        self.write(vec![Write::Delete {
            key: live_key(namespace, id, mark),
            condition: Condition::Always,
        }])
        .await
    }

    /// Takes away marks of a container that somebody left behind.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_marks(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
    ) -> Result<(), StoreError> {
        let found = self.container(namespace, id).await?;
        let present = found.and_then(|found| found.record.live_mark);
        let marks = self
            .list::<Timestamp>("LIVE", &format!("{namespace}#{id}#"), usize::MAX)
            .await?;
        let now = self.environment.now();
        for (sort, since) in marks {
            // One that begins to live just now is marked before that is saved.
            let left_behind = now.since(since.record) > CLAIM_LIMIT;
            if let Some((_, mark)) = sort.rsplit_once('#')
                && left_behind
                && present.as_deref() != Some(mark)
            {
                self.unmark(namespace, id, mark).await?;
            }
        }
        Ok(())
    }

    /// Gives the log what a container has not told it yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn log_unsaid(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
    ) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.container(namespace, id).await? else {
                return Ok(());
            };
            let mut container = found.record;
            // Whoever erases it logs what it has not told.
            if container.unsaid.is_empty() || container.erased.is_some() {
                return Ok(());
            }
            let unsaid = std::mem::take(&mut container.unsaid);
            let key = container_key(namespace, id);
            let mut writes = vec![put(key, &container, Condition::Version(found.version))?];
            writes.extend(self.log_write(namespace, &unsaid)?);
            match self.write(writes).await {
                Err(error) if error.is_conflict() => {}
                other => return other,
            }
        }
        Err(StoreError::Contended(id.to_string()))
    }

    /// The same for all containers of a namespace.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn log_all_unsaid(&self, namespace: &Namespace) -> Result<(), StoreError> {
        for container in self.containers(namespace).await? {
            if !container.unsaid.is_empty() {
                self.log_unsaid(namespace, &container.id).await?;
            }
        }
        Ok(())
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
            let said = events(&container, &old);
            container.unsaid.extend(said);
            let claim = Claim {
                id: id.clone(),
                at: self.environment.now(),
            };
            let writes = vec![
                put(name_key(namespace, name), &claim, Condition::Absent)?,
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

    /// Removes a container's record, gives its name back, and logs these events and those that
    /// it has not told yet. Done again by somebody who read the same record, it is done once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_container(
        &self,
        container: &Container,
        event: Event,
    ) -> Result<(), StoreError> {
        let namespace = &container.namespace;
        let events: Vec<_> = container.unsaid.iter().cloned().chain([event]).collect();
        let at = container.erased.unwrap_or_else(|| self.environment.now());
        // One item whoever writes it, and before the record goes, which holds what it tells.
        if let Some(write) = self.log_write_as(namespace, &events, at, container.id.as_str())? {
            self.write(vec![write]).await?;
        }
        if let Some(mark) = &container.live_mark {
            self.unmark(namespace, &container.id, mark).await?;
        }
        if container.starts_with_host() {
            self.write(vec![Write::Delete {
                key: boot_key(namespace, &container.id),
                condition: Condition::Always,
            }])
            .await?;
        }
        let gone = self
            .write(vec![Write::Delete {
                key: container_key(namespace, &container.id),
                condition: Condition::Present,
            }])
            .await;
        match gone {
            // Whoever came first gives the name back, and nobody else: it may be another's by now.
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.give_name_back(container).await,
        }
    }

    /// Gives the name of a container back that is gone, unless that took so long that another
    /// has it by now.
    async fn give_name_back(&self, container: &Container) -> Result<(), StoreError> {
        let key = name_key(&container.namespace, &container.name);
        let Some(found) = self.read::<Claim>(&key).await? else {
            return Ok(());
        };
        if found.record.id != container.id {
            return Ok(());
        }
        let condition = Condition::Version(found.version);
        match self.write(vec![Write::Delete { key, condition }]).await {
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
        let marks = self
            .list::<serde_json::Value>(partition, "", usize::MAX)
            .await?;
        let mut marked: Vec<_> = marks
            .into_iter()
            .filter_map(|(sort, _)| {
                let mut fields = sort.split('#');
                Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
            })
            .collect();
        // One that was left behind stands beside the present one's.
        marked.dedup();
        Ok(marked)
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

fn live_key(namespace: &Namespace, id: &ContainerId, mark: &str) -> Key {
    Key::new("LIVE", format!("{namespace}#{id}#{mark}"))
}
