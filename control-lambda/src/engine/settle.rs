//! Answering those who wait, and what else follows from a container's state.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use sockerless_shared::answer::{Head, Part};
use sockerless_shared::ids::RunId;
use sockerless_shared::lifecycle::{Desired, Input, Phase, StartResult};
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::protocol::grant::Operation;

use super::events::of_container;
use super::{Control, EngineError};
use crate::ports::blobs::BlobName;
use crate::store::containers::Container;
use crate::store::runs::RunRecord;
use crate::store::waiters::{AGENTS, REMOVALS, STARTS, Wait, Waiter};

/// What happens next happens a nanosecond later, as far as the order of events tells.
const NEXT: Duration = Duration::from_nanos(1);

impl Control {
    /// Does whatever a container's state calls for and may not have been done,
    /// because the control plane died between saving and acting. Idempotent.
    ///
    /// # Errors
    /// When a port fails.
    pub async fn settle(&self, container: &Container) -> Result<(), EngineError> {
        let lifecycle = &container.lifecycle;
        match lifecycle.phase {
            Phase::Running | Phase::Paused => {
                self.answer_starts(container, &StartResult::Running).await
            }
            Phase::Exited => {
                self.answer_starts(container, &StartResult::Running).await?;
                self.answer_exits(container).await?;
                if lifecycle.desired == Desired::Restarted {
                    self.start(container).await?;
                }
                Ok(())
            }
            Phase::Restarting => {
                self.answer_starts(container, &StartResult::Running).await?;
                self.answer_exits(container).await
            }
            Phase::Removing => {
                self.answer_exits(container).await?;
                self.erase(container).await
            }
            Phase::Created | Phase::Starting | Phase::Dead => Ok(()),
        }
    }

    pub(crate) async fn answer_starts(
        &self,
        container: &Container,
        result: &StartResult,
    ) -> Result<(), EngineError> {
        for waiter in self.store.waiters(&container.id, STARTS).await? {
            let parts = match (&waiter.wait, result) {
                (Wait::BegunStart, StartResult::Running) => empty(304),
                (_, StartResult::Running) => empty(204),
                (Wait::Restart, StartResult::Failed(failure)) => {
                    let message = format!(
                        "Cannot restart container {}: {}",
                        container.name, failure.message
                    );
                    error(start_failure_status(failure), &message)
                }
                (_, StartResult::Failed(failure)) => {
                    error(start_failure_status(failure), &failure.message)
                }
            };
            self.answer_waiter(&waiter, parts).await?;
        }
        if !super::apply::started(result) {
            // A stream that waits for the agent of a run that never was: its end
            // is all there is to say, the start has said the rest.
            self.end_agent_waiters(container).await?;
        }
        Ok(())
    }

    pub(crate) async fn answer_exits(&self, container: &Container) -> Result<(), EngineError> {
        let mut told = false;
        let mut agents = Vec::new();
        for waiter in self.store.all_waiters(&container.id).await? {
            let parts = match &waiter.wait {
                Wait::Exit => wait_result(container),
                Wait::Stop => empty(204),
                Wait::Agent { .. } => {
                    agents.push(waiter);
                    continue;
                }
                Wait::Start
                | Wait::BegunStart
                | Wait::Restart
                | Wait::RemovedExit
                | Wait::Removed
                | Wait::Visit { .. } => continue,
            };
            told |= self.answer_waiter(&waiter, parts).await?;
        }
        for waiter in agents {
            self.end_agent_waiter(container, waiter).await?;
        }
        if told {
            match Box::pin(self.apply(&container.namespace, &container.id, Input::Told)).await {
                Ok(_) | Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) async fn end_agent_waiters(&self, container: &Container) -> Result<(), EngineError> {
        for waiter in self.store.waiters(&container.id, AGENTS).await? {
            self.end_agent_waiter(container, waiter).await?;
        }
        Ok(())
    }

    /// Ends the wait of one for the agent of a run that is over.
    pub(crate) async fn end_agent_waiter(
        &self,
        container: &Container,
        waiter: Waiter,
    ) -> Result<(), EngineError> {
        match &waiter.wait {
            Wait::Agent { operation } if operation.is_of_files() => {
                let operation = operation.clone();
                self.visit_instead(container, &waiter, operation).await
            }
            Wait::Agent { .. } => {
                self.answer_waiter(&waiter, vec![Part::End]).await?;
                Ok(())
            }
            Wait::Start
            | Wait::BegunStart
            | Wait::Restart
            | Wait::Stop
            | Wait::Exit
            | Wait::RemovedExit
            | Wait::Removed
            | Wait::Visit { .. } => Ok(()),
        }
    }

    /// Has a visitor do with a container's files what its agent did not come to.
    async fn visit_instead(
        &self,
        container: &Container,
        waiter: &Waiter,
        operation: Operation,
    ) -> Result<(), EngineError> {
        if matches!(container.lifecycle.phase, Phase::Removing | Phase::Dead) {
            let message = format!("No such container: {}", container.id);
            self.answer_waiter(waiter, error(404, &message)).await?;
            return Ok(());
        }
        let run = RunId::from_random(self.environment.random());
        let wait = Wait::Visit {
            run: run.clone(),
            operation,
        };
        if !self.store.wait_otherwise(&waiter.answer, wait).await? {
            return Ok(());
        }
        let begun = Box::pin(self.visit(container, &run)).await;
        if let Err(why) = begun {
            self.answer_waiter(waiter, error(500, &why.to_string()))
                .await?;
        }
        Ok(())
    }

    /// Removes all that belongs to a container, its record last, then answers
    /// those who wait for that. Idempotent: done again, it goes on where it stopped.
    pub(crate) async fn erase(&self, container: &Container) -> Result<(), EngineError> {
        for run in &container.runs {
            self.erase_log(run).await?;
        }
        self.forget_files(container.files.clone()).await?;
        self.end_visits(container).await?;
        self.store
            .erase_execs(&container.namespace, &container.id)
            .await?;
        if container.shape.owner.is_some() {
            self.remove_environment(container).await?;
        }
        if container.remove_volumes || container.lifecycle.auto_remove {
            self.remove_anonymous_volumes(container).await?;
        }
        let at = container.erased.unwrap_or_else(|| self.environment.now());
        // After what its last step said.
        let after = container.unsaid.last().map(|event| event.at.plus(NEXT));
        let at = after.map_or(at, |after| after.max(at));
        let gone = of_container(container, "destroy", [], at);
        self.store.erase_container(container, gone).await?;
        self.tell_listeners(&container.namespace).await;
        for waiter in self.store.waiters(&container.id, REMOVALS).await? {
            self.answer_waiter(&waiter, removal_result(container, &waiter))
                .await?;
        }
        // The last run's agent may still want an acknowledgement: its record goes by itself.
        let current = container.lifecycle.run.as_ref().map(|run| &run.id);
        for run in &container.runs {
            if Some(run) != current {
                self.store.erase_run(run).await?;
            } else {
                self.store
                    .update_run(run, |run| run.retired |= !run.fleeting)
                    .await?;
            }
        }
        Ok(())
    }
}

impl Control {
    /// Removes a run's log.
    async fn erase_log(&self, run: &RunId) -> Result<(), EngineError> {
        Ok(self.blobs.delete(&log_blob(run)?).await?)
    }

    /// Removes all that is left of a run of a container that has had too many.
    pub(crate) async fn forget_run(&self, run: &RunId) -> Result<(), EngineError> {
        self.erase_log(run).await?;
        Ok(self.store.erase_run(run).await?)
    }

    /// Deletes the function of a container that has its own, and removes what it wrote: at
    /// once, or, while its agent may still be sending the last of its output, later.
    async fn remove_environment(&self, container: &Container) -> Result<(), EngineError> {
        if !self.host.lets_finish() {
            return self.delete_function(container).await;
        }
        self.host.delete(&container.function).await?;
        if let Some(run) = &container.lifecycle.run {
            let orphaned = self.store.update_run(&run.id, |run| {
                run.orphaned = !run.ended;
                run.orphaned
            });
            if let Some((_, true)) = orphaned.await? {
                return Ok(());
            }
        }
        Ok(self.host.remove_writable(&container.id).await?)
    }

    /// Deletes the function of a container that is gone, unless its agent is there, which
    /// may have output for somebody: then when it has left.
    async fn delete_function(&self, container: &Container) -> Result<(), EngineError> {
        if let Some(run) = &container.lifecycle.run {
            let waits = self.store.update_run(&run.id, |run| {
                let waits = run.connection.is_some();
                run.function = waits.then(|| container.function.clone());
                waits
            });
            if let Some((_, true)) = waits.await? {
                return Ok(());
            }
        }
        Ok(self.host.delete(&container.function).await?)
    }

    /// An agent's connection is gone: deletes the function that waited for that.
    pub(super) async fn agent_left(
        &self,
        run: &RunId,
        record: &RunRecord,
    ) -> Result<(), EngineError> {
        let Some(function) = &record.function else {
            return Ok(());
        };
        self.host.delete(function).await?;
        self.store
            .update_run(run, |run| run.function = None)
            .await?;
        Ok(())
    }

    /// A run's invocation is over: whatever waited for that is done.
    pub(crate) async fn free_environment(&self, run: &RunId) -> Result<(), EngineError> {
        let changed = self.store.update_run(run, |run| run.ended = true).await?;
        let Some((record, ())) = changed else {
            return Ok(());
        };
        if record.visit.is_none() {
            // Those that came between the word of the end and this; later ones see that it is over.
            self.commits_cut_short(run).await?;
        }
        self.agent_left(run, &record).await?;
        if record.orphaned {
            self.host.remove_writable(&record.container).await?;
            self.store.erase_run(run).await?;
        }
        Ok(())
    }
}

/// Where a run's log is kept.
pub(crate) fn log_blob(
    run: &sockerless_shared::ids::RunId,
) -> Result<BlobName, crate::ports::blobs::BlobError> {
    BlobName::new(format!("logs/{run}"))
}

fn removal_result(container: &Container, waiter: &Waiter) -> Vec<Part> {
    match &waiter.wait {
        Wait::RemovedExit => wait_result(container),
        Wait::Removed
        | Wait::Start
        | Wait::BegunStart
        | Wait::Restart
        | Wait::Stop
        | Wait::Exit
        | Wait::Visit { .. }
        | Wait::Agent { .. } => empty(204),
    }
}

/// The body of a `wait`, whose head has been sent already, for whoever waited for an exit.
/// It has no `Error`: with it, clients would not take over the exit code.
fn wait_result(container: &Container) -> Vec<Part> {
    let exit = container.lifecycle.exit.as_ref();
    wait_body(&json!({ "StatusCode": exit.map_or(0, |exit| exit.code) }))
}

/// The same for whoever asks when there is nothing to wait for. As with Docker, `Error` says
/// then why a container could not be started.
pub(crate) fn wait_result_at_once(container: &Container) -> Vec<Part> {
    let exit = container.lifecycle.exit.as_ref();
    let mut body = json!({ "StatusCode": exit.map_or(0, |exit| exit.code) });
    if container.lifecycle.phase == Phase::Created
        && let Some(error) = exit.map(|exit| &exit.error)
        && !error.is_empty()
    {
        body["Error"] = json!({ "Message": error });
    }
    wait_body(&body)
}

fn wait_body(body: &serde_json::Value) -> Vec<Part> {
    vec![
        Part::Data {
            data: Bytes::from(format!("{body}\n")),
        },
        Part::End,
    ]
}

/// A complete response without a body.
pub(crate) fn empty(status: u16) -> Vec<Part> {
    vec![
        Part::Head(Head {
            status,
            headers: crate::api::common_headers(),
        }),
        Part::End,
    ]
}

/// A complete response with Docker's error.
pub(crate) fn error(status: u16, message: &str) -> Vec<Part> {
    let response = crate::api::ApiError::new(status, message).into_response();
    vec![
        Part::Head(response.head),
        Part::Data {
            data: response.body,
        },
        Part::End,
    ]
}

/// Docker answers a command that is not there or not executable with 400, and
/// every other failure to start with 500.
const fn start_failure_status(failure: &StartFailure) -> u16 {
    match failure.code {
        126 | 127 => 400,
        _ => 500,
    }
}
