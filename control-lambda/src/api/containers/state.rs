//! A container's state as Docker shows it.

use serde_json::{Value, json};
use sockerless_shared::lifecycle::{Lifecycle, Phase};
use sockerless_shared::timestamp::Timestamp;

use crate::api::human;

/// Docker's `State.Status`. A container that is starting shows what it was before.
#[must_use]
pub const fn status(lifecycle: &Lifecycle) -> &'static str {
    match lifecycle.phase {
        Phase::Created | Phase::Starting => "created",
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Exited => "exited",
        Phase::Removing => "removing",
        Phase::Dead => "dead",
    }
}

/// Docker's `State` object.
#[must_use]
pub fn state(lifecycle: &Lifecycle) -> Value {
    let running = matches!(lifecycle.phase, Phase::Running | Phase::Paused);
    let exit = lifecycle.exit.as_ref();
    let started_at = lifecycle.run.as_ref().and_then(|run| run.started_at);
    let pid = if running {
        lifecycle.run.as_ref().map_or(0, |run| run.pid)
    } else {
        0
    };
    let time = |at: Option<Timestamp>| {
        at.map_or_else(|| Timestamp::DOCKER_ZERO.to_owned(), Timestamp::rfc3339)
    };
    // A start that failed has an exit code but never ended, as nothing ran.
    let finished_at = exit
        .filter(|_| lifecycle.phase != Phase::Created)
        .map(|exit| exit.at);
    json!({
        "Status": status(lifecycle),
        "Running": running,
        "Paused": lifecycle.phase == Phase::Paused,
        "Restarting": false,
        "OOMKilled": exit.is_some_and(|exit| exit.oom_killed),
        "Dead": lifecycle.phase == Phase::Dead,
        "Pid": pid,
        "ExitCode": exit.map_or(0, |exit| exit.code),
        "Error": exit.map_or("", |exit| exit.error.as_str()),
        "StartedAt": time(started_at),
        "FinishedAt": time(finished_at),
    })
}

/// The words of `docker ps`: `Up 3 seconds`, `Exited (0) 2 minutes ago`.
#[must_use]
pub fn words(lifecycle: &Lifecycle, now: Timestamp) -> String {
    let up = || {
        let since = lifecycle
            .run
            .as_ref()
            .and_then(|run| run.started_at)
            .unwrap_or(now);
        format!("Up {}", human::duration(now.since(since)))
    };
    match lifecycle.phase {
        Phase::Created | Phase::Starting => "Created".to_owned(),
        Phase::Running => up(),
        Phase::Paused => format!("{} (Paused)", up()),
        Phase::Exited => lifecycle.exit.as_ref().map_or_else(
            || "Exited".to_owned(),
            |exit| {
                format!(
                    "Exited ({}) {} ago",
                    exit.code,
                    human::duration(now.since(exit.at))
                )
            },
        ),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
    }
}
