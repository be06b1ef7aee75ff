//! The pool by itself, and against everything that can happen in any order.

use super::*;
use crate::ports::function_host::Network;
use proptest::prelude::*;
use sockerless_shared::ids::ImageDigest;

fn shape(runtime: Runtime, owner: Option<u8>) -> FunctionShape {
    let image: ImageDigest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    FunctionShape {
        image,
        runtime,
        memory_mib: 128,
        tmp_mib: 512,
        network: Network::None,
        architecture: None,
        owner: owner.map(|byte| ContainerId::from_random([byte; 32])),
        machine: owner.map(|_| Box::default()),
    }
}

fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

fn invocation(number: u8) -> Invocation {
    Invocation {
        run: RunId::from_random([number; 16]),
        payload: Bytes::new(),
    }
}

fn pool(policy: Policy) -> Pool {
    let mut pool = Pool::new(policy);
    pool.ensure(&name("f"), &shape(Runtime::Function, None));
    pool
}

const FIRST: EnvironmentId = EnvironmentId(1);
const SECOND: EnvironmentId = EnvironmentId(2);

#[test]
fn ensuring_twice_makes_one_environment() {
    let mut pool = Pool::new(Policy::default());
    let f = shape(Runtime::Function, None);
    assert_eq!(
        pool.ensure(&name("f"), &f),
        [Effect::Start(FIRST, name("f"))]
    );
    assert_eq!(pool.ensure(&name("f"), &f), []);
}

#[test]
fn a_waiting_invocation_goes_to_whoever_asks_first() {
    let mut pool = pool(Policy::default());
    assert_eq!(pool.invoke(&name("f"), invocation(1)), Some(vec![]));
    let effects = pool.asked_next(FIRST, Instant::now());
    let limit = Some(Policy::default().time_limit);
    assert_eq!(effects, [Effect::Deliver(FIRST, invocation(1), limit)]);
    // Asking again on another connection changes nothing.
    assert_eq!(pool.asked_next(FIRST, Instant::now()), []);
}

#[test]
fn one_that_has_just_answered_is_waited_for() {
    let mut pool = pool(Policy::default());
    pool.invoke(&name("f"), invocation(1));
    pool.asked_next(FIRST, Instant::now());
    pool.answered(FIRST, &invocation(1).run, Answer::Response, 0);
    assert_eq!(pool.invoke(&name("f"), invocation(2)), Some(vec![]));
    // Not for ever.
    assert_eq!(pool.init_limit_passed(FIRST), [Effect::Kill(FIRST)]);
    assert_eq!(
        pool.exited(FIRST, "killed", 0),
        [Effect::Start(SECOND, name("f"))]
    );
}

#[test]
fn an_answer_to_another_run_is_refused() {
    let mut pool = pool(Policy::default());
    pool.invoke(&name("f"), invocation(1));
    pool.asked_next(FIRST, Instant::now());
    let other = invocation(2).run;
    assert_eq!(pool.answered(FIRST, &other, Answer::Response, 0), None);
    assert_eq!(pool.answered(SECOND, &other, Answer::Response, 0), None);
}

#[test]
fn a_broken_image_fails_each_invocation_once() {
    let mut pool = pool(Policy::default());
    pool.invoke(&name("f"), invocation(1));
    pool.invoke(&name("f"), invocation(2));
    for (environment, run) in [(FIRST, 1), (SECOND, 2)] {
        let told: Vec<_> = pool
            .exited(environment, "no such file", 0)
            .into_iter()
            .filter(|effect| matches!(effect, Effect::Tell(..)))
            .collect();
        let reason = "before the first invocation: no such file".to_owned();
        assert_eq!(
            told,
            [Effect::Tell(
                invocation(run).run,
                InvocationEnd::Crashed { reason }
            )]
        );
    }
}

#[test]
fn the_longest_idle_goes_first() {
    let mut pool = pool(Policy {
        max_idle: 1,
        ..Policy::default()
    });
    pool.ensure(&name("g"), &shape(Runtime::Function, None));
    let now = Instant::now();
    assert_eq!(pool.asked_next(FIRST, now), []);
    let later = now + Duration::from_secs(1);
    assert_eq!(pool.asked_next(SECOND, later), [Effect::Kill(FIRST)]);
    let (effects, next) = pool.reclaim(later);
    assert_eq!(effects, []);
    let until = later + Policy::default().idle_timeout;
    assert_eq!(next, Some(until));
    assert_eq!(pool.reclaim(until), (vec![Effect::Kill(SECOND)], None));
}

#[test]
fn idle_environments_make_room_where_the_machine_is_full() {
    let mut pool = pool(Policy {
        max_environments: 1,
        ..Policy::default()
    });
    pool.asked_next(FIRST, Instant::now());
    let g = shape(Runtime::Function, None);
    assert_eq!(pool.ensure(&name("g"), &g), [Effect::Kill(FIRST)]);
    assert_eq!(pool.invoke(&name("g"), invocation(1)), Some(vec![]));
    assert_eq!(
        pool.exited(FIRST, "killed", 0),
        [Effect::Start(SECOND, name("g"))]
    );
}

#[test]
fn a_writable_layer_has_one_environment() {
    let mut pool = Pool::new(Policy::default());
    pool.ensure(&name("a"), &shape(Runtime::Microvm, Some(1)));
    pool.asked_next(FIRST, Instant::now());
    // The same container with another amount of memory, say.
    let other = shape(Runtime::Microvm, Some(1));
    assert_eq!(pool.ensure(&name("b"), &other), [Effect::Kill(FIRST)]);
    assert_eq!(pool.invoke(&name("b"), invocation(1)), Some(vec![]));
    assert_eq!(
        pool.exited(FIRST, "killed", 0),
        [Effect::Start(SECOND, name("b"))]
    );
}

#[test]
fn one_is_made_ahead_when_the_last_is_taken() {
    let mut pool = pool(Policy {
        warm_ahead: 1,
        ..Policy::default()
    });
    pool.asked_next(FIRST, Instant::now());
    let limit = Some(Policy::default().time_limit);
    assert_eq!(
        pool.invoke(&name("f"), invocation(1)),
        Some(vec![
            Effect::Deliver(FIRST, invocation(1), limit),
            Effect::Start(SECOND, name("f")),
        ])
    );
}

/// Anything that can happen to a pool.
#[derive(Debug, Clone)]
enum Event {
    Ensure(u8),
    Invoke(u8),
    Asks(u64),
    Answers { environment: u64, error: bool },
    Exits { environment: u64, oom_kills: u64 },
    TimeLimit(u64),
    InitLimit(u64),
    Reclaim,
    Delete(u8),
    EvictOwner,
    AllLost,
}

fn event() -> impl Strategy<Value = Event> {
    let environment = 1..12_u64;
    prop_oneof![
        2 => (0..4_u8).prop_map(Event::Ensure),
        6 => (0..4_u8).prop_map(Event::Invoke),
        6 => environment.clone().prop_map(Event::Asks),
        4 => (environment.clone(), any::<bool>())
            .prop_map(|(environment, error)| Event::Answers { environment, error }),
        3 => (environment.clone(), 0..3_u64)
            .prop_map(|(environment, oom_kills)| Event::Exits { environment, oom_kills }),
        1 => environment.clone().prop_map(Event::TimeLimit),
        1 => environment.prop_map(Event::InitLimit),
        1 => Just(Event::Reclaim),
        1 => (0..4_u8).prop_map(Event::Delete),
        1 => Just(Event::EvictOwner),
        1 => Just(Event::AllLost),
    ]
}

/// What a careful observer of the effects knows.
#[derive(Default)]
struct Observer {
    accepted: Vec<RunId>,
    told: Vec<RunId>,
    alive: BTreeMap<EnvironmentId, FunctionName>,
    running: BTreeMap<EnvironmentId, RunId>,
}

impl Observer {
    fn see(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Start(id, function) => {
                    assert!(self.alive.insert(*id, function.clone()).is_none());
                }
                Effect::Deliver(id, invocation, limit) => {
                    assert!(self.alive.contains_key(id), "delivered to nobody");
                    let function = &self.alive[id];
                    assert_eq!(limit.is_some(), *function != name("m"));
                    let before = self.running.insert(*id, invocation.run.clone());
                    assert_eq!(before, None, "two invocations at the same time");
                    assert!(!self.told.contains(&invocation.run));
                }
                Effect::Kill(id) => assert!(self.alive.contains_key(id), "killed nobody"),
                Effect::Tell(run, _) => {
                    assert!(self.accepted.contains(run));
                    assert!(!self.told.contains(run), "told twice");
                    self.told.push(run.clone());
                }
            }
        }
        let owned = self.alive.values().filter(|f| **f == name("m")).count();
        assert!(owned <= 1, "two environments on one writable layer");
    }
}

fn function(index: u8) -> (FunctionName, FunctionShape) {
    match index {
        0 => (name("m"), shape(Runtime::Microvm, Some(1))),
        other => (name(&format!("f{other}")), shape(Runtime::Function, None)),
    }
}

proptest! {
    #[test]
    fn every_accepted_invocation_ends_once(
        events in proptest::collection::vec(event(), 0..120),
        max_environments in 1..6_usize,
        max_idle in 0..3_usize,
        warm_ahead in 0..2_usize,
    ) {
        let mut pool = Pool::new(Policy {
            max_environments,
            max_idle,
            warm_ahead,
            ..Policy::default()
        });
        let mut observer = Observer::default();
        let mut clock = Instant::now();
        for (number, event) in events.into_iter().enumerate() {
            clock += Duration::from_secs(7);
            let effects = match event {
                Event::Ensure(index) => {
                    let (name, shape) = function(index);
                    pool.ensure(&name, &shape)
                }
                Event::Invoke(index) => {
                    let run = RunId::from_random([u8::try_from(number).unwrap(); 16]);
                    let invocation = Invocation { run: run.clone(), payload: Bytes::new() };
                    match pool.invoke(&function(index).0, invocation) {
                        Some(effects) => {
                            observer.accepted.push(run);
                            effects
                        }
                        None => vec![],
                    }
                }
                Event::Asks(id) => pool.asked_next(EnvironmentId(id), clock),
                Event::Answers { environment, error } => {
                    let id = EnvironmentId(environment);
                    let Some(run) = observer.running.get(&id).cloned() else { continue };
                    let answer = if error { Answer::Error("x".into()) } else { Answer::Response };
                    match pool.answered(id, &run, answer, 0) {
                        Some(effects) => {
                            observer.running.remove(&id);
                            effects
                        }
                        None => vec![],
                    }
                }
                Event::Exits { environment, oom_kills } => {
                    let id = EnvironmentId(environment);
                    observer.alive.remove(&id);
                    observer.running.remove(&id);
                    pool.exited(id, "gone", oom_kills)
                }
                Event::TimeLimit(id) => {
                    let id = EnvironmentId(id);
                    let Some(run) = observer.running.get(&id) else { continue };
                    pool.time_limit_passed(id, run)
                }
                Event::InitLimit(id) => pool.init_limit_passed(EnvironmentId(id)),
                Event::Reclaim => pool.reclaim(clock).0,
                Event::Delete(index) => pool.delete(&function(index).0),
                Event::EvictOwner => pool.evict_owner(&ContainerId::from_random([1; 32])).0,
                Event::AllLost => {
                    observer.alive.clear();
                    observer.running.clear();
                    pool.all_lost()
                }
            };
            observer.see(&effects);
            prop_assert!(observer.alive.len() <= max_environments);
        }
        // Whatever runs and waits now ends, when every environment does as it should.
        for _ in 0..1000 {
            let Some((id, run)) = observer.alive.keys().next().map(|id| {
                (*id, observer.running.get(id).cloned())
            }) else { break };
            let mut effects = match run {
                Some(run) => pool.answered(id, &run, Answer::Response, 0).unwrap_or_default(),
                None => pool.asked_next(id, clock),
            };
            let took = effects.iter().any(|effect| matches!(effect, Effect::Deliver(..)));
            if !took {
                observer.running.remove(&id);
                observer.see(&effects);
                observer.alive.remove(&id);
                effects = pool.exited(id, "done", 0);
            }
            observer.see(&effects);
        }
        let mut accepted = observer.accepted.clone();
        accepted.sort();
        observer.told.sort();
        prop_assert_eq!(accepted, observer.told);
    }
}
