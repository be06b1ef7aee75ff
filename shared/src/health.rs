//! Healthchecks: what is probed, how, and what the probes said.
//!
//! Rules and limits are those of Docker Engine 28 (moby's `daemon/health.go`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::ProcessSpec;
use crate::timestamp::Timestamp;

/// So many results of probes are kept.
pub const MAX_RESULTS: usize = 5;

/// So many bytes of a probe's output are kept.
pub const MAX_OUTPUT_BYTES: usize = 4096;

/// How a container is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// What is run within the container; 0 as its exit code means healthy.
    pub probe: ProcessSpec,
    /// Time between two probes, in nanoseconds.
    pub interval_ns: u64,
    /// How long a probe may take, in nanoseconds.
    pub timeout_ns: u64,
    /// How long after the start failures do not count, in nanoseconds.
    pub start_period_ns: u64,
    /// Time between two probes within that, while none has succeeded, in nanoseconds.
    pub start_interval_ns: u64,
    /// So many failures in a row make a container unhealthy.
    pub retries: u32,
}

impl Healthcheck {
    /// How long to wait for the next probe, at `now` of a container that runs since `started`.
    #[must_use]
    pub fn pause(&self, status: HealthStatus, started: Timestamp, now: Timestamp) -> Duration {
        let starting = now.since(started) < Duration::from_nanos(self.start_period_ns)
            && status == HealthStatus::Starting;
        Duration::from_nanos(if starting {
            self.start_interval_ns
        } else {
            self.interval_ns
        })
    }

    /// How long a probe may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout_ns)
    }
}

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last [`MAX_RESULTS`] results, oldest first.
    pub results: Vec<ProbeResult>,
}

/// The verdict on a container's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// No probe has succeeded yet, nor have enough failed.
    Starting,
    /// The last probes succeeded.
    Healthy,
    /// Too many failed, or nobody probes any more.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What one probe said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code; −1 where there was none.
    pub exit_code: i32,
    /// The beginning of its output, or why there was no exit code.
    pub output: String,
    /// Whether there was a process at all.
    #[serde(default = "usual")]
    pub started: bool,
}

/// A probe is a process, unless it is said that it was none.
const fn usual() -> bool {
    true
}

/// What Docker's events say that a probe ended with which took too long (Engine 28).
const TOOK_TOO_LONG: i32 = 127;

impl ProbeResult {
    /// The exit code that Docker's events tell of: of a probe that could not be started, none.
    #[must_use]
    pub fn told_code(&self) -> Option<i32> {
        self.started.then_some(if self.took_too_long() {
            TOOK_TOO_LONG
        } else {
            self.exit_code
        })
    }

    /// Whether its time was over before it ended.
    #[must_use]
    pub const fn took_too_long(&self) -> bool {
        self.started && self.exit_code < 0
    }
}

impl Health {
    /// Of a container that has just been started; what earlier probes said stays to be seen.
    #[must_use]
    pub fn starting(before: Option<&Self>) -> Self {
        Self {
            status: HealthStatus::Starting,
            failing_streak: 0,
            results: before.map_or_else(Vec::new, |before| before.results.clone()),
        }
    }

    /// The same when nobody probes any more: it counts as unhealthy, as in Docker.
    #[must_use]
    pub fn unwatched(&self) -> Self {
        Self {
            status: HealthStatus::Unhealthy,
            ..self.clone()
        }
    }

    /// With one more result, of a container that runs since `started`.
    #[must_use]
    pub fn with(&self, check: &Healthcheck, started: Timestamp, result: ProbeResult) -> Self {
        let mut next = self.clone();
        let start_period = Duration::from_nanos(check.start_period_ns);
        if result.exit_code == 0 {
            next.failing_streak = 0;
            next.status = HealthStatus::Healthy;
        } else if next.status != HealthStatus::Starting
            || result.start.since(started) >= start_period
        {
            next.failing_streak = next.failing_streak.saturating_add(1);
            if next.failing_streak >= check.retries {
                next.status = HealthStatus::Unhealthy;
            }
        }
        next.results.push(result);
        let surplus = next.results.len().saturating_sub(MAX_RESULTS);
        next.results.drain(..surplus);
        next
    }

    /// With what earlier runs' probes said before its own.
    #[must_use]
    pub fn following(mut self, before: &Self) -> Self {
        let first = self.results.first().map(|result| result.start);
        let earlier = before
            .results
            .iter()
            .filter(|result| first.is_none_or(|first| result.end <= first));
        let mut results: Vec<_> = earlier.cloned().collect();
        results.append(&mut self.results);
        let surplus = results.len().saturating_sub(MAX_RESULTS);
        results.drain(..surplus);
        self.results = results;
        self
    }

    /// Those of its results that are not among what was known `before`, oldest first.
    pub fn news<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a ProbeResult> {
        let last = before.results.last().map(|result| result.end);
        self.results
            .iter()
            .filter(move |result| Some(result.end) > last)
    }

    /// Whether this was known before `other` was.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        let last = |health: &Self| health.results.last().map(|result| result.end);
        last(self) < last(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start_period_ns: u64, retries: u32) -> Healthcheck {
        Healthcheck {
            probe: ProcessSpec {
                args: vec!["true".into()],
                env: Vec::new(),
                working_dir: "/".into(),
                user: String::new(),
                tty: false,
                open_stdin: false,
                console_size: None,
            },
            interval_ns: 30,
            timeout_ns: 30,
            start_period_ns,
            start_interval_ns: 5,
            retries,
        }
    }

    fn result(at: i64, exit_code: i32) -> ProbeResult {
        ProbeResult {
            start: Timestamp::from_nanos(at),
            end: Timestamp::from_nanos(at + 1),
            exit_code,
            output: String::new(),
            started: true,
        }
    }

    fn after(check: &Healthcheck, codes: &[(i64, i32)]) -> (HealthStatus, u32) {
        let started = Timestamp::from_nanos(0);
        let mut health = Health::starting(None);
        for (at, code) in codes {
            health = health.with(check, started, result(*at, *code));
        }
        (health.status, health.failing_streak)
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let check = check(0, 2);
        assert_eq!(after(&check, &[(1, 1)]), (HealthStatus::Starting, 1));
        assert_eq!(
            after(&check, &[(1, 1), (2, -1)]),
            (HealthStatus::Unhealthy, 2)
        );
        assert_eq!(
            after(&check, &[(1, 1), (2, 1), (3, 0)]),
            (HealthStatus::Healthy, 0)
        );
        assert_eq!(after(&check, &[(1, 0), (2, 1)]), (HealthStatus::Healthy, 1));
    }

    #[test]
    fn failures_while_it_starts_do_not_count_but_do_after_a_success() {
        let check = check(100, 1);
        assert_eq!(after(&check, &[(50, 1)]), (HealthStatus::Starting, 0));
        assert_eq!(after(&check, &[(100, 1)]), (HealthStatus::Unhealthy, 1));
        assert_eq!(
            after(&check, &[(10, 0), (50, 1)]),
            (HealthStatus::Unhealthy, 1)
        );
    }

    #[test]
    fn the_last_results_are_kept() {
        let check = check(0, 3);
        let mut health = Health::starting(None);
        for at in 1..10 {
            health = health.with(&check, Timestamp::from_nanos(0), result(at, 0));
        }
        let starts: Vec<_> = health.results.iter().map(|r| r.start.nanos()).collect();
        assert_eq!(starts, [5, 6, 7, 8, 9]);
        assert!(Health::starting(None).is_older_than(&health));
        assert_eq!(Health::starting(Some(&health)).results, health.results);
    }

    #[test]
    fn what_is_new_is_told_apart_from_what_was_known() {
        let known = |ats: &[i64]| Health {
            results: ats.iter().map(|at| result(*at, 0)).collect(),
            ..Health::starting(None)
        };
        let news = |after: &[i64], before: &[i64]| -> Vec<i64> {
            let (after, before) = (known(after), known(before));
            after.news(&before).map(|r| r.start.nanos()).collect()
        };
        assert_eq!(news(&[10, 20], &[]), [10, 20]);
        assert_eq!(news(&[10, 20], &[10]), [20]);
        assert_eq!(news(&[30], &[10, 20]), [30]);
        // Told again.
        assert_eq!(news(&[20], &[10, 20]), [0; 0]);
    }

    #[test]
    fn events_tell_another_code_of_a_probe_that_took_too_long() {
        assert_eq!(result(1, 3).told_code(), Some(3));
        assert_eq!(result(1, -1).told_code(), Some(127));
        let nothing = ProbeResult {
            started: false,
            ..result(1, -1)
        };
        assert_eq!(
            (nothing.told_code(), nothing.took_too_long()),
            (None, false)
        );
    }

    #[test]
    fn probes_come_sooner_while_it_starts() {
        let check = check(100, 3);
        let pause = |status, at| {
            let at = Timestamp::from_nanos(at);
            check.pause(status, Timestamp::from_nanos(0), at).as_nanos()
        };
        assert_eq!(pause(HealthStatus::Starting, 99), 5);
        assert_eq!(pause(HealthStatus::Healthy, 99), 30);
        assert_eq!(pause(HealthStatus::Starting, 100), 30);
    }
}
