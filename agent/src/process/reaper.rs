//! Children and orphans: every process of the container that ends is waited
//! for, as process 1 would.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::Pid;
use sockerless_shared::protocol::control::StartFailure;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};

use super::errno;
use super::launch::Role;
use super::namespace::Namespace;
use super::spawn::Plan;
use super::stdio::ProcessEnds;

/// Waits for every process that ends and tells whoever started it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<HashMap<Pid, oneshot::Sender<i32>>>,
    reaped: Notify,
    namespace: Option<Namespace>,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its id.
    pub(crate) pid: Pid,
    /// Its exit code, once it ended: 0–255, or 128 + n after signal n.
    pub(crate) exit: oneshot::Receiver<i32>,
}

impl Reaper {
    /// Starts reaping for as long as the runtime lives. Processes are started in
    /// `namespace`, if there is one.
    ///
    /// # Errors
    /// When SIGCHLD cannot be received.
    pub(crate) fn start(namespace: Option<Namespace>) -> io::Result<Self> {
        let reaper = Self(Arc::new(Shared {
            namespace,
            ..Shared::default()
        }));
        let mut ended = signal(SignalKind::child())?;
        let task = reaper.clone();
        tokio::spawn(async move {
            while ended.recv().await.is_some() {
                task.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts a process and keeps its exit for the caller.
    ///
    /// # Errors
    /// As [`Plan::start`].
    pub(crate) fn spawn(
        &self,
        plan: Plan,
        role: Role,
        ends: ProcessEnds,
    ) -> Result<Child, StartFailure> {
        // Held over the start, so that a process that ends at once is known
        // before it is waited for.
        let mut waiting = self.waiting();
        let pid = plan.start(role, ends, self.0.namespace.as_ref())?;
        let (tell, exit) = oneshot::channel();
        waiting.insert(pid, tell);
        Ok(Child { pid, exit })
    }

    /// The process, if there is one, that starts others but is none of the container's.
    pub(crate) fn helper(&self) -> Option<Pid> {
        self.0.namespace.as_ref().map(Namespace::helper)
    }

    /// Waits for all that has ended by now. Whether any child is left, dead or alive.
    pub(crate) fn reap(&self) -> bool {
        let mut waiting = self.waiting();
        loop {
            let mut status = 0;
            // `nix` refuses statuses with real-time signals, hence the plain call.
            // SAFETY: `status` outlives the call.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            let (pid, code) = match pid {
                0 => return true,
                -1 if errno::last() == libc::EINTR => continue,
                -1 => return false,
                pid if libc::WIFEXITED(status) => (Pid::from_raw(pid), libc::WEXITSTATUS(status)),
                pid if libc::WIFSIGNALED(status) => {
                    (Pid::from_raw(pid), 128 + libc::WTERMSIG(status))
                }
                _ => continue,
            };
            if let Some(tell) = waiting.remove(&pid) {
                // Nobody may be waiting any more.
                let _ = tell.send(code);
            }
            self.0.reaped.notify_waiters();
        }
    }

    /// Resolves when some process has been reaped after the call.
    pub(crate) fn reaped(&self) -> impl Future<Output = ()> + '_ {
        self.0.reaped.notified()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<i32>>> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
