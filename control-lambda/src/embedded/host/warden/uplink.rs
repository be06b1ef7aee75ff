//! Outbound network of a sandbox through a user-mode stack: `slirp4netns` or
//! `pasta`, one process a sandbox, outside of it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe, read};

use super::super::wire::Uplink;
use super::{During, SetupError};

/// A running uplink.
pub(super) struct UplinkProcess {
    /// Its process.
    pub(super) pid: Pid,
    /// The program, for people.
    pub(super) name: &'static str,
    /// Becomes readable when it is ready; `None` once that has been told.
    pub(super) ready: Option<OwnedFd>,
}

/// What a readable `ready` means.
pub(super) enum Readiness {
    /// It works.
    Ready,
    /// It ended, or closed the pipe.
    ClosedWithoutAWord,
}

impl UplinkProcess {
    /// What it says; later calls say nothing.
    pub(super) fn take_readiness(&mut self) -> Option<Readiness> {
        let pipe = self.ready.take()?;
        let mut word = [0; 8];
        match read(&pipe, &mut word) {
            Ok(0) | Err(_) => Some(Readiness::ClosedWithoutAWord),
            Ok(_) => Some(Readiness::Ready),
        }
    }

    /// Ends it. The warden reaps it.
    pub(super) fn stop(self) {
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}

/// Starts what the sandbox with this first process needs; nothing when it
/// needs nothing.
pub(super) fn start(uplink: &Uplink, sandbox: Pid) -> Result<Option<UplinkProcess>, SetupError> {
    match uplink {
        Uplink::None => Ok(None),
        Uplink::Slirp4netns(program) => slirp4netns(program, sandbox).map(Some),
    }
}

fn slirp4netns(program: &Path, sandbox: Pid) -> Result<UplinkProcess, SetupError> {
    let (ready, ready_theirs) = pipe().during(|| "make a pipe".to_owned())?;
    for (fd, flags) in [
        (&ready, FdFlag::FD_CLOEXEC),
        // Inherited on purpose; closed here as soon as it has been.
        (&ready_theirs, FdFlag::empty()),
    ] {
        fcntl(fd, FcntlArg::F_SETFD(flags)).during(|| "mark a pipe".to_owned())?;
    }
    let child = Command::new(program)
        .args(["--configure", "--mtu=65520", "--disable-host-loopback"])
        .arg(format!("--ready-fd={}", ready_theirs.as_raw_fd()))
        .arg("--netns-type=path")
        .arg(format!("/proc/{sandbox}/ns/net"))
        .arg("tap0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .during(|| format!("start {}", program.display()))?;
    Ok(UplinkProcess {
        // Linux process ids fit.
        pid: Pid::from_raw(child.id() as i32),
        name: "slirp4netns",
        ready: Some(ready),
    })
}
