//! The machine's own clock and random numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use sockerless_shared::timestamp::Timestamp;

use crate::ports::Environment;

/// The system's clock and the kernel's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        // A clock before 1970 or after 2262 is a machine without a clock; its
        // nearest representable time is as good as any other.
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
    }

    // A program that cannot draw secrets must not go on with guessable ones,
    // and the port has no way to say so. Linux's getrandom(2) fails only where
    // the call itself is forbidden.
    #[allow(clippy::panic)]
    fn fill_random(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            panic!(
                "the kernel gives no random numbers: {error}; allow getrandom(2) and start again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_and_random_bytes_differ() {
        let environment: &dyn Environment = &SystemEnvironment;
        assert!(environment.now() > Timestamp::from_secs(1_700_000_000));
        assert_ne!(environment.random::<32>(), environment.random::<32>());
    }
}
