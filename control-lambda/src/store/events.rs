//! Docker's events of a namespace, and who listens to them.
//!
//! Events that a step of a container brings are written with its record, and stay there until
//! they are logged: one item for all that it has to tell, when somebody listens, when
//! somebody asks, or when it is removed. So no event is lost and none is told of what did not
//! happen, and a container of which nobody wants to hear costs one write for its events.
//! Items are kept for [`LIFETIME`]; of their events the last [`MAX_HISTORY`] are shown.
//!
//! A subscription is an answer with a memory of the items it has been given: those that
//! are newer than `floor`, by name; all others are older. Parts and memory are written in
//! one transaction, so that every item is given to it once, whoever delivers it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sockerless_shared::answer::Part;
use sockerless_shared::ids::{AnswerId, Namespace, PeerId};
use sockerless_shared::timestamp::Timestamp;

use super::answers::{self, Meta};
use super::{Store, StoreError, Versioned, put_until};
use crate::ports::table::{Condition, Key, Write};

/// How long an item is kept.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// So many past events are shown; Docker keeps as many.
pub const MAX_HISTORY: usize = 256;

/// How much later than a newer item an older one may be written: transactions of
/// different invocations, whose clocks are a little apart, overtake each other.
const OVERTAKING: Duration = Duration::from_secs(10);

/// What kind of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// What builds images.
    Builder,
}

impl Kind {
    /// Docker's `Type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Builder => "builder",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What it is about.
    pub kind: Kind,
    /// What happened: `start`, `exec_create: ls`, …
    pub action: String,
    /// The object's id.
    pub actor: String,
    /// What else is said of the object and of what happened.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
}

/// What an answer that is a subscription remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Whose events.
    pub namespace: Namespace,
    /// Which of them: the client's `filters`.
    pub filters: String,
    /// Items older than this have been given, or never will be.
    pub floor: Timestamp,
    /// Newer items that have been given, by their keys.
    pub given: Vec<String>,
    /// When its records were last made to last.
    pub renewed: Timestamp,
}

impl Subscription {
    /// From when on it has to be known which items one that begins at `now` has been given.
    #[must_use]
    pub fn floor_at(now: Timestamp) -> Timestamp {
        before(now, OVERTAKING)
    }

    /// One that has been given these items, and none that is older.
    #[must_use]
    pub fn begun(namespace: &Namespace, filters: &str, now: Timestamp, given: &[Logged]) -> Self {
        let mut new = Self {
            namespace: namespace.clone(),
            filters: filters.to_owned(),
            floor: Self::floor_at(now),
            given: Vec::new(),
            renewed: now,
        };
        new.remember(given);
        new
    }

    /// The items that it has not been given.
    pub fn new_ones(&self, items: Vec<Logged>) -> Vec<Logged> {
        items
            .into_iter()
            .filter(|item| item.at >= self.floor && !self.given.contains(&item.key))
            .collect()
    }

    /// Takes note that it is given these items.
    pub fn remember(&mut self, items: &[Logged]) {
        self.given.extend(items.iter().map(|item| item.key.clone()));
        let newest = items.iter().map(|item| item.at).max();
        if let Some(newest) = newest {
            self.floor = self.floor.max(Self::floor_at(newest));
        }
        let floor = self.floor;
        self.given.retain(|key| time_of(key) >= floor);
    }

    /// Whether its records have to be written again, lest they expire.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.since(self.renewed) > answers::LIFETIME / 4
    }
}

/// An item of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its key.
    pub key: String,
    /// When it was logged; its events may have happened before.
    pub at: Timestamp,
    /// Its events, in order.
    pub events: Vec<Event>,
}

impl Store {
    /// The write that logs these events; `None` when there are none.
    ///
    /// # Errors
    /// Never in practice: when they cannot be encoded.
    pub(crate) fn log_write(
        &self,
        namespace: &Namespace,
        events: &[Event],
    ) -> Result<Option<Write>, StoreError> {
        let random: [u8; 8] = self.environment.random();
        let now = self.environment.now();
        self.log_write_as(namespace, events, now, &hex::encode(random))
    }

    /// The same, at a time and under a name of the caller's: done again, it is one item all
    /// the same.
    pub(crate) fn log_write_as(
        &self,
        namespace: &Namespace,
        events: &[Event],
        at: Timestamp,
        name: &str,
    ) -> Result<Option<Write>, StoreError> {
        if events.is_empty() {
            return Ok(None);
        }
        let key = Key::new(log(namespace), key_of(at, name));
        let expires = Some(self.environment.now().plus(LIFETIME));
        put_until(key, &events, Condition::Always, expires).map(Some)
    }

    /// The last items, oldest first: all that are not older than `floor`, and as many as
    /// hold the last `least` events.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logged(
        &self,
        namespace: &Namespace,
        floor: Timestamp,
        least: usize,
    ) -> Result<Vec<Logged>, StoreError> {
        let mut found: Vec<Logged> = Vec::new();
        let mut count = 0;
        let mut after: Option<String> = None;
        // Newest first, so that the first that is not wanted is the last to be looked at.
        'all: loop {
            let page = self.page(&log(namespace), after.as_deref(), PAGE).await?;
            let whole = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, item) in page {
                let at = time_of(&key);
                if at < floor && count >= least {
                    break 'all;
                }
                count += item.record.len();
                found.push(Logged {
                    key,
                    at,
                    events: item.record,
                });
            }
            if !whole {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    async fn page(
        &self,
        partition: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned<Vec<Event>>)>, StoreError> {
        let now = self.environment.now();
        let items = self.table.query(partition, "", after, limit, now).await?;
        items
            .into_iter()
            .map(|item| Ok((item.key.sort.clone(), super::parse(&item)?)))
            .collect()
    }

    /// Stores a new subscription, of whose answer `given` parts travel in the response.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn subscribe(
        &self,
        answer: &AnswerId,
        peer: &PeerId,
        given: u64,
        subscription: Subscription,
    ) -> Result<(), StoreError> {
        let meta = Meta {
            peer: peer.clone(),
            next: given,
            parts: Vec::new(),
            wait: None,
            subscription: Some(Box::new(subscription)),
        };
        self.write(self.subscription_writes(answer, &meta, Condition::Absent)?)
            .await
    }

    /// The records of a subscription: the answer's, and the mark by which it is found.
    fn subscription_writes(
        &self,
        answer: &AnswerId,
        meta: &Meta,
        condition: Condition,
    ) -> Result<Vec<Write>, StoreError> {
        let expires = Some(self.environment.now().plus(answers::LIFETIME));
        let mut writes = vec![put_until(
            answers::meta_key(answer),
            meta,
            condition,
            expires,
        )?];
        if let Some(subscription) = &meta.subscription {
            let key = mark(&subscription.namespace, answer);
            writes.push(put_until(key, &(), Condition::Always, expires)?);
        }
        Ok(writes)
    }

    /// Who listens to a namespace's events.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn subscriptions(&self, namespace: &Namespace) -> Result<Vec<AnswerId>, StoreError> {
        let marks = self
            .list::<()>(&format!("S#{namespace}"), "", usize::MAX)
            .await?;
        Ok(marks
            .into_iter()
            .filter_map(|(answer, _)| answer.parse().ok())
            .collect())
    }

    /// Forgets that an answer listens.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unsubscribe(
        &self,
        namespace: &Namespace,
        answer: &AnswerId,
    ) -> Result<(), StoreError> {
        self.write(vec![Write::Delete {
            key: mark(namespace, answer),
            condition: Condition::Always,
        }])
        .await
    }

    /// Gives an answer further parts, and remembers what it has been given: both or
    /// nothing. `meta` is as it is to be. False when somebody else was quicker.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn give(
        &self,
        answer: &AnswerId,
        version: u64,
        meta: &Meta,
        parts: &[Part],
        renew: bool,
    ) -> Result<bool, StoreError> {
        let expires = Some(self.environment.now().plus(answers::LIFETIME));
        let mut writes = self.subscription_writes(answer, meta, Condition::Version(version))?;
        if !renew {
            writes.truncate(1);
        }
        let first = meta.next.saturating_sub(parts.len() as u64);
        for (number, part) in (first..).zip(parts) {
            let key = answers::part_key(answer, number);
            writes.push(put_until(key, part, Condition::Absent, expires)?);
        }
        match self.write(writes).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

const PAGE: usize = 64;

fn log(namespace: &Namespace) -> String {
    format!("E#{namespace}")
}

fn mark(namespace: &Namespace, answer: &AnswerId) -> Key {
    Key::new(format!("S#{namespace}"), answer.as_str())
}

/// Newer items come first.
fn key_of(at: Timestamp, name: &str) -> String {
    format!("{:020}#{name}", i64::MAX - at.nanos().max(0))
}

fn time_of(key: &str) -> Timestamp {
    let inverted: i64 = key
        .split('#')
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(i64::MAX);
    Timestamp::from_nanos(i64::MAX - inverted)
}

fn before(at: Timestamp, duration: Duration) -> Timestamp {
    let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(at.nanos().saturating_sub(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(secs: i64, name: &str) -> Logged {
        let at = Timestamp::from_secs(secs);
        Logged {
            key: key_of(at, name),
            at,
            events: Vec::new(),
        }
    }

    fn begun(given: &[Logged]) -> Subscription {
        let namespace = "n".parse().unwrap();
        Subscription::begun(&namespace, "", Timestamp::from_secs(100), given)
    }

    #[test]
    fn keys_tell_the_time_and_newer_ones_come_first() {
        let (old, new) = (item(10, "a"), item(11, "a"));
        assert!(new.key < old.key);
        assert_eq!(time_of(&old.key), Timestamp::from_secs(10));
    }

    #[test]
    fn every_item_is_new_once_even_when_it_was_overtaken() {
        let mut subscription = begun(&[item(99, "history")]);
        let log = vec![item(50, "old"), item(99, "history"), item(101, "b")];
        let new = subscription.new_ones(log.clone());
        assert_eq!(new, [item(101, "b")]);
        subscription.remember(&new);
        assert!(subscription.new_ones(log).is_empty());
        // Written later, though it happened before.
        let late = vec![item(98, "late"), item(101, "b")];
        let new = subscription.new_ones(late.clone());
        assert_eq!(new, [item(98, "late")]);
        subscription.remember(&new);
        assert!(subscription.new_ones(late).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_by_time() {
        let mut subscription = begun(&[]);
        for secs in 100..1_000 {
            subscription.remember(&[item(secs, "x")]);
        }
        assert_eq!(subscription.given.len(), 11);
        assert!(subscription.new_ones(vec![item(500, "x")]).is_empty());
    }
}
