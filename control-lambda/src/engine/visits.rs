//! A container's files while it does not run, and what is kept of them.
//!
//! Where its environment is gone with its run, an agent is invoked for the files alone: a
//! *visit*. It finds the root as a start would (the image's layers, and under microvm what was
//! written over them), and under function lays down in `/tmp` what was kept of it. Whoever changes
//! those files keeps them anew, unless somebody else was quicker.

use std::time::Duration;

use sockerless_shared::ids::{Nonce, RunId};
use sockerless_shared::lifecycle::Phase;
use sockerless_shared::protocol::control::Command;
use sockerless_shared::protocol::invocation::Errand;
use sockerless_shared::protocol::kept::{Kept, KeptFiles};
use sockerless_shared::spec::Runtime;
use sockerless_shared::timestamp::Timestamp;

use super::apply::LONGEST_QUEUED;
use super::{Control, EngineError, settle};
use crate::ports::blobs::{BlobError, BlobName};
use crate::ports::function_host::{HostError, InvocationEnd};
use crate::store::containers::{Container, Files};
use crate::store::runs::{Commit, PendingCommand, RunRecord, Visit};
use crate::store::waiters::{AGENTS, Wait};

/// How long a visit may take where the platform sets no limit.
const VISIT_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// So long a visit waits for its function, which is less than API Gateway waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client is told whose change came too late.
const CHANGED_MEANWHILE: &str =
    "the container's files were changed by somebody else meanwhile; repeat the request";

/// Where what a run or a visit kept is.
pub(super) fn files_blob(by: &RunId) -> Result<BlobName, BlobError> {
    BlobName::new(format!("files/{by}"))
}

impl Control {
    /// Begins a visit to a container that does not run. Its stream has been registered before.
    ///
    /// # Errors
    /// When a port fails.
    pub(crate) async fn visit(
        &self,
        container: &Container,
        run: &RunId,
    ) -> Result<(), EngineError> {
        self.begin_visit(container, run, None).await
    }

    /// Has the layer of a container that does not run stored, for a commit.
    ///
    /// # Errors
    /// When a port fails.
    pub(crate) async fn visit_for_layer(
        &self,
        container: &Container,
        run: &RunId,
        pending: &PendingCommand,
    ) -> Result<(), EngineError> {
        let Command::StoreLayer { upload_url } = &pending.command else {
            let message = format!("{:?} stores no layer", pending.command);
            return Err(EngineError::Encoding(message));
        };
        let layer = (upload_url.clone(), pending);
        self.begin_visit(container, run, Some(layer)).await
    }

    async fn begin_visit(
        &self,
        container: &Container,
        run: &RunId,
        layer: Option<(String, &PendingCommand)>,
    ) -> Result<(), EngineError> {
        let limit = match container.shape.runtime {
            Runtime::Function => self.config.function_time_limit,
            Runtime::Microvm => VISIT_LIMIT,
        };
        let deadline = Some(self.environment.now().plus(limit + LONGEST_QUEUED));
        let visit = Visit {
            claimed_by: None,
            from: container.files.as_ref().map(|files| files.by.clone()),
        };
        let credentials = self.new_run(container, run, deadline, Some(visit)).await?;
        let errand = match layer {
            None => Errand::Visit,
            Some((upload_url, pending)) => {
                let Some((command, _)) = self.store.add_command(run, pending).await? else {
                    return Err(EngineError::NoSuchContainer(container.id.clone()));
                };
                Errand::StoreLayer {
                    command,
                    upload_url,
                }
            }
        };
        let kept = self.kept_files(container, run, deadline).await?;
        let begun = match self.present_function(container).await {
            // One that nobody has used for long is made again; where that takes longer, it is
            // said.
            Ok(function) => match self.host.prepared(&function, PATIENCE).await {
                Ok(true) => {
                    self.hand_over(
                        container,
                        &function,
                        run,
                        credentials,
                        deadline,
                        errand,
                        kept,
                    )
                    .await
                }
                Ok(false) => Err(HostError::Preparing(function).into()),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error),
        };
        if begun.is_err() {
            self.store.erase_run(run).await?;
        }
        begun
    }

    /// Where the files of a container come from and go to.
    pub(super) async fn kept_files(
        &self,
        container: &Container,
        run: &RunId,
        deadline: Option<Timestamp>,
    ) -> Result<KeptFiles, EngineError> {
        match container.shape.runtime {
            // Its files stay where they are.
            Runtime::Microvm => return Ok(KeptFiles::default()),
            Runtime::Function => {}
        }
        let until = self.upload_until(deadline);
        let lay_url = match &container.files {
            Some(Files {
                by,
                kept: Kept::Stored { .. },
            }) => Some(self.blobs.download_url(&files_blob(by)?, until).await?),
            Some(_) | None => None,
        };
        // Nobody will ask for those of a container that goes with its run.
        let goes = container.host_config["AutoRemove"] == true
            && container.lifecycle.current_run().is_some();
        let keep_url = if goes {
            None
        } else {
            Some(self.blobs.upload_url(&files_blob(run)?, until).await?)
        };
        Ok(KeptFiles {
            lay_url,
            keep_url,
            lost: container
                .files
                .as_ref()
                .and_then(|files| files.kept.missing()),
        })
    }

    /// Whether the agent that drew this nonce has the visit.
    pub(super) async fn claim_visit(
        &self,
        run: &RunId,
        nonce: &Nonce,
    ) -> Result<bool, EngineError> {
        let changed = self
            .store
            .update_run(run, |record| {
                let Some(visit) = &mut record.visit else {
                    return false;
                };
                visit.claimed_by.get_or_insert_with(|| nonce.clone()) == nonce
            })
            .await?;
        Ok(changed.is_some_and(|(_, claimed)| claimed))
    }

    /// A visitor changed the files and kept them. Returns why that does not count, if
    /// it does not.
    pub(super) async fn files_changed(
        &self,
        run: &RunId,
        record: &RunRecord,
        kept: Kept,
    ) -> Result<Option<String>, EngineError> {
        let from = record.visit.as_ref().and_then(|visit| visit.from.as_ref());
        let changed = self
            .store
            .update_container(&record.namespace, &record.container, |container| {
                let by = container.files.as_ref().map(|files| &files.by);
                if by == Some(run) {
                    // Said before.
                    return Ok::<_, EngineError>((true, None));
                }
                let free = match container.lifecycle.phase {
                    Phase::Created | Phase::Exited => true,
                    Phase::Starting
                    | Phase::Running
                    | Phase::Paused
                    | Phase::Restarting
                    | Phase::Removing
                    | Phase::Dead => false,
                };
                if !free || by != from {
                    return Ok((false, None));
                }
                let before = container.files.replace(Files {
                    by: run.clone(),
                    kept: kept.clone(),
                });
                Ok((true, before))
            })
            .await?;
        match changed {
            Some((_, (true, before))) => {
                self.forget_files(before).await?;
                Ok(None)
            }
            Some((_, (false, _))) | None => {
                self.blobs.delete(&files_blob(run)?).await?;
                Ok(Some(CHANGED_MEANWHILE.to_owned()))
            }
        }
    }

    /// Removes what was kept, when it is not needed any more.
    pub(super) async fn forget_files(&self, files: Option<Files>) -> Result<(), EngineError> {
        if let Some(Files {
            by,
            kept: Kept::Stored { .. },
        }) = files
        {
            self.blobs.delete(&files_blob(&by)?).await?;
        }
        Ok(())
    }

    /// A visit is over, and all that it was for is done.
    pub(super) async fn visit_over(&self, run: &RunId) -> Result<(), EngineError> {
        Ok(self.store.erase_run(run).await?)
    }

    /// The platform ended a visit, or says that it is over: whoever still waits for it is told.
    pub(super) async fn visit_failed(
        &self,
        run: &RunId,
        record: &RunRecord,
        end: &InvocationEnd,
    ) -> Result<(), EngineError> {
        let why = match end {
            InvocationEnd::Succeeded => "its agent ended before it was asked".to_owned(),
            InvocationEnd::TimedOut { limit_s } => format!("it took longer than {limit_s} s"),
            InvocationEnd::OutOfMemory { limit_mib } => {
                format!(
                    "it needed more than {limit_mib} MiB of memory; give the container more with -m"
                )
            }
            InvocationEnd::Crashed { reason } => reason.clone(),
            InvocationEnd::Lost => "the host was restarted; repeat the request".to_owned(),
        };
        let message =
            format!("the files of a container that does not run could not be reached: {why}");
        for waiter in self.store.waiters(&record.container, AGENTS).await? {
            if matches!(&waiter.wait, Wait::Visit { run: of, .. } if of == run) {
                self.answer_waiter(&waiter, settle::error(500, &message))
                    .await?;
            }
        }
        self.commits_failed(run, true, &message).await?;
        self.announce_gone(run, record).await?;
        self.visit_over(run).await
    }

    /// The commits that wait for a run whose environment has ended.
    pub(super) async fn commits_cut_short(&self, run: &RunId) -> Result<(), EngineError> {
        self.commits_failed(run, false, "the container's environment ended meanwhile")
            .await
    }

    /// The commits that wait for a run whose agent will not answer any more. Of a container
    /// that has ended meanwhile a visitor stores the layer, unless `run` was one.
    async fn commits_failed(
        &self,
        run: &RunId,
        visited: bool,
        why: &str,
    ) -> Result<(), EngineError> {
        for (id, pending) in self.store.pending_commands(run).await? {
            let Some(commit) = &pending.commit else {
                continue;
            };
            let found = self.store.container(&commit.namespace, &commit.container);
            let ended = found
                .await?
                .map(|found| found.record)
                .filter(|container| !visited && !container.lifecycle.is_live());
            let why = match ended {
                None => Some(why.to_owned()),
                Some(container) => {
                    let visit = RunId::from_random(self.environment.random());
                    match Box::pin(self.visit_for_layer(&container, &visit, &pending)).await {
                        Ok(()) => None,
                        Err(error) => Some(error.to_string()),
                    }
                }
            };
            if let Some(why) = why {
                self.carried_out(run, &pending, Some(why)).await?;
            }
            self.store.remove_command(run, id).await?;
        }
        Ok(())
    }

    /// Those who wait for a visit to a container that is gone.
    pub(super) async fn end_visits(&self, container: &Container) -> Result<(), EngineError> {
        for waiter in self.store.waiters(&container.id, AGENTS).await? {
            if matches!(waiter.wait, Wait::Visit { .. }) {
                let message = format!("No such container: {}", container.id);
                self.answer_waiter(&waiter, settle::error(404, &message))
                    .await?;
            }
        }
        Ok(())
    }

    /// The layer of a commit is stored: the image is made. Or it is not, and nothing is.
    pub(super) async fn layer_stored(
        &self,
        commit: Commit,
        pending: &PendingCommand,
        error: Option<&str>,
    ) -> Result<(), EngineError> {
        if let Some(run) = &commit.paused {
            self.host.freeze(run, false).await?;
        }
        let Some(answer) = pending.answer.clone() else {
            return Ok(());
        };
        match error {
            Some(message) => self.deliver(&answer, settle::error(500, message)).await,
            None => {
                let commit = Box::new(commit);
                let job = crate::ports::jobs::Job::Commit { commit, answer };
                Ok(self.jobs.submit(job).await?)
            }
        }
    }

    /// The streams that wait for the agent of a visit.
    pub(super) async fn open_visit(
        &self,
        run: &RunId,
        record: &RunRecord,
    ) -> Result<(), EngineError> {
        for waiter in self.store.waiters(&record.container, AGENTS).await? {
            let Wait::Visit { run: of, operation } = &waiter.wait else {
                continue;
            };
            if of != run {
                continue;
            }
            self.open_waiting(run, record, &waiter, operation).await?;
        }
        Ok(())
    }
}
