//! Notices that a client has gone while nothing is written to it or read from it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// How often a client that has ended its own side is looked at. The system does
/// not wake anybody a second time when such a client closes the other side too.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long a client may take to read what is to be read by itself, and how often it is
/// looked at meanwhile. The system wakes nobody when a socket's reader has read.
const READ_LIMIT: Duration = Duration::from_secs(1);
const LOOK_WHETHER_READ: Duration = Duration::from_millis(1);

/// What wakes us when a client ends its side, and as little else as possible.
#[cfg(target_os = "linux")]
const CLOSED: Interest = Interest::PRIORITY;
#[cfg(not(target_os = "linux"))]
const CLOSED: Interest = Interest::READABLE;

/// What kind of connection it is, which is to say: what it means that a client
/// has ended its own side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HalfClose {
    /// A Unix socket: it has no more to say and waits for the rest.
    StillListens,
    /// TCP: it is gone, as far as can be told.
    Gone,
}

/// Watches one client's connection.
#[derive(Debug)]
pub(super) struct ClientWatch {
    socket: OwnedFd,
    half_close: HalfClose,
}

impl ClientWatch {
    /// A watch over a connection; it has a descriptor of its own. A half-closed
    /// Unix connection can be told from a closed one. A half-closed TCP
    /// connection cannot, until something is written to it.
    pub(super) fn new(socket: impl AsFd, half_close: HalfClose) -> io::Result<Self> {
        Ok(Self {
            socket: socket.as_fd().try_clone_to_owned()?,
            half_close,
        })
    }

    /// Returns once the client is gone. `taken_over` says that the
    /// connection is a raw stream now, in which ending one side is usual.
    pub(super) async fn gone(self: std::sync::Arc<Self>, taken_over: bool) {
        let ended = self.client_ended().await;
        if ended.is_err() {
            // Not to be watched: then writing will show it.
            return std::future::pending().await;
        }
        if self.half_close == HalfClose::Gone && !taken_over {
            return;
        }
        while !self.hung_up() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns once the client has read all that was written, or has had time enough to. Some
    /// clients (docker-py) read a response's head through a buffer that they then throw away,
    /// and with it whatever came right behind the head. An Engine is slower than they are.
    pub(super) async fn has_read(&self) {
        let read = async {
            while self.unread() {
                tokio::time::sleep(LOOK_WHETHER_READ).await;
            }
        };
        // A client that does not read in time is not one that waits for anything.
        let _ = tokio::time::timeout(READ_LIMIT, read).await;
    }

    /// Whether something is on its way to the client still, as far as the system tells.
    fn unread(&self) -> bool {
        let mut bytes: nix::libc::c_int = 0;
        // SAFETY: the descriptor is open as long as `self`, and TIOCOUTQ writes one int.
        let result =
            unsafe { nix::libc::ioctl(self.socket.as_raw_fd(), nix::libc::TIOCOUTQ, &mut bytes) };
        result == 0 && bytes > 0
    }

    /// Waits until the client has ended its side (or both).
    async fn client_ended(&self) -> io::Result<()> {
        let socket = self.socket.try_clone()?;
        match self.half_close {
            HalfClose::StillListens => {
                let socket = UnixStream::from_std(socket.into())?;
                until_closed(|| socket.ready(CLOSED)).await
            }
            HalfClose::Gone => {
                let socket = TcpStream::from_std(socket.into())?;
                until_closed(|| socket.ready(CLOSED)).await
            }
        }
    }

    fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        polled.is_ok()
            && fds[0]
                .revents()
                .is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }
}

async fn until_closed<F>(ready: impl Fn() -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<Ready>>,
{
    while !ready().await?.is_read_closed() {
        // Only where `CLOSED` cannot be waited for alone: bytes are there that are
        // not for us to read.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn closing_is_noticed_at_once_behind_unread_bytes() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let watch = Arc::new(ClientWatch::new(&server, HalfClose::StillListens).unwrap());
        let gone = tokio::spawn(watch.gone(false));
        client.write_all(b"unread").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!gone.is_finished());
        drop(client);
        timeout(Duration::from_secs(2), gone)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn what_was_written_is_waited_for_until_it_is_read() {
        let (mut client, mut server) = UnixStream::pair().unwrap();
        let watch = ClientWatch::new(&server, HalfClose::StillListens).unwrap();
        assert!(!watch.unread());
        server.write_all(b"head").await.unwrap();
        assert!(watch.unread());
        let mut head = [0; 4];
        client.read_exact(&mut head).await.unwrap();
        assert!(!watch.unread());
        server.write_all(b"never read").await.unwrap();
        watch.has_read().await;
        assert!(watch.unread());
    }

    #[tokio::test]
    async fn a_client_that_ended_its_side_is_there_until_it_closes() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let watch = Arc::new(ClientWatch::new(&server, HalfClose::StillListens).unwrap());
        let gone = tokio::spawn(watch.gone(false));
        client.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!gone.is_finished());
        drop(client);
        timeout(Duration::from_secs(2), gone)
            .await
            .unwrap()
            .unwrap();
    }
}
