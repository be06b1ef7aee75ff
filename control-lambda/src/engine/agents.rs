//! What agents say.

use sockerless_shared::health::Health;
use sockerless_shared::ids::{ConnectionId, ExecId, RunId};
use sockerless_shared::lifecycle::{Evidence, Input};
use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::control::{
    AgentMessage, Command, ControlToAgent, ExitStatus, LogSpool, Report, StartFailure,
};

use sockerless_shared::answer::{Part, StreamTarget};
use sockerless_shared::protocol::grant::Operation;
use sockerless_shared::protocol::kept::Kept;
use sockerless_shared::timestamp::Timestamp;

use super::apply::{REVOKED_AFTER, is_repetition};
use super::events::{ExecEvent, of_exec};
use super::{Control, EngineError, settle};
use crate::store::execs::ExecState;
use crate::store::runs::{PendingCommand, RunRecord};
use crate::store::waiters::{AGENTS, Wait, Waiter};

impl Control {
    pub(crate) async fn agent_message(
        &self,
        connection: &ConnectionId,
        run: &RunId,
        message: AgentMessage,
    ) -> Result<(), EngineError> {
        match message {
            AgentMessage::Hello {
                version: _,
                certificate_sha256,
                log_stream,
            } => {
                self.agent_hello(connection, run, certificate_sha256, log_stream)
                    .await
            }
            AgentMessage::Report { seq, report } => {
                let last = matches!(&report, Report::Exited { .. } | Report::StartFailed { .. });
                let known = self.store.run(run).await?;
                let mut streams = known.as_ref().map_or(0, |run| run.streams);
                let refused = self.agent_report(run, known, seq, report).await?;
                // Its end waits for those that have been allowed until it was recorded.
                if last {
                    streams = self.store.run(run).await?.map_or(0, |run| run.streams);
                }
                let ack = ControlToAgent::Ack {
                    seq,
                    streams,
                    refused,
                };
                self.post_or_forget(connection, serde_json::to_string(&ack)?)
                    .await;
                Ok(())
            }
            AgentMessage::CommandDone { id, error } => self.command_done(run, id, error).await,
            AgentMessage::Heartbeat => Ok(()),
        }
    }

    /// The agent is there, for the first time or again: it may begin, streams
    /// that wait for it can be opened, and what it has not confirmed is said again.
    async fn agent_hello(
        &self,
        connection: &ConnectionId,
        run: &RunId,
        certificate: String,
        log_stream: Option<String>,
    ) -> Result<(), EngineError> {
        let Some(known) = self.store.run(run).await? else {
            return Ok(());
        };
        // Those who wait by now are counted with the same write.
        let mut counted = match known.visit {
            Some(_) => Vec::new(),
            None => self.store.waiters(&known.container, AGENTS).await?,
        };
        counted.retain(|waiter| matches!(waiter.wait, Wait::Agent { .. }));
        let changed = self
            .store
            .update_run(run, |record| {
                record.connection = Some(connection.clone());
                record.certificate_sha256 = Some(certificate.clone());
                record.log_stream.clone_from(&log_stream);
                record.streams += counted.len() as u64;
            })
            .await?;
        let Some((record, ())) = changed else {
            return Ok(());
        };
        // Before the process may start, so that no stream is promised after its end.
        for waiter in &counted {
            if let Wait::Agent { operation } = &waiter.wait
                && let Some(target) =
                    self.allowed_target(run, &record, &waiter.peer, operation.clone())?
            {
                self.answer_waiter(waiter, vec![stream_part(operation, target), Part::End])
                    .await?;
            }
        }
        // And those who came meanwhile, and did not find its agent yet.
        self.open_waiting_streams(run, &record).await?;
        let welcome = ControlToAgent::Welcome { version: VERSION };
        self.post_or_forget(connection, serde_json::to_string(&welcome)?)
            .await;
        self.repeat_commands(connection, run, &record).await
    }

    pub(crate) async fn open_waiting_streams(
        &self,
        run: &RunId,
        record: &RunRecord,
    ) -> Result<(), EngineError> {
        if record.visit.is_some() {
            return self.open_visit(run, record).await;
        }
        for waiter in self.store.waiters(&record.container, AGENTS).await? {
            let Wait::Agent { operation } = &waiter.wait else {
                continue;
            };
            self.open_waiting(run, record, &waiter, operation).await?;
        }
        Ok(())
    }

    /// Opens the stream that somebody waits for, if the agent can take it.
    pub(super) async fn open_waiting(
        &self,
        run: &RunId,
        record: &RunRecord,
        waiter: &Waiter,
        operation: &Operation,
    ) -> Result<(), EngineError> {
        let target = self
            .stream_target(run, record, &waiter.peer, operation.clone())
            .await?;
        if let Some(target) = target {
            self.answer_waiter(waiter, vec![stream_part(operation, target), Part::End])
                .await?;
        }
        Ok(())
    }

    /// Sends the commands that have not been confirmed, if the process runs.
    async fn repeat_commands(
        &self,
        connection: &ConnectionId,
        run: &RunId,
        record: &RunRecord,
    ) -> Result<(), EngineError> {
        // None was ever given: nothing need be looked up.
        if record.next_command == 1 {
            return Ok(());
        }
        let pending = self.store.pending_commands(run).await?;
        if pending.is_empty() || !self.takes_commands(run, record).await? {
            return Ok(());
        }
        for (id, pending) in pending {
            let message = ControlToAgent::Command {
                id,
                command: pending.command,
            };
            self.post_or_forget(connection, serde_json::to_string(&message)?)
                .await;
        }
        Ok(())
    }

    /// Records a report. Returns why it does not count, if it does not.
    async fn agent_report(
        &self,
        run: &RunId,
        known: Option<RunRecord>,
        seq: u64,
        report: Report,
    ) -> Result<Option<String>, EngineError> {
        let Some(record) = known else {
            return Ok(None);
        };
        match report {
            Report::Changed { kept } => return self.files_changed(run, &record, kept).await,
            Report::LayerStored { command, error } => {
                self.command_done(run, command, error).await?;
            }
            Report::Left => self.visit_over(run).await?,
            Report::Started { at, pid } => self.process_started(run, &record, at, pid).await?,
            Report::StartFailed { at, failure } => {
                self.keep_logs(run, &empty_spool()).await?;
                let failure = StartFailure {
                    message: docker_start_failure(&failure),
                    ..failure
                };
                self.step_by_report(
                    &record,
                    Input::StartFailed {
                        run: run.clone(),
                        at,
                        failure,
                    },
                )
                .await?;
            }
            Report::Exited {
                at,
                status,
                logs,
                kept,
                health,
            } => {
                self.keep_logs(run, &logs).await?;
                let input = self.ended_by_agent(run, at, &status, health);
                self.step_with_files(&record, input, kept).await?;
            }
            Report::Health { health } => {
                let run = run.clone();
                self.step_by_report(&record, Input::Health { run, health })
                    .await?;
            }
            Report::Done { at, deed } => {
                let RunRecord {
                    namespace,
                    container,
                    ..
                } = &record;
                self.deed(namespace, container, run, seq, at, &deed).await?;
            }
            Report::ExecStarted { exec, pid } => self.exec_started(&record, &exec, pid).await?,
            Report::ExecExited { exec, code } => self.exec_exited(&record, &exec, code).await?,
        }
        Ok(None)
    }

    async fn process_started(
        &self,
        run: &RunId,
        record: &RunRecord,
        at: Timestamp,
        pid: u32,
    ) -> Result<(), EngineError> {
        self.step_by_report(
            record,
            Input::Started {
                run: run.clone(),
                at,
                pid,
            },
        )
        .await?;
        // Commands that came before there was anything to send them to: whoever gives one from
        // now on finds that the process runs.
        if let Some(record) = self.store.run(run).await?
            && let Some(connection) = &record.connection
        {
            self.repeat_commands(connection, run, &record).await?;
        }
        Ok(())
    }

    /// Steps; a report that arrives again finds its work done, but perhaps not
    /// what follows from it.
    async fn step_by_report(&self, record: &RunRecord, input: Input) -> Result<(), EngineError> {
        self.step_with_files(record, input, None).await
    }

    async fn step_with_files(
        &self,
        record: &RunRecord,
        input: Input,
        kept: Option<Kept>,
    ) -> Result<(), EngineError> {
        match self
            .apply_with(&record.namespace, &record.container, input, kept, |_| {})
            .await
        {
            Ok(_) | Err(EngineError::NoSuchContainer(_)) => Ok(()),
            Err(EngineError::Refused(refusal)) => {
                if is_repetition(refusal)
                    && let Some(found) = self
                        .store
                        .container(&record.namespace, &record.container)
                        .await?
                {
                    self.settle(&found.record).await?;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Notes where the log of a run is that is over, and that it is.
    async fn keep_logs(&self, run: &RunId, logs: &LogSpool) -> Result<(), EngineError> {
        let now = self.environment.now();
        self.store
            .update_run(run, |record| {
                if record.logs.is_none() {
                    record.logs = Some(logs.clone());
                    record.token_expires = Some(now.plus(REVOKED_AFTER));
                    record.ended_at = Some(now);
                }
            })
            .await?;
        Ok(())
    }

    fn ended_by_agent(
        &self,
        run: &RunId,
        at: Timestamp,
        status: &ExitStatus,
        health: Option<Health>,
    ) -> Input {
        let error = if status.time_limit {
            let limit = self.config.function_time_limit.as_secs();
            format!(
                "the time limit of a function, {limit} s, ended the container; use --runtime microvm for longer work"
            )
        } else {
            String::new()
        };
        Input::Ended {
            run: run.clone(),
            at,
            code: status.code,
            oom_killed: status.oom_killed,
            error,
            evidence: Evidence::Agent,
            grace_over: status.grace_over,
            health,
        }
    }

    async fn exec_started(
        &self,
        record: &RunRecord,
        exec: &ExecId,
        pid: u32,
    ) -> Result<(), EngineError> {
        self.store
            .update_exec(&record.namespace, exec, |exec| match exec.state {
                ExecState::Created | ExecState::Starting => exec.state = ExecState::Running { pid },
                ExecState::Exited { pid: 0, code } => exec.state = ExecState::Exited { pid, code },
                ExecState::Running { .. } | ExecState::Exited { .. } => {}
            })
            .await?;
        Ok(())
    }

    async fn exec_exited(
        &self,
        record: &RunRecord,
        exec: &ExecId,
        code: i32,
    ) -> Result<(), EngineError> {
        let (namespace, now) = (&record.namespace, self.environment.now());
        let Some(container) = self.store.container(namespace, &record.container).await? else {
            return Ok(());
        };
        let changed = self
            .store
            .update_exec_and_log(namespace, exec, |exec| {
                let before = exec.state;
                exec.state = match before {
                    ExecState::Created | ExecState::Starting => ExecState::Exited { pid: 0, code },
                    ExecState::Running { pid } => ExecState::Exited { pid, code },
                    exited @ ExecState::Exited { .. } => exited,
                };
                let died = match before {
                    ExecState::Running { .. } => true,
                    // Docker says nothing of a program that could not be started.
                    ExecState::Created | ExecState::Starting => !matches!(code, 126 | 127),
                    ExecState::Exited { .. } => false,
                };
                let event = || of_exec(&container.record, exec, ExecEvent::Die { code }, now);
                let events: Vec<_> = died.then(event).into_iter().collect();
                (!events.is_empty(), events)
            })
            .await?;
        if let Some((_, true)) = changed {
            self.tell_listeners(namespace).await;
        }
        Ok(())
    }

    async fn command_done(
        &self,
        run: &RunId,
        id: u64,
        error: Option<String>,
    ) -> Result<(), EngineError> {
        let Some(pending) = self.store.pending_command(run, id).await? else {
            return Ok(());
        };
        self.carried_out(run, &pending, error).await?;
        self.store.remove_command(run, id).await?;
        Ok(())
    }

    /// A command was carried out, or could not be.
    pub(crate) async fn carried_out(
        &self,
        run: &RunId,
        pending: &PendingCommand,
        error: Option<String>,
    ) -> Result<(), EngineError> {
        let paused = match &pending.command {
            Command::Pause => Some(Input::Paused { run: run.clone() }),
            Command::Unpause => Some(Input::Unpaused { run: run.clone() }),
            Command::Stop { .. }
            | Command::Kill { .. }
            | Command::Resize { .. }
            | Command::ResizeExec { .. }
            | Command::StoreLayer { .. }
            | Command::StartExec { .. }
            | Command::Probe { .. } => None,
        };
        if let Some(commit) = pending.commit.as_deref() {
            return self
                .layer_stored(commit.clone(), pending, error.as_deref())
                .await;
        }
        if let (Command::Resize { size }, None) = (&pending.command, &error)
            && let Some(record) = self.store.run(run).await?
            && let Some(found) = self
                .store
                .container(&record.namespace, &record.container)
                .await?
        {
            let attributes = [
                ("height", size.height.to_string()),
                ("width", size.width.to_string()),
            ];
            self.say_of_container(&found.record, "resize", attributes)
                .await;
        }
        if let Some(input) = paused
            && error.is_none()
            && let Some(record) = self.store.run(run).await?
        {
            self.step_by_report(&record, input).await?;
        }
        if let Some(answer) = &pending.answer {
            let parts = match &error {
                None => settle::empty(success_status(&pending.command)),
                Some(message) => settle::error(500, message),
            };
            self.deliver(answer, parts).await?;
        }
        Ok(())
    }
}

/// What Docker answers when it has done so.
const fn success_status(command: &Command) -> u16 {
    match command {
        Command::Stop { .. }
        | Command::Kill { .. }
        | Command::Pause
        | Command::Unpause
        | Command::Probe { .. } => 204,
        Command::Resize { .. }
        | Command::ResizeExec { .. }
        | Command::StartExec { .. }
        | Command::StoreLayer { .. } => 200,
    }
}

/// How a stream is opened: for an operation that answers itself, with its answer.
pub(crate) fn stream_part(operation: &Operation, target: StreamTarget) -> Part {
    if operation.answers_itself() {
        let headers = crate::api::common_headers();
        Part::Ask { target, headers }
    } else {
        Part::Stream(target)
    }
}

fn empty_spool() -> LogSpool {
    LogSpool::Inline {
        data: String::new(),
    }
}

/// Docker's words around what the runtime says.
pub(crate) fn docker_start_failure(failure: &StartFailure) -> String {
    if failure.is_dockers_own() {
        return failure.message.clone();
    }
    format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: \
         runc create failed: unable to start container process: {}",
        failure.message
    )
}
