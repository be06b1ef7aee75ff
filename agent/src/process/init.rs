//! `docker run --init`: the agent's program as a small init, in the place of the
//! `docker-init` (tini) that Docker puts there. It starts the container's program
//! as its child, passes signals on to it, waits for every orphan, and ends as its child does.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::errno;

/// What it is called, as in Docker, where processes are listed.
const NAME: &str = "/sbin/docker-init";

/// Signals that are not passed on, since they are about this process itself.
const OWN: [i32; 9] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// A program that was not found.
const NOT_FOUND: i32 = 127;
/// A program that cannot be executed.
const NOT_EXECUTABLE: i32 = 126;

/// Where the init's program is: the agent's own.
///
/// # Errors
/// Where `/proc` cannot be read.
pub(crate) fn program() -> io::Result<String> {
    let path = std::env::current_exe()?;
    path.into_os_string()
        .into_string()
        .map_err(|path| io::Error::other(format!("{} is no text", path.to_string_lossy())))
}

/// The arguments with which the init runs what has these.
pub(crate) fn arguments(args: Vec<String>) -> Vec<String> {
    let mut all = vec![NAME.to_owned(), "--".to_owned()];
    all.extend(args);
    all
}

/// What this process is to run, if it is to be an init.
pub(crate) fn wanted(mut args: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let is_init = args.next()?.as_bytes() == NAME.as_bytes() && args.next()?.as_bytes() == b"--";
    is_init.then(|| args.collect())
}

/// Runs it. Returns its exit code when it ended.
///
/// # Errors
/// When the arguments are none of a program's, or the kernel refuses.
pub(crate) fn run(args: Vec<OsString>) -> io::Result<i32> {
    let args: Vec<CString> = args
        .into_iter()
        .map(|arg| CString::new(arg.into_vec()))
        .collect::<Result<_, _>>()?;
    if args.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut argv: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(std::ptr::null());
    // SAFETY: an all-zero set is a valid one.
    let (mut all, mut before) = unsafe { std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>() };
    // SAFETY: plain system calls on values that live here; this process has one thread,
    // and the child calls nothing but what is async-signal-safe.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"docker-init".as_ptr());
        libc::sigfillset(&raw mut all);
        for signal in OWN {
            libc::sigdelset(&raw mut all, signal);
        }
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before) < 0 {
            return Err(io::Error::last_os_error());
        }
        // What is waited for counts neither as blocked nor as caught, and would look as if
        // it were discarded; see `signals`. Execution takes the handlers away again.
        let handler = hear as extern "C" fn(libc::c_int) as libc::sighandler_t;
        for signal in (1..=64).filter(|signal| !OWN.contains(signal)) {
            libc::signal(signal, handler);
        }
        // It may have to take the terminal from the background.
        libc::signal(libc::SIGTTIN, libc::SIG_IGN);
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        if libc::getpid() != 1 {
            // Where it is no process 1, orphans come to it all the same.
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        }
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => become_child(&argv, &before),
            child => wait(child, &all),
        }
    }
}

/// Never called: every signal that has it is blocked and waited for.
extern "C" fn hear(_signal: libc::c_int) {}

/// # Safety
/// Only in a forked child of a process with one thread; `argv` ends with null.
unsafe fn become_child(argv: &[*const libc::c_char], mask: &libc::sigset_t) -> ! {
    // SAFETY: plain system calls; everything pointed at is alive.
    unsafe {
        libc::setpgid(0, 0);
        // Refused where there is no terminal.
        libc::tcsetpgrp(0, libc::getpgrp());
        libc::signal(libc::SIGTTIN, libc::SIG_DFL);
        libc::signal(libc::SIGTTOU, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, mask, std::ptr::null_mut());
        libc::execvp(argv[0], argv.as_ptr());
        let number = errno::last();
        let program = std::ffi::CStr::from_ptr(argv[0]);
        let text = format!(
            "[FATAL tini ({})] exec {} failed: {}\n",
            libc::getpid(),
            OsStr::from_bytes(program.to_bytes()).to_string_lossy(),
            capitalised(errno::text(number)),
        );
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::_exit(match number {
            libc::ENOENT => NOT_FOUND,
            libc::EACCES => NOT_EXECUTABLE,
            _ => 1,
        })
    }
}

/// Error texts here are Go's; tini has the C library's.
fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}

/// Passes signals on and waits, until the child has ended.
fn wait(child: libc::pid_t, signals: &libc::sigset_t) -> io::Result<i32> {
    loop {
        // SAFETY: the set is alive; which signal it was is all that is asked for.
        match unsafe { libc::sigwaitinfo(signals, std::ptr::null_mut()) } {
            -1 if errno::last() == libc::EINTR => continue,
            -1 => return Err(io::Error::last_os_error()),
            libc::SIGCHLD => {}
            // SAFETY: a plain system call. One that is gone is told of by SIGCHLD.
            signal => unsafe {
                libc::kill(child, signal);
            },
        }
        let mut code = None;
        loop {
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
                pid if pid <= 0 => break,
                pid if pid == child && libc::WIFSIGNALED(status) => {
                    code = Some(128 + libc::WTERMSIG(status));
                }
                pid if pid == child => code = Some(libc::WEXITSTATUS(status)),
                _ => {}
            }
        }
        if let Some(code) = code {
            return Ok(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_recognised_by_its_arguments() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let made = arguments(vec!["echo".to_owned(), "--".to_owned()]);
        let made: Vec<_> = made.iter().map(OsString::from).collect();
        assert_eq!(wanted(made.into_iter()), Some(args(&["echo", "--"])));
        for other in [&["/.sockerless/agent"][..], &[NAME], &["--", NAME], &[]] {
            assert_eq!(wanted(args(other).into_iter()), None, "{other:?}");
        }
    }

    #[test]
    fn the_c_librarys_words_begin_with_a_capital() {
        assert_eq!(
            capitalised("no such file or directory"),
            "No such file or directory"
        );
        assert_eq!(capitalised(""), "");
    }
}
