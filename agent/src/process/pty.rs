//! A real terminal, where the sandbox has one.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::pty::{posix_openpt, unlockpt};
use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
use nix::unistd::{Pid, tcgetpgrp};
use sockerless_shared::spec::ConsoleSize;

/// A pseudo-terminal: the agent's end, and the process's.
#[derive(Debug)]
pub(crate) struct Pty {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Opens a pseudo-terminal.
///
/// # Errors
/// Where there is none: Lambda functions have no `/dev/ptmx` that works.
pub(crate) fn open() -> io::Result<Pty> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    unlockpt(&master)?;
    // Asks the terminal itself, whatever is mounted at /dev/pts.
    // SAFETY: the flags are TIOCGPTPEER's only argument.
    let slave = unsafe {
        libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER,
            libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
        )
    };
    if slave < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Pty {
        master: master.into(),
        // SAFETY: the kernel has just given us this descriptor.
        slave: unsafe { OwnedFd::from_raw_fd(slave) },
    })
}

/// The signal that this byte, typed at the terminal, would send to the
/// foreground processes, and their group.
pub(crate) fn signal_of(terminal: &OwnedFd, byte: u8) -> Option<(i32, Pid)> {
    let settings = tcgetattr(terminal).ok()?;
    if !settings.local_flags.contains(LocalFlags::ISIG) {
        return None;
    }
    let is = |key: SpecialCharacterIndices| settings.control_chars[key as usize] == byte;
    let signal = if is(SpecialCharacterIndices::VINTR) {
        libc::SIGINT
    } else if is(SpecialCharacterIndices::VQUIT) {
        libc::SIGQUIT
    } else {
        return None;
    };
    let group = tcgetpgrp(terminal).ok()?;
    Some((signal, group))
}

/// Sets a terminal's size; the kernel tells its foreground processes (SIGWINCH).
///
/// # Errors
/// When it is no terminal any more.
pub(crate) fn resize(terminal: &OwnedFd, size: ConsoleSize) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: size.height,
        ws_col: size.width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: `size` outlives the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
