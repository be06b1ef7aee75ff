//! The transition function: what clients ask for. What a run's end brings is in
//! [`super::ending`].

use std::time::Duration;

use super::ending::{end_run, ended, restart_due, start_failed};
use super::input::{Effect, Event, Input, Refusal, StartResult};
use super::restart::Restarts;
use super::state::{Cause, Desired, Evidence, Exit, Lifecycle, Phase, Run};
use crate::health::Health;
use crate::ids::{Nonce, RunId};
use crate::protocol::control::Command;
use crate::timestamp::Timestamp;

/// How long after a run's deadline the sweep waits for a better word.
pub const DEADLINE_GRACE: Duration = Duration::from_secs(90);

/// How long after its time the sweep waits for a restart to be carried out.
pub const RESTART_GRACE: Duration = Duration::from_secs(30);

pub(super) const SIGKILL: i32 = 9;

pub(super) type Stepped = Result<(Lifecycle, Vec<Effect>), Refusal>;

/// What becomes of a container.
///
/// # Errors
/// A [`Refusal`] when the input does not change anything; the state is as before then.
pub fn step(state: &Lifecycle, input: Input, now: Timestamp) -> Stepped {
    match input {
        Input::Start { run, deadline } => start(state, run, deadline, now),
        Input::Postpone { run, deadline } => postpone(state, &run, deadline),
        Input::Claim { run, nonce } => claim(state, &run, nonce),
        Input::Started { run, at, pid } => started(state, &run, at, pid),
        Input::StartFailed { run, at, failure } => start_failed(state, &run, at, failure),
        Input::Ended {
            run,
            at,
            code,
            oom_killed,
            error,
            evidence,
            grace_over,
            health,
        } => {
            let exit = Exit {
                at,
                code,
                oom_killed,
                error,
                evidence,
                told: false,
            };
            ended(state, &run, exit, grace_over, health, now)
        }
        Input::Health { run, health } => probed(state, &run, health),
        Input::RestartDue {
            ended,
            run,
            deadline,
        } => restart_due(state, &ended, run, deadline, now),
        Input::Told => told(state),
        Input::Stop {
            signal,
            timeout_s,
            by_hand,
        } => stop(state, signal, timeout_s, by_hand),
        Input::Kill { signal, last } => kill(state, signal, last),
        Input::Restart { signal, timeout_s } => restart(state, signal, timeout_s),
        Input::Pause => pause(state),
        Input::Unpause => unpause(state),
        Input::Paused { run } => paused(state, &run),
        Input::Unpaused { run } => unpaused(state, &run),
        Input::Remove { force } => remove(state, force),
        Input::RemoveFailed => remove_failed(state),
        Input::Sweep => sweep(state, now),
    }
}

fn start(state: &Lifecycle, run: RunId, deadline: Option<Timestamp>, now: Timestamp) -> Stepped {
    match state.phase {
        Phase::Created | Phase::Exited => {
            let cause = match state.desired {
                Desired::Restarted => Cause::Restart,
                Desired::Stopped | Desired::Running | Desired::Removed => Cause::Start,
            };
            let begun = begin(state, run, deadline, cause, now);
            let (next, effects) = begun;
            let restarts = state.restarts.begun_anew();
            Ok((Lifecycle { restarts, ..next }, effects))
        }
        Phase::Paused => Err(Refusal::IsPaused),
        Phase::Starting | Phase::Running | Phase::Restarting => Err(Refusal::AlreadyStarted),
        Phase::Removing | Phase::Dead => Err(Refusal::MarkedForRemoval),
    }
}

/// A fresh run of a container that has none.
pub(super) fn begin(
    state: &Lifecycle,
    run: RunId,
    deadline: Option<Timestamp>,
    cause: Cause,
    now: Timestamp,
) -> (Lifecycle, Vec<Effect>) {
    let previous = match state.phase {
        // A start that failed is no run that ended.
        Phase::Created => state.previous.clone(),
        Phase::Starting
        | Phase::Running
        | Phase::Paused
        | Phase::Restarting
        | Phase::Exited
        | Phase::Removing
        | Phase::Dead => state.exit.clone().or_else(|| state.previous.clone()),
    };
    let next = Lifecycle {
        phase: Phase::Starting,
        desired: Desired::Running,
        run: Some(Run {
            id: run.clone(),
            nonce: None,
            requested_at: now,
            started_at: None,
            deadline,
            pid: 0,
            cause,
        }),
        exit: None,
        previous,
        health: state
            .probed
            .then(|| Health::starting(state.health.as_ref())),
        ..state.clone()
    };
    (next, vec![Effect::Invoke { run }])
}

fn postpone(state: &Lifecycle, run: &RunId, deadline: Timestamp) -> Stepped {
    match state.phase {
        Phase::Starting => {
            let run = Run {
                deadline: Some(deadline),
                ..present_run(state, run)?.clone()
            };
            let next = Lifecycle {
                run: Some(run),
                ..state.clone()
            };
            Ok((next, Vec::new()))
        }
        // It was invoked, after all.
        Phase::Running | Phase::Paused => {
            present_run(state, run)?;
            Err(Refusal::NothingNew)
        }
        Phase::Created | Phase::Restarting | Phase::Exited | Phase::Removing | Phase::Dead => {
            Err(Refusal::OtherRun)
        }
    }
}

fn claim(state: &Lifecycle, run: &RunId, nonce: Nonce) -> Stepped {
    match state.phase {
        Phase::Starting | Phase::Running | Phase::Paused => {
            let present = present_run(state, run)?;
            match &present.nonce {
                // The same agent again, after a lost connection.
                Some(claimed) if *claimed == nonce => Ok((state.clone(), Vec::new())),
                Some(_) => Err(Refusal::ClaimedByOther),
                None => {
                    let run = Run {
                        nonce: Some(nonce),
                        ..present.clone()
                    };
                    Ok((
                        Lifecycle {
                            run: Some(run),
                            ..state.clone()
                        },
                        Vec::new(),
                    ))
                }
            }
        }
        // The agent whose exit was recorded may come back for the acknowledgement that it missed.
        Phase::Restarting | Phase::Exited | Phase::Removing => match present_run(state, run)? {
            Run {
                nonce: Some(claimed),
                ..
            } if *claimed == nonce => Ok((state.clone(), Vec::new())),
            Run { nonce: Some(_), .. } => Err(Refusal::ClaimedByOther),
            Run { nonce: None, .. } => Err(Refusal::OtherRun),
        },
        Phase::Created | Phase::Dead => Err(Refusal::OtherRun),
    }
}

fn started(state: &Lifecycle, run: &RunId, at: Timestamp, pid: u32) -> Stepped {
    match state.phase {
        Phase::Starting => {
            let present = present_run(state, run)?;
            let run = Run {
                started_at: Some(at),
                pid,
                ..present.clone()
            };
            let mut effects = vec![Effect::AnswerStart(StartResult::Running)];
            effects.extend(start_events(&run));
            let next = Lifecycle {
                phase: Phase::Running,
                run: Some(run),
                ..state.clone()
            };
            Ok((next, effects))
        }
        Phase::Running | Phase::Paused => {
            present_run(state, run)?;
            Err(Refusal::NothingNew)
        }
        Phase::Restarting | Phase::Exited => {
            // Overtaken by its own exit: the start still happened, and whoever waits for it hears so.
            let present = present_run(state, run)?;
            if present.started_at.is_some() {
                return Err(Refusal::NothingNew);
            }
            let run = Run {
                started_at: Some(at),
                pid,
                ..present.clone()
            };
            let next = Lifecycle {
                run: Some(run),
                ..state.clone()
            };
            Ok((next, vec![Effect::AnswerStart(StartResult::Running)]))
        }
        Phase::Created | Phase::Removing | Phase::Dead => Err(Refusal::OtherRun),
    }
}

/// What Docker's events say of a run that has begun.
pub(super) fn start_events(run: &Run) -> Vec<Effect> {
    let mut events = vec![Effect::Emit(Event::Start)];
    match run.cause {
        Cause::Restart => events.push(Effect::Emit(Event::Restart)),
        Cause::Start | Cause::Policy => {}
    }
    events
}

fn probed(state: &Lifecycle, run: &RunId, health: Health) -> Stepped {
    match state.phase {
        Phase::Starting | Phase::Running | Phase::Paused => {
            present_run(state, run)?;
            let known = state.health.as_ref().ok_or(Refusal::NothingNew)?;
            // Reports overtake each other.
            if health.is_older_than(known) {
                return Err(Refusal::NothingNew);
            }
            let effects = probe_events(known, &health);
            let next = Lifecycle {
                health: Some(health.following(known)),
                ..state.clone()
            };
            Ok((next, effects))
        }
        Phase::Created | Phase::Restarting | Phase::Exited | Phase::Removing | Phase::Dead => {
            Err(Refusal::OtherRun)
        }
    }
}

/// What Docker's events say of probes, in Docker's order: the verdict comes when a probe has
/// ended, or has taken too long and is about to be ended.
pub(super) fn probe_events(known: &Health, health: &Health) -> Vec<Effect> {
    let mut events = Vec::new();
    let last = health.news(known).last();
    let changed = last.is_some() && health.status != known.status;
    let mut verdict = changed.then_some(Event::Health(health.status));
    for result in health.news(known) {
        let begun = result.start;
        events.push(Event::ProbeBegun { at: begun });
        if result.took_too_long() && Some(result) == last {
            events.extend(verdict.take());
        }
        let died = |code| Event::ProbeDied {
            begun,
            at: result.end,
            code,
        };
        events.extend(result.told_code().map(died));
    }
    events.extend(verdict);
    events.into_iter().map(Effect::Emit).collect()
}

fn told(state: &Lifecycle) -> Stepped {
    match state.phase {
        Phase::Restarting | Phase::Exited | Phase::Created | Phase::Removing | Phase::Dead => {
            match &state.exit {
                Some(exit) if !exit.told => {
                    let exit = Exit {
                        told: true,
                        ..exit.clone()
                    };
                    Ok((
                        Lifecycle {
                            exit: Some(exit),
                            ..state.clone()
                        },
                        Vec::new(),
                    ))
                }
                Some(_) | None => Err(Refusal::NothingNew),
            }
        }
        Phase::Starting | Phase::Running | Phase::Paused => Err(Refusal::NothingNew),
    }
}

fn stop(state: &Lifecycle, signal: i32, timeout_s: Option<u32>, by_hand: bool) -> Stepped {
    let stopped = || Lifecycle {
        desired: keep_removal(state.desired, Desired::Stopped),
        restarts: Restarts {
            canceled: true,
            stopped_by_hand: by_hand || state.restarts.stopped_by_hand,
            ..state.restarts.clone()
        },
        ..state.clone()
    };
    match state.phase {
        Phase::Starting | Phase::Running => {
            let next = stopped();
            let effects = vec![
                tell(state, Command::Stop { signal, timeout_s })?,
                Effect::Emit(Event::Kill { signal }),
            ];
            Ok((next, effects))
        }
        Phase::Paused => {
            let next = stopped();
            let effects = vec![
                tell(state, Command::Stop { signal, timeout_s })?,
                tell(state, Command::Unpause)?,
                Effect::Emit(Event::Kill { signal }),
            ];
            Ok((next, effects))
        }
        Phase::Restarting => {
            let effects = vec![Effect::Emit(Event::Stop), Effect::AnswerExit];
            Ok((no_longer_restarting(&stopped()), effects))
        }
        Phase::Created | Phase::Exited | Phase::Dead => Err(Refusal::AlreadyStopped),
        Phase::Removing => Err(Refusal::IsBeingRemoved),
    }
}

fn kill(state: &Lifecycle, signal: i32, last: bool) -> Stepped {
    let next = Lifecycle {
        restarts: Restarts {
            canceled: last || state.restarts.canceled,
            stopped_by_hand: true,
            ..state.restarts.clone()
        },
        ..state.clone()
    };
    match state.phase {
        // Sent once the process runs: as with a Docker Engine, a kill waits for a start
        // that is under way.
        Phase::Starting | Phase::Running => {
            let effects = vec![
                tell(state, Command::Kill { signal })?,
                Effect::Emit(Event::Kill { signal }),
            ];
            Ok((next, effects))
        }
        Phase::Paused => {
            let effects = vec![
                tell(state, Command::Kill { signal })?,
                tell(state, Command::Unpause)?,
                Effect::Emit(Event::Kill { signal }),
            ];
            Ok((next, effects))
        }
        // There is no process that it could be sent to.
        Phase::Restarting if last => Ok((no_longer_restarting(&next), vec![Effect::AnswerExit])),
        Phase::Restarting => Ok((next, Vec::new())),
        Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => Err(Refusal::NotRunning),
    }
}

fn restart(state: &Lifecycle, signal: i32, timeout_s: Option<u32>) -> Stepped {
    match state.phase {
        Phase::Starting | Phase::Running | Phase::Paused => {
            let mut effects = vec![tell(state, Command::Stop { signal, timeout_s })?];
            if state.phase == Phase::Paused {
                effects.push(tell(state, Command::Unpause)?);
            }
            effects.push(Effect::Emit(Event::Kill { signal }));
            let desired = keep_removal(state.desired, Desired::Restarted);
            Ok((
                Lifecycle {
                    desired,
                    ..state.clone()
                },
                effects,
            ))
        }
        Phase::Created | Phase::Exited => {
            let next = Lifecycle {
                desired: Desired::Restarted,
                ..state.clone()
            };
            Ok((next, vec![Effect::StartAgain]))
        }
        Phase::Restarting => {
            let next = Lifecycle {
                desired: Desired::Restarted,
                ..no_longer_restarting(state)
            };
            Ok((next, vec![Effect::Emit(Event::Stop), Effect::StartAgain]))
        }
        Phase::Removing | Phase::Dead => Err(Refusal::MarkedForRemoval),
    }
}

fn pause(state: &Lifecycle) -> Stepped {
    match state.phase {
        Phase::Running => Ok((state.clone(), vec![tell(state, Command::Pause)?])),
        Phase::Paused => Err(Refusal::IsPaused),
        Phase::Restarting => Err(Refusal::IsRestarting),
        Phase::Created | Phase::Starting | Phase::Exited | Phase::Removing | Phase::Dead => {
            Err(Refusal::NotRunning)
        }
    }
}

fn unpause(state: &Lifecycle) -> Stepped {
    match state.phase {
        Phase::Paused => Ok((state.clone(), vec![tell(state, Command::Unpause)?])),
        Phase::Created
        | Phase::Starting
        | Phase::Running
        | Phase::Restarting
        | Phase::Exited
        | Phase::Removing
        | Phase::Dead => Err(Refusal::NotPaused),
    }
}

fn paused(state: &Lifecycle, run: &RunId) -> Stepped {
    match state.phase {
        Phase::Running => {
            present_run(state, run)?;
            let next = Lifecycle {
                phase: Phase::Paused,
                health: state.health.as_ref().map(Health::unwatched),
                ..state.clone()
            };
            let mut effects = vec![Effect::Emit(Event::Pause)];
            effects.extend(probing(state, false)?);
            Ok((next, effects))
        }
        Phase::Paused | Phase::Starting => Err(Refusal::NothingNew),
        Phase::Created | Phase::Restarting | Phase::Exited | Phase::Removing | Phase::Dead => {
            Err(Refusal::OtherRun)
        }
    }
}

fn unpaused(state: &Lifecycle, run: &RunId) -> Stepped {
    match state.phase {
        Phase::Paused => {
            present_run(state, run)?;
            let next = Lifecycle {
                phase: Phase::Running,
                ..state.clone()
            };
            let mut effects = vec![Effect::Emit(Event::Unpause)];
            effects.extend(probing(state, true)?);
            Ok((next, effects))
        }
        Phase::Running | Phase::Starting => Err(Refusal::NothingNew),
        Phase::Created | Phase::Restarting | Phase::Exited | Phase::Removing | Phase::Dead => {
            Err(Refusal::OtherRun)
        }
    }
}

fn remove(state: &Lifecycle, force: bool) -> Stepped {
    match state.phase {
        Phase::Created | Phase::Exited | Phase::Dead => {
            let next = Lifecycle {
                phase: Phase::Removing,
                desired: Desired::Removed,
                ..state.clone()
            };
            Ok((next, vec![Effect::Erase]))
        }
        Phase::Restarting if force => {
            let next = Lifecycle {
                phase: Phase::Removing,
                desired: Desired::Removed,
                ..state.clone()
            };
            Ok((next, vec![Effect::AnswerExit, Effect::Erase]))
        }
        Phase::Restarting => Err(Refusal::IsRunning),
        Phase::Starting | Phase::Running if !force => Err(Refusal::IsRunning),
        Phase::Paused if !force => Err(Refusal::IsPaused),
        Phase::Starting | Phase::Running | Phase::Paused => {
            let mut effects = vec![tell(state, Command::Kill { signal: SIGKILL })?];
            if state.phase == Phase::Paused {
                effects.push(tell(state, Command::Unpause)?);
            }
            effects.push(Effect::Emit(Event::Kill { signal: SIGKILL }));
            Ok((
                Lifecycle {
                    desired: Desired::Removed,
                    ..state.clone()
                },
                effects,
            ))
        }
        Phase::Removing => Err(Refusal::IsBeingRemoved),
    }
}

fn remove_failed(state: &Lifecycle) -> Stepped {
    match state.phase {
        Phase::Removing => Ok((
            Lifecycle {
                phase: Phase::Dead,
                ..state.clone()
            },
            Vec::new(),
        )),
        Phase::Created
        | Phase::Starting
        | Phase::Running
        | Phase::Paused
        | Phase::Restarting
        | Phase::Exited
        | Phase::Dead => Err(Refusal::NothingNew),
    }
}

fn sweep(state: &Lifecycle, now: Timestamp) -> Stepped {
    match state.phase {
        Phase::Starting | Phase::Running | Phase::Paused => {
            let run = state.run.as_ref().ok_or(Refusal::NothingNew)?;
            let overdue = run
                .deadline
                .is_some_and(|deadline| deadline.plus(DEADLINE_GRACE) < now);
            if !overdue {
                return Err(Refusal::NothingNew);
            }
            let exit = Exit {
                at: run.deadline.unwrap_or(now),
                code: LOST_CODE,
                oom_killed: false,
                error:
                    "the agent was not heard of again and the invocation's deadline has passed; \
                        see the function's log for its last words"
                        .to_owned(),
                evidence: Evidence::Sweep,
                told: false,
            };
            Ok(end_run(state, run, exit, false, None, now))
        }
        Phase::Restarting => {
            let overdue = state
                .restarts
                .due
                .is_none_or(|due| due.plus(RESTART_GRACE) < now);
            match &state.run {
                Some(run) if overdue => Ok((
                    state.clone(),
                    vec![Effect::RestartLater {
                        ended: run.id.clone(),
                        delay: Duration::ZERO,
                    }],
                )),
                Some(_) | None => Err(Refusal::NothingNew),
            }
        }
        // What a control plane that died between saving and acting has left undone.
        Phase::Removing => Ok((state.clone(), vec![Effect::Erase])),
        Phase::Exited if state.desired == Desired::Restarted => {
            Ok((state.clone(), vec![Effect::StartAgain]))
        }
        Phase::Created | Phase::Exited | Phase::Dead => Err(Refusal::NothingNew),
    }
}

/// The exit code that Docker gives a container which its daemon lost.
const LOST_CODE: i32 = 255;

pub(super) fn present_run<'a>(state: &'a Lifecycle, run: &RunId) -> Result<&'a Run, Refusal> {
    state
        .run
        .as_ref()
        .filter(|present| present.id == *run)
        .ok_or(Refusal::OtherRun)
}

fn tell(state: &Lifecycle, command: Command) -> Result<Effect, Refusal> {
    let run = state.run.as_ref().ok_or(Refusal::NotRunning)?;
    Ok(Effect::Tell {
        run: run.id.clone(),
        command,
    })
}

/// Whoever probes is told to go on, or not to.
fn probing(state: &Lifecycle, on: bool) -> Result<Option<Effect>, Refusal> {
    state
        .probed
        .then(|| tell(state, Command::Probe { on }))
        .transpose()
}

/// A restart that was waited for will not be.
fn no_longer_restarting(state: &Lifecycle) -> Lifecycle {
    Lifecycle {
        phase: Phase::Exited,
        desired: Desired::Stopped,
        restarts: Restarts {
            due: None,
            ..state.restarts.clone()
        },
        ..state.clone()
    }
}

/// A removal that was asked for is not taken back by a later stop or restart.
const fn keep_removal(present: Desired, wanted: Desired) -> Desired {
    match present {
        Desired::Removed => Desired::Removed,
        Desired::Stopped | Desired::Running | Desired::Restarted => wanted,
    }
}
