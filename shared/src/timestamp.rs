//! Points in time as nanoseconds since the Unix epoch, and their text forms.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, nanoseconds since 1970-01-01T00:00:00Z. Whoever needs "now"
/// is handed one; nothing in this crate reads a clock.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Docker's zero time, which it prints for what has not happened yet.
    pub const DOCKER_ZERO: &'static str = "0001-01-01T00:00:00Z";

    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since the epoch; saturates.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From whole seconds since the epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// This much later; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with as many fractional digits as needed, as Go's
    /// `RFC3339Nano` prints it.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.to_utc()
            .format(&Rfc3339)
            .unwrap_or_else(|_| Self::DOCKER_ZERO.to_owned())
    }

    /// RFC 3339 in UTC to the second, as Go's `RFC3339` prints it.
    #[must_use]
    pub fn rfc3339_seconds(self) -> String {
        Self::from_secs(self.secs()).rfc3339()
    }

    /// RFC 3339 in UTC with exactly nine fractional digits, as `docker logs -t` prints it.
    #[must_use]
    pub fn rfc3339_fixed(self) -> String {
        let t = self.to_utc();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.nanosecond()
        )
    }

    /// Reads RFC 3339.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(parsed.unix_timestamp_nanos()).ok().map(Self)
    }

    fn to_utc(self) -> OffsetDateTime {
        // Every i64 of nanoseconds lies between the years 1677 and 2262.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_are_gos() {
        let t = Timestamp::from_nanos(1_700_000_000_120_000_000);
        assert_eq!(t.rfc3339(), "2023-11-14T22:13:20.12Z");
        assert_eq!(t.rfc3339_fixed(), "2023-11-14T22:13:20.120000000Z");
        assert_eq!(Timestamp::parse_rfc3339("2023-11-14T22:13:20.12Z"), Some(t));
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }
}
