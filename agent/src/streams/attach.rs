//! `docker attach`, and the streams of `docker run`.

use std::sync::Arc;

use sockerless_shared::protocol::control::Deed;
use sockerless_shared::protocol::stdcopy::OutputStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::detach::DetachKeys;
use super::output::{Wanted, give};
use super::{Gone, Session};
use crate::container::Container;
use crate::process::stdin::Stdin;
use crate::spool::{From, Next, Reader};

/// What the client asked for; see the grant's `Attach`.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) history: bool,
    pub(super) follow: bool,
    pub(super) detach_keys: Vec<u8>,
    pub(super) raw: bool,
}

/// Why an attach ends while the container goes on.
enum Left {
    /// The client typed the detach keys, or ended an input that does not end the
    /// process's: Docker ends the attach.
    Detached,
    /// It typed the keys for that.
    DetachedByKeys,
    /// The client is gone.
    Gone,
}

/// Carries the container's streams.
pub(super) async fn attach<R, W>(
    session: &Session,
    options: &Options,
    recv: R,
    send: &mut W,
    gone: impl Future<Output = ()> + Send,
) -> Result<(), Gone>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let waiting = async { session.container().await };
    tokio::pin!(gone);
    let container = tokio::select! {
        container = waiting => container,
        () = &mut gone => return Err(Gone),
    };
    let Some(container) = container else {
        // It could not be started; whoever started it is told why.
        return Ok(());
    };
    let from = if options.history {
        From::Start
    } else {
        From::Now
    };
    let wanted = Wanted {
        stdout: options.stdout,
        stderr: options.stderr,
        raw: options.raw || container.spec.process.tty,
    };
    let reader = wanted.any().then(|| container.spool.attach(from));
    let stdin = container.stdin.clone().filter(|_| options.stdin);
    let left = tokio::select! {
        result = output(session, options, wanted, reader, send) => return result,
        left = input(&container, options, stdin.as_ref(), recv) => left,
        () = &mut gone => Left::Gone,
    };
    match left {
        Left::Detached => Ok(()),
        Left::DetachedByKeys => {
            session.did(Deed::Detached { exec: None });
            Ok(())
        }
        Left::Gone => {
            if let Some(stdin) = stdin.filter(|_| closes_stdin(&container)) {
                stdin.close().await;
            }
            Err(Gone)
        }
    }
}

/// Gives the client the output until the run's end is recorded.
async fn output<W: AsyncWrite + Unpin>(
    session: &Session,
    options: &Options,
    wanted: Wanted,
    reader: Option<Reader>,
    send: &mut W,
) -> Result<(), Gone> {
    if let Some(mut reader) = reader {
        while let Some(records) = next(&mut reader, options.follow).await {
            give(send, &wanted.render(&records), &session.active).await?;
        }
    }
    if options.follow {
        session.recorded().await;
    }
    Ok(())
}

async fn next(reader: &mut Reader, follow: bool) -> Option<Vec<sockerless_shared::logs::Record>> {
    if follow {
        // A spool that cannot be read has been complained about by its writer.
        return reader.next().await.ok().flatten();
    }
    match reader.poll() {
        Ok(Next::Records(records)) => Some(records),
        Ok(Next::Later | Next::End) | Err(_) => None,
    }
}

/// Passes on what the client sends. Ends only when that ends the attach.
async fn input<R: AsyncRead + Unpin>(
    container: &Arc<Container>,
    options: &Options,
    stdin: Option<&Arc<Stdin>>,
    mut recv: R,
) -> Left {
    let mut keys = DetachKeys::new(&options.detach_keys);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = match recv.read(&mut buffer).await {
            Ok(read) => read,
            Err(_) => return Left::Gone,
        };
        let Some(stdin) = stdin else {
            if read == 0 {
                std::future::pending::<()>().await;
            }
            continue;
        };
        if read == 0 {
            pass(container, stdin, &keys.rest()).await;
            if closes_stdin(container) {
                stdin.close().await;
                // What the process makes of it is still wanted, and `gone` tells
                // when it is not.
                std::future::pending::<()>().await;
            }
            return Left::Detached;
        }
        let typed = keys.typed(&buffer[..read]);
        pass(container, stdin, &typed.input).await;
        if typed.detached {
            return Left::DetachedByKeys;
        }
    }
}

/// Passes bytes to the process and shows their echo. A process that reads no
/// more does not end the attach.
async fn pass(container: &Container, stdin: &Stdin, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if let Ok(echo) = stdin.write(bytes).await
        && !echo.is_empty()
    {
        container.show(OutputStream::Stdout, &echo).await;
    }
}

/// Whether the end of a client's input is the end of the process's (`StdinOnce`,
/// never with a terminal).
fn closes_stdin(container: &Container) -> bool {
    container.spec.stdin_once && !container.spec.process.tty
}
