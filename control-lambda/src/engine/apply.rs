//! One lifecycle input to one container: load, step, save, act.

use std::error::Error;
use std::time::Duration;

use futures_util::future::join;
use sockerless_shared::ids::{AnswerId, ContainerId, Namespace, RunId};
use sockerless_shared::lifecycle::{
    Desired, Effect, Event, Input, Lifecycle, Phase, Refusal, StartResult, step,
};
use sockerless_shared::protocol::control::{Command, ControlToAgent, StartFailure};
use sockerless_shared::protocol::kept::Kept;
use sockerless_shared::spec::Runtime;
use sockerless_shared::timestamp::Timestamp;

use super::events::of_lifecycle;
use super::spend::SpendGuard;
use super::upkeep::next_look;
use super::{Control, EngineError};
use crate::ports::jobs::Job;
use crate::store::containers::{Container, Files, MAX_REMEMBERED_RUNS};
use crate::store::runs::{PendingCommand, RunRecord};

/// How long the token of a run that is over is still good: its agent may come back for an
/// acknowledgement that it missed.
pub(super) const REVOKED_AFTER: Duration = Duration::from_secs(300);

/// So long an accepted invocation may wait for a place: Lambda forgets it then
/// (`MaximumEventAgeInSeconds`).
pub(super) const LONGEST_QUEUED: Duration = Duration::from_secs(60);

/// So long after it was asked for, a start has come to something, wherever the control plane was
/// when it died: API Gateway waits for 30 s, and Lambda keeps an invocation for a minute.
const START_LIMIT: Duration = Duration::from_secs(75);

impl Control {
    /// Steps a container and carries out what follows.
    ///
    /// # Errors
    /// [`EngineError::Refused`] when the state does not allow it,
    /// [`EngineError::NoSuchContainer`], or when a port fails.
    pub async fn apply(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        input: Input,
    ) -> Result<Container, EngineError> {
        self.apply_with(namespace, id, input, None, |_| {}).await
    }

    /// Steps a container, and notes something else in its record by the same write; for an
    /// input that ends a run, with what was kept of its files.
    ///
    /// # Errors
    /// As [`Control::apply`].
    pub(crate) async fn apply_with(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        input: Input,
        kept: Option<Kept>,
        note: impl Fn(&mut Container),
    ) -> Result<Container, EngineError> {
        let (container, effects) = self
            .step_and_save(namespace, id, &input, kept.as_ref(), note)
            .await?;
        self.act(&container, effects).await?;
        Ok(container)
    }

    /// Steps and saves, with what Docker's events say of it; what else follows is returned.
    async fn step_and_save(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        input: &Input,
        kept: Option<&Kept>,
        note: impl Fn(&mut Container),
    ) -> Result<(Container, Vec<Effect>), EngineError> {
        let now = self.environment.now();
        let mut said = false;
        let mut forgotten = None;
        let changed = self
            .store
            .update_and_log(namespace, id, |container| {
                let (next, effects) = step(&container.lifecycle, input.clone(), now)?;
                let before = std::mem::replace(&mut container.lifecycle, next);
                if let Input::Start { run, .. } | Input::RestartDue { run, .. } = input {
                    forgotten = remember_run(&mut container.runs, run);
                }
                note(container);
                let superseded = files_after(&before, container, input, kept);
                let (events, effects) = apart(effects);
                let events = of_lifecycle(container, &events, now);
                if effects.contains(&Effect::Erase) {
                    // Its removal follows, has an event of its own, and logs these with it.
                    container.erased = Some(now);
                    return Ok(((effects, superseded), events));
                }
                said = !events.is_empty();
                Ok::<_, EngineError>(((effects, superseded), events))
            })
            .await?;
        let Some((container, (effects, superseded))) = changed else {
            return Err(EngineError::NoSuchContainer(id.clone()));
        };
        self.forget_files(superseded).await?;
        if said {
            self.tell_listeners_of(namespace, id).await;
        }
        if let Some(run) = forgotten {
            self.forget_run(&run).await?;
        }
        Ok((container, effects))
    }

    /// Steps with a start of a fresh run, in the container's networks as they are now.
    ///
    /// # Errors
    /// As [`Control::apply`], and [`EngineError::Network`].
    pub async fn start(&self, container: &Container) -> Result<Container, EngineError> {
        let run = RunId::from_random(self.environment.random());
        let deadline = self.deadline(container.shape.runtime);
        let input = Input::Start {
            run: run.clone(),
            deadline,
        };
        // One that runs is told so by the step.
        let joins = !container.lifecycle.is_live();
        self.start_by(container, run, input, joins).await
    }

    /// Steps with an input that begins this run, in the container's networks as they are now.
    async fn start_by(
        &self,
        container: &Container,
        run: RunId,
        input: Input,
        joins: bool,
    ) -> Result<Container, EngineError> {
        let Container {
            namespace,
            id,
            shape,
            ..
        } = container;
        if joins && self.config.spend_guard != SpendGuard::default() {
            match self.hold(container).await {
                Err(EngineError::Guard(refusal)) => {
                    self.refuse_start(container, run, &input, &refusal).await?;
                    return Err(refusal.into());
                }
                held => held?,
            }
        }
        let joined = if joins {
            match self.join(container).await {
                Err(EngineError::Network(error)) => {
                    let refused = self.refuse_start(container, run, &input, &error).await?;
                    self.give_back(&refused).await?;
                    return Err(error.into());
                }
                joined => Some(joined?),
            }
        } else {
            None
        };
        if let Some(joined) = &joined
            && joined.changes(shape)
        {
            // An environment that waits for this container has another network.
            self.host.delete(&container.function).await?;
        }
        self.apply_with(namespace, id, input, None, |container| {
            if let Some(joined) = &joined {
                joined.note(container);
            }
        })
        .await
    }

    /// Notes that a container could not be started, before anything was invoked or stored
    /// for the run. Whoever asked for the start hears it from the caller.
    async fn refuse_start(
        &self,
        container: &Container,
        run: RunId,
        begin: &Input,
        error: &(dyn Error + Sync),
    ) -> Result<Container, EngineError> {
        let Container { namespace, id, .. } = container;
        let at = self.environment.now();
        let changed = self
            .store
            .update_container(namespace, id, |container| {
                let (starting, _) = step(&container.lifecycle, begin.clone(), at)?;
                let failed = Input::StartFailed {
                    run: run.clone(),
                    at,
                    failure: StartFailure::without_process(error.to_string()),
                };
                let (next, effects) = step(&starting, failed, at)?;
                container.lifecycle = next;
                Ok::<_, EngineError>(effects)
            })
            .await?;
        let Some((container, effects)) = changed else {
            return Err(EngineError::NoSuchContainer(id.clone()));
        };
        self.end_agent_waiters(&container).await?;
        let moot =
            |effect: &Effect| matches!(effect, Effect::AnswerStart(_) | Effect::Revoke { .. });
        let others = effects.into_iter().filter(|effect| !moot(effect)).collect();
        self.act(&container, others).await?;
        Ok(container)
    }

    /// When the platform will have ended a run that is invoked now.
    pub(super) fn deadline(&self, runtime: Runtime) -> Option<Timestamp> {
        let limit = self.config.function_time_limit + LONGEST_QUEUED;
        match runtime {
            Runtime::Function => Some(self.environment.now().plus(limit)),
            Runtime::Microvm => None,
        }
    }

    async fn act(&self, container: &Container, effects: Vec<Effect>) -> Result<(), EngineError> {
        for effect in effects {
            match effect {
                Effect::Invoke { run } => {
                    // Whatever becomes of it, the sweep will find it: this must not wait for
                    // an invocation in which the control plane may die.
                    let look = async {
                        match next_look(container) {
                            Some(at) => self.jobs.wake_at(at).await,
                            None => Ok(()),
                        }
                    };
                    let (invoked, arranged) =
                        join(Box::pin(self.invoke(container, &run)), look).await;
                    invoked?;
                    arranged?;
                }
                Effect::Tell { run, command } => {
                    self.tell(&run, PendingCommand::plain(command, None))
                        .await?;
                }
                Effect::AnswerStart(result) => self.answer_starts(container, &result).await?,
                Effect::AnswerExit => self.answer_exits(container).await?,
                // Logged with the state; see `step_and_save`.
                Effect::Emit(_) => {}
                Effect::Revoke { run } => {
                    self.revoke(&run).await?;
                    self.give_back(container).await?;
                }
                Effect::StartAgain => Box::pin(self.start_again(container)).await?,
                Effect::RestartLater { ended, delay } => {
                    self.restart_later(container, ended, delay).await?;
                }
                Effect::Erase => self.erase(container).await?,
            }
        }
        Ok(())
    }

    /// Sends a command to a run's agent: at once when its process runs, else
    /// as soon as it does. Kept and sent again until the agent confirms it.
    pub(crate) async fn tell(
        &self,
        run: &RunId,
        pending: PendingCommand,
    ) -> Result<(), EngineError> {
        let stop = match pending.command {
            Command::Pause => Some(true),
            Command::Unpause => Some(false),
            Command::Stop { .. }
            | Command::Kill { .. }
            | Command::Resize { .. }
            | Command::ResizeExec { .. }
            | Command::StoreLayer { .. }
            | Command::StartExec { .. }
            | Command::Probe { .. } => None,
        };
        if let Some(stop) = stop
            && self.host.freeze(run, stop).await?
        {
            return Box::pin(self.carried_out(run, &pending, None)).await;
        }
        let Some((id, record)) = self.store.add_command(run, &pending).await? else {
            if pending.commit.is_some() {
                let error = Some("the container was removed meanwhile".to_owned());
                return Box::pin(self.carried_out(run, &pending, error)).await;
            }
            return Ok(());
        };
        if record.ended {
            // Nobody will confirm it.
            return Box::pin(self.commits_cut_short(run)).await;
        }
        if let Some(connection) = &record.connection
            && self.takes_commands(run, &record).await?
        {
            let message = ControlToAgent::Command {
                id,
                command: pending.command,
            };
            self.post_or_forget(connection, serde_json::to_string(&message)?)
                .await;
        }
        Ok(())
    }

    /// Whether a run's process runs, so that commands reach it.
    pub(crate) async fn takes_commands(
        &self,
        run: &RunId,
        record: &RunRecord,
    ) -> Result<bool, EngineError> {
        let found = self
            .store
            .container(&record.namespace, &record.container)
            .await?;
        Ok(found.is_some_and(|found| {
            let lifecycle = &found.record.lifecycle;
            let runs = matches!(lifecycle.phase, Phase::Running | Phase::Paused);
            runs && lifecycle
                .current_run()
                .is_some_and(|current| current.id == *run)
        }))
    }

    /// Checks with the lifecycle that a command may be sent, and sends it; `answer` is
    /// given when the agent has carried it out.
    ///
    /// # Errors
    /// As [`Control::apply`]; the answer is forgotten then.
    pub async fn tell_and_answer(
        &self,
        container: &Container,
        command: Command,
        input: Input,
        answer: AnswerId,
    ) -> Result<(), EngineError> {
        let outcome = self
            .try_tell_and_answer(container, command, input, &answer)
            .await;
        if outcome.is_err() {
            self.store.erase_answer(&answer).await?;
        }
        outcome
    }

    async fn try_tell_and_answer(
        &self,
        container: &Container,
        command: Command,
        input: Input,
        answer: &AnswerId,
    ) -> Result<(), EngineError> {
        let (container, effects) = self
            .step_and_save(&container.namespace, &container.id, &input, None, |_| {})
            .await?;
        for effect in effects {
            match effect {
                Effect::Tell { run, command: told } => {
                    let answer = (told == command).then(|| answer.clone());
                    self.tell(&run, PendingCommand::plain(told, answer)).await?;
                }
                other => self.act(&container, vec![other]).await?,
            }
        }
        Ok(())
    }

    /// Makes a run's token worthless. Its agent may still come back for an
    /// acknowledgement that it missed; that rests on its nonce.
    async fn revoke(&self, run: &RunId) -> Result<(), EngineError> {
        let expires = self.environment.now().plus(REVOKED_AFTER);
        self.store
            .update_run(run, |record| record.revoke(expires))
            .await?;
        Ok(())
    }

    async fn start_again(&self, container: &Container) -> Result<(), EngineError> {
        match self.start(container).await {
            // Somebody else already did, or removed it meanwhile.
            Ok(_) | Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => Ok(()),
            Err(EngineError::Guard(refusal)) => {
                tracing::warn!(%refusal, container = container.id.short(), "not started again");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Has a container started again once the time for that has come.
    async fn restart_later(
        &self,
        container: &Container,
        ended: RunId,
        delay: Duration,
    ) -> Result<(), EngineError> {
        let job = Job::Restart {
            namespace: container.namespace.clone(),
            container: container.id.clone(),
            ended,
        };
        Ok(self.jobs.submit_later(job, delay).await?)
    }

    /// The time for a restart has come; one that is not wanted any more is none.
    ///
    /// # Errors
    /// When a port fails.
    pub async fn restart_due(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        ended: RunId,
    ) -> Result<(), EngineError> {
        let Some(found) = self.store.container(namespace, id).await? else {
            return Ok(());
        };
        let container = &found.record;
        let run = RunId::from_random(self.environment.random());
        let input = Input::RestartDue {
            ended,
            run: run.clone(),
            deadline: self.deadline(container.shape.runtime),
        };
        match self.start_by(container, run, input, true).await {
            // A network that is gone, and the spend guard, end the restarts, and are recorded.
            Ok(_)
            | Err(
                EngineError::Refused(_)
                | EngineError::NoSuchContainer(_)
                | EngineError::Network(_)
                | EngineError::Guard(_),
            ) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has a start that no agent has come for begun anew, or ended, when it should have come to
    /// something: for those to whom it matters.
    ///
    /// # Errors
    /// When that cannot be arranged.
    pub(crate) async fn look_after_start(&self, container: &Container) -> Result<(), EngineError> {
        let lifecycle = &container.lifecycle;
        let Some(run) = lifecycle
            .run
            .as_ref()
            .filter(|_| lifecycle.waits_for_agent())
        else {
            return Ok(());
        };
        let job = Job::StartAnew {
            namespace: container.namespace.clone(),
            container: container.id.clone(),
            run: run.id.clone(),
        };
        let limit = run.requested_at.plus(START_LIMIT);
        let delay = limit.since(self.environment.now());
        Ok(self.jobs.submit_later(job, delay).await?)
    }

    /// Begins a start anew whose agent has not come: the control plane may have died before it
    /// invoked the function. Those who wait for the start, or for the end, go on waiting. Where the container is
    /// not wanted to run any more, the start has failed.
    ///
    /// # Errors
    /// When a port fails.
    pub(crate) async fn start_anew(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        run: &RunId,
    ) -> Result<(), EngineError> {
        let Some(found) = self.store.container(namespace, id).await? else {
            return Ok(());
        };
        let lifecycle = &found.record.lifecycle;
        if !lifecycle.waits_for_agent() || lifecycle.run.as_ref().is_none_or(|r| r.id != *run) {
            return Ok(());
        }
        let again = lifecycle.desired == Desired::Running;
        let input = Input::StartFailed {
            run: run.clone(),
            at: self.environment.now(),
            failure: StartFailure::interrupted(),
        };
        let stepped = self
            .step_and_save(namespace, id, &input, None, |_| {})
            .await;
        let (failed, effects) = match stepped {
            Ok(stepped) => stepped,
            // Its agent has come meanwhile.
            Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let moot = |effect: &Effect| {
            again && matches!(effect, Effect::AnswerStart(_) | Effect::AnswerExit)
        };
        let effects = effects.into_iter().filter(|effect| !moot(effect)).collect();
        self.act(&failed, effects).await?;
        if !again {
            return Ok(());
        }
        match self.start(&failed).await {
            Ok(_) | Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => Ok(()),
            Err(error) => {
                let failure = StartFailure::without_process(error.to_string());
                self.answer_starts(&failed, &StartResult::Failed(failure))
                    .await
            }
        }
    }

    /// Reports that a run could not be started, in Docker's words.
    pub(crate) async fn start_failed(
        &self,
        container: &Container,
        run: &RunId,
        failure: StartFailure,
    ) -> Result<(), EngineError> {
        let at = self.environment.now();
        let input = Input::StartFailed {
            run: run.clone(),
            at,
            failure,
        };
        match self.apply(&container.namespace, &container.id, input).await {
            Ok(_) | Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whose files a container has once a run is over: those that the run kept. Returns those
/// that are not needed any more.
fn files_after(
    before: &Lifecycle,
    container: &mut Container,
    input: &Input,
    kept: Option<&Kept>,
) -> Option<Files> {
    if container.shape.runtime != Runtime::Function {
        return None;
    }
    let run = &before.run.as_ref()?.id;
    let began = !matches!(input, Input::StartFailed { .. });
    let is_over = container.lifecycle.current_run().is_none();
    let ended = before.current_run().is_some() && is_over && began;
    // The agent's own word comes after the platform's.
    let corrected =
        kept.is_some() && is_over && container.files.as_ref().is_some_and(|f| f.by == *run);
    if !ended && !corrected {
        return None;
    }
    let kept = kept.cloned().unwrap_or_else(|| Kept::Lost {
        reason: "its environment ended before it could keep anything".to_owned(),
    });
    let by = run.clone();
    container.files.replace(Files { by, kept })
}

/// The run that is forgotten for it, if there are too many.
fn remember_run(runs: &mut Vec<RunId>, run: &RunId) -> Option<RunId> {
    runs.push(run.clone());
    (runs.len() > MAX_REMEMBERED_RUNS).then(|| runs.remove(0))
}

/// What is said, and what is done.
fn apart(effects: Vec<Effect>) -> (Vec<Event>, Vec<Effect>) {
    let mut events = Vec::new();
    let mut rest = Vec::new();
    for effect in effects {
        match effect {
            Effect::Emit(event) => events.push(event),
            other => rest.push(other),
        }
    }
    (events, rest)
}

/// The refusals that mean "this has already happened", for inputs that arrive more than once.
#[must_use]
pub(crate) const fn is_repetition(refusal: Refusal) -> bool {
    match refusal {
        Refusal::NothingNew | Refusal::OtherRun => true,
        Refusal::AlreadyStarted
        | Refusal::AlreadyStopped
        | Refusal::NotRunning
        | Refusal::IsPaused
        | Refusal::NotPaused
        | Refusal::IsRunning
        | Refusal::IsRestarting
        | Refusal::IsBeingRemoved
        | Refusal::MarkedForRemoval
        | Refusal::ClaimedByOther => false,
    }
}

/// Whether a start went well.
#[must_use]
pub(crate) const fn started(result: &StartResult) -> bool {
    match result {
        StartResult::Running => true,
        StartResult::Failed(_) => false,
    }
}
