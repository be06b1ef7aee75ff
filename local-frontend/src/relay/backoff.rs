//! How long to wait before trying again.

use std::time::Duration;

/// The first wait and the longest.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(15);

/// Waits that double, each drawn between half of it and the whole, so that many
/// frontends do not come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// It worked: begin anew.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next wait; `random` is any byte.
    pub(super) fn next(&mut self, random: u8) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole / 2 + whole / 2 * u32::from(random) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.next(255), FIRST);
        assert_eq!(backoff.next(0), FIRST);
        for _ in 0..20 {
            backoff.next(7);
        }
        assert_eq!(backoff.next(255), LONGEST);
        assert_eq!(backoff.next(0), LONGEST / 2);
        backoff.reset();
        assert_eq!(backoff.next(255), FIRST);
    }
}
