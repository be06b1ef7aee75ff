//! Which environment runs which invocation: Lambda's scheduling, without a
//! clock and without effects. What is to be done comes back as [`Effect`]s.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sockerless_shared::ids::{ContainerId, FunctionName, RunId};
use sockerless_shared::spec::Runtime;

use super::wire::EnvironmentId;
use crate::ports::function_host::{FunctionShape, InvocationEnd};

/// What an operator may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How long an invocation under [`Runtime::Function`] may take.
    pub time_limit: Duration,
    /// How long an environment may take until it asks for its first invocation
    /// (Lambda's init phase), or after an answer for the next.
    pub init_limit: Duration,
    /// How long an idle environment is kept.
    pub idle_timeout: Duration,
    /// How many idle environments are kept, of all functions together.
    pub max_idle: usize,
    /// How many environments there may be, of all functions together; further
    /// invocations wait.
    pub max_environments: usize,
    /// How many environments of a function are made ahead, when one of its
    /// invocations took the last.
    pub warm_ahead: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(900),
            init_limit: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            max_idle: 16,
            max_environments: 1000,
            warm_ahead: 0,
        }
    }
}

/// One accepted invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) run: RunId,
    pub(super) payload: Bytes,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Make an environment for the function.
    Start(EnvironmentId, FunctionName),
    /// Hand over the invocation; with a limit, tell
    /// [`Pool::time_limit_passed`] when it has passed.
    Deliver(EnvironmentId, Invocation, Option<Duration>),
    /// Kill the environment.
    Kill(EnvironmentId),
    /// The invocation ended.
    Tell(RunId, InvocationEnd),
}

/// How an invocation was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Response,
    Error(String),
}

#[derive(Debug)]
struct Function {
    shape: FunctionShape,
    pending: VecDeque<Invocation>,
    deleted: bool,
}

#[derive(Debug)]
struct Environment {
    function: FunctionName,
    state: State,
    /// Out-of-memory kills so far; the counter never goes back.
    oom_kills: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Being made, or in its init phase.
    Starting,
    /// Waits for an invocation.
    Idle { since: Instant },
    /// Runs one.
    Busy { run: RunId },
    /// Has answered and not asked for the next yet.
    Answered,
    /// Was killed; gone soon.
    Ending(Reason),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    TimeLimit(RunId),
    InitLimit,
    NotNeeded,
}

/// All functions and environments of one host.
#[derive(Debug)]
pub(super) struct Pool {
    policy: Policy,
    functions: HashMap<FunctionName, Function>,
    environments: BTreeMap<EnvironmentId, Environment>,
    last: u64,
}

impl Pool {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            functions: HashMap::new(),
            environments: BTreeMap::new(),
            last: 0,
        }
    }

    /// Makes the function exist, with one environment on its way.
    pub(super) fn ensure(&mut self, name: &FunctionName, shape: &FunctionShape) -> Vec<Effect> {
        let function = self
            .functions
            .entry(name.clone())
            .or_insert_with(|| Function {
                shape: shape.clone(),
                pending: VecDeque::new(),
                deleted: false,
            });
        function.deleted = false;
        let ready = self.environments.values().any(|e| {
            e.function == *name && matches!(e.state, State::Starting | State::Idle { .. })
        });
        let mut effects = Vec::new();
        // What is on the machine is mounted when the container starts, not before.
        let binds = shape
            .machine
            .as_ref()
            .is_some_and(|machine| machine.binds());
        if !ready && !binds {
            self.make_room(name, &mut effects);
            self.start(name, &mut effects);
        }
        effects
    }

    /// Accepts an invocation; `None` when there is no such function.
    pub(super) fn invoke(
        &mut self,
        name: &FunctionName,
        invocation: Invocation,
    ) -> Option<Vec<Effect>> {
        let function = self.functions.get_mut(name).filter(|f| !f.deleted)?;
        function.pending.push_back(invocation);
        let mut effects = Vec::new();
        self.settle(name, self.policy.warm_ahead, &mut effects);
        Some(effects)
    }

    /// The environment's runtime asks for an invocation.
    pub(super) fn asked_next(&mut self, id: EnvironmentId, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(environment) = self.environments.get_mut(&id) else {
            return effects;
        };
        match environment.state {
            State::Starting | State::Answered => {
                environment.state = State::Idle { since: now };
                let name = environment.function.clone();
                self.settle(&name, 0, &mut effects);
                self.drop_superfluous(&mut effects);
            }
            // Asked again after a broken connection; what it is owed is on its way.
            State::Idle { .. } | State::Busy { .. } | State::Ending(_) => {}
        }
        effects
    }

    /// The runtime answered the invocation. False when it does not run it.
    pub(super) fn answered(
        &mut self,
        id: EnvironmentId,
        run: &RunId,
        answer: Answer,
        oom_kills: u64,
    ) -> Option<Vec<Effect>> {
        let environment = self.environments.get_mut(&id)?;
        match &environment.state {
            State::Busy { run: running } if running == run => {}
            State::Busy { .. }
            | State::Starting
            | State::Idle { .. }
            | State::Answered
            | State::Ending(_) => return None,
        }
        let out_of_memory = environment.count_oom(oom_kills);
        environment.state = State::Answered;
        let shape = self.functions.get(&environment.function).map(|f| &f.shape);
        let end = match (answer, shape) {
            (_, Some(shape)) if out_of_memory => InvocationEnd::OutOfMemory {
                limit_mib: shape.memory_mib,
            },
            (Answer::Response, _) => InvocationEnd::Succeeded,
            (Answer::Error(reason), _) => InvocationEnd::Crashed { reason },
        };
        let mut effects = vec![Effect::Tell(run.clone(), end)];
        if shape.is_none_or(|shape| shape.runtime == Runtime::Microvm) {
            // Never used for two runs: what the first left running or mounted dies with it.
            environment.kill(id, Reason::NotNeeded, &mut effects);
        }
        Some(effects)
    }

    /// The environment is gone (or could not be made); `how`, for people.
    pub(super) fn exited(&mut self, id: EnvironmentId, how: &str, oom_kills: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(mut environment) = self.environments.remove(&id) else {
            return effects;
        };
        let out_of_memory = environment.count_oom(oom_kills);
        let function = self.functions.get_mut(&environment.function);
        let limit_mib = function.as_ref().map_or(0, |f| f.shape.memory_mib);
        let ended = |reason: String| {
            if out_of_memory {
                InvocationEnd::OutOfMemory { limit_mib }
            } else {
                InvocationEnd::Crashed { reason }
            }
        };
        // An environment that never got ready takes one waiting invocation with
        // it, so that a broken image does not make the host try for ever.
        let waiting = function.and_then(|f| match environment.state {
            State::Starting | State::Ending(Reason::InitLimit) => f.pending.pop_front(),
            _ => None,
        });
        match (environment.state, waiting) {
            (State::Busy { run }, _) => effects.push(Effect::Tell(run, ended(how.to_owned()))),
            (State::Ending(Reason::TimeLimit(run)), _) => effects.push(Effect::Tell(
                run,
                InvocationEnd::TimedOut {
                    // Limits are below 2^32 seconds.
                    limit_s: u32::try_from(self.policy.time_limit.as_secs()).unwrap_or(u32::MAX),
                },
            )),
            (State::Starting, Some(waiting)) => effects.push(Effect::Tell(
                waiting.run,
                ended(format!("before the first invocation: {how}")),
            )),
            (State::Ending(Reason::InitLimit), Some(waiting)) => effects.push(Effect::Tell(
                waiting.run,
                ended(format!(
                    "did not ask for an invocation within {} s",
                    self.policy.init_limit.as_secs_f32()
                )),
            )),
            (
                State::Starting | State::Ending(_) | State::Idle { .. } | State::Answered,
                None | Some(_),
            ) => {}
        }
        // It may have been what others waited for: its place, or its writable layer.
        let waiting: Vec<_> = self
            .functions
            .iter()
            .filter(|(_, f)| !f.pending.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            self.settle(&name, 0, &mut effects);
        }
        self.forget_deleted();
        effects
    }

    /// The time that was given with [`Effect::Deliver`] has passed.
    pub(super) fn time_limit_passed(&mut self, id: EnvironmentId, run: &RunId) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(environment) = self.environments.get_mut(&id)
            && environment.state == (State::Busy { run: run.clone() })
        {
            environment.kill(id, Reason::TimeLimit(run.clone()), &mut effects);
        }
        effects
    }

    /// [`Policy::init_limit`] has passed since [`Effect::Start`], or since the
    /// last answer, without the runtime asking for an invocation.
    pub(super) fn init_limit_passed(&mut self, id: EnvironmentId) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(environment) = self.environments.get_mut(&id) {
            match environment.state {
                State::Starting => environment.kill(id, Reason::InitLimit, &mut effects),
                State::Answered => environment.kill(id, Reason::NotNeeded, &mut effects),
                State::Idle { .. } | State::Busy { .. } | State::Ending(_) => {}
            }
        }
        effects
    }

    /// Kills what has been idle for too long. Returns when to look again.
    pub(super) fn reclaim(&mut self, now: Instant) -> (Vec<Effect>, Option<Instant>) {
        let mut effects = Vec::new();
        let mut next: Option<Instant> = None;
        for (id, environment) in &mut self.environments {
            if let State::Idle { since } = environment.state {
                let until = since + self.policy.idle_timeout;
                if until <= now {
                    environment.kill(*id, Reason::NotNeeded, &mut effects);
                } else {
                    next = Some(next.map_or(until, |next| next.min(until)));
                }
            }
        }
        (effects, next)
    }

    /// Forgets the function. Invocations that wait or run go on.
    pub(super) fn delete(&mut self, name: &FunctionName) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(function) = self.functions.get_mut(name) else {
            return effects;
        };
        function.deleted = true;
        let needed = !function.pending.is_empty();
        for (id, environment) in &mut self.environments {
            if environment.function == *name
                && (matches!(environment.state, State::Idle { .. })
                    || (environment.state == State::Starting && !needed))
            {
                environment.kill(*id, Reason::NotNeeded, &mut effects);
            }
        }
        self.forget_deleted();
        effects
    }

    /// Kills the environments that have this container's writable layer, and
    /// says which are not gone yet.
    pub(super) fn evict_owner(&mut self, owner: &ContainerId) -> (Vec<Effect>, Vec<EnvironmentId>) {
        let mut effects = Vec::new();
        let mut alive = Vec::new();
        for (id, environment) in &mut self.environments {
            let owned = self
                .functions
                .get(&environment.function)
                .is_some_and(|f| f.shape.owner.as_ref() == Some(owner));
            if owned {
                alive.push(*id);
                match environment.state {
                    State::Idle { .. } | State::Starting | State::Answered => {
                        environment.kill(*id, Reason::NotNeeded, &mut effects);
                    }
                    // A running invocation's end must still be told.
                    State::Busy { .. } => effects.push(Effect::Kill(*id)),
                    State::Ending(_) => {}
                }
            }
        }
        (effects, alive)
    }

    /// Kills everything and starts nothing any more.
    pub(super) fn close(&mut self) -> Vec<Effect> {
        self.policy.max_environments = 0;
        let waiting = self
            .functions
            .values_mut()
            .flat_map(|f| f.pending.drain(..));
        let mut effects: Vec<_> = waiting
            .map(|invocation| Effect::Tell(invocation.run, InvocationEnd::Lost))
            .collect();
        // Those that run something stay what they are, so that its end is told.
        effects.extend(self.environments.keys().copied().map(Effect::Kill));
        effects
    }

    /// Every environment is gone and nothing is known of what they did.
    pub(super) fn all_lost(&mut self) -> Vec<Effect> {
        let mut runs = Vec::new();
        for (_, environment) in std::mem::take(&mut self.environments) {
            match environment.state {
                State::Busy { run } | State::Ending(Reason::TimeLimit(run)) => runs.push(run),
                State::Starting | State::Idle { .. } | State::Answered | State::Ending(_) => {}
            }
        }
        for function in self.functions.values_mut() {
            runs.extend(function.pending.drain(..).map(|invocation| invocation.run));
        }
        self.forget_deleted();
        runs.into_iter()
            .map(|run| Effect::Tell(run, InvocationEnd::Lost))
            .collect()
    }

    /// The environment that runs this.
    pub(super) fn running(&self, run: &RunId) -> Option<EnvironmentId> {
        let runs = |environment: &Environment| match &environment.state {
            State::Busy { run: running } => running == run,
            State::Starting | State::Idle { .. } | State::Answered | State::Ending(_) => false,
        };
        let mut all = self.environments.iter();
        all.find_map(|(id, environment)| runs(environment).then_some(*id))
    }

    /// The function's shape.
    pub(super) fn shape(&self, name: &FunctionName) -> Option<&FunctionShape> {
        self.functions.get(name).map(|f| &f.shape)
    }

    /// Gives waiting invocations to idle environments, and makes as many
    /// environments as are missing.
    fn settle(&mut self, name: &FunctionName, ahead: usize, effects: &mut Vec<Effect>) {
        let Some(function) = self.functions.get_mut(name) else {
            return;
        };
        let limit = match function.shape.runtime {
            Runtime::Function => Some(self.policy.time_limit),
            Runtime::Microvm => None,
        };
        for (id, environment) in &mut self.environments {
            if environment.function == *name
                && matches!(environment.state, State::Idle { .. })
                && let Some(invocation) = function.pending.pop_front()
            {
                environment.state = State::Busy {
                    run: invocation.run.clone(),
                };
                effects.push(Effect::Deliver(*id, invocation, limit));
            }
        }
        // One that has just answered will ask again sooner than another is made.
        let on_their_way = self
            .environments
            .values()
            .filter(|e| {
                e.function == *name
                    && matches!(
                        e.state,
                        State::Starting | State::Idle { .. } | State::Answered
                    )
            })
            .count();
        let wanted = function.pending.len() + ahead;
        for _ in on_their_way..wanted {
            self.make_room(name, effects);
            self.start(name, effects);
        }
    }

    /// Starts one environment, if the limits allow.
    fn start(&mut self, name: &FunctionName, effects: &mut Vec<Effect>) {
        let Some(function) = self.functions.get(name) else {
            return;
        };
        if self.environments.len() >= self.policy.max_environments
            || self.is_taken(function.shape.owner.as_ref())
        {
            return;
        }
        self.last += 1;
        let id = EnvironmentId(self.last);
        self.environments.insert(
            id,
            Environment {
                function: name.clone(),
                state: State::Starting,
                oom_kills: 0,
            },
        );
        effects.push(Effect::Start(id, name.clone()));
    }

    /// Whether an environment has this container's writable layer: no two may
    /// at the same time.
    fn is_taken(&self, owner: Option<&ContainerId>) -> bool {
        owner.is_some()
            && self.environments.values().any(|environment| {
                self.functions
                    .get(&environment.function)
                    .is_some_and(|f| f.shape.owner.as_ref() == owner)
            })
    }

    /// Kills idle environments that stand in the way of another one of this function.
    fn make_room(&mut self, name: &FunctionName, effects: &mut Vec<Effect>) {
        let owner = self.functions.get(name).and_then(|f| f.shape.owner.clone());
        let full = self.environments.len() >= self.policy.max_environments;
        let longest_idle = self.longest_idle();
        for (id, environment) in &mut self.environments {
            let same_owner = owner.is_some()
                && environment.function != *name
                && self
                    .functions
                    .get(&environment.function)
                    .is_some_and(|f| f.shape.owner == owner);
            let idle = matches!(environment.state, State::Idle { .. });
            if idle && (same_owner || (full && longest_idle == Some(*id))) {
                environment.kill(*id, Reason::NotNeeded, effects);
            }
        }
    }

    fn longest_idle(&self) -> Option<EnvironmentId> {
        self.environments
            .iter()
            .filter_map(|(id, environment)| match environment.state {
                State::Idle { since } => Some((since, *id)),
                _ => None,
            })
            .min()
            .map(|(_, id)| id)
    }

    fn drop_superfluous(&mut self, effects: &mut Vec<Effect>) {
        for (id, environment) in &mut self.environments {
            let deleted = self
                .functions
                .get(&environment.function)
                .is_none_or(|f| f.deleted);
            if deleted && matches!(environment.state, State::Idle { .. }) {
                environment.kill(*id, Reason::NotNeeded, effects);
            }
        }
        let idle = |e: &&Environment| matches!(e.state, State::Idle { .. });
        while self.environments.values().filter(idle).count() > self.policy.max_idle {
            let Some(id) = self.longest_idle() else {
                return;
            };
            if let Some(environment) = self.environments.get_mut(&id) {
                environment.kill(id, Reason::NotNeeded, effects);
            }
        }
    }

    fn forget_deleted(&mut self) {
        let environments = &self.environments;
        self.functions.retain(|name, function| {
            !function.deleted
                || !function.pending.is_empty()
                || environments.values().any(|e| e.function == *name)
        });
    }
}

impl Environment {
    fn kill(&mut self, id: EnvironmentId, reason: Reason, effects: &mut Vec<Effect>) {
        self.state = State::Ending(reason);
        effects.push(Effect::Kill(id));
    }

    /// Whether the counter rose since it was last looked at.
    fn count_oom(&mut self, oom_kills: u64) -> bool {
        let rose = oom_kills > self.oom_kills;
        self.oom_kills = self.oom_kills.max(oom_kills);
        rose
    }
}

#[cfg(test)]
mod tests;
