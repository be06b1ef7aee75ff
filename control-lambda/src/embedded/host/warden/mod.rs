//! The warden: one small single-threaded process that makes sandboxes, is the
//! parent of their first processes, and dies with the main process.
//!
//! Making a sandbox needs `clone` with new namespaces, which a process with
//! threads must not do. The warden is this program executed again, and is the
//! first process of a PID namespace: whatever ends it, the kernel ends
//! everything below it, and with the processes go their mount namespaces, so
//! that no mount is left behind either.

mod copy;
mod devices;
mod identity;
mod inner;
mod machine;
mod place;
mod root;
mod sandbox;
mod seccomp;
mod uplink;
mod user_namespace;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use thiserror::Error;

use super::wire::{self, Ending, EnvironmentId, MAX_PACKET_BYTES, Order, Report, WireError};
use devices::Templates;
pub(super) use machine::parameter;
use seccomp::Filters;
use uplink::UplinkProcess;

/// What the program's first argument is when it is to be the warden.
pub const HELPER_ARGUMENT: &str = "__environment";

/// A step of making a sandbox (or the warden itself) that failed.
#[derive(Debug, Error)]
#[error("{what}: {source}")]
struct SetupError {
    what: String,
    source: std::io::Error,
}

/// Says what was being done when a system call failed.
trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: Into<std::io::Error>> During<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|error| SetupError {
            what: what(),
            source: error.into(),
        })
    }
}

/// Runs the warden. The program's `main` calls this before it does anything
/// else, above all before it starts a thread, when its first argument is
/// [`HELPER_ARGUMENT`]. Never returns.
///
/// Standard input is the socket to the main process, the second argument a
/// scratch folder.
pub fn helper_main() -> ! {
    let code = match begin() {
        Ok(()) => 0,
        Err(error) => {
            // Main says the same, from the report, unless the socket itself
            // was the trouble. A terminal without a reader is no reason to panic.
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "sockerless: sandbox helper: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn begin() -> Result<(), SetupError> {
    let control = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .during(|| "duplicate the control socket".to_owned())?;
    let scratch = std::env::args_os()
        .nth(2)
        .map(PathBuf::from)
        .ok_or_else(|| SetupError {
            what: "read the scratch folder's path".to_owned(),
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
    match enter_namespaces() {
        // The warden proper has the socket; this process was only there to
        // become the parent of a new PID namespace.
        Ok(Place::Outside) => Ok(()),
        Ok(Place::Inside) => match Warden::new(control, &scratch) {
            Ok(warden) => warden.run(),
            Err((control, error)) => refuse(control, error),
        },
        Err(error) => refuse(control, error),
    }
}

fn refuse(control: OwnedFd, error: SetupError) -> Result<(), SetupError> {
    let report = Report::Refused(error.to_string());
    match wire::send(control.as_fd(), &report, &[]) {
        Ok(()) => Ok(()),
        Err(_) => Err(error),
    }
}

enum Place {
    Outside,
    Inside,
}

/// Makes the warden's namespaces, with a user namespace first when this is not root.
fn enter_namespaces() -> Result<Place, SetupError> {
    close_on_exec_from(3)?;
    // Ctrl-C at the terminal is for the main process, which stops containers in order.
    let _ = setsid();
    if !nix::unistd::geteuid().is_root() {
        user_namespace::enter()?;
    }
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS).during(|| {
        "make PID and mount namespaces (needs CAP_SYS_ADMIN or user namespaces)".to_owned()
    })?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.during(|| "fork the warden".to_owned())? {
        ForkResult::Parent { .. } => Ok(Place::Outside),
        ForkResult::Child => Ok(Place::Inside),
    }
}

/// Marks every descriptor from `first` on, so that nothing that the main
/// process happened to inherit reaches a sandbox.
fn close_on_exec_from(first: u32) -> Result<(), SetupError> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing; it sets a flag.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_close_range,
            first,
            u32::MAX,
            nix::libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    Errno::result(result)
        .map(drop)
        .during(|| "close_range (needs Linux 5.11 or newer)".to_owned())
}

struct Warden {
    control: OwnedFd,
    signals: SignalFd,
    templates: Templates,
    filters: Filters,
    stack: Vec<u8>,
    sandboxes: HashMap<Pid, EnvironmentId>,
    thawing: HashMap<EnvironmentId, (PathBuf, String)>,
    uplinks: HashMap<EnvironmentId, UplinkProcess>,
    removals: HashMap<Pid, u64>,
}

impl Warden {
    fn new(control: OwnedFd, scratch: &Path) -> Result<Self, (OwnedFd, SetupError)> {
        match Self::prepare(scratch) {
            Ok((signals, templates, filters)) => Ok(Self {
                control,
                signals,
                templates,
                filters,
                stack: vec![0; sandbox::STACK_BYTES],
                sandboxes: HashMap::new(),
                thawing: HashMap::new(),
                uplinks: HashMap::new(),
                removals: HashMap::new(),
            }),
            Err(error) => Err((control, error)),
        }
    }

    fn prepare(scratch: &Path) -> Result<(SignalFd, Templates, Filters), SetupError> {
        root::follow_host_unmounts()?;
        root::mount_own_proc()?;
        let templates = Templates::make(&scratch.join("templates"))?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().during(|| "block SIGCHLD".to_owned())?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .during(|| "make a signalfd".to_owned())?;
        Ok((signals, templates, Filters::compile()?))
    }

    /// Works until the main process is gone.
    fn run(mut self) -> Result<(), SetupError> {
        let result = self.work();
        // The end of this process kills everything below it, but for what is stopped.
        for (file, word) in self.thawing.values() {
            let _ = std::fs::write(file, word);
        }
        result
    }

    fn work(&mut self) -> Result<(), SetupError> {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        if !self.report(&Report::Ready) {
            return Ok(());
        }
        loop {
            let (orders, children, ready) = self.wait()?;
            if children {
                self.reap();
            }
            for environment in ready {
                self.uplink_ready(environment);
            }
            if orders {
                match wire::receive::<Order>(self.control.as_fd(), &mut buffer) {
                    Ok((order, fds)) => self.obey(order, fds),
                    Err(WireError::NotReady) => {}
                    // The main process is gone (or talks nonsense). Returning ends
                    // this process, and so everything in its PID namespace.
                    Err(_) => return Ok(()),
                }
            }
        }
    }

    /// Waits for something to do: orders, children that ended, uplinks that are ready.
    fn wait(&self) -> Result<(bool, bool, Vec<EnvironmentId>), SetupError> {
        let pending: Vec<_> = self
            .uplinks
            .iter()
            .filter_map(|(id, uplink)| Some((*id, uplink.ready.as_ref()?)))
            .collect();
        let mut fds = vec![
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(
            pending
                .iter()
                .map(|(_, ready)| PollFd::new(ready.as_fd(), PollFlags::POLLIN)),
        );
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).during(|| "poll".to_owned()),
            }
        }
        let happened = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        let ready = pending
            .iter()
            .enumerate()
            .filter(|(index, _)| happened(index + 2))
            .map(|(_, (id, _))| *id)
            .collect();
        Ok((happened(0), happened(1), ready))
    }

    fn obey(&mut self, order: Order, fds: Vec<OwnedFd>) {
        match order {
            Order::Create(blueprint) => {
                let environment = blueprint.environment;
                let made = sandbox::create(
                    &sandbox::Plan {
                        blueprint: &blueprint,
                        templates: &self.templates,
                        filters: &self.filters,
                    },
                    self.control.as_fd(),
                    fds.into_iter().next(),
                    &mut self.stack,
                );
                match made {
                    Ok(pid) => {
                        self.sandboxes.insert(pid, environment);
                        if let Some(thawing) = blueprint.thawing.clone() {
                            self.thawing.insert(environment, thawing);
                        }
                        match uplink::start(&blueprint.uplink, pid) {
                            Ok(Some(process)) => {
                                self.uplinks.insert(environment, process);
                            }
                            Ok(None) => {}
                            Err(error) => self.uplink_failed(environment, error.to_string()),
                        }
                    }
                    Err(error) => {
                        self.report(&Report::Failed {
                            environment,
                            message: error.to_string(),
                        });
                        self.report(&Report::Ended {
                            environment,
                            status: Ending::Exited(1),
                        });
                    }
                }
            }
            Order::Kill(environment) => {
                for (pid, id) in &self.sandboxes {
                    if *id == environment {
                        let _ = kill(*pid, Signal::SIGKILL);
                    }
                }
            }
            Order::RemoveTree { ticket, path } => {
                // SAFETY: this process has one thread.
                match unsafe { fork() } {
                    Ok(ForkResult::Child) => root::remove_tree_and_exit(&path),
                    Ok(ForkResult::Parent { child }) => {
                        self.removals.insert(child, ticket);
                    }
                    Err(errno) => {
                        self.report(&Report::TreeRemoved {
                            ticket,
                            error: Some(format!("fork: {errno}")),
                        });
                    }
                }
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            let (pid, ending) = match status {
                WaitStatus::Exited(pid, code) => (pid, Ending::Exited(code)),
                WaitStatus::Signaled(pid, signal, _) => (pid, Ending::Signaled(signal as i32)),
                _ => continue,
            };
            self.ended(pid, ending);
        }
    }

    fn ended(&mut self, pid: Pid, status: Ending) {
        if let Some(environment) = self.sandboxes.remove(&pid) {
            self.thawing.remove(&environment);
            if let Some(uplink) = self.uplinks.remove(&environment) {
                uplink.stop();
            }
            self.report(&Report::Ended {
                environment,
                status,
            });
        } else if let Some(ticket) = self.removals.remove(&pid) {
            let error = match status {
                Ending::Exited(0) => None,
                Ending::Exited(errno) => Some(Errno::from_raw(errno).to_string()),
                Ending::Signaled(signal) => Some(format!("killed by signal {signal}")),
            };
            self.report(&Report::TreeRemoved { ticket, error });
        } else if let Some(environment) = self
            .uplinks
            .iter()
            .find_map(|(id, uplink)| (uplink.pid == pid).then_some(*id))
        {
            // An uplink that ends without having been ready never will be.
            if let Some(uplink) = self.uplinks.remove(&environment)
                && uplink.ready.is_some()
            {
                self.uplink_failed(environment, format!("{} ended: {status:?}", uplink.name));
            }
        }
    }

    fn uplink_ready(&mut self, environment: EnvironmentId) {
        if let Some(uplink) = self.uplinks.get_mut(&environment)
            && let Some(outcome) = uplink.take_readiness()
        {
            match outcome {
                uplink::Readiness::Ready => {
                    self.report(&Report::Connected {
                        environment,
                        error: None,
                    });
                }
                // Its end, which SIGCHLD tells, says the rest.
                uplink::Readiness::ClosedWithoutAWord => {
                    let name = uplink.name;
                    self.uplink_failed(environment, format!("{name} gave up"));
                }
            }
        }
    }

    fn uplink_failed(&self, environment: EnvironmentId, error: String) {
        self.report(&Report::Connected {
            environment,
            error: Some(error),
        });
    }

    /// Whether the main process is still there to hear it. If not, the next
    /// wait ends the warden, so that callers need not care.
    fn report(&self, report: &Report) -> bool {
        wire::send(self.control.as_fd(), report, &[]).is_ok()
    }
}
