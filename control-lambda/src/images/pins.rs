//! What operations in flight need, so that the garbage collection leaves it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::digest::Digest;

/// Shared by everything that stores images in this process.
#[derive(Debug, Default)]
pub struct Pins {
    /// Held while something is pinned or deleted: a digest is either pinned
    /// before its deletion, which then does not happen, or after it is gone.
    gate: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pinned: HashMap<Digest, usize>,
    /// Bodies on their way whose digest only their end will tell.
    ingests: usize,
    /// Everything that was pinned at any time since the collection began.
    since: Option<HashSet<Digest>>,
}

/// What one operation has pinned, until it is dropped.
#[derive(Debug)]
pub struct PinSet {
    pins: Arc<Pins>,
    digests: Vec<Digest>,
    ingesting: bool,
}

impl Pins {
    /// Begins an operation.
    #[must_use]
    pub fn operation(self: &Arc<Self>) -> PinSet {
        PinSet {
            pins: Arc::clone(self),
            digests: Vec::new(),
            ingesting: false,
        }
    }

    /// Begins a collection, of which there may be one at a time. What is
    /// reachable must be found out after this.
    pub(super) fn begin_sweep(&self) -> Option<Sweep<'_>> {
        let mut state = self.state();
        if state.since.is_some() {
            return None;
        }
        state.since = Some(state.pinned.keys().copied().collect());
        Some(Sweep { pins: self })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held, and counts stay true if it did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PinSet {
    /// Keeps this, whether it is there already or will be.
    pub async fn pin(&mut self, digest: Digest) {
        let _gate = self.pins.gate.lock().await;
        let mut state = self.pins.state();
        *state.pinned.entry(digest).or_default() += 1;
        if let Some(since) = &mut state.since {
            since.insert(digest);
        }
        self.digests.push(digest);
    }

    /// From now on bodies are stored whose digests are not known beforehand.
    pub async fn begin_ingest(&mut self) {
        let _gate = self.pins.gate.lock().await;
        if !self.ingesting {
            self.ingesting = true;
            self.pins.state().ingests += 1;
        }
    }

    /// All of them are stored and pinned.
    pub fn end_ingest(&mut self) {
        if self.ingesting {
            self.ingesting = false;
            self.pins.state().ingests -= 1;
        }
    }
}

impl Drop for PinSet {
    fn drop(&mut self) {
        self.end_ingest();
        let mut state = self.pins.state();
        for digest in &self.digests {
            if let Some(count) = state.pinned.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.pinned.remove(digest);
                }
            }
        }
    }
}

/// A collection in progress.
#[derive(Debug)]
pub(super) struct Sweep<'a> {
    pins: &'a Pins,
}

impl Sweep<'_> {
    /// Runs `delete` unless the digest is needed. `false` when it has to wait
    /// for a later collection.
    pub(super) async fn delete_unless_pinned<E>(
        &self,
        digest: &Digest,
        delete: impl Future<Output = Result<(), E>>,
    ) -> Result<bool, E> {
        let _gate = self.pins.gate.lock().await;
        let free = {
            let state = self.pins.state();
            let pinned = state.since.as_ref().is_some_and(|s| s.contains(digest));
            state.ingests == 0 && !pinned
        };
        if free {
            delete.await?;
        }
        Ok(free)
    }
}

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        self.pins.state().since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn deletes(sweep: &Sweep<'_>, digest: Digest) -> bool {
        let nothing = async { Ok::<(), ()>(()) };
        sweep.delete_unless_pinned(&digest, nothing).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_pinned_during_a_sweep_stays_to_its_end() {
        let pins = Arc::new(Pins::default());
        let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
        let mut before = pins.operation();
        before.pin(a).await;
        let sweep = pins.begin_sweep().unwrap();
        assert!(pins.begin_sweep().is_none());
        drop(before);
        let mut during = pins.operation();
        during.pin(b).await;
        drop(during);
        assert!(!deletes(&sweep, a).await);
        assert!(!deletes(&sweep, b).await);
        assert!(deletes(&sweep, c).await);
        drop(sweep);
        let sweep = pins.begin_sweep().unwrap();
        assert!(deletes(&sweep, a).await);
    }

    #[tokio::test]
    async fn nothing_is_deleted_while_unknown_bodies_arrive() {
        let pins = Arc::new(Pins::default());
        let mut operation = pins.operation();
        operation.begin_ingest().await;
        let sweep = pins.begin_sweep().unwrap();
        assert!(!deletes(&sweep, Digest::of(b"x")).await);
        drop(operation);
        assert!(deletes(&sweep, Digest::of(b"x")).await);
    }
}
