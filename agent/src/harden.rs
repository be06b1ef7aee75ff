//! What the agent does to itself and its surroundings before a container runs.
//! Most of it is there so that a container under the same user learns nothing
//! from it.

use std::io;

use nix::unistd::getpid;

/// Hides the agent's memory, environment and descriptors, and makes it the
/// parent of every orphan.
///
/// # Errors
/// When the kernel refuses; the agent must not run then.
pub(crate) fn harden() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    if getpid().as_raw() != 1 {
        nix::sys::prctl::set_child_subreaper(true)?;
    }
    close_on_exec();
    Ok(())
}

/// Overwrites the environment that the kernel shows in `/proc/<pid>/environ`.
/// Root in a container may look there even so; see [`harden`] for the rest.
/// Afterwards the environment is empty; read it before.
pub(crate) fn forget_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: called once, before any thread is started; `environ` is a
    // NULL-terminated array of NUL-terminated strings that the kernel put on the
    // stack, which is ours to write. Emptying the array first leaves nobody a
    // pointer into it.
    unsafe {
        let mut entry = environ;
        if entry.is_null() {
            return;
        }
        while !(*entry).is_null() {
            let string = *entry;
            *entry = std::ptr::null_mut();
            std::ptr::write_bytes(string, 0, libc::strlen(string));
            entry = entry.add(1);
        }
    }
}

/// Names the machine as the container wants it, where the machine is the
/// container's own: only as process 1. Refused where that is not allowed, which
/// is the platform's word and no error.
pub(crate) fn set_hostname(name: &str) {
    if getpid().as_raw() == 1 && !name.is_empty() {
        // SAFETY: the length is the name's.
        unsafe {
            libc::sethostname(name.as_ptr().cast(), name.len());
        }
    }
}

/// Descriptors that whoever started the agent left open must not reach a container.
fn close_on_exec() {
    // SAFETY: only sets a flag.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return;
    }
    // Kernels before 5.11.
    for fd in 3..1024 {
        // SAFETY: only sets a flag; one that is not open is refused.
        unsafe {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}
