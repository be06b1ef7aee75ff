//! A small blocking HTTP/1.1 client over a Unix or TCP socket.
//!
//! It shows what an ordinary client hides: the head before the body, the raw
//! stream after a hijack, a half-closed connection, and one that is dropped in
//! the middle of a request.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The most that a response head may be long, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Where an engine or a registry listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

impl Endpoint {
    /// Parses the form that `DOCKER_HOST` has.
    ///
    /// # Errors
    /// A sentence when it is neither `unix://PATH` nor `tcp://IP:PORT`.
    pub fn parse(host: &str) -> Result<Self, String> {
        if let Some(path) = host.strip_prefix("unix://") {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        host.strip_prefix("tcp://")
            .and_then(|address| address.parse().ok())
            .map(Self::Tcp)
            .ok_or_else(|| format!("{host:?} is neither unix://PATH nor tcp://IP:PORT"))
    }

    /// The form that `DOCKER_HOST` has.
    #[must_use]
    pub fn docker_host(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(address) => format!("tcp://{address}"),
        }
    }
}

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        let limit = Some(limit.max(Duration::from_millis(1)));
        match self {
            Self::Unix(socket) => socket.set_read_timeout(limit),
            Self::Tcp(socket) => socket.set_read_timeout(limit),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.shutdown(how),
            Self::Tcp(socket) => socket.shutdown(how),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read(buffer),
            Self::Tcp(socket) => socket.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.write_all(bytes),
            Self::Tcp(socket) => socket.write_all(bytes),
        }
    }
}

/// A request as it goes over the wire.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The method, in upper case.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers beside `Host` and those of the body's framing.
    pub headers: Vec<(String, String)>,
    /// The body, if it has one.
    pub body: Option<Vec<u8>>,
    /// Whether the body is sent in chunks, without a length.
    pub chunked: bool,
}

impl Request {
    /// The bytes of the head.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: docker\r\n",
            self.method, self.target
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            Some(_) if self.chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Some(body) => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
            None if self.method != "GET" && self.method != "HEAD" => {
                head.push_str("Content-Length: 0\r\n");
            }
            None => {}
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// The bytes of the body, framed as the head says.
    #[must_use]
    pub fn framed_body(&self) -> Vec<u8> {
        let Some(body) = &self.body else {
            return Vec::new();
        };
        if !self.chunked {
            return body.clone();
        }
        let mut framed = Vec::with_capacity(body.len() + 64);
        for chunk in body.chunks(16 * 1024) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        framed
    }
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values, in the order they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header; the name is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
    Ended,
}

/// One connection, for one request.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    pending: Vec<u8>,
    framing: Framing,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let socket = match endpoint {
            Endpoint::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
            Endpoint::Tcp(address) => Socket::Tcp(TcpStream::connect_timeout(
                address,
                Duration::from_secs(10),
            )?),
        };
        Ok(Self {
            socket,
            pending: Vec::new(),
            framing: Framing::Ended,
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the system says; a peer that closed is a broken pipe.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Says that no more will be sent, and goes on reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn half_close(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Reads the head of the response to a request with this method.
    ///
    /// # Errors
    /// A peer that closed early, a head that is none, or none in time.
    pub fn read_head(&mut self, method: &str, deadline: Instant) -> io::Result<Head> {
        loop {
            let head = self.take_head()?;
            if let Some(head) = head {
                if head.status == 100 {
                    continue;
                }
                self.framing = framing(&head, method)?;
                return Ok(head);
            }
            if self.pending.len() > MAX_HEAD {
                return Err(invalid("the head of the response is too long"));
            }
            if self.fill(deadline)? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection was closed before a response",
                ));
            }
        }
    }

    fn take_head(&mut self) -> io::Result<Option<Head>> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut slots);
        let parsed = response
            .parse(&self.pending)
            .map_err(|error| invalid(&format!("no HTTP response: {error}")))?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let head = Head {
            status: response.code.unwrap_or_default(),
            headers: response
                .headers
                .iter()
                .map(|header| {
                    (
                        header.name.to_ascii_lowercase(),
                        String::from_utf8_lossy(header.value).into_owned(),
                    )
                })
                .collect(),
        };
        self.pending.drain(..length);
        Ok(Some(head))
    }

    /// Reads the next piece of the body; `None` is its end.
    ///
    /// # Errors
    /// A body that ends too early, bad chunks, or nothing in time.
    pub fn read_piece(&mut self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        match self.framing {
            Framing::Ended => Ok(None),
            Framing::UntilClosed => {
                if self.pending.is_empty() && self.fill(deadline)? == 0 {
                    self.framing = Framing::Ended;
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.pending)))
            }
            Framing::Length(0) => {
                self.framing = Framing::Ended;
                Ok(None)
            }
            Framing::Length(left) => {
                if self.pending.is_empty() && self.fill(deadline)? == 0 {
                    return Err(invalid(&format!("the body ended {left} bytes too early")));
                }
                let taken = left.min(self.pending.len());
                self.framing = Framing::Length(left - taken);
                Ok(Some(self.pending.drain(..taken).collect()))
            }
            Framing::Chunked => self.read_chunk(deadline),
        }
    }

    fn read_chunk(&mut self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        loop {
            let parsed = httparse::parse_chunk_size(&self.pending)
                .map_err(|_| invalid("the size of a chunk is no number"))?;
            if let httparse::Status::Complete((start, size)) = parsed {
                let size = usize::try_from(size).map_err(|_| invalid("a chunk is too large"))?;
                let end = start + size;
                if self.pending.len() >= end + 2 {
                    let chunk = self.pending[start..end].to_vec();
                    self.pending.drain(..end + 2);
                    if size == 0 {
                        self.framing = Framing::Ended;
                        return Ok(None);
                    }
                    return Ok(Some(chunk));
                }
            }
            if self.fill(deadline)? == 0 {
                return Err(invalid("the body ended within a chunk"));
            }
        }
    }

    /// Reads the rest of the body.
    ///
    /// # Errors
    /// As [`Connection::read_piece`].
    pub fn read_rest(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.read_piece(deadline)? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        self.socket.set_read_timeout(left)?;
        let mut buffer = [0; 32 * 1024];
        loop {
            return match self.socket.read(&mut buffer) {
                Ok(count) => {
                    self.pending.extend_from_slice(&buffer[..count]);
                    Ok(count)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    Err(timed_out())
                }
                Err(error) => Err(error),
            };
        }
    }
}

/// Sends a request and reads the whole response.
///
/// # Errors
/// As the parts of [`Connection`].
pub fn fetch(
    endpoint: &Endpoint,
    request: &Request,
    limit: Duration,
) -> io::Result<(Head, Vec<u8>)> {
    let deadline = Instant::now() + limit;
    let mut connection = Connection::open(endpoint)?;
    connection.send(&request.head())?;
    // An engine may refuse and close before it has read all of the body; its
    // answer is still to be read.
    let sent = connection.send(&request.framed_body());
    match connection.read_head(&request.method, deadline) {
        Ok(head) => {
            let body = connection.read_rest(deadline)?;
            Ok((head, body))
        }
        Err(error) => Err(sent.err().unwrap_or(error)),
    }
}

fn framing(head: &Head, method: &str) -> io::Result<Framing> {
    if head.status == 101 {
        return Ok(Framing::UntilClosed);
    }
    if method == "HEAD" || head.status == 204 || head.status == 304 {
        return Ok(Framing::Ended);
    }
    if head
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        return Ok(Framing::Chunked);
    }
    match head.header("content-length") {
        Some(length) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| invalid("the Content-Length is no number")),
        None => Ok(Framing::UntilClosed),
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn answered(response: &'static [u8], method: &str) -> io::Result<(Head, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0; 1];
                socket.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            // One byte at a time, so that every split is met.
            for byte in response {
                if socket.write_all(std::slice::from_ref(byte)).is_err() {
                    break;
                }
            }
        });
        let request = Request {
            method: method.to_owned(),
            target: "/".to_owned(),
            ..Request::default()
        };
        let answer = fetch(&Endpoint::Unix(path), &request, Duration::from_secs(5));
        server.join().unwrap();
        answer
    }

    #[test]
    fn bodies_of_every_framing_are_read_whole() {
        for response in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            let (head, body) = answered(response, "GET").unwrap();
            assert_eq!((head.status, body.as_slice()), (200, &b"hello"[..]));
        }
    }

    #[test]
    fn a_body_that_is_cut_off_is_an_error() {
        for response in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello",
            b"HTTP/1.1 200",
            b"nonsense\r\n\r\n",
        ] {
            answered(response, "GET").unwrap_err();
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let (head, body) =
            answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD").unwrap();
        assert_eq!((head.status, body.len()), (200, 0));
    }
}
