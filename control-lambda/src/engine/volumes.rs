//! Volumes: who uses them, and how they go.

use std::collections::BTreeMap;

use sockerless_shared::ids::{ContainerId, Namespace};

use super::events::of_volume;
use super::{Control, EngineError};
use crate::ports::machine::{Mount, MountSource, VolumeMount};
use crate::store::containers::Container;

/// Which containers use which volumes. A container uses what is mounted into it for as long
/// as it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<String, Vec<ContainerId>>);

impl Users {
    /// The users among these containers.
    #[must_use]
    pub fn of(containers: &[Container]) -> Self {
        let mut users: BTreeMap<String, Vec<ContainerId>> = BTreeMap::new();
        for container in containers {
            for (name, _) in volumes(container) {
                let of_this = users.entry(name.to_owned()).or_default();
                if of_this.last() != Some(&container.id) {
                    of_this.push(container.id.clone());
                }
            }
        }
        Self(users)
    }

    /// Those of one volume.
    #[must_use]
    pub fn of_volume(&self, name: &str) -> &[ContainerId] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// A container's volumes: name, and whether nobody named it.
fn volumes(container: &Container) -> impl Iterator<Item = (&str, bool)> {
    mounted(container).map(|(_, volume)| (volume.name.as_str(), volume.anonymous))
}

/// A container's volumes, and how they are mounted.
pub(crate) fn mounted(container: &Container) -> impl Iterator<Item = (&Mount, &VolumeMount)> {
    let machine = container.shape.machine.iter();
    machine
        .flat_map(|machine| &machine.mounts)
        .filter_map(|mount| match &mount.source {
            MountSource::Volume(volume) => Some((mount, volume)),
            MountSource::Host { .. } | MountSource::Memory { .. } => None,
        })
}

impl Control {
    /// Removes those of the volumes that no container uses, but for one that is going; gives the
    /// others, with their users. Idempotent.
    ///
    /// # Errors
    /// When the store or the host fails.
    pub async fn remove_unused_volumes(
        &self,
        namespace: &Namespace,
        names: &[&str],
        but: Option<&ContainerId>,
    ) -> Result<Vec<(String, Vec<ContainerId>)>, EngineError> {
        // Marked before their users are looked for: a container that is stored later does not
        // find them any more, and one that was stored before is found.
        for name in names {
            self.store.mark_volume(namespace, name, true).await?;
        }
        let mut containers = self.store.containers(namespace).await?;
        containers.retain(|container| Some(&container.id) != but);
        let users = Users::of(&containers);
        let mut used = Vec::new();
        for name in names {
            match users.of_volume(name) {
                [] => self.remove_volume(namespace, name).await?,
                users => {
                    self.store.mark_volume(namespace, name, false).await?;
                    used.push(((*name).to_owned(), users.to_vec()));
                }
            }
        }
        Ok(used)
    }

    /// Removes a volume and its data. Idempotent.
    ///
    /// # Errors
    /// When the store or the host fails.
    pub async fn remove_volume(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<(), EngineError> {
        // The record last: what is left half-done can be done again.
        self.host.remove_volume(namespace, name).await?;
        self.store.erase_volume(namespace, name).await?;
        self.say_of_volume(namespace, "destroy", name).await;
        Ok(())
    }

    /// Says that a volume was made, or removed.
    pub(crate) async fn say_of_volume(&self, namespace: &Namespace, action: &str, name: &str) {
        let driver = ("driver", "local".to_owned());
        let event = of_volume(action, name, [driver], self.environment.now());
        self.say_or_log(namespace, &[event]).await;
    }

    /// Removes the volumes that a container had, that nobody named, and that no other
    /// container uses. Idempotent.
    pub(crate) async fn remove_anonymous_volumes(
        &self,
        container: &Container,
    ) -> Result<(), EngineError> {
        let anonymous: Vec<&str> = volumes(container)
            .filter(|(_, anonymous)| *anonymous)
            .map(|(name, _)| name)
            .collect();
        if anonymous.is_empty() {
            return Ok(());
        }
        self.remove_unused_volumes(&container.namespace, &anonymous, Some(&container.id))
            .await?;
        Ok(())
    }
}
