//! A process with the agent's ends of its streams: the container's own or an exec's.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::unistd::Pid;
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::spec::{Confinement, ConsoleSize, ProcessSpec};
use tokio::sync::oneshot;

use super::failure::start_failure;
use super::reaper::{Child, Reaper};
use super::signals::send;
use super::spawn::Plan;
use super::stdin::Stdin;
use super::stdio::{Input, Output, ProcessEnds, null_input, pipe};
use super::{errno, pty};

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Its id, also that of its process group and session.
    pub(crate) pid: Pid,
    /// Its exit code, once it ended.
    pub(crate) exit: oneshot::Receiver<i32>,
    /// Its stdin, if it is open.
    pub(crate) stdin: Option<Arc<Stdin>>,
    /// Its output.
    pub(crate) outputs: Outputs,
    /// Its terminal.
    pub(crate) terminal: Terminal,
}

/// The agent's ends of a process's output.
#[derive(Debug)]
pub(crate) enum Outputs {
    /// Stdout and stderr.
    Apart(Output, Output),
    /// A terminal's, on which both are one.
    Terminal(Output),
    /// Both on one pipe, to be shown as a terminal would.
    Emulated(Output),
}

/// What a process has for a terminal.
#[derive(Debug, Clone)]
pub(crate) enum Terminal {
    /// It asked for none.
    None,
    /// A real one.
    Real(Arc<OwnedFd>),
    /// It asked for one where there is none.
    Emulated,
}

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The container's main process: its working directory is made when missing,
    /// and it is shielded from signals as process 1 is.
    Main,
    /// An exec's.
    Exec,
}

/// Starts a process.
///
/// # Errors
/// What runc or Docker would say.
pub(crate) fn launch(
    spec: &ProcessSpec,
    confinement: &Confinement,
    role: Role,
    reaper: &Reaper,
) -> Result<Launched, StartFailure> {
    let plan = Plan::new(spec, confinement, role)?;
    if role == Role::Main {
        plan.make_working_dir()?;
    }
    let ours = Streams::open(spec).map_err(|error| {
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        start_failure(format!("streams of the process: {}", errno::text(number)))
    })?;
    let Child { pid, exit } = reaper.spawn(plan, role, ours.theirs)?;
    let shielded = role == Role::Main;
    Ok(Launched {
        pid,
        exit,
        stdin: ours
            .input
            .map(|input| Arc::new(Stdin::new(input, pid, &ours.terminal, shielded))),
        outputs: ours.outputs,
        terminal: ours.terminal,
    })
}

struct Streams {
    theirs: ProcessEnds,
    input: Option<Input>,
    outputs: Outputs,
    terminal: Terminal,
}

impl Streams {
    fn open(spec: &ProcessSpec) -> io::Result<Self> {
        if spec.tty
            && let Ok(pty) = pty::open()
        {
            return Self::on_terminal(spec, pty);
        }
        let (stdin, input) = if spec.open_stdin {
            let (theirs, ours) = pipe()?;
            (theirs, Some(Input::new(ours)?))
        } else {
            (null_input()?, None)
        };
        let (out, stdout) = pipe()?;
        if spec.tty {
            return Ok(Self {
                theirs: ProcessEnds {
                    stdin,
                    stderr: stdout.try_clone()?,
                    stdout,
                    terminal: false,
                },
                input,
                outputs: Outputs::Emulated(Output::new(out)?),
                terminal: Terminal::Emulated,
            });
        }
        let (err, stderr) = pipe()?;
        Ok(Self {
            theirs: ProcessEnds {
                stdin,
                stdout,
                stderr,
                terminal: false,
            },
            input,
            outputs: Outputs::Apart(Output::new(out)?, Output::new(err)?),
            terminal: Terminal::None,
        })
    }

    fn on_terminal(spec: &ProcessSpec, pty: pty::Pty) -> io::Result<Self> {
        if let Some(size) = spec.console_size {
            pty::resize(&pty.master, size)?;
        }
        let input = if spec.open_stdin {
            Some(Input::new(pty.master.try_clone()?)?)
        } else {
            None
        };
        Ok(Self {
            theirs: ProcessEnds {
                stdin: pty.slave.try_clone()?,
                stdout: pty.slave.try_clone()?,
                stderr: pty.slave,
                terminal: true,
            },
            input,
            outputs: Outputs::Terminal(Output::new(pty.master.try_clone()?)?),
            terminal: Terminal::Real(Arc::new(pty.master)),
        })
    }
}

impl Terminal {
    /// Sets its size. Where there is none, the process is told all the same: it
    /// may ask the environment or somebody else for it.
    ///
    /// # Errors
    /// When the process has no terminal.
    pub(crate) fn resize(&self, pid: Pid, size: ConsoleSize) -> Result<(), String> {
        match self {
            Self::Real(master) => pty::resize(master, size).map_err(|error| error.to_string()),
            Self::Emulated => {
                send(pid, libc::SIGWINCH);
                Ok(())
            }
            // Docker takes the size of a process without a terminal and does nothing.
            Self::None => Ok(()),
        }
    }
}
