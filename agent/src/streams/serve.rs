//! The head of a stream: the grant, the reply, and on to the operation.

use std::time::Duration;

use sockerless_shared::protocol::control::Deed;
use sockerless_shared::protocol::grant::{Grant, MAX_GRANT_BYTES, Operation};
use sockerless_shared::protocol::stream::{StreamReply, encode_head, head_length};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{Session, attach, exec, files, logs, stats, top};
use crate::clock;

/// How long a client may take for the head of its stream.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// The client is gone; there is nobody to tell anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl From<std::io::Error> for Gone {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// Serves one stream. `gone` resolves when the client wants nothing more.
pub(super) async fn serve<R, W>(
    session: &Session,
    mut recv: R,
    send: &mut W,
    gone: impl Future<Output = ()> + Send,
) -> Result<(), Gone>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let text = timeout(HEAD_LIMIT, read_head(&mut recv))
        .await
        .map_err(|_| Gone)??;
    let grant = match Grant::verify(&text, &session.grant_key, &session.run, clock::now()) {
        Ok(grant) => grant,
        Err(error) => return refuse(send, error.to_string()).await,
    };
    match grant.operation {
        Operation::Attach {
            stdin,
            stdout,
            stderr,
            history,
            follow,
            detach_keys,
            raw,
        } => {
            accept(send).await?;
            let options = attach::Options {
                raw,
                stdin,
                stdout,
                stderr,
                history,
                follow,
                detach_keys,
            };
            attach::attach(session, &options, recv, send, gone).await
        }
        Operation::Exec {
            exec,
            process,
            stdin,
            stdout,
            stderr,
            detach_keys,
            framed,
        } => {
            let options = exec::Options {
                exec,
                process,
                stdin,
                stdout,
                stderr,
                detach_keys,
                framed,
            };
            exec::exec(session, options, recv, send, gone).await
        }
        Operation::Logs { query, follow } => {
            accept(send).await?;
            logs::logs(session, &query, follow, send, gone).await
        }
        Operation::PathStat { container, path } => {
            files::stat(session, &container, &path, send).await
        }
        Operation::ArchiveGet { container, path } => {
            let sent = files::get(session, &container, &path, send).await?;
            session.did_if(sent, Deed::ArchiveSent);
            Ok(())
        }
        Operation::ArchivePut {
            container,
            path,
            keep_kinds,
            owner,
        } => {
            let owner = owner.as_deref();
            let put = files::put(session, &container, &path, keep_kinds, owner, recv, send).await?;
            session.did_if(put, Deed::ArchiveExtracted);
            Ok(())
        }
        Operation::Export => {
            let sent = files::export(session, send).await?;
            session.did_if(sent, Deed::Exported);
            Ok(())
        }
        Operation::Changes => files::changes(session, send).await,
        Operation::Stats {
            name,
            id,
            stream,
            one_shot,
            memory_limit,
        } => {
            let options = stats::Options {
                name,
                id,
                stream,
                one_shot,
                memory_limit,
            };
            stats::stats(session, &options, send, gone).await
        }
        Operation::ExecCreate { exec, user } => exec::create(session, exec, &user, send).await,
        Operation::Top { arguments } => top::top(session, &arguments, send).await,
    }
}

/// Says that the operation's bytes follow.
pub(super) async fn accept<W: AsyncWrite + Unpin>(send: &mut W) -> Result<(), Gone> {
    reply(send, &StreamReply::Accepted).await
}

/// Says why nothing follows.
pub(super) async fn refuse<W: AsyncWrite + Unpin>(
    send: &mut W,
    message: String,
) -> Result<(), Gone> {
    reply(send, &StreamReply::Refused { message }).await
}

async fn reply<W: AsyncWrite + Unpin>(send: &mut W, reply: &StreamReply) -> Result<(), Gone> {
    let text = serde_json::to_string(reply).map_err(|_| Gone)?;
    let head = encode_head(&text).map_err(|_| Gone)?;
    send.write_all(&head).await?;
    Ok(())
}

async fn read_head<R: AsyncRead + Unpin>(recv: &mut R) -> Result<String, Gone> {
    let mut length = [0; 4];
    recv.read_exact(&mut length).await?;
    let length = head_length(length, MAX_GRANT_BYTES).map_err(|_| Gone)?;
    // Grows with what really comes: a client that only claims a long head gets no memory.
    let mut bytes = Vec::new();
    let read = recv.take(length as u64).read_to_end(&mut bytes).await?;
    if read != length {
        return Err(Gone);
    }
    String::from_utf8(bytes).map_err(|_| Gone)
}
