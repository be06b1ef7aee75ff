//! Volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sockerless_shared::ids::Namespace;
use sockerless_shared::timestamp::Timestamp;

use super::{ATTEMPTS, Store, StoreError, Versioned, put};
use crate::ports::table::{Condition, Key, Write};

/// A volume as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name, which is also its id.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Its labels; `None` where the client gave none.
    pub labels: Option<BTreeMap<String, String>>,
    /// The driver's options; `None` where the client gave none.
    pub options: Option<BTreeMap<String, String>>,
    /// Where its data is, on the machine that has it.
    pub mountpoint: String,
    /// Whether it is being removed: no new container may have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
}

impl Volume {
    /// The label of a volume that nobody named.
    pub const ANONYMOUS: &'static str = "com.docker.volume.anonymous";

    /// Whether nobody named it.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        let mut labels = self.labels.iter().flatten();
        labels.any(|(name, _)| name == Self::ANONYMOUS)
    }
}

impl Store {
    /// Stores a new volume; the result is false when its name is taken.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_volume(
        &self,
        namespace: &Namespace,
        volume: &Volume,
    ) -> Result<bool, StoreError> {
        let key = volume_key(namespace, &volume.name);
        match self.write(vec![put(key, volume, Condition::Absent)?]).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The volume of this name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn volume(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<Option<Volume>, StoreError> {
        let found = self.volume_versioned(namespace, name).await?;
        Ok(found.map(|found| found.record))
    }

    async fn volume_versioned(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<Option<Versioned<Volume>>, StoreError> {
        let key = volume_key(namespace, name);
        if !key.is_valid() {
            // Nothing can be stored under such a name.
            return Ok(None);
        }
        self.read(&key).await
    }

    /// What has to hold when a container is stored that has this volume: that nobody has begun
    /// to remove it. `None` when somebody has.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn hold_volume(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<Option<Write>, StoreError> {
        let found = self.volume_versioned(namespace, name).await?;
        let held = found.filter(|found| !found.record.removing);
        Ok(held.map(|found| Write::Check {
            key: volume_key(namespace, name),
            condition: Condition::Version(found.version),
        }))
    }

    /// Notes that a volume is being removed, or is not after all; whether there is one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mark_volume(
        &self,
        namespace: &Namespace,
        name: &str,
        removing: bool,
    ) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.volume_versioned(namespace, name).await? else {
                return Ok(false);
            };
            let marked = Volume {
                removing,
                ..found.record
            };
            let condition = Condition::Version(found.version);
            let write = put(volume_key(namespace, name), &marked, condition)?;
            match self.write(vec![write]).await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Contended(name.to_owned()))
    }

    /// All volumes of a namespace, in the order of their names.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn volumes(&self, namespace: &Namespace) -> Result<Vec<Volume>, StoreError> {
        let found = self
            .list::<Volume>(&partition(namespace), "", usize::MAX)
            .await?;
        Ok(found.into_iter().map(|(_, found)| found.record).collect())
    }

    /// Removes a volume's record. Idempotent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_volume(&self, namespace: &Namespace, name: &str) -> Result<(), StoreError> {
        self.write(vec![Write::Delete {
            key: volume_key(namespace, name),
            condition: Condition::Always,
        }])
        .await
    }
}

fn partition(namespace: &Namespace) -> String {
    format!("VOL#{namespace}")
}

fn volume_key(namespace: &Namespace, name: &str) -> Key {
    Key::new(partition(namespace), name)
}
