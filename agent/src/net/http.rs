//! One HTTP/1.1 request on one connection.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Target;

/// How large a piece of a file is sent at a time, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// How often a file is sent before it is given up, and the first pause between.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A response, complete.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Sends a request and reads the whole response.
///
/// # Errors
/// When the connection fails or the response is longer than `limit` bytes.
pub(crate) async fn request(
    method: Method,
    uri: &Uri,
    body: Bytes,
    limit: usize,
) -> io::Result<Response> {
    send(method, uri, Full::new(body), limit).await
}

/// GETs a body and passes it on in pieces, for whoever takes them. A body that broke off
/// ends with an error.
///
/// # Errors
/// When the connection fails or the answer is no success; nothing was passed on then.
pub(crate) async fn get(uri: &Uri, pieces: mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let (response, connection) = begin(Method::GET, uri, Empty::new()).await?;
    let status = response.status();
    if !status.is_success() {
        connection.abort();
        return Err(io::Error::other(format!("answered {status}")));
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_trailers) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        // Whoever has enough takes no more.
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    connection.abort();
    Ok(())
}

/// PUTs a file from its start, again when the connection or the server fails.
/// Presigned URLs want a length and no other headers.
///
/// # Errors
/// The last attempt's, or that it took longer than `within`.
pub(crate) async fn put_file(
    uri: &Uri,
    file: &File,
    length: u64,
    within: Duration,
) -> io::Result<()> {
    let attempts = async {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match put_once(uri, file, length).await {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                    sleep(pause).await;
                    pause *= 2;
                }
                settled => return settled,
            }
        }
        put_once(uri, file, length).await
    };
    let late = |_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not done within {within:?}"),
        )
    };
    timeout(within, attempts).await.map_err(late)?
}

/// A refusal that another attempt would meet again is `PermissionDenied`.
async fn put_once(uri: &Uri, file: &File, length: u64) -> io::Result<()> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    let body = FileBody { file, left: length };
    let response = send(Method::PUT, uri, body, PIECE_BYTES).await?;
    let answer = || format!("answered {}", response.status);
    match response.status {
        status if status.is_success() => Ok(()),
        status if status.is_client_error() => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, answer()))
        }
        _ => Err(io::Error::other(answer())),
    }
}

async fn send<B>(method: Method, uri: &Uri, body: B, limit: usize) -> io::Result<Response>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let (response, connection) = begin(method, uri, body).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, limit)
        .collect()
        .await
        .map_err(io::Error::other)?
        .to_bytes();
    connection.abort();
    Ok(Response {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// Sends a request; the head of the response has come when this returns. The task carries
/// the connection.
async fn begin<B>(
    method: Method,
    uri: &Uri,
    body: B,
) -> io::Result<(::http::Response<Incoming>, JoinHandle<hyper::Result<()>>)>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let stream = Target::of(uri)?.connect().await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .body(body)
        .map_err(io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    Ok((response, connection))
}

/// A file as a body of known length. Reads block, for as long as the page cache
/// takes: the file was written a moment ago.
struct FileBody {
    file: File,
    left: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(self.left).unwrap_or(PIECE_BYTES);
        let mut piece = vec![0; most.min(PIECE_BYTES)];
        Poll::Ready(Some(match self.file.read(&mut piece) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                piece.truncate(read);
                self.left -= read as u64;
                Ok(Frame::data(piece.into()))
            }
            Err(error) => Err(error),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
