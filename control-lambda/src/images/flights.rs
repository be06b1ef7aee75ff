//! Transfers under way in this process, so that two who want the same blob fetch it once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use super::digest::Digest;

type Flight = tokio::sync::Mutex<()>;

/// Who fetches what.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, Weak<Flight>>>);

impl Flights {
    /// The right to fetch a blob, at once, or `Err` with what to wait for.
    pub(super) fn board(&self, blob: &Digest) -> Result<OwnedMutexGuard<()>, Arc<Flight>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = flights
            .get(blob)
            .and_then(Weak::upgrade)
            .unwrap_or_default();
        flights.insert(*blob, Arc::downgrade(&flight));
        Arc::clone(&flight).try_lock_owned().map_err(|_| flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_fetches_and_the_others_wait() {
        let flights = Flights::default();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let first = flights.board(&a).unwrap();
        let waiting = flights.board(&a).unwrap_err();
        let other = flights.board(&b).unwrap();
        drop(first);
        let second = waiting.lock_owned().await;
        assert!(flights.board(&a).is_err());
        drop((second, other));
        assert!(flights.board(&a).is_ok());
    }
}
