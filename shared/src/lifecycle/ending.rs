//! What the end of a run brings, and a start that failed.

use std::time::Duration;

use super::input::{Effect, Event, Refusal, StartResult};
use super::restart::Restarts;
use super::state::{Cause, Desired, Evidence, Exit, Lifecycle, Phase, Run};
use super::step::{SIGKILL, Stepped, begin, present_run, probe_events, start_events};
use crate::health::Health;
use crate::ids::RunId;
use crate::protocol::control::StartFailure;
use crate::timestamp::Timestamp;

pub(super) fn start_failed(
    state: &Lifecycle,
    run: &RunId,
    at: Timestamp,
    failure: StartFailure,
) -> Stepped {
    match state.phase {
        Phase::Starting => {
            present_run(state, run)?;
            // Of a container that never ran nothing is known.
            let health = state
                .health
                .as_ref()
                .filter(|health| !health.results.is_empty())
                .map(Health::unwatched);
            let exit = Exit {
                at,
                code: failure.code,
                oom_killed: false,
                error: failure.message.clone(),
                evidence: Evidence::Agent,
                told: false,
            };
            // Docker leaves a container that never started in `created`.
            let phase = if state.auto_remove || state.desired == Desired::Removed {
                Phase::Removing
            } else if state.is_restarting() {
                Phase::Exited
            } else {
                Phase::Created
            };
            let mut effects = vec![
                Effect::AnswerStart(StartResult::Failed(failure)),
                Effect::AnswerExit,
                Effect::Revoke { run: run.clone() },
            ];
            if phase == Phase::Removing {
                effects.push(Effect::Erase);
            }
            let next = Lifecycle {
                phase,
                desired: Desired::Stopped,
                exit: Some(exit),
                health,
                ..state.clone()
            };
            Ok((next, effects))
        }
        Phase::Running | Phase::Paused | Phase::Restarting | Phase::Exited => {
            present_run(state, run)?;
            Err(Refusal::NothingNew)
        }
        Phase::Created | Phase::Removing | Phase::Dead => Err(Refusal::OtherRun),
    }
}

pub(super) fn ended(
    state: &Lifecycle,
    run: &RunId,
    exit: Exit,
    grace_over: bool,
    health: Option<Health>,
    now: Timestamp,
) -> Stepped {
    match state.phase {
        Phase::Starting | Phase::Running | Phase::Paused => {
            let present = present_run(state, run)?;
            Ok(end_run(state, present, exit, grace_over, health, now))
        }
        Phase::Restarting | Phase::Exited => {
            present_run(state, run)?;
            match &state.exit {
                Some(known) if known.yields_to(exit.evidence) => Ok((
                    Lifecycle {
                        exit: Some(exit),
                        ..state.clone()
                    },
                    Vec::new(),
                )),
                Some(_) | None => Err(Refusal::NothingNew),
            }
        }
        Phase::Created | Phase::Removing | Phase::Dead => Err(Refusal::OtherRun),
    }
}

/// A run that was going on is over: what is next depends on what is wanted.
pub(super) fn end_run(
    state: &Lifecycle,
    run: &Run,
    exit: Exit,
    grace_over: bool,
    health: Option<Health>,
    now: Timestamp,
) -> (Lifecycle, Vec<Effect>) {
    let mut effects = Vec::new();
    if state.phase == Phase::Starting {
        // Nobody who waits for the start may wait for ever. An agent that ended
        // properly did start its process; from anyone else the end is a failure.
        match exit.evidence {
            Evidence::Agent => {
                effects.push(Effect::AnswerStart(StartResult::Running));
                effects.extend(start_events(run));
            }
            Evidence::Platform | Evidence::Sweep => {
                effects.push(Effect::AnswerStart(StartResult::Failed(StartFailure {
                    code: exit.code,
                    message: exit.error.clone(),
                })));
            }
        }
    }
    if let (Some(last), Some(known)) = (&health, &state.health) {
        effects.extend(probe_events(known, last));
    }
    let lasted = exit.at.since(run.started_at.unwrap_or(run.requested_at));
    effects.extend(end_events(state, &exit, grace_over, lasted));
    effects.push(Effect::AnswerExit);
    effects.push(Effect::Revoke {
        run: run.id.clone(),
    });
    let mut restarts = state.restarts.clone();
    let (phase, desired) = match state.desired {
        Desired::Removed => (Phase::Removing, Desired::Removed),
        Desired::Restarted => {
            effects.push(Effect::StartAgain);
            (Phase::Exited, Desired::Restarted)
        }
        Desired::Stopped | Desired::Running if state.auto_remove => {
            (Phase::Removing, Desired::Removed)
        }
        Desired::Stopped => (Phase::Exited, Desired::Stopped),
        Desired::Running => match restarts.after(&exit, lasted, now) {
            Some(after) => {
                effects.push(Effect::RestartLater {
                    ended: run.id.clone(),
                    delay: after.delay,
                });
                restarts = after;
                (Phase::Restarting, Desired::Running)
            }
            None => (Phase::Exited, Desired::Stopped),
        },
    };
    if phase == Phase::Removing {
        effects.push(Effect::Erase);
    }
    let health = match (health, &state.health) {
        (Some(last), Some(known)) => Some(last.following(known)),
        (None, known) => known.clone(),
        (Some(_), None) => None,
    };
    (
        Lifecycle {
            phase,
            desired,
            exit: Some(exit),
            restarts,
            health: health.as_ref().map(Health::unwatched),
            ..state.clone()
        },
        effects,
    )
}

/// What Docker's events say of a run that has ended, in Docker's order.
fn end_events(state: &Lifecycle, exit: &Exit, grace_over: bool, lasted: Duration) -> Vec<Effect> {
    let mut events = Vec::new();
    if grace_over {
        events.push(Event::Kill { signal: SIGKILL });
    }
    if exit.oom_killed {
        events.push(Event::Oom);
    }
    match state.desired {
        Desired::Stopped | Desired::Restarted => events.push(Event::Stop),
        Desired::Running | Desired::Removed => {}
    }
    events.push(Event::Die {
        code: exit.code,
        duration_s: lasted.as_secs(),
    });
    events.into_iter().map(Effect::Emit).collect()
}

/// The time of a restart has come.
pub(super) fn restart_due(
    state: &Lifecycle,
    ended: &RunId,
    run: RunId,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> Stepped {
    match state.phase {
        Phase::Restarting => {
            present_run(state, ended)?;
            let (next, effects) = begin(state, run, deadline, Cause::Policy, now);
            let restarts = Restarts {
                due: None,
                ..next.restarts.clone()
            };
            Ok((Lifecycle { restarts, ..next }, effects))
        }
        Phase::Created
        | Phase::Starting
        | Phase::Running
        | Phase::Paused
        | Phase::Exited
        | Phase::Removing
        | Phase::Dead => Err(Refusal::OtherRun),
    }
}
