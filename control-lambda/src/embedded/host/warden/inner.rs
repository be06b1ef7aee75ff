//! The PID namespace inside a microvm.
//!
//! The agent is process 1 of the sandbox, and its container is to be process 1 too.
//! Making a namespace, and forking into one, takes privileges that the agent
//! must not have. So two processes are made beforehand, while there still are
//! privileges, and wait for the agent's word as its children (`CLONE_PARENT`):
//!
//! - the *main* one is process 1 of the inner namespace and becomes the container's
//!   main process;
//! - the *exec* one stays outside, and whatever it forks is inside (see
//!   `CLONE_NEWPID` in unshare(2)): it forks the processes of `docker exec`.
//!
//! Both execute the agent's program, which finds in the variable [`VARIABLE`] what it
//! is to be, and see a `/proc` that shows the inner namespace alone.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid, chdir, fork, pipe2};

use super::super::wire::Profile;
use super::sandbox::{Plan, STACK_BYTES, execute};
use super::{During, SetupError, identity, machine, root};
use crate::ports::machine::Machine;

/// `agent:MAIN,EXEC,PID,PID`, `main:SOCKET` or `exec:SOCKET`, the numbers being
/// descriptors, and the two processes as the agent sees them.
const VARIABLE: &str = "SOCKERLESS_NAMESPACE";

/// The agent's ends of the two processes.
pub(super) struct Inner {
    main: OwnedFd,
    exec: OwnedFd,
    pids: String,
}

impl Inner {
    /// What the agent's environment says of it.
    pub(super) fn variable(&self) -> String {
        let (main, exec) = (self.main.as_raw_fd(), self.exec.as_raw_fd());
        format!("{VARIABLE}=agent:{main},{exec},{}", self.pids)
    }

    /// Lets the descriptors survive the execution of the agent.
    pub(super) fn hand_over(&self) -> Result<(), SetupError> {
        keep_open(&self.main)?;
        keep_open(&self.exec)
    }
}

/// The capabilities and the filter of everything in a microvm; some processes have
/// `added` capabilities.
pub(super) fn settle(plan: &Plan<'_>, added: u64) -> Result<(), SetupError> {
    // Takes CAP_SYS_ADMIN, since no_new_privs would break su and sudo.
    plan.filters.apply(&plan.blueprint.profile)?;
    identity::become_container_root(added)
}

/// Makes the two processes. Called between [`root::assemble`] and [`root::pivot`];
/// returns when both execute the agent's program.
pub(super) fn make(plan: &Plan<'_>) -> Result<Inner, SetupError> {
    let pair = || {
        let (family, kind) = (AddressFamily::Unix, SockType::Stream);
        socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC)
            .during(|| "make a socket pair for the container's processes".to_owned())
    };
    let ((main, main_theirs), (exec, exec_theirs)) = (pair()?, pair()?);
    // Closed by both when they execute, or by the end of both.
    let (reader, writer) = pipe()?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.during(|| "fork for the container's processes".to_owned())? {
        ForkResult::Child => {
            let mut writer = File::from(writer);
            let Err(error) = become_exec(plan, &mut writer, &main_theirs, &exec_theirs);
            tell(&mut writer, &error);
            std::process::exit(1)
        }
        ForkResult::Parent { child } => {
            drop((writer, main_theirs, exec_theirs));
            let mut said = String::new();
            File::from(reader)
                .read_to_string(&mut said)
                .during(|| "hear of the container's processes".to_owned())?;
            let main_pid: i32 = said.parse().map_err(|_| SetupError {
                what: "make the container's processes".to_owned(),
                source: std::io::Error::other(said),
            })?;
            Ok(Inner {
                main,
                exec,
                pids: format!("{main_pid},{child}"),
            })
        }
    }
}

fn become_exec(
    plan: &Plan<'_>,
    writer: &mut File,
    main_socket: &OwnedFd,
    exec_socket: &OwnedFd,
) -> Result<Infallible, SetupError> {
    for procs in &plan.blueprint.container_procs {
        std::fs::write(procs, "0").during(|| format!("join cgroup {}", procs.display()))?;
    }
    let own = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
    unshare(own).during(|| "make the container's namespaces".to_owned())?;
    if let Some(machine) = asked(plan) {
        machine::make_room_for_limits(machine);
        machine::set_oom_score(machine)?;
    }
    let (entered, enter) = pipe()?;
    let mut to_agent = writer
        .try_clone()
        .during(|| "duplicate a pipe".to_owned())?;
    let enter = RefCell::new(Some(enter));
    let main_pid = clone_sibling(Box::new(|| {
        let Err(error) = become_main(plan, enter.take(), main_socket);
        tell(&mut to_agent, &error);
        1
    }))?;
    drop(enter.take());
    // The other enters the root for both, which share it; if it could not, it says why.
    if File::from(entered).read_exact(&mut [0]).is_err() {
        std::process::exit(1);
    }
    chdir("/").during(|| "enter /".to_owned())?;
    write!(writer, "{main_pid}").during(|| "tell the agent of the main process".to_owned())?;
    become_program(plan, "exec", exec_socket)
}

/// Forks a process whose parent is this one's own parent.
fn clone_sibling(child: Box<dyn FnMut() -> isize + '_>) -> Result<Pid, SetupError> {
    let mut stack = vec![0; STACK_BYTES];
    let (flags, signal) = (CloneFlags::CLONE_PARENT, Signal::SIGCHLD as i32);
    // SAFETY: this process has one thread, and the child works on its own copy of its
    // memory (no CLONE_VM), the stack included.
    unsafe { nix::sched::clone(child, &mut stack, flags, Some(signal)) }
        .during(|| "clone the container's main process".to_owned())
}

fn become_main(
    plan: &Plan<'_>,
    enter: Option<OwnedFd>,
    socket: &OwnedFd,
) -> Result<Infallible, SetupError> {
    root::replace_proc(plan.blueprint, plan.templates)?;
    if asked(plan).is_some_and(|machine| machine.read_only_root) {
        // In this mount namespace alone: the agent still makes the working directory.
        root::remount_read_only(Path::new("root"), MsFlags::MS_NODEV)?;
    }
    root::pivot()?;
    if let Some(enter) = enter {
        File::from(enter)
            .write_all(&[1])
            .during(|| "tell that the root is entered".to_owned())?;
    }
    become_program(plan, "main", socket)
}

fn become_program(plan: &Plan<'_>, role: &str, socket: &OwnedFd) -> Result<Infallible, SetupError> {
    settle(
        plan,
        asked(plan).map_or(0, |machine| machine.added_capabilities),
    )?;
    keep_open(socket)?;
    let variable = format!("{VARIABLE}={role}:{}", socket.as_raw_fd());
    execute(&plan.blueprint.command, &[variable])
}

/// What the container asks of its machine.
fn asked<'a>(plan: &'a Plan<'_>) -> Option<&'a Machine> {
    match &plan.blueprint.profile {
        Profile::Microvm { machine, .. } => Some(machine),
        Profile::Function { .. } => None,
    }
}

fn keep_open(fd: &OwnedFd) -> Result<(), SetupError> {
    fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))
        .during(|| "keep a descriptor open".to_owned())
        .map(drop)
}

fn pipe() -> Result<(OwnedFd, OwnedFd), SetupError> {
    pipe2(OFlag::O_CLOEXEC).during(|| "make a pipe".to_owned())
}

fn tell(writer: &mut File, error: &SetupError) {
    // Whoever reads is waiting for it; if it is gone, so is the sandbox.
    let _ = write!(writer, "{error}");
}
