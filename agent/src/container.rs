//! The container of one run while its process lives.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::Pid;
use sockerless_shared::ids::ExecId;
use sockerless_shared::logs::Record;
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::protocol::stdcopy::OutputStream;
use sockerless_shared::spec::{ConsoleSize, ContainerSpec};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::clock;
use crate::note::note;
use crate::operator_log::RunLog;
use crate::process::launch::{Outputs, Role, Terminal, launch};
use crate::process::line_discipline::shown;
use crate::process::reaper::Reaper;
use crate::process::signals::send_to_main;
use crate::process::stdin::Stdin;
use crate::process::stdio::Output;
use crate::process::tree;
use crate::spool::Spool;

/// How much is read from a process at a time, in bytes: what a pipe holds.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// A running container. Everything that may be done to it from outside.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its main process.
    pub(crate) pid: Pid,
    /// Its main process's stdin, if it is open.
    pub(crate) stdin: Option<Arc<Stdin>>,
    /// Its output.
    pub(crate) spool: Spool,
    /// Starts and reaps its processes.
    pub(crate) reaper: Reaper,
    /// What it was told to be.
    pub(crate) spec: ContainerSpec,
    terminal: Terminal,
    log: Arc<RunLog>,
    execs: Mutex<HashMap<ExecId, Option<(Pid, Terminal)>>>,
    exec_ended: Notify,
    paused: AtomicBool,
}

/// What ends with the container, held by whoever waits for it.
#[derive(Debug)]
pub(crate) struct Running {
    /// The exit code of its main process, once it ended.
    pub(crate) exit: oneshot::Receiver<i32>,
    /// The tasks that read its output; each ends when its pipe does.
    pub(crate) readers: JoinSet<()>,
}

impl Container {
    /// Starts the container's main process. Its output goes to `spool` and `log`.
    ///
    /// # Errors
    /// What runc or Docker would say.
    pub(crate) fn start(
        spec: ContainerSpec,
        reaper: Reaper,
        spool: Spool,
        log: Arc<RunLog>,
    ) -> Result<(Arc<Self>, Running), StartFailure> {
        let launched = launch(&spec.process, &spec.confinement, Role::Main, &reaper)?;
        let container = Arc::new(Self {
            pid: launched.pid,
            stdin: launched.stdin,
            spool,
            reaper,
            spec,
            terminal: launched.terminal,
            log,
            execs: Mutex::default(),
            exec_ended: Notify::new(),
            paused: AtomicBool::new(false),
        });
        let mut readers = JoinSet::new();
        let mut read = |output, stream, emulated| {
            readers.spawn(Arc::clone(&container).read(output, stream, emulated));
        };
        match launched.outputs {
            Outputs::Apart(stdout, stderr) => {
                read(stdout, OutputStream::Stdout, false);
                read(stderr, OutputStream::Stderr, false);
            }
            Outputs::Terminal(output) => read(output, OutputStream::Stdout, false),
            Outputs::Emulated(output) => read(output, OutputStream::Stdout, true),
        }
        let exit = launched.exit;
        Ok((container, Running { exit, readers }))
    }

    /// Adds to the container's output.
    pub(crate) async fn show(&self, stream: OutputStream, data: &[u8]) {
        let record = Record {
            stream,
            time: clock::now(),
            data: data.to_vec(),
        };
        self.log.record(&record);
        if let Err(error) = self.spool.append(stream, record.time, data).await {
            note!("output could not be spooled: {error}");
        }
    }

    /// Sends a signal to the main process, as Docker does: to process 1.
    ///
    /// # Errors
    /// When there is no such signal.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), String> {
        let is_process_1 = self.reaper.helper().is_some();
        send_to_main(self.pid, signal, is_process_1)
    }

    /// Asks the container to stop. One that is paused goes on, or it could not.
    ///
    /// # Errors
    /// When there is no such signal.
    pub(crate) fn ask_to_stop(&self, signal: i32) -> Result<(), String> {
        self.signal(signal)?;
        if self.paused.load(Ordering::Relaxed) {
            self.unpause();
        }
        Ok(())
    }

    /// Stops every process.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
        tree::stop_all(self.reaper.helper());
    }

    /// Lets every process go on.
    pub(crate) fn unpause(&self) {
        self.paused.store(false, Ordering::Relaxed);
        tree::continue_all(self.reaper.helper());
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn resize(&self, size: ConsoleSize) -> Result<(), String> {
        self.terminal.resize(self.pid, size)
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// When no such exec runs.
    pub(crate) fn resize_exec(&self, exec: &ExecId, size: ConsoleSize) -> Result<(), String> {
        match self.execs().get(exec) {
            Some(Some((pid, terminal))) => terminal.resize(*pid, size),
            Some(None) | None => Err(format!("No such exec instance: {exec}")),
        }
    }

    /// Takes note that an exec is to be started. Whether it is the first time.
    pub(crate) fn claim_exec(&self, exec: &ExecId) -> bool {
        let mut execs = self.execs();
        if execs.contains_key(exec) {
            return false;
        }
        execs.insert(exec.clone(), None);
        true
    }

    /// An exec runs.
    pub(crate) fn exec_runs(&self, exec: &ExecId, pid: Pid, terminal: Terminal) {
        self.execs().insert(exec.clone(), Some((pid, terminal)));
    }

    /// An exec ended. It is remembered, so that it cannot be started again.
    pub(crate) fn exec_ended(&self, exec: &ExecId) {
        self.execs().insert(exec.clone(), None);
        self.exec_ended.notify_waiters();
    }

    /// Resolves when no exec runs (any more) whose exit is not reported.
    pub(crate) async fn execs_ended(&self) {
        loop {
            let ended = self.exec_ended.notified();
            if self.execs().values().all(Option::is_none) {
                return;
            }
            ended.await;
        }
    }

    async fn read(self: Arc<Self>, output: Output, stream: OutputStream, emulated: bool) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match output.read(&mut buffer).await {
                Ok(0) => return,
                Ok(read) if emulated => self.show(stream, &shown(&buffer[..read])).await,
                Ok(read) => self.show(stream, &buffer[..read]).await,
                Err(error) => {
                    note!("output could not be read: {error}");
                    return;
                }
            }
        }
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<ExecId, Option<(Pid, Terminal)>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
