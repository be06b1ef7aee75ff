//! One sandbox: the process that becomes its first, from `clone` to `execve`.

use std::convert::Infallible;
use std::ffi::CString;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, execve, setsid};

use super::super::wire::{self, Blueprint, Profile, Report};
use super::devices::Templates;
use super::seccomp::Filters;
use super::{During, SetupError, identity, inner, machine, root};

/// Stack of the new process until it executes the agent, in bytes.
pub(super) const STACK_BYTES: usize = 512 * 1024;

/// Where the Lambda runtime API listens, inside.
const RUNTIME_API: &str = "127.0.0.1:9001";
/// Where the relay's gateway listens, inside.
const GATEWAY: &str = "127.0.0.1:9002";

/// What a sandbox is made from.
pub(super) struct Plan<'a> {
    /// The order.
    pub(super) blueprint: &'a Blueprint,
    /// What sandboxes have in common.
    pub(super) templates: &'a Templates,
    /// What it may not call.
    pub(super) filters: &'a Filters,
}

/// Makes the namespaces and the first process. What that process does until it
/// executes the agent goes on while the warden turns to the next order; it
/// reports to the main process by itself.
pub(super) fn create(
    plan: &Plan<'_>,
    control: BorrowedFd<'_>,
    output: Option<OwnedFd>,
    stack: &mut [u8],
) -> Result<Pid, SetupError> {
    let output = output.ok_or_else(|| SetupError {
        what: "take the descriptor for the agent's output".to_owned(),
        source: std::io::ErrorKind::InvalidInput.into(),
    })?;
    let child = Box::new(|| -> isize {
        let Err(error) = become_agent(plan, control, &output);
        let report = Report::Failed {
            environment: plan.blueprint.environment,
            message: error.to_string(),
        };
        let _ = wire::send(control, &report, &[]);
        1
    });
    let flags = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    // SAFETY: the warden has one thread, and the child works on its own copy of
    // its memory (no CLONE_VM), the stack included.
    unsafe { nix::sched::clone(child, stack, flags, Some(Signal::SIGCHLD as i32)) }
        .during(|| "clone into new namespaces".to_owned())
}

fn become_agent(
    plan: &Plan<'_>,
    control: BorrowedFd<'_>,
    output: &OwnedFd,
) -> Result<Infallible, SetupError> {
    let Plan {
        blueprint,
        templates,
        filters,
    } = plan;
    setsid().during(|| "setsid".to_owned())?;
    // Before anything is allocated, so that all of it is accounted.
    for procs in &blueprint.cgroup_procs {
        std::fs::write(procs, "0").during(|| format!("join cgroup {}", procs.display()))?;
    }
    unshare(CloneFlags::CLONE_NEWCGROUP).during(|| "make a cgroup namespace".to_owned())?;
    bring_loopback_up()?;
    let runtime_api =
        TcpListener::bind(RUNTIME_API).during(|| format!("listen on {RUNTIME_API}"))?;
    let gateway = TcpListener::bind(GATEWAY).during(|| format!("listen on {GATEWAY}"))?;
    nix::unistd::sethostname(&blueprint.hostname).during(|| "set the host name".to_owned())?;
    if let Profile::Microvm { machine, .. } = &blueprint.profile {
        machine::set_domain_name(&machine.domainname)?;
        machine::set_parameters(machine)?;
    }

    let null = std::fs::File::options()
        .read(true)
        .open("/dev/null")
        .during(|| "open /dev/null".to_owned())?;
    let proc_outside = root::open_proc()?;
    root::assemble(blueprint, templates)?;
    dup2_stdin(null.as_fd()).during(|| "set stdin".to_owned())?;
    dup2_stdout(output).during(|| "set stdout".to_owned())?;
    dup2_stderr(output).during(|| "set stderr".to_owned())?;
    identity::forget_signal_habits()?;
    identity::limit(&blueprint.profile)?;
    let inner = match blueprint.profile {
        Profile::Function { .. } => None,
        Profile::Microvm { .. } => Some(inner::make(plan)?),
    };
    // After the inner processes were made, so that these have no part in it.
    let halves = match &blueprint.profile {
        Profile::Function { .. } => None,
        Profile::Microvm { writable, .. } => Some(root::Halves::open(blueprint, writable)?),
    };
    root::pivot()?;
    match blueprint.profile {
        Profile::Function { .. } => {
            identity::become_function(&proc_outside)?;
            filters.apply(&blueprint.profile)?;
        }
        Profile::Microvm { .. } => {
            inner::settle(plan, 0)?;
        }
    }

    wire::send(
        control,
        &Report::Standing(blueprint.environment),
        &[runtime_api.as_raw_fd(), gateway.as_raw_fd()],
    )
    .map_err(|error| SetupError {
        what: "hand over the listening sockets".to_owned(),
        source: std::io::Error::other(error),
    })?;
    let mut variables = blueprint.variables.clone();
    if let Some(inner) = &inner {
        inner.hand_over()?;
        variables.push(inner.variable());
    }
    if let Some(halves) = &halves {
        variables.push(halves.variable());
    }
    execute(&blueprint.command, &variables)
}

/// Becomes the program with these variables alone.
pub(super) fn execute(command: &[String], variables: &[String]) -> Result<Infallible, SetupError> {
    let c_strings = |texts: &[String]| {
        texts
            .iter()
            .map(|text| c_string(text))
            .collect::<Result<Vec<_>, _>>()
    };
    let (program, variables) = (c_strings(command)?, c_strings(variables)?);
    let path = program.first().ok_or_else(|| SetupError {
        what: "take the program to run".to_owned(),
        source: std::io::ErrorKind::InvalidInput.into(),
    })?;
    execve(path, &program, &variables).during(|| format!("execute {}", path.to_string_lossy()))
}

fn c_string(text: &str) -> Result<CString, SetupError> {
    CString::new(text).during(|| format!("{text:?} has a NUL"))
}

fn bring_loopback_up() -> Result<(), SetupError> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .during(|| "open a socket for the loopback device".to_owned())?;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: nix::libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as nix::libc::c_char;
    }
    request.ifr_ifru.ifru_flags = nix::libc::IFF_UP as nix::libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    let result = unsafe {
        nix::libc::ioctl(
            socket.as_raw_fd(),
            nix::libc::SIOCSIFFLAGS,
            std::ptr::from_ref(&request),
        )
    };
    Errno::result(result)
        .map(drop)
        .during(|| "bring the loopback device up".to_owned())
}
