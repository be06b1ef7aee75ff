//! The main process's side of the warden.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::warden::HELPER_ARGUMENT;
use super::wire::{self, MAX_PACKET_BYTES, Order, Report, WireError};

/// Why there is no warden, or none any more.
#[derive(Debug, Error)]
pub(super) enum WardenError {
    /// The program could not be executed again.
    #[error("start the sandbox helper {}: {source}", program.display())]
    Start {
        program: PathBuf,
        source: std::io::Error,
    },
    /// The machine does not allow what sandboxes need.
    #[error("this machine does not allow sandboxes: {0}")]
    Refused(String),
    /// It ended.
    #[error("the sandbox helper has ended")]
    Ended,
    /// It could not be told.
    #[error("talk to the sandbox helper: {0}")]
    Wire(#[source] WireError),
}

/// A running warden. Dropping the last handle ends it and every sandbox.
pub(super) struct Warden {
    socket: Arc<AsyncFd<OwnedFd>>,
}

/// What it reports, with descriptors. Ends when the warden does.
pub(super) type Reports = mpsc::UnboundedReceiver<(Report, Vec<OwnedFd>)>;

impl Warden {
    /// Starts one, and waits until it works.
    pub(super) async fn start(
        program: &Path,
        scratch: &Path,
    ) -> Result<(Self, Reports), WardenError> {
        let failed = |source: std::io::Error| WardenError::Start {
            program: program.to_owned(),
            source,
        };
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|errno| failed(errno.into()))?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| failed(e.into()))?;
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        let mut outer = Command::new(program)
            .arg(HELPER_ARGUMENT)
            .arg(scratch)
            .env_clear()
            .env("PATH", path)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        // SAFETY: the descriptor is owned, and stays the same for as long as it is
        // registered.
        let socket = unsafe { AsyncFd::register(ours) }.map_err(|error| failed(error.into()))?;
        let socket = Arc::new(socket);
        let warden = Self { socket };
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let first = warden.receive(&mut buffer).await;
        // The process that was started only made the warden's namespaces; it
        // ends as soon as it has, or has failed to.
        let _ = tokio::task::spawn_blocking(move || outer.wait()).await;
        match first {
            Ok((Report::Ready, _)) => {}
            Ok((Report::Refused(sentence), _)) => return Err(WardenError::Refused(sentence)),
            Ok(_) | Err(WireError::Closed) => return Err(WardenError::Ended),
            Err(error) => return Err(WardenError::Wire(error)),
        }
        let (sender, reports) = mpsc::unbounded_channel();
        let reader = Self {
            socket: Arc::clone(&warden.socket),
        };
        tokio::spawn(async move {
            loop {
                // The channel closes when the host is gone; then so must the socket.
                let report = tokio::select! {
                    report = reader.receive(&mut buffer) => report,
                    () = sender.closed() => return,
                };
                match report {
                    Ok(report) => {
                        if sender.send(report).is_err() {
                            return;
                        }
                    }
                    Err(WireError::Closed) => return,
                    Err(error) => {
                        tracing::error!(%error, "sandbox helper: unreadable report");
                        return;
                    }
                }
            }
        });
        Ok((warden, reports))
    }

    /// Gives an order.
    pub(super) async fn order(&self, order: &Order, fds: &[RawFd]) -> Result<(), WardenError> {
        loop {
            let mut guard = self
                .socket
                .ready(Interest::WRITABLE)
                .await
                .map_err(|error| WardenError::Wire(WireError::Socket(error)))?;
            match wire::send(self.socket.get_ref().as_fd(), order, fds) {
                Ok(()) => return Ok(()),
                Err(WireError::NotReady) => guard.clear_ready(),
                Err(WireError::Closed) => return Err(WardenError::Ended),
                Err(error) => return Err(WardenError::Wire(error)),
            }
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<(Report, Vec<OwnedFd>), WireError> {
        loop {
            let mut guard = self
                .socket
                .ready(Interest::READABLE)
                .await
                .map_err(WireError::Socket)?;
            match wire::receive(self.socket.get_ref().as_fd(), buffer) {
                Err(WireError::NotReady) => guard.clear_ready(),
                other => return other,
            }
        }
    }
}

/// The number of a descriptor, for [`Warden::order`].
pub(super) fn number(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}
