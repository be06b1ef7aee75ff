//! What stands before a server, writes down what it is asked, and refuses what it is told to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Passes requests on, each on a connection of its own.
pub(super) struct Meter {
    pub(super) address: String,
    asked: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<Vec<Refused>>>,
    server: tokio::task::JoinHandle<()>,
}

/// What is not passed on.
struct Refused {
    /// How method and path begin.
    prefix: String,
    /// How often yet.
    times: usize,
    status: u16,
    /// The error's name.
    error: &'static str,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Meter {
    /// Before this server (`host:port`).
    pub(super) async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let refused: Arc<Mutex<Vec<Refused>>> = Arc::default();
        let (notes, upstream) = (Arc::clone(&asked), upstream.to_owned());
        let refusals = Arc::clone(&refused);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (notes, upstream) = (Arc::clone(&notes), upstream.clone());
                let refusals = Arc::clone(&refusals);
                tokio::spawn(async move {
                    // A client that goes away in the middle is of no concern.
                    drop(pass(stream, &upstream, &notes, &refusals).await);
                });
            }
        });
        Self {
            address,
            asked,
            refused,
            server,
        }
    }

    /// Answers the next requests whose method and path begin so with a status and an error's
    /// name. What ends in a blank is the whole path.
    pub(super) fn refuse(&self, prefix: &str, times: usize, (status, error): (u16, &'static str)) {
        self.refused.lock().unwrap().push(Refused {
            prefix: prefix.to_owned(),
            times,
            status,
            error,
        });
    }

    /// Passes everything on again.
    pub(super) fn refuse_nothing(&self) {
        self.refused.lock().unwrap().clear();
    }

    /// Method and path of each request since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn pass(
    stream: TcpStream,
    upstream: &str,
    notes: &Mutex<Vec<String>>,
    refused: &Mutex<Vec<Refused>>,
) -> std::io::Result<()> {
    let mut client = BufReader::new(stream);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let begin = head.len();
        if client.read_line(&mut head).await? == 0 {
            return Ok(());
        }
        let line = head[begin..].trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.starts_with("connection:") {
            head.truncate(begin);
        }
        if line.is_empty() {
            head.truncate(begin);
            break;
        }
    }
    let first = head.lines().next().unwrap_or_default();
    let note: Vec<_> = first.split(' ').take(2).collect();
    notes.lock().unwrap().push(note.join(" "));
    if let Some(refusal) = refusal(refused, first) {
        tokio::io::copy(&mut (&mut client).take(length), &mut tokio::io::sink()).await?;
        client.write_all(refusal.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(head.as_bytes()).await?;
    server.write_all(b"Connection: close\r\n\r\n").await?;
    tokio::io::copy(&mut (&mut client).take(length), &mut server).await?;
    let mut answer = BufReader::new(server);
    // What the server says of the connection, if it says it, is not of this one.
    let mut head = String::new();
    loop {
        let begin = head.len();
        answer.read_line(&mut head).await?;
        let line = head[begin..].trim().to_ascii_lowercase();
        if line.starts_with("connection:") {
            head.truncate(begin);
        }
        if line.is_empty() {
            head.truncate(begin);
            break;
        }
    }
    head.push_str("Connection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await?;
    tokio::io::copy(&mut answer, &mut client).await?;
    client.shutdown().await
}

/// The answer to a request with this first line, if it is refused.
fn refusal(refused: &Mutex<Vec<Refused>>, first: &str) -> Option<String> {
    let mut refused = refused.lock().unwrap();
    let known = refused
        .iter_mut()
        .find(|refused| refused.times > 0 && first.starts_with(&refused.prefix))?;
    known.times -= 1;
    let (status, error) = (known.status, known.error);
    let body = r#"{"message":"refused by a test"}"#;
    Some(format!(
        "HTTP/1.1 {status} Refused\r\nx-amzn-errortype: {error}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}
