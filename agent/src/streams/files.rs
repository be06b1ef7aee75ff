//! `docker cp` and `docker export`: a head of the agent's own, and an archive.

use std::io::{self, Read, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::answer::{Failure, Head, answer, done, fail};
use super::output::give;
use super::{Active, Gone};
use crate::files::extract::{ExtractError, Options, extract, is_read_only};
use crate::files::pack::Packer;
use crate::files::path::{absolute, base};
use crate::files::root::{Found, Root, Search};
use crate::files::stat::path_stat;
use crate::process::errno;
use crate::process::user::Accounts;

/// Bytes of an archive that are collected before they are sent.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces that wait for a slow client; then the packing waits too.
const WAITING_PIECES: usize = 4;

/// Finds what a client names. Messages are Docker's.
fn find(root: &Root, container: &str, path: &str, follow: bool) -> Result<Found, Failure> {
    match root.find(path.as_bytes(), follow) {
        Ok(Search::Found(found)) => Ok(found),
        Ok(Search::Missing(_)) => Err(missing(container, path)),
        Err(error) => Err(refused("lstat", path, &error)),
    }
}

fn missing(container: &str, path: &str) -> Failure {
    Failure::new(
        404,
        format!("Could not find the file {path} in container {container}"),
    )
}

fn refused(what: &str, path: &str, error: &io::Error) -> Failure {
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    Failure::new(500, format!("{what} {path}: {}", errno::text(number)))
}

fn open_root() -> Result<Root, Failure> {
    Root::container().map_err(|error| refused("open", "/", &error))
}

/// The head with what is at the path.
fn stat_head(status_type: &str, root: &Root, path: &str, found: &Found) -> Result<Head, Failure> {
    let stat = path_stat(root, path, found).map_err(|error| refused("stat", path, &error))?;
    let json =
        serde_json::to_string(&stat).map_err(|error| Failure::new(500, error.to_string()))?;
    let mut head = Head::ok(status_type);
    head.headers.push((
        "X-Docker-Container-Path-Stat".to_owned(),
        STANDARD.encode(json),
    ));
    Ok(head)
}

/// Tells what is at a path.
pub(super) async fn stat<W: AsyncWrite + Unpin>(
    container: &str,
    path: &str,
    send: &mut W,
) -> Result<(), Gone> {
    let told = open_root().and_then(|root| {
        let path = absolute(path);
        let found = find(&root, container, &path, false)?;
        stat_head("", &root, &path, &found)
    });
    match told {
        Ok(head) => answer(send, head).await,
        Err(failure) => fail(send, failure).await,
    }
}

/// Sends an archive of what is at a path.
pub(super) async fn get<W: AsyncWrite + Unpin>(
    container: &str,
    given: &str,
    send: &mut W,
    active: &Active,
) -> Result<(), Gone> {
    let begun = open_root().and_then(|root| {
        let path = absolute(given);
        let found = find(&root, container, &path, false)?;
        let head = stat_head("application/x-tar", &root, &path, &found)?;
        let name = match base(&path) {
            "/" => "",
            name => name,
        };
        Ok((head, root, found, name.as_bytes().to_vec()))
    });
    match begun {
        Ok((head, root, found, name)) => {
            answer(send, head).await?;
            archive(root, found, name, false, send, active).await
        }
        Err(failure) => fail(send, failure).await,
    }
}

/// Sends an archive of the whole root.
pub(super) async fn export<W: AsyncWrite + Unpin>(
    send: &mut W,
    active: &Active,
) -> Result<(), Gone> {
    let begun = open_root().and_then(|root| {
        let found = find(&root, "", "/", false)?;
        Ok((root, found))
    });
    match begun {
        Ok((root, found)) => {
            answer(send, Head::ok("application/octet-stream")).await?;
            archive(root, found, Vec::new(), true, send, active).await
        }
        Err(failure) => fail(send, failure).await,
    }
}

async fn archive<W: AsyncWrite + Unpin>(
    root: Root,
    found: Found,
    name: Vec<u8>,
    inside: bool,
    send: &mut W,
    active: &Active,
) -> Result<(), Gone> {
    let (pieces, mut packed) = mpsc::channel(WAITING_PIECES);
    let packing: JoinHandle<io::Result<()>> = spawn_blocking(move || {
        let mut packer = Packer::new(Pieces {
            pieces,
            buffer: Vec::new(),
        });
        packer.add(&root, &found, &name, inside)?;
        packer.finish().map(drop)
    });
    while let Some(piece) = packed.recv().await {
        give(send, &piece, active).await?;
    }
    match packing.await {
        Ok(Ok(())) => Ok(()),
        // The head is sent: a client learns from the broken stream that this is not all.
        Ok(Err(error)) => {
            crate::note::note!("an archive could not be completed: {error}");
            Err(Gone)
        }
        Err(_) => Err(Gone),
    }
}

/// Extracts a client's archive.
#[allow(clippy::too_many_arguments)] // the grant's fields, and the stream
pub(super) async fn put<R, W>(
    container: &str,
    given: &str,
    keep_kinds: bool,
    owner: Option<&str>,
    mut recv: R,
    send: &mut W,
    active: &Arc<Active>,
) -> Result<(), Gone>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin,
{
    let begun = open_root().and_then(|root| {
        let path = absolute(given);
        let found = match root.find(path.as_bytes(), true) {
            Ok(Search::Found(found)) => found,
            Ok(Search::Missing(_)) => return Err(missing(container, given)),
            Err(error) => return Err(refused("lstat", &path, &error)),
        };
        if !found.is_folder() {
            return Err(Failure::new(400, "extraction point is not a directory"));
        }
        if found.machines || is_read_only(&found.fd) {
            return Err(Failure::new(400, "container rootfs is marked read-only"));
        }
        let owner = match owner {
            None => None,
            Some(user) => {
                let user = Accounts::load().resolve(user);
                let user = user.map_err(|error| Failure::new(500, error.to_string()))?;
                Some((user.uid, user.gid))
            }
        };
        Ok((found, Options { keep_kinds, owner }))
    });
    let (found, options) = match begun {
        Ok(begun) => begun,
        Err(failure) => return fail(send, failure).await,
    };
    let (pieces, received) = mpsc::channel::<io::Result<Bytes>>(WAITING_PIECES);
    let mut extraction = spawn_blocking(move || {
        extract(
            Received {
                received,
                piece: Bytes::new(),
            },
            &found,
            options,
        )
    });
    let feed = async {
        let mut buffer = bytes::BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            match recv.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => {
                    active.took(read);
                    if pieces.send(Ok(buffer.split().freeze())).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    // Half an archive is none.
                    let _ = pieces.send(Err(error)).await;
                    break;
                }
            }
        }
        drop(pieces);
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = &mut extraction => outcome,
        () = feed => return Err(Gone),
    };
    match outcome {
        Ok(Ok(())) => done(send).await,
        Ok(Err(error)) => fail(send, extraction_failure(container, given, &error)).await,
        Err(_) => {
            fail(
                send,
                Failure::new(500, "the archive could not be extracted"),
            )
            .await
        }
    }
}

fn extraction_failure(container: &str, path: &str, error: &ExtractError) -> Failure {
    match error {
        ExtractError::Files(files) if files.raw_os_error() == Some(libc::ENOENT) => {
            missing(container, path)
        }
        ExtractError::Files(files) if files.raw_os_error() == Some(libc::EROFS) => {
            Failure::new(400, "container rootfs is marked read-only")
        }
        error => Failure::new(500, error.to_string()),
    }
}

/// Collects what is written and passes it on in pieces.
struct Pieces {
    pieces: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES + 4096));
        self.pieces
            .blocking_send(piece.into())
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What a client sends, for a thread of its own.
struct Received {
    received: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.received.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let read = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
