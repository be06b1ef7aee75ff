//! What the main process and the warden say to each other: one JSON message a
//! packet over a `SOCK_SEQPACKET` socket pair, file descriptors alongside.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ports::machine::Machine;

/// Largest packet, in bytes. A socket's default send buffer holds it.
pub(super) const MAX_PACKET_BYTES: usize = 128 * 1024;

/// Most file descriptors that one packet carries.
const MAX_FDS: usize = 4;

/// One sandbox, for as long as the main process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct EnvironmentId(pub(super) u64);

/// Main process → warden.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Make a sandbox and run the agent in it. Comes with one file
    /// descriptor, which becomes the agent's stdout and stderr.
    Create(Box<Blueprint>),
    /// Kill every process of a sandbox. One that is gone is no error.
    Kill(EnvironmentId),
    /// Remove a folder that sandboxes wrote to. Their files may belong to users
    /// that only the warden's user namespace knows.
    RemoveTree {
        /// Comes back in the report.
        ticket: u64,
        /// What to remove.
        path: PathBuf,
    },
}

/// Warden → main process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The warden works. Its first report, unless it is `Refused`.
    Ready,
    /// This machine does not allow what sandboxes need. The warden ends.
    Refused(String),
    /// A sandbox stands and its agent is about to be executed. Comes with two
    /// listening sockets made inside: the runtime API's and the gateway's.
    Standing(EnvironmentId),
    /// A sandbox's outbound network works, or will not.
    Connected {
        /// Which.
        environment: EnvironmentId,
        /// Why it will not.
        error: Option<String>,
    },
    /// A sandbox could not be made. `Ended` follows.
    Failed {
        /// Which.
        environment: EnvironmentId,
        /// What failed, on what.
        message: String,
    },
    /// A sandbox's first process ended, and with it every other process in it.
    Ended {
        /// Which.
        environment: EnvironmentId,
        /// How.
        status: Ending,
    },
    /// A folder was removed, or not.
    TreeRemoved {
        /// From the order.
        ticket: u64,
        /// Why not.
        error: Option<String>,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ending {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
}

/// All that is needed to make one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Blueprint {
    /// Names it in reports.
    pub(super) environment: EnvironmentId,
    /// Layers of the root, lowest first; every one a folder as overlayfs wants it.
    pub(super) layers: Vec<PathBuf>,
    /// An empty folder on which the sandbox's file systems are put together.
    /// Only its own mount namespace sees them.
    pub(super) mount_point: PathBuf,
    /// What distinguishes the two runtimes.
    pub(super) profile: Profile,
    /// The sandbox's own host name.
    pub(super) hostname: String,
    /// `cgroup.procs` files to join.
    pub(super) cgroup_procs: Vec<PathBuf>,
    /// Those that the container's processes join beside, and the agent does not.
    pub(super) container_procs: Vec<PathBuf>,
    /// What has to be written where for stopped processes of the container to go on, so
    /// that they can be killed.
    pub(super) thawing: Option<(PathBuf, String)>,
    /// The file whose line `oom_kill N` counts the sandbox's out-of-memory kills. It
    /// stands in for `/proc/vmstat`, whose line of that name says the same of a
    /// machine, since a Lambda environment is one.
    pub(super) oom_counter: Option<PathBuf>,
    /// Program and arguments, inside.
    pub(super) command: Vec<String>,
    /// `KEY=value`, complete.
    pub(super) variables: Vec<String>,
    /// How it reaches the outside.
    pub(super) uplink: Uplink,
}

/// The two kinds of sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Profile {
    /// As Lambda runs a function: nothing writable but `/tmp`, one unprivileged user.
    Function {
        /// Size of `/tmp` in MiB.
        tmp_mib: u32,
    },
    /// As Docker runs a container: writable root, root user, terminals.
    Microvm {
        /// The folder that holds what it writes (`upper`), overlayfs's own `work`, and
        /// `files`.
        writable: PathBuf,
        /// What it asks for.
        machine: Box<Machine>,
        /// Paths and contents of files that are its own.
        files: Vec<(String, String)>,
    },
}

/// How a sandbox reaches the outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Uplink {
    /// Not at all: loopback only.
    None,
    /// Through `slirp4netns` at this path.
    Slirp4netns(PathBuf),
}

/// A packet that could not be sent or received.
#[derive(Debug, Error)]
pub(super) enum WireError {
    /// The other side is gone.
    #[error("the other side is gone")]
    Closed,
    /// The socket is non-blocking and has nothing, or no room.
    #[error("not ready")]
    NotReady,
    /// Larger than a packet may be.
    #[error("message of {0} bytes does not fit a packet")]
    TooLarge(usize),
    /// Not a message.
    #[error("unreadable message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The system call failed.
    #[error(transparent)]
    Socket(std::io::Error),
}

impl From<Errno> for WireError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EAGAIN => Self::NotReady,
            Errno::EPIPE | Errno::ECONNRESET => Self::Closed,
            other => Self::Socket(other.into()),
        }
    }
}

/// Sends one message.
pub(super) fn send<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    fds: &[RawFd],
) -> Result<(), WireError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_PACKET_BYTES {
        return Err(WireError::TooLarge(bytes.len()));
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights };
    loop {
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one message. `buffer` should have [`MAX_PACKET_BYTES`].
pub(super) fn receive<M: for<'a> Deserialize<'a>>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(M, Vec<OwnedFd>), WireError> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let (length, fds) = loop {
        let mut slices = [IoSliceMut::new(buffer)];
        match recvmsg::<()>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Ok(received) => {
                let mut fds = Vec::new();
                for message in received.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = message {
                        // SAFETY: the kernel has just made these descriptors for
                        // this process, and nothing else knows of them.
                        fds.extend(
                            raw.into_iter()
                                .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                        );
                    }
                }
                break (received.bytes, fds);
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    if length == 0 {
        return Err(WireError::Closed);
    }
    let bytes = buffer.get(..length).unwrap_or_default();
    Ok((serde_json::from_slice(bytes)?, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_message_and_its_descriptors_arrive_together() {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(
            a.as_fd(),
            &Report::Standing(EnvironmentId(7)),
            &[writer.as_raw_fd()],
        )
        .unwrap();
        drop(writer);
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let (report, fds) = receive::<Report>(b.as_fd(), &mut buffer).unwrap();
        assert!(matches!(report, Report::Standing(EnvironmentId(7))));
        let mut writer = std::fs::File::from(fds.into_iter().next().unwrap());
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");

        drop(a);
        assert!(matches!(
            receive::<Report>(b.as_fd(), &mut buffer),
            Err(WireError::Closed)
        ));
    }
}
