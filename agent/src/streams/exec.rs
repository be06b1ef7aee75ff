//! `docker exec`.

use std::sync::Arc;

use serde_json::json;
use sockerless_shared::ids::ExecId;
use sockerless_shared::protocol::control::{Deed, Report, StartFailure};
use sockerless_shared::protocol::stdcopy::OutputStream;
use sockerless_shared::spec::ProcessSpec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;

use super::answer::{Failure, fail, whole_with};
use super::detach::DetachKeys;
use super::exec_runner::{Piece, run};
use super::output::{Wanted, give};
use super::serve::{accept, refuse};
use super::{Gone, Session};
use crate::container::Container;
use crate::process::failure::exec_sentence;
use crate::process::launch::{Launched, Role, launch};
use crate::process::stdin::Stdin;
use crate::process::user::Accounts;
use crate::relay::Link;

/// Pieces of output that wait for a slow client; then the process waits too.
const WAITING_PIECES: usize = 4;

/// What the client asked for; see the grant's `Exec`.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) exec: ExecId,
    pub(super) process: ProcessSpec,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) detach_keys: Vec<u8>,
    pub(super) framed: bool,
}

/// Why there is no process.
enum NotRun {
    /// This exec was started before.
    Repeated(String),
    /// It could not be started; the exit code is reported already.
    Failed(StartFailure),
}

/// How a client left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Its input ended, and with it the stream.
    AtEnd,
    /// By the keys for that.
    ByKeys,
}

/// Runs a process and carries its streams. When the client goes away, the
/// process goes on.
pub(super) async fn exec<R, W>(
    session: &Session,
    options: Options,
    recv: R,
    send: &mut W,
    gone: impl Future<Output = ()> + Send,
) -> Result<(), Gone>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let Some(container) = session.container().await else {
        return refuse(send, "the container is not running".to_owned()).await;
    };
    let wanted = Wanted {
        stdout: options.stdout,
        stderr: options.stderr,
        raw: options.process.tty && !options.framed,
    };
    let launched = match begin(&session.link, &container, &options.exec, &options.process).await {
        Ok(launched) => launched,
        Err(NotRun::Repeated(message)) => return refuse(send, message).await,
        Err(NotRun::Failed(failure)) if failure.is_dockers_own() => {
            return refuse(send, failure.message).await;
        }
        Err(NotRun::Failed(failure)) => {
            accept(send).await?;
            let mut out = Vec::new();
            let sentence = format!("{}\r\n", exec_sentence(&failure));
            wanted.write(&mut out, OutputStream::Stdout, sentence.as_bytes());
            return give(send, &out, &session.active).await;
        }
    };
    let stdin = launched.stdin.clone().filter(|_| options.stdin);
    let (pieces, mut output) = mpsc::channel(WAITING_PIECES);
    // Only the process's own end ends the output.
    let echo = pieces.downgrade();
    tokio::spawn(run(
        launched,
        Some(pieces),
        session.link.clone(),
        container,
        options.exec.clone(),
    ));
    accept(send).await?;
    let tty = options.process.tty;
    let output = async {
        while let Some(Piece { stream, data }) = output.recv().await {
            let mut out = Vec::with_capacity(data.len() + 8);
            wanted.write(&mut out, stream, &data);
            give(send, &out, &session.active).await?;
        }
        Ok(())
    };
    tokio::select! {
        result = output => result,
        result = input(stdin.as_deref(), tty, &options.detach_keys, recv, echo) => {
            close_unless_tty(stdin.as_deref(), tty).await;
            if result? == Left::ByKeys {
                let exec = Some(options.exec);
                session.did(Deed::Detached { exec });
            }
            Ok(())
        }
        () = gone => {
            close_unless_tty(stdin.as_deref(), tty).await;
            Err(Gone)
        }
    }
}

/// Looks for the user of an exec that is to be created, and answers for the control plane, which
/// has noted the exec.
pub(super) async fn create<W: AsyncWrite + Unpin>(
    session: &Session,
    exec: ExecId,
    user: &str,
    send: &mut W,
) -> Result<(), Gone> {
    if session.container().await.is_none() {
        return fail(send, Failure::new(409, "the container is not running")).await;
    }
    if let Err(error) = Accounts::load().resolve(user) {
        session.did(Deed::ExecRefused { exec });
        return fail(send, Failure::new(400, error.to_string())).await;
    }
    let created = Deed::ExecCreated { exec: exec.clone() };
    // Told before the client learns of it, as Docker does. A run that ends meanwhile tells nobody.
    let _ = session.did_and_recorded(created).await;
    whole_with(201, send, &json!({ "Id": exec })).await
}

/// Starts a process whose output nobody reads (`docker exec -d`).
///
/// # Errors
/// Why it could not be started, in Docker's words.
pub(crate) async fn run_detached(
    link: &Link,
    container: &Arc<Container>,
    exec: ExecId,
    process: &ProcessSpec,
) -> Result<(), String> {
    match begin(link, container, &exec, process).await {
        Ok(launched) => {
            tokio::spawn(run(
                launched,
                None,
                link.clone(),
                Arc::clone(container),
                exec,
            ));
            Ok(())
        }
        Err(NotRun::Repeated(message)) => Err(message),
        Err(NotRun::Failed(failure)) if failure.is_dockers_own() => Err(failure.message),
        Err(NotRun::Failed(failure)) => Err(exec_sentence(&failure)),
    }
}

/// Starts the process and reports that it runs, or how it failed; a failure is
/// recorded before this returns.
async fn begin(
    link: &Link,
    container: &Container,
    exec: &ExecId,
    process: &ProcessSpec,
) -> Result<Launched, NotRun> {
    if !container.claim_exec(exec) {
        let message = format!("Error: Exec command {exec} is already running");
        return Err(NotRun::Repeated(message));
    }
    let confinement = &container.spec.confinement;
    match launch(process, confinement, Role::Exec, &container.reaper) {
        Ok(launched) => {
            container.exec_runs(exec, launched.pid, launched.terminal.clone());
            // Nobody waits for this one: the exit is what clients ask for.
            drop(link.report(Report::ExecStarted {
                exec: exec.clone(),
                pid: launched.pid.as_raw().unsigned_abs(),
            }));
            Ok(launched)
        }
        Err(failure) => {
            let code = if failure.is_dockers_own() {
                126
            } else {
                failure.code
            };
            let report = Report::ExecExited {
                exec: exec.clone(),
                code,
            };
            // A run that ends meanwhile has nobody left to ask for the code.
            let _ = link.report(report).await;
            Err(NotRun::Failed(failure))
        }
    }
}

/// Passes on what the client sends; returns when that ends the stream.
async fn input<R: AsyncRead + Unpin>(
    stdin: Option<&Stdin>,
    tty: bool,
    detach_keys: &[u8],
    mut recv: R,
    echo: mpsc::WeakSender<Piece>,
) -> Result<Left, Gone> {
    let mut keys = DetachKeys::new(detach_keys);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = recv.read(&mut buffer).await?;
        let Some(stdin) = stdin else {
            if read == 0 {
                std::future::pending::<()>().await;
            }
            continue;
        };
        if read == 0 {
            pass(stdin, &keys.rest(), &echo).await;
            if tty {
                // As in Docker, where a terminal's input that ends ends the stream.
                return Ok(Left::AtEnd);
            }
            stdin.close().await;
            std::future::pending::<()>().await;
        }
        let typed = keys.typed(&buffer[..read]);
        pass(stdin, &typed.input, &echo).await;
        if typed.detached {
            return Ok(Left::ByKeys);
        }
    }
}

async fn pass(stdin: &Stdin, bytes: &[u8], echo: &mpsc::WeakSender<Piece>) {
    if bytes.is_empty() {
        return;
    }
    // A process that reads no more does not end the stream.
    if let Ok(data) = stdin.write(bytes).await
        && !data.is_empty()
        && let Some(pieces) = echo.upgrade()
    {
        let stream = OutputStream::Stdout;
        let _ = pieces.send(Piece { stream, data }).await;
    }
}

async fn close_unless_tty(stdin: Option<&Stdin>, tty: bool) {
    if let Some(stdin) = stdin.filter(|_| !tty) {
        stdin.close().await;
    }
}
