//! `docker cp`, `docker export` and `docker diff`: a head of the agent's own, and an archive
//! or a list.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sockerless_shared::protocol::control::Report;
use sockerless_shared::protocol::kept::{Kept, MAX_KEPT_BYTES, MAX_KEPT_ENTRIES};
use sockerless_shared::spec::Runtime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::answer::{Failure, Head, answer, done, fail, whole};
use super::output::give;
use super::{Active, Gone, Session};
use crate::cleanup::Scratch;
use crate::files::changes::{Change, all_new, changes as changes_of};
use crate::files::channel::{PIECE_BYTES, Pieces, Received, WAITING_PIECES};
use crate::files::extract::{ExtractError, Options, extract, is_read_only};
use crate::files::kept::keep;
use crate::files::layers::Layers;
use crate::files::pack::Packer;
use crate::files::path::{absolute, base};
use crate::files::root::{Found, Root, Search};
use crate::files::stat::path_stat;
use crate::process::errno;
use crate::process::user::Accounts;
use crate::relay::{Link, Unrecorded};

/// Size of the buffer in which Go's HTTP server gathers an answer, in bytes.
const GO_BUFFER_BYTES: usize = 2048;

/// What the files of a run depend on.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where the container runs.
    pub(crate) runtime: Runtime,
    /// Whether its root may not be written to, although the agent could.
    pub(crate) read_only_root: bool,
    /// Its root's two halves, where they can be told apart.
    pub(crate) layers: Option<Arc<Layers>>,
    /// Why what the last run left in `/tmp` is not there, if it is not.
    pub(crate) lost: Option<String>,
    /// What keeps changes that clients make, where no process of the container runs that
    /// could see them.
    pub(crate) keeper: Option<Keeper>,
}

/// Keeps `/tmp` after each change.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// What is kept.
    pub(crate) scratch: Scratch,
    /// Where.
    pub(crate) url: String,
    /// To tell the control plane.
    pub(crate) link: Link,
    /// How long it may take.
    pub(crate) within: Duration,
}

impl Keeper {
    async fn keep(&self) -> Result<(), Failure> {
        let kept = keep(&self.scratch, &self.url, self.within).await;
        match &kept {
            Kept::Nothing | Kept::Stored { .. } => {}
            Kept::TooMuch { .. } => {
                return Err(Failure::new(
                    413,
                    format!(
                        "of a container that does not run, {MAX_KEPT_ENTRIES} files of {} MiB altogether are kept below /tmp under the runtime \
                         function, and with these it would be more: copy them while it runs, or use --runtime microvm",
                        MAX_KEPT_BYTES / (1024 * 1024)
                    ),
                ));
            }
            Kept::Lost { reason } => {
                return Err(Failure::new(
                    500,
                    format!("the files could not be stored: {reason}"),
                ));
            }
        }
        let recorded = self.link.report(Report::Changed { kept }).await;
        recorded.map_err(|error| match error {
            Unrecorded::Refused(why) => Failure::new(409, why),
            Unrecorded::Closed => Failure::new(500, error.to_string()),
        })
    }
}

impl Place {
    /// Whether names lead to what the last run left, and that is not there.
    fn check(&self, names: &[Vec<u8>]) -> Result<(), Failure> {
        match &self.lost {
            Some(why) if names.first().is_none_or(|name| name == b"tmp") => {
                Err(Failure::new(501, why.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Why nothing can be written below a folder, which is in the root itself or not.
    fn read_only(&self, in_root: bool) -> Failure {
        Failure::new(
            400,
            match (self.runtime, in_root) {
                (Runtime::Microvm, true) => "container rootfs is marked read-only",
                (Runtime::Microvm, false) => "mounted volume is marked read-only",
                (Runtime::Function, _) => {
                    "container rootfs is marked read-only: under the runtime function only /tmp can be written to; use --runtime microvm"
                }
            },
        )
    }
}

/// The session's files, once they are there.
async fn place(session: &Session) -> Result<(Arc<Place>, Root), Failure> {
    if let Err(why) = session.begun().await {
        return Err(Failure::new(500, why));
    }
    Ok((Arc::clone(&session.place), open_root()?))
}

/// Finds what a client names. Messages are Docker's.
fn find(place: &Place, root: &Root, container: &str, path: &str) -> Result<Found, Failure> {
    match root.find(path.as_bytes(), false) {
        Ok(Search::Found(found)) => {
            // The root as a whole is what it is; its archive is another matter.
            if !found.names.is_empty() {
                place.check(&found.names)?;
            }
            Ok(found)
        }
        Ok(Search::Missing(names)) => {
            place.check(&names)?;
            Err(missing(container, path))
        }
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
    session: &Session,
    container: &str,
    path: &str,
    send: &mut W,
) -> Result<(), Gone> {
    let told = place(session).await.and_then(|(place, root)| {
        let path = absolute(path);
        let found = find(&place, &root, container, &path)?;
        stat_head("", &root, &path, &found)
    });
    match told {
        Ok(head) => answer(send, head).await,
        Err(failure) => fail(send, failure).await,
    }
}

/// Sends an archive of what is at a path; whether there was something to send.
pub(super) async fn get<W: AsyncWrite + Unpin>(
    session: &Session,
    container: &str,
    given: &str,
    send: &mut W,
) -> Result<bool, Gone> {
    let begun = place(session).await.and_then(|(place, root)| {
        let path = absolute(given);
        let found = find(&place, &root, container, &path)?;
        if found.names.is_empty() {
            place.check(&[])?;
        }
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
            archive(root, found, name, false, send, &session.active).await?;
            Ok(true)
        }
        Err(failure) => refused_to(send, failure).await,
    }
}

/// Sends an archive of the whole root.
pub(super) async fn export<W: AsyncWrite + Unpin>(
    session: &Session,
    send: &mut W,
) -> Result<bool, Gone> {
    let begun = place(session).await.and_then(|(place, root)| {
        place.check(&[])?;
        // What is mounted there is no part of it.
        let root = match &place.layers {
            Some(layers) => layers.whole.try_clone().map(Root::of),
            None => Ok(root),
        };
        let root = root.map_err(|error| refused("open", "/", &error))?;
        let found = find(&place, &root, "", "/")?;
        Ok((root, found))
    });
    match begun {
        Ok((root, found)) => {
            answer(send, Head::ok("application/octet-stream")).await?;
            archive(root, found, Vec::new(), true, send, &session.active).await?;
            Ok(true)
        }
        Err(failure) => refused_to(send, failure).await,
    }
}

/// Tells what differs from the image.
pub(super) async fn changes<W: AsyncWrite + Unpin>(
    session: &Session,
    send: &mut W,
) -> Result<(), Gone> {
    let compared = async {
        let (place, root) = place(session).await?;
        place.check(&[])?;
        let work = move || match (&place.layers, place.runtime) {
            (Some(layers), Runtime::Function | Runtime::Microvm) => changes_of(layers),
            // Nothing else can be written to.
            (None, Runtime::Function) => match root.find(b"/tmp", true)? {
                Search::Found(found) => all_new(&root, &found),
                Search::Missing(_) => Ok(Vec::new()),
            },
            (None, Runtime::Microvm) => Err(io::Error::other(
                "the sandbox does not tell what the image has from what the container wrote",
            )),
        };
        let compared = spawn_blocking(work).await.map_err(io::Error::other);
        compared
            .and_then(|compared| compared)
            .map_err(|error| Failure::new(500, error.to_string()))
    };
    match compared.await {
        // So Go writes a list that was never begun.
        Ok(changes) if changes.is_empty() => whole(send, &()).await,
        Ok(changes) => {
            let told: Vec<_> = changes.iter().map(Change::told).collect();
            let mut text = serde_json::to_vec(&told).map_err(|_| Gone)?;
            text.push(b'\n');
            let mut head = Head::ok("application/json");
            // Go knows how long an answer is if it has written all of it at once.
            if text.len() <= GO_BUFFER_BYTES {
                head = head.with_length(text.len());
            }
            answer(send, head).await?;
            for piece in text.chunks(PIECE_BYTES) {
                give(send, piece, &session.active).await?;
            }
            Ok(())
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
        let mut packer = Packer::new(Pieces::new(pieces));
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
pub(super) async fn put<R, W>(
    session: &Session,
    container: &str,
    given: &str,
    keep_kinds: bool,
    owner: Option<&str>,
    mut recv: R,
    send: &mut W,
) -> Result<bool, Gone>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin,
{
    let active = &session.active;
    let begun = place(session).await.and_then(|(place, root)| {
        let path = absolute(given);
        let found = match root.find(path.as_bytes(), true) {
            Ok(Search::Found(found)) => found,
            Ok(Search::Missing(_)) => return Err(missing(container, given)),
            Err(error) => return Err(refused("lstat", &path, &error)),
        };
        if !found.is_folder() {
            return Err(Failure::new(400, "extraction point is not a directory"));
        }
        let in_root = found.machines || root.has(&found.fd);
        let marked = place.read_only_root && in_root;
        if marked || found.machines || is_read_only(&found.fd) {
            return Err(place.read_only(in_root));
        }
        let owner = match owner {
            None => None,
            Some(user) => {
                let user = Accounts::load().resolve(user);
                let user = user.map_err(|error| Failure::new(500, error.to_string()))?;
                Some((user.uid, user.gid))
            }
        };
        Ok((place, found, Options { keep_kinds, owner }))
    });
    let (place, found, options) = match begun {
        Ok(begun) => begun,
        Err(failure) => return refused_to(send, failure).await,
    };
    let (pieces, received) = mpsc::channel::<io::Result<Bytes>>(WAITING_PIECES);
    let mut extraction = spawn_blocking(move || extract(Received::new(received), &found, options));
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
        Ok(Ok(())) => {
            if let Some(keeper) = &place.keeper
                && let Err(failure) = keeper.keep().await
            {
                return refused_to(send, failure).await;
            }
            done(send).await.map(|()| true)
        }
        Ok(Err(error)) => {
            let failure = extraction_failure(&place, container, given, &error);
            refused_to(send, failure).await
        }
        Err(_) => {
            refused_to(
                send,
                Failure::new(500, "the archive could not be extracted"),
            )
            .await
        }
    }
}

/// Sends an error: nothing was done.
async fn refused_to<W: AsyncWrite + Unpin>(send: &mut W, failure: Failure) -> Result<bool, Gone> {
    fail(send, failure).await.map(|()| false)
}

fn extraction_failure(place: &Place, container: &str, path: &str, error: &ExtractError) -> Failure {
    match error {
        ExtractError::Files(files) if files.raw_os_error() == Some(libc::ENOENT) => {
            missing(container, path)
        }
        ExtractError::Files(files) if files.raw_os_error() == Some(libc::EROFS) => {
            place.read_only(true)
        }
        error => Failure::new(500, error.to_string()),
    }
}
