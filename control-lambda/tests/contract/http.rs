//! Just enough of an HTTP client for signed URLs.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Splits `http://host:port/path` into `host:port` and `/path`.
fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap();
    rest.split_at(rest.find('/').unwrap())
}

/// Sends a request with a body of this length, of which `body` may be only
/// the beginning, and reads what comes until the end.
pub(crate) async fn request(method: &str, url: &str, length: usize, body: &[u8]) -> Answer {
    let (host, path) = split(url);
    let mut socket = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses early may close before it has read all of it.
    let _ = socket.write_all(body).await;
    if body.len() < length {
        let _ = socket.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    parse(&answer)
}

pub(crate) async fn put(url: &str, body: &[u8]) -> u16 {
    request("PUT", url, body.len(), body).await.status
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let Some(end) = end else {
        return Answer {
            status: 0,
            body: Vec::new(),
        };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut rest = &bytes[end + 4..];
    let mut body = Vec::new();
    if head.contains("transfer-encoding: chunked") {
        while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
            let size = std::str::from_utf8(&rest[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            body.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[(line + 4 + size).min(rest.len())..];
            if size == 0 {
                break;
            }
        }
    } else {
        body.extend_from_slice(rest);
    }
    Answer { status, body }
}
