//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(5);

/// Pauses that double up to [`MOST`], each shortened by up to a half at random,
/// so that agents which lost the same gateway do not return in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The first pause is at most [`FIRST`].
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next pause; `random` is any number.
    pub(crate) fn pause(&mut self, random: u8) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(MOST);
        whole / 2 + (whole / 2) * u32::from(random) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_vary() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.pause(0), FIRST / 2);
        assert_eq!(backoff.pause(255), FIRST * 2);
        for _ in 0..20 {
            backoff.pause(0);
        }
        assert_eq!(backoff.pause(255), MOST);
        assert_eq!(backoff.pause(0), MOST / 2);
    }
}
