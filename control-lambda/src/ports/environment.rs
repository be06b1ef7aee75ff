//! The clock and the source of randomness, so that tests can bring their own.

use sockerless_shared::timestamp::Timestamp;

/// What a program is otherwise given by its surroundings.
pub trait Environment: Send + Sync {
    /// The present time.
    fn now(&self) -> Timestamp;
    /// Fills the buffer with random bytes fit for secrets.
    fn fill_random(&self, bytes: &mut [u8]);
}

impl dyn Environment {
    /// `N` random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_random(&mut bytes);
        bytes
    }
}
