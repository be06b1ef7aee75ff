//! One run: its credentials, its payload, its invocation, its end as the platform tells it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_shared::ids::{ContainerId, FunctionName, Namespace, PeerId, RunId};
use sockerless_shared::lifecycle::{DEADLINE_GRACE, Evidence, Input, Phase};
use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::protocol::invocation::{Errand, Invocation, MAX_PAYLOAD_BYTES};
use sockerless_shared::protocol::kept::KeptFiles;
use sockerless_shared::protocol::mac::Token;
use sockerless_shared::timestamp::Timestamp;

use super::settle::log_blob;
use super::{Control, EngineError};
use crate::api::containers::spec;
use crate::ports::function_host::{HostError, InvocationEnd, InvocationEvents};
use crate::ports::jobs::Job;
use crate::store::containers::Container;
use crate::store::runs::{RunRecord, Visit};

/// How long after its deadline a run's token and log upload are still good.
const AFTER_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// How long the log upload of a run without a deadline is good.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// So long a request waits for a new function; longer, and a job does.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// So long a job waits, which is less than an invocation may last.
const LONG_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// By so much may a run's deadline be off what it would be if it were reckoned anew: less than
/// what the sweep allows it ([`sockerless_shared::lifecycle::DEADLINE_GRACE`]).
const CLOSE_ENOUGH: Duration = Duration::from_secs(10);

/// The pause before a function is invoked again which refused that as it was being prepared.
const BETWEEN_INVOCATIONS: Duration = Duration::from_millis(250);

/// The exit code that Docker gives a container which it lost.
const LOST: i32 = 255;
/// The exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;

impl Control {
    /// Invokes a run's function. What the host refuses becomes a failed start.
    pub(crate) async fn invoke(
        &self,
        container: &Container,
        run: &RunId,
    ) -> Result<(), EngineError> {
        if let Err(failure) = spec::check_start(container) {
            return self.start_failed(container, run, failure).await;
        }
        match self.try_invoke(container, run, SHORT_PATIENCE).await {
            Ok(true) => Ok(()),
            // It takes longer than a request may: gone on with in a job.
            Ok(false) => {
                if let Some(deadline) = self.deadline(container.shape.runtime) {
                    let deadline = deadline.plus(LONG_PATIENCE);
                    self.postpone(container, run, deadline).await?;
                }
                let job = Job::Start {
                    namespace: container.namespace.clone(),
                    container: container.id.clone(),
                    run: run.clone(),
                };
                Ok(self.jobs.submit(job).await?)
            }
            Err(error) => self.invoke_failed(container, run, error).await,
        }
    }

    /// Invokes a run whose function was not ready when it was started. Done twice, it
    /// finds the run invoked.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn start_prepared(
        &self,
        namespace: &Namespace,
        container: &ContainerId,
        run: &RunId,
    ) -> Result<(), EngineError> {
        let until = self.environment.now().plus(LONG_PATIENCE);
        loop {
            let Some(found) = self.store.container(namespace, container).await? else {
                return Ok(());
            };
            let container = found.record;
            let waits = container.lifecycle.phase == Phase::Starting
                && container
                    .lifecycle
                    .current_run()
                    .is_some_and(|current| current.id == *run);
            if !waits || self.store.run(run).await?.is_some() {
                return Ok(());
            }
            let now = self.environment.now();
            match self.try_invoke(&container, run, until.since(now)).await {
                Ok(true) => return Ok(()),
                Ok(false) if now < until => tokio::time::sleep(BETWEEN_INVOCATIONS).await,
                Ok(false) => {
                    let error = HostError::Preparing(container.function.clone());
                    return self.invoke_failed(&container, run, error.into()).await;
                }
                Err(error) => return self.invoke_failed(&container, run, error).await,
            }
        }
    }

    async fn invoke_failed(
        &self,
        container: &Container,
        run: &RunId,
        error: EngineError,
    ) -> Result<(), EngineError> {
        match error {
            EngineError::Host(error) => {
                let failure = StartFailure::without_process(error.to_string());
                self.start_failed(container, run, failure).await
            }
            error => {
                let failure = StartFailure::without_process(error.to_string());
                self.start_failed(container, run, failure).await?;
                Err(error)
            }
        }
    }

    /// Whether the run was invoked: its function may not be ready yet.
    async fn try_invoke(
        &self,
        container: &Container,
        run: &RunId,
        patience: Duration,
    ) -> Result<bool, EngineError> {
        let function = self.present_function(container).await?;
        match self.host.prepared(&function, patience).await {
            Ok(true) => {}
            // Deleted since it was made sure of: the next attempt has it made again.
            Ok(false) | Err(HostError::NoSuchFunction(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let postponed;
        let container = match self.deadline_of_one_that_waited(container) {
            None => container,
            Some(deadline) => match self.postpone(container, run, deadline).await? {
                Some(container) => {
                    self.jobs.wake_at(deadline.plus(DEADLINE_GRACE)).await?;
                    postponed = container;
                    &postponed
                }
                // Somebody has ended it while it waited.
                None => return Ok(true),
            },
        };
        let deadline = container
            .lifecycle
            .run
            .as_ref()
            .and_then(|run| run.deadline);
        let credentials = self.new_run(container, run, deadline, None).await?;
        let kept = self.kept_files(container, run, deadline).await?;
        let handed = self
            .hand_over(
                container,
                &function,
                run,
                credentials,
                deadline,
                Errand::Run,
                kept,
            )
            .await;
        match handed {
            Ok(()) => Ok(true),
            // Whoever invokes it later draws the run's secrets anew.
            Err(EngineError::Host(HostError::Preparing(_) | HostError::NoSuchFunction(_))) => {
                self.store.erase_run(run).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The deadline of a run that is invoked now, if that of its start is another.
    fn deadline_of_one_that_waited(&self, container: &Container) -> Option<Timestamp> {
        let known = container.lifecycle.run.as_ref()?.deadline?;
        let now = self.deadline(container.shape.runtime)?;
        let difference = now.since(known).max(known.since(now));
        (difference > CLOSE_ENOUGH).then_some(now)
    }

    /// Gives a run that waits for its function another deadline; nothing if it does not wait.
    async fn postpone(
        &self,
        container: &Container,
        run: &RunId,
        deadline: Timestamp,
    ) -> Result<Option<Container>, EngineError> {
        let input = Input::Postpone {
            run: run.clone(),
            deadline,
        };
        match self.apply(&container.namespace, &container.id, input).await {
            Ok(container) => Ok(Some(container)),
            Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores a new run, and returns what its agent is to have.
    pub(super) async fn new_run(
        &self,
        container: &Container,
        run: &RunId,
        deadline: Option<Timestamp>,
        visit: Option<Visit>,
    ) -> Result<(PeerId, Token), EngineError> {
        let token = Token::from_random(self.environment.random());
        let peer = PeerId::of_run(run);
        let record = RunRecord {
            namespace: container.namespace.clone(),
            container: container.id.clone(),
            peer: peer.clone(),
            token: Some(token.hash()),
            token_expires: deadline.map(|deadline| deadline.plus(AFTER_DEADLINE)),
            connection: None,
            certificate_sha256: None,
            streams: 0,
            next_command: 1,
            ended: false,
            orphaned: false,
            function: None,
            logs: None,
            ended_at: None,
            over: false,
            fleeting: visit.is_none() && container.lifecycle.auto_remove,
            retired: false,
            visit,
            log_stream: None,
        };
        self.store.create_run(run, &record).await?;
        Ok((peer, token))
    }

    /// Until when what a run stores at its end can be stored.
    pub(super) fn upload_until(&self, deadline: Option<Timestamp>) -> Timestamp {
        deadline.map_or_else(
            || self.environment.now().plus(NO_DEADLINE),
            |deadline| deadline.plus(AFTER_DEADLINE),
        )
    }

    /// Invokes the function for a run that is stored.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn hand_over(
        &self,
        container: &Container,
        function: &FunctionName,
        run: &RunId,
        (peer, token): (PeerId, Token),
        deadline: Option<Timestamp>,
        errand: Errand,
        kept: KeptFiles,
    ) -> Result<(), EngineError> {
        let upload_until = self.upload_until(deadline);
        let invocation = Invocation {
            version: VERSION,
            run: run.clone(),
            container: container.id.clone(),
            peer,
            token,
            grant_key: self.grant_key(run),
            relay_url: self.host.relay_url(),
            relay_is_far: self.host.relay_is_far(),
            log_upload_url: self.blobs.upload_url(&log_blob(run)?, upload_until).await?,
            spec: spec::container_spec(container),
            errand,
            kept,
        };
        let payload = Bytes::from(serde_json::to_vec(&invocation)?);
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(HostError::Unsupported(format!(
                "arguments and environment make an invocation of {} bytes, and Lambda takes {MAX_PAYLOAD_BYTES}; \
                 put large values into the image or fetch them from inside the container",
                payload.len()
            ))
            .into());
        }
        self.host.invoke(function, run, payload).await?;
        Ok(())
    }

    /// The container's function, made again should it have been swept.
    pub(super) async fn present_function(
        &self,
        container: &Container,
    ) -> Result<FunctionName, EngineError> {
        let name = self.host.ensure(&container.shape).await?.name;
        if name != container.function {
            // It is removed with the container.
            self.store
                .update_container(&container.namespace, &container.id, |container| {
                    container.function = name.clone();
                    Ok::<_, EngineError>(())
                })
                .await?;
        }
        Ok(name)
    }

    /// The memory in MiB of the function that was invoked for a run, if the run is known.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn memory_of(&self, run: &RunId) -> Result<Option<u32>, EngineError> {
        let Some(record) = self.store.run(run).await? else {
            return Ok(None);
        };
        let container = self
            .store
            .container(&record.namespace, &record.container)
            .await?;
        Ok(container.map(|container| container.record.shape.memory_mib))
    }

    /// Takes the platform's word on a run.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn platform_report(
        &self,
        run: &RunId,
        end: InvocationEnd,
    ) -> Result<(), EngineError> {
        let Some(record) = self.store.run(run).await? else {
            return Ok(());
        };
        if record.visit.is_some() {
            return self.visit_failed(run, &record, &end).await;
        }
        let Some((code, oom_killed, error)) = exit_by_platform(&end) else {
            return self.commits_cut_short(run).await;
        };
        let at = self.environment.now();
        let input = Input::Ended {
            run: run.clone(),
            at,
            code,
            oom_killed,
            error,
            evidence: Evidence::Platform,
            grace_over: false,
            health: None,
        };
        match self
            .apply(&record.namespace, &record.container, input)
            .await
        {
            Ok(_) => self.announce_gone(run, &record).await?,
            Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => {}
            Err(error) => return Err(error),
        }
        // After its end is known, which is what a visitor can be sent for.
        self.commits_cut_short(run).await
    }
}

#[async_trait]
impl InvocationEvents for Control {
    async fn invocation_ended(&self, run: &RunId, end: InvocationEnd) {
        if let Err(error) = self.platform_report(run, end).await {
            tracing::error!(%run, %error, "the end of an invocation could not be recorded; the sweep will");
        }
        if let Err(error) = self.free_environment(run).await {
            tracing::error!(%run, %error, "what a removed container wrote could not be removed");
        }
    }
}

/// Docker's exit code, `OOMKilled` and `Error` for an end that the platform
/// reports; `None` where the agent's own report says it, or will.
fn exit_by_platform(end: &InvocationEnd) -> Option<(i32, bool, String)> {
    match end {
        InvocationEnd::Succeeded => None,
        InvocationEnd::TimedOut { limit_s } => Some((
            KILLED,
            false,
            format!("the time limit of a function, {limit_s} s, ended the container; use --runtime microvm for longer work"),
        )),
        InvocationEnd::OutOfMemory { limit_mib } => Some((
            KILLED,
            true,
            format!("the container needed more than its {limit_mib} MiB of memory; give it more with -m"),
        )),
        InvocationEnd::Crashed { reason } => Some((
            LOST,
            false,
            format!("the container's environment ended without reporting an exit: {reason}; see `docker logs` for its last words"),
        )),
        InvocationEnd::Lost => Some((
            LOST,
            false,
            "the process that ran the container was restarted while it ran, and the container ended with it; start it again".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_word_becomes_dockers_state() {
        assert_eq!(exit_by_platform(&InvocationEnd::Succeeded), None);
        let (code, oom, error) =
            exit_by_platform(&InvocationEnd::OutOfMemory { limit_mib: 128 }).unwrap();
        assert_eq!((code, oom), (137, true));
        assert!(error.contains("128 MiB"));
        let (code, oom, _) = exit_by_platform(&InvocationEnd::Lost).unwrap();
        assert_eq!((code, oom), (255, false));
    }
}
