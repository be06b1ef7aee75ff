//! Recovery after a restart, the sweep, and shutting down.

use std::time::Duration;

use sockerless_shared::ids::{ContainerId, Namespace};
use sockerless_shared::lifecycle::{DEADLINE_GRACE, Input, Phase, RESTART_GRACE};
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::timestamp::Timestamp;

use super::{Control, EngineError};
use crate::ports::function_host::InvocationEnd;
use crate::store::containers::Container;

/// How soon a sweep that could not look at everything looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// When something has to be done about a container, should nothing be heard of it.
pub(super) fn next_look(container: &Container) -> Option<Timestamp> {
    if container.lifecycle.phase == Phase::Restarting {
        return Some(container.lifecycle.restarts.due?.plus(RESTART_GRACE));
    }
    let run = container.lifecycle.current_run()?;
    Some(run.deadline?.plus(DEADLINE_GRACE))
}

fn sooner(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Control {
    /// After a start of a control plane whose host keeps no invocation over it:
    /// every run that went on is over. Also finishes what was left half-done.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recover(&self) -> Result<(), EngineError> {
        for (namespace, id) in self.store.live_containers().await? {
            let Some(found) = self.store.container(&namespace, &id).await? else {
                continue;
            };
            if let Some(run) = found.record.lifecycle.current_run() {
                let run = run.id.clone();
                if self.store.run(&run).await?.is_some() {
                    self.platform_report(&run, InvocationEnd::Lost).await?;
                } else {
                    // Saved as starting, never invoked.
                    self.start_failed(&found.record, &run, StartFailure::interrupted())
                        .await?;
                }
            }
        }
        self.start_with_host().await
    }

    /// Starts what its policy wants to run. What waited to be started again waits no longer.
    async fn start_with_host(&self) -> Result<(), EngineError> {
        for (namespace, id) in self.store.restarted_containers().await? {
            let Some(found) = self.store.container(&namespace, &id).await? else {
                continue;
            };
            let lifecycle = &found.record.lifecycle;
            let waiting = lifecycle
                .run
                .as_ref()
                .filter(|_| lifecycle.phase == Phase::Restarting);
            if let Some(run) = waiting {
                self.restart_due(&namespace, &id, run.id.clone()).await?;
            } else if lifecycle.starts_with_its_host() {
                match self.start(&found.record).await {
                    Ok(_) | Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => {}
                    Err(error) => {
                        tracing::warn!(container = %id, %error, "a container could not be started again");
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks at every container whose run goes on and ends those whose
    /// deadline has long passed without a word; deletes functions that nobody uses.
    /// Arranges for the next look, if anything is left to look at.
    ///
    /// # Errors
    /// When the store or the host fails; what could be looked at has been then, and the rest is
    /// looked at again soon.
    pub async fn sweep(&self) -> Result<(), EngineError> {
        // Before anything is looked at: whoever starts a container from now on arranges
        // a look, and those who did before are seen.
        self.jobs.woken().await?;
        let mut next = None;
        let mut failed = None;
        match self.store.live_containers().await {
            Ok(live) => {
                for (namespace, id) in live {
                    match self.sweep_container(&namespace, &id).await {
                        Ok(look) => next = sooner(next, look),
                        Err(error) => {
                            tracing::warn!(container = %id, %error, "the sweep could not look at a container");
                            failed = Some(error);
                        }
                    }
                }
            }
            Err(error) => failed = Some(error.into()),
        }
        match self.host.sweep().await {
            Ok(look) => next = sooner(next, look),
            Err(error) => failed = Some(error.into()),
        }
        if failed.is_some() {
            next = sooner(next, Some(self.environment.now().plus(LOOK_AGAIN)));
        }
        if let Some(at) = next {
            self.jobs.wake_at(at).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Looks at one container; when it has to be looked at again.
    async fn sweep_container(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
    ) -> Result<Option<Timestamp>, EngineError> {
        match self.apply(namespace, id, Input::Sweep).await {
            Ok(_) | Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => {}
            Err(error) => return Err(error),
        }
        if let Some(found) = self.store.container(namespace, id).await?
            && found.record.lifecycle.is_live()
        {
            return Ok(next_look(&found.record));
        }
        self.store.forget_marks(namespace, id).await?;
        Ok(None)
    }

    /// Stops every container that runs, as `dockerd` does when it is told to
    /// end: each gets its stop signal and its grace, all at once. Returns when all have ended or
    /// `limit` has passed; how many still ran then.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn shut_down(&self, limit: Duration) -> Result<usize, EngineError> {
        let until = tokio::time::Instant::now() + limit;
        for (namespace, id) in self.store.live_containers().await? {
            let Some(found) = self.store.container(&namespace, &id).await? else {
                continue;
            };
            let spec = crate::api::containers::spec::container_spec(&found.record);
            let input = Input::Stop {
                signal: spec.stop_signal,
                timeout_s: Some(spec.stop_timeout_s),
                by_hand: false,
            };
            match self.apply(&namespace, &id, input).await {
                Ok(_) | Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let live = self.running().await?;
            if live == 0 || tokio::time::Instant::now() >= until {
                return Ok(live);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn running(&self) -> Result<usize, EngineError> {
        let mut count = 0;
        for (namespace, id) in self.store.live_containers().await? {
            if let Some(found) = self.store.container(&namespace, &id).await? {
                count += match found.record.lifecycle.phase {
                    Phase::Starting | Phase::Running | Phase::Paused => 1,
                    Phase::Created
                    | Phase::Restarting
                    | Phase::Exited
                    | Phase::Removing
                    | Phase::Dead => 0,
                };
            }
        }
        Ok(count)
    }
}
