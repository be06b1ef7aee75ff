//! The transition function.

use std::time::Duration;

use super::input::{Effect, Event, Input, Refusal, StartResult};
use super::state::{Desired, Evidence, Exit, Lifecycle, Phase, Run};
use crate::ids::{Nonce, RunId};
use crate::protocol::control::{Command, StartFailure};
use crate::timestamp::Timestamp;

/// How long after a run's deadline the sweep waits for a better word.
pub const DEADLINE_GRACE: Duration = Duration::from_secs(90);

const SIGKILL: i32 = 9;

type Stepped = Result<(Lifecycle, Vec<Effect>), Refusal>;

/// What becomes of a container.
///
/// # Errors
/// A [`Refusal`] when the input does not change anything; the state is as before then.
pub fn step(state: &Lifecycle, input: Input, now: Timestamp) -> Stepped {
    match input {
        Input::Start { run, deadline } => start(state, run, deadline, now),
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
        } => {
            let exit = Exit {
                at,
                code,
                oom_killed,
                error,
                evidence,
                told: false,
            };
            ended(state, &run, exit)
        }
        Input::Told => told(state),
        Input::Stop { signal, timeout_s } => stop(state, signal, timeout_s),
        Input::Kill { signal } => kill(state, signal),
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
                }),
                exit: None,
                ..state.clone()
            };
            Ok((next, vec![Effect::Invoke { run }]))
        }
        Phase::Paused => Err(Refusal::IsPaused),
        Phase::Starting | Phase::Running => Err(Refusal::AlreadyStarted),
        Phase::Removing | Phase::Dead => Err(Refusal::MarkedForRemoval),
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
        Phase::Exited | Phase::Removing => match present_run(state, run)? {
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
            let next = Lifecycle {
                phase: Phase::Running,
                run: Some(run),
                ..state.clone()
            };
            Ok((
                next,
                vec![
                    Effect::AnswerStart(StartResult::Running),
                    Effect::Emit(Event::Start),
                ],
            ))
        }
        Phase::Running | Phase::Paused => {
            present_run(state, run)?;
            Err(Refusal::NothingNew)
        }
        Phase::Exited => {
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

fn start_failed(state: &Lifecycle, run: &RunId, at: Timestamp, failure: StartFailure) -> Stepped {
    match state.phase {
        Phase::Starting => {
            present_run(state, run)?;
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
                ..state.clone()
            };
            Ok((next, effects))
        }
        Phase::Running | Phase::Paused | Phase::Exited => {
            present_run(state, run)?;
            Err(Refusal::NothingNew)
        }
        Phase::Created | Phase::Removing | Phase::Dead => Err(Refusal::OtherRun),
    }
}

fn ended(state: &Lifecycle, run: &RunId, exit: Exit) -> Stepped {
    match state.phase {
        Phase::Starting | Phase::Running | Phase::Paused => {
            let present = present_run(state, run)?;
            Ok(end_run(state, present, exit))
        }
        Phase::Exited => {
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
fn end_run(state: &Lifecycle, run: &Run, exit: Exit) -> (Lifecycle, Vec<Effect>) {
    let mut effects = Vec::new();
    if state.phase == Phase::Starting {
        // Nobody who waits for the start may wait for ever. An agent that ended
        // properly did start its process; from anyone else the end is a failure.
        effects.push(Effect::AnswerStart(match exit.evidence {
            Evidence::Agent => StartResult::Running,
            Evidence::Platform | Evidence::Sweep => StartResult::Failed(StartFailure {
                code: exit.code,
                message: exit.error.clone(),
            }),
        }));
    }
    if exit.oom_killed {
        effects.push(Effect::Emit(Event::Oom));
    }
    let began = run.started_at.unwrap_or(run.requested_at);
    let duration_s = exit.at.since(began).as_secs();
    effects.push(Effect::Emit(Event::Die {
        code: exit.code,
        duration_s,
    }));
    effects.push(Effect::AnswerExit);
    effects.push(Effect::Revoke {
        run: run.id.clone(),
    });
    let (phase, desired) = match state.desired {
        Desired::Removed => (Phase::Removing, Desired::Removed),
        Desired::Restarted => {
            effects.push(Effect::StartAgain);
            (Phase::Exited, Desired::Restarted)
        }
        Desired::Stopped | Desired::Running if state.auto_remove => {
            (Phase::Removing, Desired::Removed)
        }
        Desired::Stopped | Desired::Running => (Phase::Exited, Desired::Stopped),
    };
    if phase == Phase::Removing {
        effects.push(Effect::Erase);
    }
    (
        Lifecycle {
            phase,
            desired,
            exit: Some(exit),
            ..state.clone()
        },
        effects,
    )
}

fn told(state: &Lifecycle) -> Stepped {
    match state.phase {
        Phase::Exited | Phase::Created | Phase::Removing | Phase::Dead => match &state.exit {
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
        },
        Phase::Starting | Phase::Running | Phase::Paused => Err(Refusal::NothingNew),
    }
}

fn stop(state: &Lifecycle, signal: i32, timeout_s: Option<u32>) -> Stepped {
    match state.phase {
        Phase::Starting | Phase::Running => {
            let desired = keep_removal(state.desired, Desired::Stopped);
            let next = Lifecycle {
                desired,
                ..state.clone()
            };
            let effects = vec![
                tell(state, Command::Stop { signal, timeout_s })?,
                Effect::Emit(Event::Kill { signal }),
            ];
            Ok((next, effects))
        }
        Phase::Paused => {
            let desired = keep_removal(state.desired, Desired::Stopped);
            let next = Lifecycle {
                desired,
                ..state.clone()
            };
            let effects = vec![
                tell(state, Command::Stop { signal, timeout_s })?,
                tell(state, Command::Unpause)?,
                Effect::Emit(Event::Kill { signal }),
            ];
            Ok((next, effects))
        }
        Phase::Created | Phase::Exited | Phase::Dead => Err(Refusal::AlreadyStopped),
        Phase::Removing => Err(Refusal::IsBeingRemoved),
    }
}

fn kill(state: &Lifecycle, signal: i32) -> Stepped {
    match state.phase {
        // Sent once the process runs: as with a Docker Engine, a kill waits for a start
        // that is under way.
        Phase::Starting | Phase::Running => {
            let effects = vec![
                tell(state, Command::Kill { signal })?,
                Effect::Emit(Event::Kill { signal }),
            ];
            Ok((state.clone(), effects))
        }
        Phase::Paused => {
            let effects = vec![
                tell(state, Command::Kill { signal })?,
                tell(state, Command::Unpause)?,
                Effect::Emit(Event::Kill { signal }),
            ];
            Ok((state.clone(), effects))
        }
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
        Phase::Removing | Phase::Dead => Err(Refusal::MarkedForRemoval),
    }
}

fn pause(state: &Lifecycle) -> Stepped {
    match state.phase {
        Phase::Running => Ok((state.clone(), vec![tell(state, Command::Pause)?])),
        Phase::Paused => Err(Refusal::IsPaused),
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
                ..state.clone()
            };
            Ok((next, vec![Effect::Emit(Event::Pause)]))
        }
        Phase::Paused | Phase::Starting => Err(Refusal::NothingNew),
        Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => Err(Refusal::OtherRun),
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
            Ok((next, vec![Effect::Emit(Event::Unpause)]))
        }
        Phase::Running | Phase::Starting => Err(Refusal::NothingNew),
        Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => Err(Refusal::OtherRun),
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
            Ok(end_run(state, run, exit))
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

fn present_run<'a>(state: &'a Lifecycle, run: &RunId) -> Result<&'a Run, Refusal> {
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

/// A removal that was asked for is not taken back by a later stop or restart.
const fn keep_removal(present: Desired, wanted: Desired) -> Desired {
    match present {
        Desired::Removed => Desired::Removed,
        Desired::Stopped | Desired::Running | Desired::Restarted => wanted,
    }
}
