//! The whole table as a snapshot, and random histories against a naive oracle.

use expect_test::expect_file;
use proptest::prelude::*;

use super::*;
use crate::ids::{Nonce, RunId};
use crate::protocol::control::{Command, StartFailure};
use crate::timestamp::Timestamp;

const PHASES: [Phase; 7] = [
    Phase::Created,
    Phase::Starting,
    Phase::Running,
    Phase::Paused,
    Phase::Exited,
    Phase::Removing,
    Phase::Dead,
];

fn run_id(n: u8) -> RunId {
    RunId::from_random([n; 16])
}

fn nonce(n: u8) -> Nonce {
    Nonce::from_random([n; 16])
}

fn exit(evidence: Evidence, told: bool) -> Exit {
    Exit {
        at: Timestamp::from_secs(20),
        code: 3,
        oom_killed: false,
        error: String::new(),
        evidence,
        told,
    }
}

/// A state as it typically is in this phase.
fn typical(phase: Phase) -> Lifecycle {
    let ran = !matches!(phase, Phase::Created);
    let ended = matches!(phase, Phase::Exited | Phase::Removing | Phase::Dead);
    let started = ran && !matches!(phase, Phase::Starting);
    Lifecycle {
        phase,
        desired: if ran && !ended {
            Desired::Running
        } else {
            Desired::Stopped
        },
        run: ran.then(|| Run {
            id: run_id(1),
            nonce: Some(nonce(1)),
            requested_at: Timestamp::from_secs(10),
            started_at: started.then_some(Timestamp::from_secs(11)),
            deadline: Some(Timestamp::from_secs(910)),
            pid: if started { 7 } else { 0 },
        }),
        exit: ended.then(|| exit(Evidence::Platform, false)),
        auto_remove: false,
    }
}

fn inputs() -> Vec<(&'static str, Input)> {
    let failure = StartFailure {
        code: 127,
        message: "not found".into(),
    };
    let ended = |run, evidence| Input::Ended {
        run,
        at: Timestamp::from_secs(30),
        code: 4,
        oom_killed: false,
        error: String::new(),
        evidence,
    };
    vec![
        (
            "start",
            Input::Start {
                run: run_id(2),
                deadline: None,
            },
        ),
        (
            "claim, same nonce",
            Input::Claim {
                run: run_id(1),
                nonce: nonce(1),
            },
        ),
        (
            "claim, other nonce",
            Input::Claim {
                run: run_id(1),
                nonce: nonce(2),
            },
        ),
        (
            "claim, other run",
            Input::Claim {
                run: run_id(9),
                nonce: nonce(1),
            },
        ),
        (
            "started",
            Input::Started {
                run: run_id(1),
                at: Timestamp::from_secs(12),
                pid: 7,
            },
        ),
        (
            "started, other run",
            Input::Started {
                run: run_id(9),
                at: Timestamp::from_secs(12),
                pid: 7,
            },
        ),
        (
            "start failed",
            Input::StartFailed {
                run: run_id(1),
                at: Timestamp::from_secs(12),
                failure: failure.clone(),
            },
        ),
        (
            "start failed, other run",
            Input::StartFailed {
                run: run_id(9),
                at: Timestamp::from_secs(12),
                failure,
            },
        ),
        ("ended, by agent", ended(run_id(1), Evidence::Agent)),
        ("ended, by platform", ended(run_id(1), Evidence::Platform)),
        ("ended, other run", ended(run_id(9), Evidence::Agent)),
        ("told", Input::Told),
        (
            "stop",
            Input::Stop {
                signal: 15,
                timeout_s: Some(10),
            },
        ),
        ("kill", Input::Kill { signal: 9 }),
        (
            "restart",
            Input::Restart {
                signal: 15,
                timeout_s: Some(10),
            },
        ),
        ("pause", Input::Pause),
        ("unpause", Input::Unpause),
        ("paused", Input::Paused { run: run_id(1) }),
        ("unpaused", Input::Unpaused { run: run_id(1) }),
        ("remove", Input::Remove { force: false }),
        ("remove, forced", Input::Remove { force: true }),
        ("remove failed", Input::RemoveFailed),
        ("sweep", Input::Sweep),
    ]
}

fn name(effect: &Effect) -> String {
    match effect {
        Effect::Invoke { .. } => "invoke".into(),
        Effect::Tell { command, .. } => format!("tell {}", command_name(command)),
        Effect::AnswerStart(StartResult::Running) => "answer start: running".into(),
        Effect::AnswerStart(StartResult::Failed(failure)) => {
            format!("answer start: failed {}", failure.code)
        }
        Effect::AnswerExit => "answer exit".into(),
        Effect::Emit(event) => format!("emit {event:?}"),
        Effect::Revoke { .. } => "revoke".into(),
        Effect::StartAgain => "start again".into(),
        Effect::Erase => "erase".into(),
    }
}

fn command_name(command: &Command) -> String {
    match command {
        Command::Stop { signal, .. } => format!("stop {signal}"),
        Command::Kill { signal } => format!("kill {signal}"),
        Command::Pause => "pause".into(),
        Command::Unpause => "unpause".into(),
        Command::Resize { .. }
        | Command::ResizeExec { .. }
        | Command::StoreLayer { .. }
        | Command::StartExec { .. } => {
            unreachable!("the lifecycle never sends this")
        }
    }
}

#[test]
fn the_whole_table() {
    let mut table = String::new();
    // Long after every deadline, so that the sweep has something to say.
    let now = Timestamp::from_secs(5_000);
    for phase in PHASES {
        table.push_str(&format!("{phase:?}\n"));
        for (label, input) in inputs() {
            let outcome = match step(&typical(phase), input, now) {
                Ok((next, effects)) => {
                    let effects: Vec<_> = effects.iter().map(name).collect();
                    format!(
                        "{:?}, wants {:?}: [{}]",
                        next.phase,
                        next.desired,
                        effects.join("; ")
                    )
                }
                Err(refusal) => format!("refused: {refusal:?}"),
            };
            table.push_str(&format!("  {label:<24} {outcome}\n"));
        }
    }
    expect_file!["table.txt"].assert_eq(&table);
}

#[test]
fn a_claim_is_bound_to_its_first_nonce() {
    let mut state = typical(Phase::Starting);
    state.run.as_mut().unwrap().nonce = None;
    let now = Timestamp::from_secs(12);
    let (state, _) = step(
        &state,
        Input::Claim {
            run: run_id(1),
            nonce: nonce(5),
        },
        now,
    )
    .unwrap();
    let again = step(
        &state,
        Input::Claim {
            run: run_id(1),
            nonce: nonce(5),
        },
        now,
    )
    .unwrap();
    assert_eq!(again.0, state);
    let other = step(
        &state,
        Input::Claim {
            run: run_id(1),
            nonce: nonce(6),
        },
        now,
    );
    assert_eq!(other, Err(Refusal::ClaimedByOther));
}

#[test]
fn stronger_evidence_replaces_weaker_until_a_client_was_told() {
    let now = Timestamp::from_secs(40);
    let by_agent = Input::Ended {
        run: run_id(1),
        at: Timestamp::from_secs(30),
        code: 4,
        oom_killed: false,
        error: String::new(),
        evidence: Evidence::Agent,
    };
    let mut state = typical(Phase::Exited);
    let (replaced, effects) = step(&state, by_agent.clone(), now).unwrap();
    assert_eq!(replaced.exit.unwrap().code, 4);
    assert!(effects.is_empty(), "clients hear of an exit once");
    state.exit = Some(exit(Evidence::Platform, true));
    assert_eq!(step(&state, by_agent, now), Err(Refusal::NothingNew));
}

#[test]
fn a_missing_word_is_no_evidence_before_the_deadline() {
    let state = typical(Phase::Running);
    let at = |secs| step(&state, Input::Sweep, Timestamp::from_secs(secs));
    assert_eq!(at(900), Err(Refusal::NothingNew));
    assert_eq!(at(1_000), Err(Refusal::NothingNew));
    assert_eq!(at(1_001).unwrap().0.phase, Phase::Exited);
}

#[test]
fn a_container_with_rm_is_erased_when_it_ends_and_when_it_fails_to_start() {
    let running = Lifecycle {
        auto_remove: true,
        ..typical(Phase::Running)
    };
    let ended = inputs()
        .into_iter()
        .find(|(label, _)| *label == "ended, by agent")
        .unwrap()
        .1;
    let (state, effects) = step(&running, ended, Timestamp::from_secs(31)).unwrap();
    assert_eq!(
        (state.phase, effects.last()),
        (Phase::Removing, Some(&Effect::Erase))
    );

    let starting = Lifecycle {
        auto_remove: true,
        ..typical(Phase::Starting)
    };
    let failed = inputs()
        .into_iter()
        .find(|(label, _)| *label == "start failed")
        .unwrap()
        .1;
    let (state, effects) = step(&starting, failed, Timestamp::from_secs(31)).unwrap();
    assert_eq!(
        (state.phase, effects.last()),
        (Phase::Removing, Some(&Effect::Erase))
    );
}

/// Slow and obvious: remembers the whole history and answers from it.
#[derive(Default)]
struct Oracle {
    accepted: Vec<Input>,
}

impl Oracle {
    fn runs_asked_for(&self) -> Vec<RunId> {
        self.accepted
            .iter()
            .filter_map(|input| match input {
                Input::Start { run, .. } => Some(run.clone()),
                _ => None,
            })
            .collect()
    }

    /// The inputs since the last accepted start.
    fn since_last_start(&self) -> &[Input] {
        let at = self
            .accepted
            .iter()
            .rposition(|input| matches!(input, Input::Start { .. }));
        at.map_or(&[], |at| &self.accepted[at..])
    }

    fn run_is_over(&self) -> bool {
        self.since_last_start()
            .iter()
            .any(|input| matches!(input, Input::Ended { .. } | Input::StartFailed { .. }))
    }

    fn expected_exit(&self) -> Option<(i32, Evidence)> {
        let mut best: Option<(i32, Evidence)> = None;
        let mut told = false;
        for input in self.since_last_start() {
            match input {
                Input::Told => told = best.is_some() || told,
                Input::Ended { code, evidence, .. }
                    if !told && best.is_none_or(|(_, known)| *evidence > known) =>
                {
                    best = Some((*code, *evidence));
                }
                Input::StartFailed { failure, .. } if best.is_none() => {
                    best = Some((failure.code, Evidence::Agent));
                }
                _ => {}
            }
        }
        best
    }
}

fn any_input() -> impl Strategy<Value = Input> {
    let run = (1u8..4).prop_map(run_id);
    let evidence = prop_oneof![
        Just(Evidence::Sweep),
        Just(Evidence::Platform),
        Just(Evidence::Agent)
    ];
    prop_oneof![
        4 => run.clone().prop_map(|run| Input::Start { run, deadline: None }),
        2 => (run.clone(), 1u8..3).prop_map(|(run, n)| Input::Claim { run, nonce: nonce(n) }),
        4 => run.clone().prop_map(|run| Input::Started { run, at: Timestamp::from_secs(12), pid: 7 }),
        1 => run.clone().prop_map(|run| Input::StartFailed {
            run, at: Timestamp::from_secs(12), failure: StartFailure { code: 127, message: String::new() },
        }),
        4 => (run.clone(), 0i32..256, evidence).prop_map(|(run, code, evidence)| Input::Ended {
            run, at: Timestamp::from_secs(30), code, oom_killed: false, error: String::new(), evidence,
        }),
        1 => Just(Input::Told),
        1 => Just(Input::Stop { signal: 15, timeout_s: Some(1) }),
        1 => Just(Input::Kill { signal: 9 }),
        1 => Just(Input::Restart { signal: 15, timeout_s: None }),
        1 => Just(Input::Pause),
        1 => Just(Input::Unpause),
        1 => run.clone().prop_map(|run| Input::Paused { run }),
        1 => run.prop_map(|run| Input::Unpaused { run }),
        1 => any::<bool>().prop_map(|force| Input::Remove { force }),
        1 => Just(Input::RemoveFailed),
        1 => Just(Input::Sweep),
    ]
}

proptest! {
    #[test]
    fn random_histories_agree_with_the_oracle(history in prop::collection::vec(any_input(), 0..60), auto_remove: bool) {
        let mut state = Lifecycle::created(auto_remove);
        let mut oracle = Oracle::default();
        let now = Timestamp::from_secs(40);
        for input in history {
            let before = state.clone();
            match step(&state, input.clone(), now) {
                Err(_) => prop_assert_eq!(&state, &before),
                Ok((next, effects)) => {
                    oracle.accepted.push(input.clone());
                    state = next;
                    // Only an observed end ends a run, and its clients hear of it exactly once.
                    let ends = effects.iter().filter(|effect| matches!(effect, Effect::AnswerExit)).count();
                    let was_on = before.current_run().is_some();
                    let is_on = state.current_run().is_some();
                    prop_assert_eq!(ends, usize::from(was_on && !is_on));
                    if was_on && !is_on {
                        let observed = matches!(input, Input::Ended { .. } | Input::StartFailed { .. });
                        prop_assert!(observed);
                    }
                }
            }
            prop_assert_eq!(state.current_run().is_some(), !oracle.runs_asked_for().is_empty() && !oracle.run_is_over());
            prop_assert_eq!(state.run.as_ref().map(|run| run.id.clone()), oracle.runs_asked_for().last().cloned());
            if !matches!(state.phase, Phase::Removing | Phase::Dead) {
                let known = state.exit.as_ref().map(|exit| (exit.code, exit.evidence));
                prop_assert_eq!(known, oracle.expected_exit());
            }
        }
    }
}
