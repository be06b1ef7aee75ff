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
        let mut others = self.store.containers(&container.namespace).await?;
        others.retain(|other| other.id != container.id);
        let users = Users::of(&others);
        for name in anonymous {
            if users.of_volume(name).is_empty() {
                self.remove_volume(&container.namespace, name).await?;
            }
        }
        Ok(())
    }
}
