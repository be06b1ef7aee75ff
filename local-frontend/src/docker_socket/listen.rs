//! Where clients connect: Unix sockets, and TCP on loopback.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

/// An address to listen on, as the user writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `unix://PATH`
    Unix(PathBuf),
    /// `tcp://ADDRESS:PORT`, loopback only.
    Tcp(SocketAddr),
}

/// Text that is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListenSyntax {
    /// Another scheme, or none.
    #[error("{0:?} is neither unix://PATH nor tcp://127.0.0.1:PORT")]
    Scheme(String),
    /// A relative or empty path.
    #[error("unix socket {0:?}: the path must be absolute, as in unix:///run/sockerless.sock")]
    RelativePath(String),
    /// No IP address and port.
    #[error("{0:?}: expected an IP address and a port, as in tcp://127.0.0.1:2375")]
    Address(String),
    /// An address that others can reach.
    #[error(
        "{0} can be reached from other machines, which would give them every container and needs \
         TLS with client certificates; that is not supported yet: listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
}

/// An address on which nobody can listen.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("{0} is in use by another process; stop it or choose another --listen")]
    InUse(PathBuf),
    /// Something that is no socket stands there.
    #[error("{0} exists and is not a socket; remove it or choose another --listen")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {listen}: {source}")]
    Io {
        /// Where.
        listen: Listen,
        /// Why.
        source: io::Error,
    },
}

/// A bound address. Dropping it removes the socket's file, unless another
/// process has put its own there meanwhile.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket.
    Unix(UnixListener, SocketFile),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// The file of a Unix socket.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl FromStr for Listen {
    type Err = ListenSyntax;

    fn from_str(text: &str) -> Result<Self, ListenSyntax> {
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(ListenSyntax::RelativePath(path.to_owned()))
            };
        }
        let Some(address) = text.strip_prefix("tcp://") else {
            return Err(ListenSyntax::Scheme(text.to_owned()));
        };
        let address = match address.strip_prefix("localhost:") {
            Some(port) => port
                .parse()
                .ok()
                .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => address.parse().ok(),
        };
        match address {
            Some(address) if is_loopback(address.ip()) => Ok(Self::Tcp(address)),
            Some(address) => Err(ListenSyntax::NotLoopback(address)),
            None => Err(ListenSyntax::Address(text.to_owned())),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Listener {
    /// Binds. A Unix socket is only ever visible with mode 0600; one that a
    /// process left behind is replaced.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(listen: &Listen) -> Result<Self, BindError> {
        let failed = |source| BindError::Io {
            listen: listen.clone(),
            source,
        };
        match listen {
            Listen::Tcp(address) => {
                Ok(Self::Tcp(TcpListener::bind(address).await.map_err(failed)?))
            }
            Listen::Unix(path) => {
                refuse_if_taken(path).map_err(|taken| taken.unwrap_or_else(failed))?;
                let (listener, file) = bind_unix(path).map_err(failed)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<Listen> {
        match self {
            Self::Unix(_, file) => Ok(Listen::Unix(file.path.clone())),
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// What stands at the path must be nothing, or a socket on which nobody listens.
/// The inner error is the system's.
fn refuse_if_taken(path: &Path) -> Result<(), Taken> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Taken::Io(error)),
    };
    if !found.file_type().is_socket() {
        return Err(Taken::Refused(BindError::NotASocket(path.to_owned())));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(Taken::Refused(BindError::InUse(path.to_owned()))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(Taken::Io(error)),
    }
}

enum Taken {
    Refused(BindError),
    Io(io::Error),
}

impl Taken {
    fn unwrap_or_else(self, io: impl FnOnce(io::Error) -> BindError) -> BindError {
        match self {
            Self::Refused(error) => error,
            Self::Io(error) => io(error),
        }
    }
}

/// Binds in a folder that only this user can enter, so that nobody connects
/// before the mode is set, and then moves the socket into its place, which
/// replaces a stale one in the same step.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let private = parent.join(format!(".skls-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let result = bind_unix_in(&private, path);
    fs::remove_dir(&private)?;
    result
}

fn bind_unix_in(private: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let temporary = private.join("s");
    let listener = UnixListener::bind(&temporary)?;
    let placed = fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::symlink_metadata(&temporary))
        .and_then(|made| fs::rename(&temporary, path).map(|()| made));
    match placed {
        Ok(made) => {
            let file = SocketFile {
                path: path.to_owned(),
                device: made.dev(),
                inode: made.ino(),
            };
            Ok((listener, file))
        }
        Err(error) => {
            fs::remove_file(&temporary)?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_written() {
        for text in [
            "unix:///run/x.sock",
            "tcp://127.0.0.1:2375",
            "tcp://[::1]:1",
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        assert_eq!(
            "tcp://localhost:1".parse(),
            Ok::<_, ListenSyntax>(Listen::Tcp(([127, 0, 0, 1], 1).into()))
        );
    }

    #[test]
    fn what_others_could_reach_is_refused_with_a_sentence() {
        for text in [
            "tcp://0.0.0.0:2375",
            "tcp://192.168.1.1:2375",
            "tcp://[::]:1",
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.to_string().contains("TLS"), "{error}");
        }
        for text in [
            "",
            "run",
            "fd://",
            "unix://relative",
            "tcp://",
            "tcp://host:1",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_replaces_a_stale_one_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let listen = Listen::Unix(path.clone());
        // Left behind by a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&listen).await.unwrap();
        assert_eq!(listener.address().unwrap(), listen);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            Listener::bind(&listen).await,
            Err(BindError::InUse(_))
        ));
        drop(listener);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            Listener::bind(&listen).await,
            Err(BindError::NotASocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_another_process_put_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let listener = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
