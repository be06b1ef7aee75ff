//! The container's own PID namespace, where the sandbox made one.
//!
//! Making a namespace and forking into one takes privileges that the agent does not
//! have. The sandbox therefore starts two more processes with the agent's program,
//! children of the agent both, which wait for its word: one is process 1 of the
//! namespace and becomes the container's main process, the other forks the processes
//! of execs into it, as children of the agent again. What they are is said by
//! the variable [`VARIABLE`]; on Lambda there is none, and the agent forks itself.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::Pid;
use thiserror::Error;

use super::child::{Order, Pointers, Prepared, become_program};
use super::errno;
use super::launch::Role;

/// `agent:MAIN,EXEC,PID,PID`, `main:SOCKET` or `exec:SOCKET`.
const VARIABLE: &str = "SOCKERLESS_NAMESPACE";

/// Descriptors that come with an order: stdin, stdout, stderr, and the report's pipe.
const DESCRIPTORS: usize = 4;

/// The largest order, in bytes; an invocation's payload is smaller.
const MAX_ORDER_BYTES: usize = 16 * 1024 * 1024;

/// What this process is.
#[derive(Debug)]
pub(crate) enum Seat {
    /// The agent, with the container's namespace if there is one.
    Agent(Option<Namespace>),
    /// What becomes the container's main process.
    Main(OwnedFd),
    /// What forks the processes of execs.
    Exec(OwnedFd),
}

/// The agent's way into the container's namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    main: OwnedFd,
    exec: OwnedFd,
    main_pid: Pid,
    exec_pid: Pid,
}

/// A variable that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{VARIABLE}={0:?} is neither agent:MAIN,EXEC,PID,PID nor main:SOCKET nor exec:SOCKET")]
pub(crate) struct SeatError(String);

/// The numbers of the variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parsed {
    Agent([RawFd; 2], [i32; 2]),
    Main(RawFd),
    Exec(RawFd),
}

impl Seat {
    /// Reads the variable. Called once: it takes the descriptors over.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, SeatError> {
        let Some(text) = get(VARIABLE) else {
            return Ok(Self::Agent(None));
        };
        let parsed = parse(&text).ok_or(SeatError(text))?;
        // SAFETY: whoever set the variable made these descriptors for this process
        // alone, and nothing else in it knows of them.
        let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(match parsed {
            Parsed::Agent([main, exec], [main_pid, exec_pid]) => Self::Agent(Some(Namespace {
                main: own(main),
                exec: own(exec),
                main_pid: Pid::from_raw(main_pid),
                exec_pid: Pid::from_raw(exec_pid),
            })),
            Parsed::Main(socket) => Self::Main(own(socket)),
            Parsed::Exec(socket) => Self::Exec(own(socket)),
        })
    }
}

fn parse(text: &str) -> Option<Parsed> {
    // Not one of the standard streams.
    let socket = |text: &str| text.parse().ok().filter(|&fd: &RawFd| fd > 2);
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "agent" => {
            let mut fields = rest.split(',');
            let sockets = [socket(fields.next()?)?, socket(fields.next()?)?];
            let mut pid = || fields.next()?.parse().ok().filter(|&pid: &i32| pid > 1);
            let pids = [pid()?, pid()?];
            let is_whole = fields.next().is_none() && sockets[0] != sockets[1];
            is_whole.then_some(Parsed::Agent(sockets, pids))
        }
        "main" => socket(rest).map(Parsed::Main),
        "exec" => socket(rest).map(Parsed::Exec),
        _ => None,
    }
}

impl Namespace {
    /// The process that forks those of execs. It is the agent's, not the container's.
    pub(crate) fn helper(&self) -> Pid {
        self.exec_pid
    }

    /// Starts a process in the namespace with these descriptors: stdin, stdout,
    /// stderr, and the pipe for its report. Its process number is the agent's for it.
    ///
    /// # Errors
    /// When the namespace is gone: its process 1 ended.
    pub(crate) fn start(
        &self,
        role: Role,
        order: &Order,
        descriptors: [RawFd; DESCRIPTORS],
    ) -> io::Result<Pid> {
        match role {
            Role::Main => {
                send(&self.main, order, descriptors)?;
                Ok(self.main_pid)
            }
            Role::Exec => {
                send(&self.exec, order, descriptors)?;
                let mut answer = [0; 4];
                read_exact(self.exec.as_fd(), &mut answer)?;
                match i32::from_ne_bytes(answer) {
                    pid if pid > 0 => Ok(Pid::from_raw(pid)),
                    number => Err(io::Error::from_raw_os_error(-number)),
                }
            }
        }
    }

    /// Becomes, or forks, what the agent says. Returns when the agent is gone.
    ///
    /// # Errors
    /// When an order cannot be received.
    pub(crate) fn wait_as_main(socket: &OwnedFd) -> io::Result<()> {
        let Some((order, [stdin, stdout, stderr, report])) = receive(socket)? else {
            return Ok(());
        };
        let stdio = [&stdin, &stdout, &stderr].map(AsRawFd::as_raw_fd);
        let prepared = Prepared::new(&order, stdio)?;
        let pointers = Pointers::of(&prepared);
        // SAFETY: this process was started to become the program; it has one thread.
        unsafe { become_program(&prepared, &pointers, report.as_raw_fd()) }
    }

    /// Forks a process for every order. Returns when the agent is gone.
    ///
    /// # Errors
    /// When an order cannot be received or answered.
    pub(crate) fn serve_execs(socket: &OwnedFd) -> io::Result<()> {
        while let Some((order, [stdin, stdout, stderr, report])) = receive(socket)? {
            let stdio = [&stdin, &stdout, &stderr].map(AsRawFd::as_raw_fd);
            let prepared = Prepared::new(&order, stdio)?;
            let pointers = Pointers::of(&prepared);
            let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
            // SAFETY: as fork, for a process with one thread; the child calls only
            // what is async-signal-safe. All arguments but the flags are zero.
            let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
            if pid == 0 {
                // SAFETY: we are the forked child, and the pointers are `prepared`'s.
                unsafe { become_program(&prepared, &pointers, report.as_raw_fd()) }
            }
            let answer = match i32::try_from(pid) {
                Ok(pid) if pid > 0 => pid,
                Ok(_) | Err(_) => -errno::last(),
            };
            write_all(socket.as_fd(), &answer.to_ne_bytes())?;
        }
        Ok(())
    }
}

fn send(socket: &OwnedFd, order: &Order, descriptors: [RawFd; DESCRIPTORS]) -> io::Result<()> {
    let text = serde_json::to_vec(order)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let length = length.to_ne_bytes();
    // Four bytes on a stream whose reader keeps up: never in part.
    let sent = sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(&length)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    if sent != length.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    write_all(socket.as_fd(), &text)
}

fn receive(socket: &OwnedFd) -> io::Result<Option<(Order, [OwnedFd; DESCRIPTORS])>> {
    let mut length = [0; 4];
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let (got, descriptors) = {
        let mut slices = [IoSliceMut::new(&mut length)];
        let received = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these for this process.
                descriptors.extend(
                    raw.into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        (received.bytes, descriptors)
    };
    if got == 0 {
        return Ok(None);
    }
    read_exact(socket.as_fd(), length.get_mut(got..).unwrap_or_default())?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let length = usize::try_from(u32::from_ne_bytes(length)).map_err(io::Error::other)?;
    if length > MAX_ORDER_BYTES {
        return Err(invalid());
    }
    let mut text = vec![0; length];
    read_exact(socket.as_fd(), &mut text)?;
    let order = serde_json::from_slice(&text)?;
    Ok(Some((
        order,
        descriptors.try_into().map_err(|_| invalid())?,
    )))
}

fn read_exact(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<()> {
    File::from(socket.try_clone_to_owned()?).read_exact(buffer)
}

fn write_all(socket: BorrowedFd<'_>, data: &[u8]) -> io::Result<()> {
    File::from(socket.try_clone_to_owned()?).write_all(data)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[test]
    fn the_variable_is_understood_or_refused() {
        let cases = [
            ("agent:5,6,3,2", Some(Parsed::Agent([5, 6], [3, 2]))),
            ("main:7", Some(Parsed::Main(7))),
            ("exec:8", Some(Parsed::Exec(8))),
            ("agent:5,5,3,2", None),
            ("agent:5,6,1,2", None),
            ("agent:5,6,3", None),
            ("agent:5,6,3,2,1", None),
            ("agent:5,6", None),
            ("main:0", None),
            ("main:-1", None),
            ("exec:", None),
            ("other:5", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert!(Seat::read(|_| Some("nonsense".into())).is_err());
        assert!(matches!(Seat::read(|_| None), Ok(Seat::Agent(None))));
    }

    #[test]
    fn an_order_arrives_whole_with_its_descriptors() {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        // Larger than what a socket holds.
        let large = "x".repeat(1024 * 1024);
        let order = Order {
            name: "name".into(),
            path: "/bin".into(),
            args: vec!["name".into(), large],
            env: vec!["A=b".into()],
            cwd: "/".into(),
            identity: Some((1, 2, vec![2, 3])),
            terminal: false,
            bounds: super::super::child::Bounds {
                capabilities: Some(1 << 40),
                no_new_privileges: true,
                limits: vec![(7, 1, u64::MAX)],
            },
        };
        let sent = order.clone();
        let sender = std::thread::spawn(move || {
            let (_, writer) = super::super::stdio::pipe().unwrap();
            send(&ours, &sent, [writer.as_raw_fd(); 4]).unwrap();
        });
        let (received, descriptors) = receive(&theirs).unwrap().unwrap();
        sender.join().unwrap();
        assert_eq!(received, order);
        assert_eq!(descriptors.len(), DESCRIPTORS);
        assert!(receive(&theirs).unwrap().is_none());
    }
}
