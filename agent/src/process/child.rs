//! What happens between fork and exec, in the order in which runc does it.
//!
//! Other threads may have held any lock at the fork: nothing here allocates,
//! locks or panics. Everything needed is prepared in [`Prepared`].

use std::ffi::{CString, NulError, c_char};
use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use super::errno;
use super::program::{Found, Lookup, Missing};

/// A process to be started, resolved but for what only itself can find out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The program's name, as it was given.
    pub(crate) name: String,
    /// Where it is looked for: a `PATH`.
    pub(crate) path: String,
    /// Its arguments, its name among them.
    pub(crate) args: Vec<String>,
    /// Its variables, complete.
    pub(crate) env: Vec<String>,
    /// Its working directory.
    pub(crate) cwd: String,
    /// User, primary group, all groups; `None` to stay who we are.
    pub(crate) identity: Option<(u32, u32, Vec<u32>)>,
    /// Whether stdin is a terminal that becomes the controlling one.
    pub(crate) terminal: bool,
    /// What it is given and denied.
    pub(crate) bounds: Bounds,
}

/// What a process is given and denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// The most capabilities it can have, bit n for capability n; `None` leaves all.
    pub(crate) capabilities: Option<u64>,
    /// `no_new_privs`.
    pub(crate) no_new_privileges: bool,
    /// Limits of setrlimit(2): which, soft, hard.
    pub(crate) limits: Vec<(u32, u64, u64)>,
}

/// Everything a new process needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    lookup: Lookup,
    argv: Vec<CString>,
    envp: Vec<CString>,
    cwd: CString,
    identity: Option<(u32, u32, Vec<u32>)>,
    /// What becomes stdin, stdout and stderr.
    stdio: [RawFd; 3],
    terminal: bool,
    bounds: Bounds,
}

impl Prepared {
    /// Puts everything into the form that needs no allocation any more.
    ///
    /// # Errors
    /// When a text has a NUL byte.
    pub(crate) fn new(order: &Order, stdio: [RawFd; 3]) -> Result<Self, NulError> {
        Ok(Self {
            lookup: Lookup::new(&order.name, &order.path)?,
            argv: to_c(&order.args)?,
            envp: to_c(&order.env)?,
            cwd: CString::new(order.cwd.as_str())?,
            identity: order.identity.clone(),
            stdio,
            terminal: order.terminal,
            bounds: order.bounds.clone(),
        })
    }
}

fn to_c(texts: &[String]) -> Result<Vec<CString>, NulError> {
    texts
        .iter()
        .map(|text| CString::new(text.as_str()))
        .collect()
}

/// How far a new process came, as it tells its parent through the pipe. The
/// pipe's end without a word means: it is (about to be) executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A session of its own, descriptors, terminal.
    Setup(i32),
    /// `chdir`.
    WorkingDir(i32),
    /// `setgroups`, `setgid`, `setuid`.
    Identity(i32),
    /// Finding the program.
    Program(Missing),
    /// A limit: which, and the error number.
    Limit(u16, u16),
    /// `prctl` for capabilities or privileges.
    Privileges(i32),
}

/// Bytes of a [`Step`] on the pipe: a kind and an error number.
pub(crate) const STEP_BYTES: usize = 5;

impl Step {
    /// The form on the pipe.
    pub(crate) const fn to_bytes(self) -> [u8; STEP_BYTES] {
        let (kind, number) = match self {
            Self::Setup(number) => (0, number),
            Self::WorkingDir(number) => (1, number),
            Self::Identity(number) => (2, number),
            Self::Program(Missing::NotInPath) => (3, 0),
            Self::Program(Missing::RelativeToCurrentDir) => (4, 0),
            Self::Program(Missing::Stat(number)) => (5, number),
            Self::Program(Missing::Access(number)) => (6, number),
            Self::Limit(which, number) => (7, (which as i32) << 16 | number as i32),
            Self::Privileges(number) => (8, number),
        };
        let [a, b, c, d] = number.to_be_bytes();
        [kind, a, b, c, d]
    }

    /// Reads the form on the pipe.
    pub(crate) const fn from_bytes(bytes: [u8; STEP_BYTES]) -> Self {
        let [kind, a, b, c, d] = bytes;
        let number = i32::from_be_bytes([a, b, c, d]);
        match kind {
            1 => Self::WorkingDir(number),
            2 => Self::Identity(number),
            3 => Self::Program(Missing::NotInPath),
            4 => Self::Program(Missing::RelativeToCurrentDir),
            5 => Self::Program(Missing::Stat(number)),
            6 => Self::Program(Missing::Access(number)),
            7 => Self::Limit((number >> 16) as u16, number as u16),
            8 => Self::Privileges(number),
            _ => Self::Setup(number),
        }
    }
}

/// The pointer arrays of `execve`, built before the fork.
#[derive(Debug)]
pub(crate) struct Pointers {
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
}

impl Pointers {
    /// Pointers into `prepared`, which must outlive them.
    pub(crate) fn of(prepared: &Prepared) -> Self {
        let terminated = |strings: &[CString]| {
            strings
                .iter()
                .map(|string| string.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        Self {
            argv: terminated(&prepared.argv),
            envp: terminated(&prepared.envp),
        }
    }
}

/// The exit code of a process whose `execve` failed after everything else went
/// well: the container counts as started by then. runc before 1.2 ends with 1,
/// as the Engine does that the project is compared with.
const EXEC_FAILED_CODE: i32 = 1;

/// Becomes the program, or tells `report` why not. Never returns.
///
/// # Safety
/// Only in a forked child; `pointers` were made from `prepared`.
pub(crate) unsafe fn become_program(prepared: &Prepared, pointers: &Pointers, report: RawFd) -> ! {
    let step = match prepare(prepared) {
        Err(step) => step,
        Ok(()) => match prepared.lookup.search() {
            Found::Missing(missing) => Step::Program(missing),
            Found::At(index) => {
                if let Some(path) = prepared.lookup.path(index) {
                    // SAFETY: all three are NUL-terminated and alive.
                    unsafe {
                        libc::execve(
                            path.as_ptr(),
                            pointers.argv.as_ptr(),
                            pointers.envp.as_ptr(),
                        );
                    }
                    let number = errno::last();
                    say(&[
                        b"exec ",
                        path.to_bytes(),
                        b": ",
                        errno::text(number).as_bytes(),
                        b"\n",
                    ]);
                }
                // SAFETY: ends the child alone.
                unsafe { libc::_exit(EXEC_FAILED_CODE) }
            }
        },
    };
    let bytes = step.to_bytes();
    // SAFETY: `bytes` is alive; what cannot be written cannot be told.
    unsafe {
        libc::write(report, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(EXEC_FAILED_CODE)
    }
}

fn prepare(prepared: &Prepared) -> Result<(), Step> {
    let check = |result: i32, step: fn(i32) -> Step| {
        if result < 0 {
            Err(step(errno::last()))
        } else {
            Ok(())
        }
    };
    default_signals();
    // SAFETY: plain system calls on descriptors that the parent keeps open.
    unsafe {
        check(libc::setsid(), Step::Setup)?;
        for (target, source) in (0..).zip(prepared.stdio) {
            check(libc::dup2(source, target), Step::Setup)?;
        }
        if prepared.terminal {
            check(libc::ioctl(0, libc::TIOCSCTTY, 0), Step::Setup)?;
        }
        // As runc: first as we are, then, if that is not allowed, as the user.
        let changed = libc::chdir(prepared.cwd.as_ptr()) == 0;
        let number = if changed { 0 } else { errno::last() };
        let retry = !changed && matches!(number, libc::EACCES | libc::EPERM);
        if !changed && !retry {
            return Err(Step::WorkingDir(number));
        }
        for &(which, soft, hard) in &prepared.bounds.limits {
            let limit = libc::rlimit64 {
                rlim_cur: soft,
                rlim_max: hard,
            };
            let resource = libc::c_long::from(which);
            let none = std::ptr::null::<libc::rlimit64>();
            if libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, none) < 0 {
                return Err(Step::Limit(which as u16, errno::last() as u16));
            }
        }
        if let Some(capabilities) = prepared.bounds.capabilities {
            bound(capabilities)?;
        }
        if let Some((uid, gid, groups)) = &prepared.identity {
            // A user namespace may forbid it for good; runc goes on then too.
            if libc::setgroups(groups.len(), groups.as_ptr()) < 0 && errno::last() != libc::EPERM {
                return Err(Step::Identity(errno::last()));
            }
            check(libc::setresgid(*gid, *gid, *gid), Step::Identity)?;
            check(libc::setresuid(*uid, *uid, *uid), Step::Identity)?;
        }
        if retry {
            check(libc::chdir(prepared.cwd.as_ptr()), Step::WorkingDir)?;
        }
        if prepared.bounds.no_new_privileges {
            check(
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                Step::Privileges,
            )?;
        }
    }
    Ok(())
}

/// Takes every other capability from what a program can get by being executed. Those
/// held now, which changing the user takes, end with the execution.
fn bound(capabilities: u64) -> Result<(), Step> {
    for number in 0..64u64 {
        if capabilities & (1 << number) != 0 {
            continue;
        }
        // SAFETY: plain system calls.
        unsafe {
            match libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) {
                1 if libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) < 0 => {
                    return Err(Step::Privileges(errno::last()));
                }
                0 | 1 => {}
                // The kernel knows no capability of that number, nor any beyond.
                _ => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Default actions and nothing blocked: what a new container's process has.
/// Handlers vanish by themselves at `execve`, ignored signals do not.
fn default_signals() {
    // The kernel's own form: action, flags, restorer and mask, all zero. The C
    // library refuses two signals that it keeps for itself, which whoever
    // started the agent may have ignored.
    let default = [0u64; 4];
    let none = 0u64;
    for signal in 1..=64 {
        // SAFETY: `default` has the size of the kernel's structure; numbers that
        // cannot be changed are refused, which is fine.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    // SAFETY: a mask of 64 bits, as its size says.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        );
    }
}

fn say(parts: &[&[u8]]) {
    for part in parts {
        // SAFETY: `part` is alive; nobody is left to tell of a failure.
        unsafe {
            libc::write(2, part.as_ptr().cast(), part.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_survives_the_pipe() {
        let steps = [
            Step::Setup(1),
            Step::WorkingDir(2),
            Step::Identity(3),
            Step::Program(Missing::NotInPath),
            Step::Program(Missing::RelativeToCurrentDir),
            Step::Program(Missing::Stat(4)),
            Step::Program(Missing::Access(5)),
            Step::Limit(7, 1),
            Step::Privileges(1),
        ];
        for step in steps {
            assert_eq!(Step::from_bytes(step.to_bytes()), step);
        }
    }
}
