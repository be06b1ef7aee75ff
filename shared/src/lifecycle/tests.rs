//! The whole table as a snapshot, and random histories against a naive oracle.

use expect_test::expect_file;
use proptest::prelude::*;

use super::*;
use crate::health::{Health, HealthStatus, ProbeResult};
use crate::ids::{Nonce, RunId};
use crate::protocol::control::{Command, StartFailure};
use crate::timestamp::Timestamp;

const PHASES: [Phase; 8] = [
    Phase::Created,
    Phase::Starting,
    Phase::Running,
    Phase::Paused,
    Phase::Restarting,
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
    let ended = matches!(
        phase,
        Phase::Restarting | Phase::Exited | Phase::Removing | Phase::Dead
    );
    let restarting = phase == Phase::Restarting;
    let started = ran && !matches!(phase, Phase::Starting);
    Lifecycle {
        phase,
        desired: if ran && !ended || restarting {
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
            cause: Cause::Start,
        }),
        exit: ended.then(|| exit(Evidence::Platform, false)),
        restarts: Restarts {
            policy: if restarting {
                RestartPolicy::Always
            } else {
                RestartPolicy::No
            },
            due: restarting.then_some(Timestamp::from_secs(21)),
            ..Restarts::default()
        },
        ..Lifecycle::created(false, RestartPolicy::No, false)
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
        grace_over: false,
        health: None,
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
            "postpone",
            Input::Postpone {
                run: run_id(1),
                deadline: Timestamp::from_secs(6_000),
            },
        ),
        (
            "postpone, other run",
            Input::Postpone {
                run: run_id(9),
                deadline: Timestamp::from_secs(6_000),
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
                by_hand: true,
            },
        ),
        (
            "kill",
            Input::Kill {
                signal: 9,
                last: true,
            },
        ),
        (
            "kill, not the last",
            Input::Kill {
                signal: 1,
                last: false,
            },
        ),
        (
            "restart",
            Input::Restart {
                signal: 15,
                timeout_s: Some(10),
            },
        ),
        ("pause", Input::Pause),
        ("unpause", Input::Unpause),
        (
            "restart due",
            Input::RestartDue {
                ended: run_id(1),
                run: run_id(2),
                deadline: None,
            },
        ),
        (
            "restart due, other run",
            Input::RestartDue {
                ended: run_id(9),
                run: run_id(2),
                deadline: None,
            },
        ),
        (
            "health",
            Input::Health {
                run: run_id(1),
                health: Health::starting(None),
            },
        ),
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
        Effect::RestartLater { delay, .. } => format!("restart later: {delay:?}"),
        Effect::Erase => "erase".into(),
    }
}

fn command_name(command: &Command) -> String {
    match command {
        Command::Stop { signal, .. } => format!("stop {signal}"),
        Command::Kill { signal } => format!("kill {signal}"),
        Command::Pause => "pause".into(),
        Command::Unpause => "unpause".into(),
        Command::Probe { on } => format!("probe: {on}"),
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
        grace_over: false,
        health: None,
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
fn a_run_that_had_to_wait_for_its_function_has_its_time_from_then_on() {
    let (state, effects) = step(
        &typical(Phase::Starting),
        input("postpone"),
        Timestamp::from_secs(800),
    )
    .unwrap();
    assert_eq!((state.phase, effects), (Phase::Starting, Vec::new()));
    let at = |secs| step(&state, Input::Sweep, Timestamp::from_secs(secs));
    assert_eq!(at(1_001), Err(Refusal::NothingNew));
    assert_eq!(at(6_091).unwrap().0.phase, Phase::Exited);
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
                Input::Start { run, .. } | Input::RestartDue { run, .. } => Some(run.clone()),
                _ => None,
            })
            .collect()
    }

    /// The inputs since the last accepted start.
    fn since_last_start(&self) -> &[Input] {
        let at = self
            .accepted
            .iter()
            .rposition(|input| matches!(input, Input::Start { .. } | Input::RestartDue { .. }));
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
        1 => run.clone().prop_map(|run| Input::Postpone { run, deadline: Timestamp::from_secs(6_000) }),
        2 => (run.clone(), 1u8..3).prop_map(|(run, n)| Input::Claim { run, nonce: nonce(n) }),
        4 => run.clone().prop_map(|run| Input::Started { run, at: Timestamp::from_secs(12), pid: 7 }),
        1 => run.clone().prop_map(|run| Input::StartFailed {
            run, at: Timestamp::from_secs(12), failure: StartFailure { code: 127, message: String::new() },
        }),
        4 => (run.clone(), 0i32..256, evidence).prop_map(|(run, code, evidence)| Input::Ended {
            run, at: Timestamp::from_secs(30), code, oom_killed: false, error: String::new(), evidence,
            grace_over: false, health: None,
        }),
        1 => Just(Input::Told),
        1 => Just(Input::Stop { signal: 15, timeout_s: Some(1), by_hand: true }),
        1 => Just(Input::Kill { signal: 9, last: true }),
        2 => (run.clone(), 1u8..4).prop_map(|(ended, n)| Input::RestartDue { ended, run: run_id(n), deadline: None }),
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

fn any_policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        2 => Just(RestartPolicy::No),
        1 => Just(RestartPolicy::Always),
        1 => Just(RestartPolicy::UnlessStopped),
        1 => (0u32..3).prop_map(|limit| RestartPolicy::OnFailure { limit }),
    ]
}

proptest! {
    #[test]
    fn random_histories_agree_with_the_oracle(
        history in prop::collection::vec(any_input(), 0..60),
        auto_remove: bool,
        policy in any_policy(),
    ) {
        let policy = if auto_remove { RestartPolicy::No } else { policy };
        let mut state = Lifecycle::created(auto_remove, policy, false);
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
                    let called_off = before.phase == Phase::Restarting && ends == 1;
                    if called_off {
                        prop_assert!(state.phase != Phase::Restarting && !is_on);
                    }
                    prop_assert_eq!(ends, usize::from(was_on && !is_on || called_off));
                    // A restart follows an end that the policy does not want, and nothing else.
                    let later = effects.iter().any(|effect| matches!(effect, Effect::RestartLater { .. }));
                    let wanted = state.phase == Phase::Restarting && (was_on || matches!(input, Input::Sweep));
                    prop_assert_eq!(later, wanted);
                    if later && was_on {
                        prop_assert!(policy != RestartPolicy::No);
                        prop_assert!(!before.restarts.canceled);
                    }
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

/// Runs that end with `code` after `lasted`, one after the other, until the policy wants
/// no other: how long each restart waited.
fn delays(policy: RestartPolicy, code: i32, lasted: &[i64]) -> Vec<u128> {
    let mut state = Lifecycle::created(false, policy, false);
    let mut now = Timestamp::from_secs(100);
    let mut delays = Vec::new();
    let mut start = Input::Start {
        run: run_id(0),
        deadline: None,
    };
    for (number, secs) in (0u8..).zip(lasted) {
        let mut stepped = |input, at| {
            let (next, effects) = step(&state, input, at).unwrap();
            state = next;
            effects
        };
        stepped(start, now);
        let run = run_id(number);
        stepped(
            Input::Started {
                run: run.clone(),
                at: now,
                pid: 1,
            },
            now,
        );
        now = now.plus(std::time::Duration::from_secs(secs.unsigned_abs()));
        let effects = stepped(
            Input::Ended {
                run: run.clone(),
                at: now,
                code,
                oom_killed: false,
                error: String::new(),
                evidence: Evidence::Agent,
                grace_over: false,
                health: None,
            },
            now,
        );
        let delay = effects.iter().find_map(|effect| match effect {
            Effect::RestartLater { delay, .. } => Some(*delay),
            _ => None,
        });
        let Some(delay) = delay else {
            assert_eq!(state.phase, Phase::Exited);
            break;
        };
        assert_eq!(state.restarts.due, Some(now.plus(delay)));
        delays.push(delay.as_millis());
        assert_eq!(state.restarts.count as usize, delays.len());
        start = Input::RestartDue {
            ended: run,
            run: run_id(number + 1),
            deadline: None,
        };
    }
    delays
}

#[test]
fn restarts_wait_as_dockers_do() {
    let always = RestartPolicy::Always;
    assert_eq!(
        delays(always, 0, &[0; 12]),
        [
            100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000
        ]
    );
    // A run of ten seconds begins anew.
    assert_eq!(
        delays(always, 1, &[0, 0, 9, 10, 0]),
        [100, 200, 400, 100, 200]
    );
}

#[test]
fn policies_want_what_dockers_do() {
    let on_failure = |limit| RestartPolicy::OnFailure { limit };
    for (policy, code, restarts) in [
        (RestartPolicy::No, 1, 0),
        (RestartPolicy::Always, 0, 6),
        (RestartPolicy::UnlessStopped, 0, 6),
        (on_failure(0), 1, 6),
        (on_failure(0), 0, 0),
        (on_failure(2), 1, 2),
    ] {
        assert_eq!(delays(policy, code, &[0; 6]).len(), restarts, "{policy:?}");
    }
}

fn input(label: &str) -> Input {
    let mut all = inputs().into_iter();
    all.find(|(name, _)| *name == label).unwrap().1
}

fn ended_after(stopping: &str, policy: RestartPolicy) -> Lifecycle {
    let mut state = typical(Phase::Running);
    state.restarts.policy = policy;
    let now = Timestamp::from_secs(29);
    let (state, _) = step(&state, input(stopping), now).unwrap();
    step(&state, input("ended, by agent"), Timestamp::from_secs(30))
        .unwrap()
        .0
}

#[test]
fn what_a_client_stops_stays_stopped_until_its_host_begins_anew() {
    for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
        for way in ["stop", "kill"] {
            let state = ended_after(way, policy);
            assert_eq!(state.phase, Phase::Exited);
            assert_eq!(
                state.starts_with_its_host(),
                policy == RestartPolicy::Always
            );
        }
        // A signal that does not end it for good.
        let state = ended_after("kill, not the last", RestartPolicy::Always);
        assert_eq!(state.phase, Phase::Restarting);
    }
    let Input::Stop {
        signal, timeout_s, ..
    } = input("stop")
    else {
        unreachable!()
    };
    let mut state = typical(Phase::Running);
    state.restarts.policy = RestartPolicy::UnlessStopped;
    let ending = Input::Stop {
        signal,
        timeout_s,
        by_hand: false,
    };
    let (state, _) = step(&state, ending, Timestamp::from_secs(29)).unwrap();
    let (state, _) = step(&state, input("ended, by agent"), Timestamp::from_secs(30)).unwrap();
    assert_eq!(state.phase, Phase::Exited);
    assert!(state.starts_with_its_host());
}

#[test]
fn a_verdict_is_told_once_and_ends_with_the_run() {
    let mut state = Lifecycle::created(false, RestartPolicy::No, true);
    let now = Timestamp::from_secs(12);
    let start = Input::Start {
        run: run_id(1),
        deadline: None,
    };
    (state, _) = step(&state, start, now).unwrap();
    (state, _) = step(&state, input("started"), now).unwrap();
    let healthy = Health {
        status: HealthStatus::Healthy,
        failing_streak: 0,
        results: vec![ProbeResult {
            start: now,
            end: now,
            exit_code: 0,
            output: String::new(),
            started: true,
        }],
    };
    let report = Input::Health {
        run: run_id(1),
        health: healthy.clone(),
    };
    let (next, effects) = step(&state, report.clone(), now).unwrap();
    let told = [
        Event::ProbeBegun { at: now },
        Event::ProbeDied {
            begun: now,
            at: now,
            code: 0,
        },
        Event::Health(HealthStatus::Healthy),
    ];
    assert_eq!(effects, told.map(Effect::Emit));
    assert_eq!(step(&next, report, now).unwrap().1, []);
    // An older report that comes late changes nothing.
    let late = input("health");
    assert_eq!(step(&next, late, now), Err(Refusal::NothingNew));
    let (ended, _) = step(&next, input("ended, by agent"), now).unwrap();
    let health = ended.health.unwrap();
    assert_eq!(health.status, HealthStatus::Unhealthy);
    assert_eq!(health.results, healthy.results);
}

#[test]
fn the_events_of_an_end_come_in_dockers_order() {
    let state = typical(Phase::Running);
    let (state, _) = step(&state, input("restart"), Timestamp::from_secs(29)).unwrap();
    let Input::Ended { run, at, code, .. } = input("ended, by agent") else {
        unreachable!()
    };
    let ended = Input::Ended {
        run,
        at,
        code,
        oom_killed: true,
        error: String::new(),
        evidence: Evidence::Agent,
        grace_over: true,
        health: None,
    };
    let (state, effects) = step(&state, ended, Timestamp::from_secs(30)).unwrap();
    let names: Vec<_> = effects.iter().map(name).collect();
    assert_eq!(
        names[..4],
        [
            "emit Kill { signal: 9 }",
            "emit Oom",
            "emit Stop",
            "emit Die { code: 4, duration_s: 19 }"
        ]
    );
    let now = Timestamp::from_secs(31);
    let (state, _) = step(&state, input("start"), now).unwrap();
    let started = Input::Started {
        run: run_id(2),
        at: now,
        pid: 1,
    };
    let (_, effects) = step(&state, started, now).unwrap();
    assert_eq!(
        effects[1..],
        [Effect::Emit(Event::Start), Effect::Emit(Event::Restart)]
    );
}
