//! `docker logs` of a run that lives.

use std::future::pending;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sockerless_shared::logs::render::{Line, LineAssembler};
use sockerless_shared::logs::spool::decode_all;
use sockerless_shared::logs::{LogQuery, Record};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep_until};

use super::output::give;
use super::{Gone, Session};
use crate::clock;
use crate::spool::{Next, Spool};

/// How much is rendered before it is sent, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Sends the log, and with `follow` what comes, until the run's end is recorded.
pub(super) async fn logs<W: AsyncWrite + Unpin + Send>(
    session: &Session,
    query: &LogQuery,
    follow: bool,
    send: &mut W,
    gone: impl Future<Output = ()> + Send,
) -> Result<(), Gone> {
    let work = async {
        let Some(container) = session.container().await else {
            return Ok(());
        };
        render(session, &container.spool, query, follow, send).await
    };
    tokio::select! {
        result = work => result,
        () = gone => Err(Gone),
    }
}

async fn render<W: AsyncWrite + Unpin>(
    session: &Session,
    spool: &Spool,
    query: &LogQuery,
    follow: bool,
    send: &mut W,
) -> Result<(), Gone> {
    let earlier = earlier(query);
    let mut skip = match query.tail {
        Some(tail) => (earlier.len() as u64 + count(spool)).saturating_sub(tail),
        None => 0,
    };
    let mut out = Vec::new();
    let mut assembler = LineAssembler::default();
    let mut reader = spool.read_log();
    // The last lines of all are chosen first, and then what is wanted of them.
    let mut write = |out: &mut Vec<u8>, line: &Line| {
        if skip > 0 {
            skip -= 1;
        } else if query.wants(line) {
            query.write(out, line);
        }
    };
    for line in &earlier {
        write(&mut out, line);
    }
    loop {
        let records: Vec<Record> = match reader.poll().map_err(|_| Gone)? {
            Next::Records(records) => records,
            Next::Later if !follow => break,
            Next::Later => tokio::select! {
                next = reader.next() => match next.map_err(|_| Gone)? {
                    Some(records) => records,
                    None => break,
                },
                () = passed(query) => break,
            },
            Next::End => break,
        };
        for record in &records {
            assembler.push(record, |line| write(&mut out, &line));
            if out.len() >= PIECE_BYTES {
                give(send, &out, &session.active).await?;
                out.clear();
            }
        }
        give(send, &out, &session.active).await?;
        out.clear();
    }
    // A line without its end is part of the log once nothing can follow.
    if matches!(reader.poll(), Ok(Next::End)) {
        assembler.finish(|line| write(&mut out, &line));
    }
    give(send, &out, &session.active).await?;
    if follow && query.until.is_none_or(|until| until > clock::now()) {
        session.recorded().await;
    }
    Ok(())
}

/// The lines of earlier runs, which the control plane gave along.
fn earlier(query: &LogQuery) -> Vec<Line> {
    let bytes = STANDARD.decode(&query.earlier).unwrap_or_default();
    let records = decode_all(&bytes).unwrap_or_default();
    let line = |record: Record| Line {
        stream: record.stream,
        time: record.time,
        data: record.data,
    };
    records.into_iter().map(line).collect()
}

/// How many lines there are now.
fn count(spool: &Spool) -> u64 {
    let mut lines = 0;
    let mut assembler = LineAssembler::default();
    let mut reader = spool.read_log();
    let mut take = |_: Line| lines += 1;
    loop {
        match reader.poll() {
            Ok(Next::Records(records)) => {
                for record in &records {
                    assembler.push(record, &mut take);
                }
            }
            Ok(Next::End) => {
                assembler.finish(&mut take);
                return lines;
            }
            Ok(Next::Later) | Err(_) => return lines,
        }
    }
}

/// Resolves when nothing that comes now can be wanted any more (`--until`).
async fn passed(query: &LogQuery) {
    match query.until {
        Some(until) => sleep_until(Instant::now() + until.since(clock::now())).await,
        None => pending().await,
    }
}
