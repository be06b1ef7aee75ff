//! A container's state as Docker shows it.

use serde_json::{Value, json};
use sockerless_shared::health::{Health, HealthStatus};
use sockerless_shared::lifecycle::{Exit, Lifecycle, Phase};
use sockerless_shared::timestamp::Timestamp;

use crate::api::human;

/// Docker's `State.Status`. A container that is starting shows what it was before.
#[must_use]
pub fn status(lifecycle: &Lifecycle) -> &'static str {
    if lifecycle.is_restarting() {
        return "restarting";
    }
    match lifecycle.phase {
        Phase::Created | Phase::Starting => "created",
        Phase::Restarting => "restarting",
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
    let restarting = lifecycle.is_restarting();
    let has_process = matches!(lifecycle.phase, Phase::Running | Phase::Paused);
    // While it restarts, the last run's end is shown.
    let exit = if restarting {
        last_exit(lifecycle)
    } else {
        lifecycle.exit.as_ref()
    };
    let started_at = lifecycle.run.as_ref().and_then(|run| run.started_at);
    let pid = if has_process {
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
        .or(lifecycle.previous.as_ref())
        .map(|exit| exit.at);
    let mut state = json!({
        "Status": status(lifecycle),
        "Running": has_process || restarting,
        "Paused": lifecycle.phase == Phase::Paused,
        "Restarting": restarting,
        "OOMKilled": exit.is_some_and(|exit| exit.oom_killed),
        "Dead": lifecycle.phase == Phase::Dead,
        "Pid": pid,
        "ExitCode": exit.map_or(0, |exit| exit.code),
        "Error": exit.map_or("", |exit| exit.error.as_str()),
        "StartedAt": time(started_at),
        "FinishedAt": time(finished_at),
    });
    if let Some(health) = &lifecycle.health {
        state["Health"] = shown_health(health);
    }
    state
}

/// How the last run ended, also while the next one is being started.
fn last_exit(lifecycle: &Lifecycle) -> Option<&Exit> {
    lifecycle.exit.as_ref().or(lifecycle.previous.as_ref())
}

/// Docker's `State.Health`.
fn shown_health(health: &Health) -> Value {
    let log: Vec<Value> = health
        .results
        .iter()
        .map(|result| {
            json!({
                "Start": result.start.rfc3339(),
                "End": result.end.rfc3339(),
                "ExitCode": result.exit_code,
                "Output": result.output,
            })
        })
        .collect();
    json!({
        "Status": health.status.name(),
        "FailingStreak": health.failing_streak,
        "Log": log,
    })
}

/// What the filter `health` compares with.
#[must_use]
pub fn health(lifecycle: &Lifecycle) -> &'static str {
    lifecycle
        .health
        .as_ref()
        .map_or("none", |health| health.status.name())
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
    let ended = |what: &str| {
        last_exit(lifecycle).map_or_else(
            || what.to_owned(),
            |exit| {
                format!(
                    "{what} ({}) {} ago",
                    exit.code,
                    human::duration(now.since(exit.at))
                )
            },
        )
    };
    if lifecycle.is_restarting() {
        return ended("Restarting");
    }
    match lifecycle.phase {
        Phase::Created | Phase::Starting => "Created".to_owned(),
        Phase::Running => match &lifecycle.health {
            None => up(),
            Some(health) => match health.status {
                HealthStatus::Starting => format!("{} (health: starting)", up()),
                HealthStatus::Healthy | HealthStatus::Unhealthy => {
                    format!("{} ({})", up(), health.status.name())
                }
            },
        },
        Phase::Paused => format!("{} (Paused)", up()),
        Phase::Restarting => ended("Restarting"),
        Phase::Exited => ended("Exited"),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
    }
}
