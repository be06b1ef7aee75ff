//! The agent's ends of a process's stdin, stdout and stderr.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The process's ends, closed in the agent once the process has them.
#[derive(Debug)]
pub(crate) struct ProcessEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Whether all three are one terminal.
    pub(crate) terminal: bool,
}

/// The agent's end of an output, read without blocking.
#[derive(Debug)]
pub(crate) struct Output(AsyncFd<OwnedFd>);

/// The agent's end of stdin, written without blocking.
#[derive(Debug)]
pub(crate) struct Input(AsyncFd<OwnedFd>);

impl Output {
    /// Takes over a descriptor.
    ///
    /// # Errors
    /// When it cannot be polled.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        // SAFETY: an `OwnedFd` stays the same open descriptor for as long as it is kept.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(fd.map_err(|error| error.into_parts().1)?))
    }

    /// Reads what there is; 0 at the end. A terminal whose last process is gone
    /// says EIO, which is its way to say end.
    ///
    /// # Errors
    /// As `read`.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self
            .0
            .async_io(Interest::READABLE, |fd| {
                nix::unistd::read(fd, buffer).map_err(io::Error::from)
            })
            .await;
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            other => other,
        }
    }
}

impl Input {
    /// Takes over a descriptor.
    ///
    /// # Errors
    /// When it cannot be polled.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        // SAFETY: an `OwnedFd` stays the same open descriptor for as long as it is kept.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::WRITABLE) };
        Ok(Self(fd.map_err(|error| error.into_parts().1)?))
    }

    /// The descriptor itself.
    pub(crate) fn fd(&self) -> &OwnedFd {
        self.0.get_ref()
    }

    /// Writes some of `data`, waiting while the pipe is full.
    ///
    /// # Errors
    /// As `write`: EPIPE when nobody can read it any more.
    pub(crate) async fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.0
            .async_io(Interest::WRITABLE, |fd| {
                nix::unistd::write(fd, data).map_err(io::Error::from)
            })
            .await
    }
}

/// A pipe's ends, reading and writing, that no other process inherits.
///
/// # Errors
/// When no more descriptors are to be had.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

/// A stdin that is always at its end.
///
/// # Errors
/// When neither `/dev/null` nor a pipe can be opened.
pub(crate) fn null_input() -> io::Result<OwnedFd> {
    // Docker gives O_RDWR, and programs do write to their stdin.
    match OpenOptions::new().read(true).write(true).open("/dev/null") {
        Ok(file) => Ok(file.into()),
        // An image may lack it; a pipe whose other end is closed reads the same.
        Err(_) => pipe().map(|(reader, _)| reader),
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFL)?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags))?;
    Ok(())
}

impl ProcessEnds {
    /// Descriptor numbers in their order.
    pub(crate) fn raw(&self) -> [i32; 3] {
        [
            self.stdin.as_raw_fd(),
            self.stdout.as_raw_fd(),
            self.stderr.as_raw_fd(),
        ]
    }
}
