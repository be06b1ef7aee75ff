//! How the time before the invocation's deadline is divided.

use std::time::Duration;

use sockerless_shared::timestamp::Timestamp;

/// How long before the deadline the container is asked to stop.
const MARGIN: Duration = Duration::from_secs(30);

/// Three moments before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeLimit {
    /// The container gets its stop signal.
    pub(crate) stop: Timestamp,
    /// It is killed.
    pub(crate) kill: Timestamp,
    /// Whatever is not done by now is left; the invocation is answered.
    pub(crate) give_up: Timestamp,
}

impl TimeLimit {
    /// Thirty seconds before the deadline the container is asked to stop, and is
    /// killed after its own grace but not later than ten seconds before the
    /// deadline, so that time is left to store its log. Where the whole
    /// invocation is shorter than a minute, half of it is divided likewise.
    pub(crate) fn plan(now: Timestamp, deadline: Timestamp, stop_timeout_s: u32) -> Self {
        let whole = deadline.since(now);
        let margin = MARGIN.min(whole / 2);
        let stop = now.plus(whole - margin);
        let grace = Duration::from_secs(stop_timeout_s.into()).min(margin * 2 / 3);
        Self {
            stop,
            kill: stop.plus(grace),
            give_up: now.plus(whole - margin / 15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(deadline_s: i64, stop_timeout_s: u32, expected_ms: [i64; 3]) {
        let limit = TimeLimit::plan(
            Timestamp::from_secs(100),
            Timestamp::from_secs(100 + deadline_s),
            stop_timeout_s,
        );
        let at = |t: Timestamp| t.millis() - 100_000;
        assert_eq!(
            [at(limit.stop), at(limit.kill), at(limit.give_up)],
            expected_ms
        );
    }

    #[test]
    fn the_margin_is_thirty_seconds_or_half_of_what_there_is() {
        check(900, 10, [870_000, 880_000, 898_000]);
        check(900, 300, [870_000, 890_000, 898_000]);
        check(900, 0, [870_000, 870_000, 898_000]);
        check(6, 10, [3_000, 5_000, 5_800]);
        check(0, 10, [0, 0, 0]);
        check(-5, 10, [0, 0, 0]);
    }
}
