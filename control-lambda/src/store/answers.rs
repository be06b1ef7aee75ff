//! Answers whose parts arrive over the relay: stored, numbered, and kept until
//! the frontend says that it has carried them out.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sockerless_shared::answer::Part;
use sockerless_shared::ids::{AnswerId, PeerId};

use super::events::Subscription;
use super::waiters::Wait;
use super::{ATTEMPTS, Store, StoreError, Versioned, put_until};
use crate::ports::table::{Condition, Key, Write};

/// How long an answer is kept that has come to its end: whoever did not get it asks again.
const ENDED_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long an answer is kept whose frontend is not heard of again.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Whose answer it is and how far it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The frontend that carries it out.
    pub peer: PeerId,
    /// The number of the next part.
    pub next: u64,
    /// Parts that are kept here, with their numbers, while they are small: one write
    /// instead of one for each and another for this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(u64, Part)>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// What it listens to, if it goes on for as long as its client does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Box<Subscription>>,
}

/// So large a record may become by the parts in it; a write is billed by the kilobyte.
const MAX_RECORD_BYTES: usize = 2_000;

impl Store {
    /// Stores a new answer, of which `given` parts travel in the response itself. One that waits
    /// has a name that says so.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_answer(
        &self,
        id: &AnswerId,
        peer: &PeerId,
        given: u64,
        wait: Option<Wait>,
    ) -> Result<(), StoreError> {
        let meta = Meta {
            peer: peer.clone(),
            next: given,
            parts: Vec::new(),
            wait,
            subscription: None,
        };
        let expires = Some(self.environment.now().plus(LIFETIME));
        self.write(vec![put_until(
            meta_key(id),
            &meta,
            Condition::Absent,
            expires,
        )?])
        .await
    }

    /// The answer's meta record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn answer(&self, id: &AnswerId) -> Result<Option<Meta>, StoreError> {
        Ok(self.answer_versioned(id).await?.map(|found| found.record))
    }

    /// The answer's meta record with its version.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn answer_versioned(
        &self,
        id: &AnswerId,
    ) -> Result<Option<Versioned<Meta>>, StoreError> {
        self.read(&meta_key(id)).await
    }

    /// Stores the next parts of an answer. Returns for whom they are and the
    /// number of the first, or `None` when nobody waits for the answer any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn append_parts(
        &self,
        id: &AnswerId,
        parts: &[Part],
    ) -> Result<Option<(PeerId, u64)>, StoreError> {
        self.append(id, parts, false).await
    }

    /// The same for an answer that waits, which it does not any more then: `None` also when
    /// somebody else was quicker. Whoever is not `None` has to post them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_wait(
        &self,
        id: &AnswerId,
        parts: &[Part],
    ) -> Result<Option<(PeerId, u64)>, StoreError> {
        self.append(id, parts, true).await
    }

    async fn append(
        &self,
        id: &AnswerId,
        parts: &[Part],
        waits: bool,
    ) -> Result<Option<(PeerId, u64)>, StoreError> {
        let lifetime = match parts.last() {
            Some(Part::End) => ENDED_LIFETIME,
            _ => LIFETIME,
        };
        let expires = Some(self.environment.now().plus(lifetime));
        for _ in 0..ATTEMPTS {
            let Some(found) = self.read::<Meta>(&meta_key(id)).await? else {
                return Ok(None);
            };
            if waits && found.record.wait.is_none() {
                return Ok(None);
            }
            let (known, version) = (found.record, found.version);
            let (peer, first) = (known.peer.clone(), known.next);
            let numbered = || (first..).zip(parts.iter().cloned());
            let mut meta = Meta {
                next: first + parts.len() as u64,
                wait: known.wait.clone().filter(|_| !waits),
                ..known.clone()
            };
            meta.parts.extend(numbered());
            let mut writes = vec![put_until(
                meta_key(id),
                &meta,
                Condition::Version(version),
                expires,
            )?];
            if size(&writes) > MAX_RECORD_BYTES {
                meta.parts = known.parts;
                writes = vec![put_until(
                    meta_key(id),
                    &meta,
                    Condition::Version(version),
                    expires,
                )?];
                for (number, part) in numbered() {
                    let key = part_key(id, number);
                    writes.push(put_until(key, &part, Condition::Absent, expires)?);
                }
            }
            match self.write(writes).await {
                Ok(()) => return Ok(Some((peer, first))),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Contended(id.to_string()))
    }

    /// The stored parts from number `from` on, in order; `meta` is what was read of the answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn parts_from(
        &self,
        id: &AnswerId,
        meta: &Meta,
        from: u64,
    ) -> Result<Vec<(u64, Part)>, StoreError> {
        let before = from.checked_sub(1).map(|number| part_key(id, number).sort);
        let found = self
            .list_after::<Part>(&parts_of(id), "p#", before, usize::MAX)
            .await?;
        let apart = found.into_iter().filter_map(|(sort, found)| {
            let number: u64 = sort.strip_prefix("p#")?.parse().ok()?;
            Some((number, found.record))
        });
        let mut parts: Vec<_> = meta.parts.iter().cloned().chain(apart).collect();
        parts.retain(|(number, _)| *number >= from);
        parts.sort_by_key(|(number, _)| *number);
        Ok(parts)
    }

    /// Forgets an answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_answer(&self, id: &AnswerId) -> Result<(), StoreError> {
        let parts = self
            .list::<serde_json::Value>(&parts_of(id), "p#", usize::MAX)
            .await?;
        let mut keys = vec![meta_key(id)];
        keys.extend(
            parts
                .into_iter()
                .map(|(sort, _)| Key::new(parts_of(id), sort)),
        );
        for batch in keys.chunks(crate::ports::table::MAX_TRANSACTION_WRITES) {
            let delete = |key: &Key| Write::Delete {
                key: key.clone(),
                condition: Condition::Always,
            };
            self.write(batch.iter().map(delete).collect()).await?;
        }
        Ok(())
    }

    /// Has an answer that waits wait for something else of the same kind; whether it still waited.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn wait_otherwise(&self, id: &AnswerId, wait: Wait) -> Result<bool, StoreError> {
        let expires = Some(self.environment.now().plus(LIFETIME));
        for _ in 0..ATTEMPTS {
            let Some(found) = self.read::<Meta>(&meta_key(id)).await? else {
                return Ok(false);
            };
            let mut meta = found.record;
            if meta.wait.is_none() {
                return Ok(false);
            }
            meta.wait = Some(wait.clone());
            let condition = Condition::Version(found.version);
            let write = put_until(meta_key(id), &meta, condition, expires)?;
            match self.write(vec![write]).await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Contended(id.to_string()))
    }

    /// Forgets an answer that waits, for what will not happen; whether it still waited.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn take_back(&self, id: &AnswerId) -> Result<bool, StoreError> {
        let key = meta_key(id);
        for _ in 0..ATTEMPTS {
            let Some(found) = self.read::<Meta>(&key).await? else {
                return Ok(false);
            };
            if found.record.wait.is_none() {
                return Ok(false);
            }
            let condition = Condition::Version(found.version);
            let key = key.clone();
            match self.write(vec![Write::Delete { key, condition }]).await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Contended(id.to_string()))
    }
}

/// Bytes of the bodies that are written.
fn size(writes: &[Write]) -> usize {
    let body = |write: &Write| match write {
        Write::Put { body, .. } => body.len(),
        Write::Delete { .. } | Write::Check { .. } => 0,
    };
    writes.iter().map(body).sum()
}

/// Those that wait for something to happen to a container stand together.
pub(super) fn meta_key(id: &AnswerId) -> Key {
    match id.place() {
        Some((kind, container)) => {
            let sort = format!("{kind}#{}", id.digits());
            Key::new(format!("W#{container}"), sort)
        }
        None => Key::new(parts_of(id), "meta"),
    }
}

pub(super) fn part_key(id: &AnswerId, number: u64) -> Key {
    Key::new(parts_of(id), format!("p#{number:020}"))
}

fn parts_of(id: &AnswerId) -> String {
    format!("A#{}", id.digits())
}
