//! An exec's process to its end, whether or not anybody looks on.

use std::sync::Arc;
use std::time::Duration;

use sockerless_shared::ids::ExecId;
use sockerless_shared::protocol::control::Report;
use sockerless_shared::protocol::stdcopy::OutputStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::container::{Container, READ_BYTES};
use crate::process::launch::{Launched, Outputs};
use crate::process::line_discipline::shown;
use crate::process::stdio::Output;
use crate::relay::Link;

/// How long after an exec's exit its output may still come, from what it left
/// running in the background (moby's `daemon/monitor.go`).
const OUTPUT_AFTER_EXIT: Duration = Duration::from_secs(2);

/// A piece of output.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) stream: OutputStream,
    pub(super) data: Vec<u8>,
}

/// Reads the output, reports the exit, and lets go of `pieces` when both are
/// done: all output is passed on and the exit is recorded. While nobody takes
/// pieces the process waits; once the taker is gone, output is thrown away.
pub(super) async fn run(
    launched: Launched,
    pieces: Option<mpsc::Sender<Piece>>,
    link: Link,
    container: Arc<Container>,
    exec: ExecId,
) {
    let (ended, end) = watch::channel(None);
    let pump = |output, stream, emulated| {
        let (pieces, end) = (pieces.clone(), end.clone());
        tokio::spawn(read(output, stream, emulated, pieces, end))
    };
    let readers = match launched.outputs {
        Outputs::Apart(stdout, stderr) => vec![
            pump(stdout, OutputStream::Stdout, false),
            pump(stderr, OutputStream::Stderr, false),
        ],
        Outputs::Terminal(output) => vec![pump(output, OutputStream::Stdout, false)],
        Outputs::Emulated(output) => vec![pump(output, OutputStream::Stdout, true)],
    };
    // The agent itself is ending if this fails.
    let Ok(code) = launched.exit.await else {
        return;
    };
    ended.send_replace(Some(Instant::now() + OUTPUT_AFTER_EXIT));
    let recorded = link.report(Report::ExecExited {
        exec: exec.clone(),
        code,
    });
    container.exec_ended(&exec);
    for reader in readers {
        let _ = reader.await;
    }
    // A run that is over before that has nobody left to ask for the code.
    let _ = recorded.await;
    drop(pieces);
}

/// Reads one output to its end, or until the time after the process's exit is
/// over; then only what is in the pipe already.
async fn read(
    output: Output,
    stream: OutputStream,
    emulated: bool,
    mut pieces: Option<mpsc::Sender<Piece>>,
    mut end: watch::Receiver<Option<Instant>>,
) {
    let mut buffer = vec![0; READ_BYTES];
    let mut left = usize::MAX;
    while left > 0 {
        if left == usize::MAX && end.borrow().is_some_and(|end| Instant::now() >= end) {
            left = READ_BYTES;
        }
        let most = left.min(READ_BYTES);
        let read = tokio::select! {
            biased;
            read = output.read(&mut buffer[..most]) => read,
            () = over(&mut end) => return,
        };
        let data = match read {
            Ok(0) | Err(_) => return,
            Ok(read) => &buffer[..read],
        };
        if left != usize::MAX {
            left -= data.len();
        }
        if let Some(taker) = &pieces {
            let data = if emulated { shown(data) } else { data.to_vec() };
            if taker.send(Piece { stream, data }).await.is_err() {
                pieces = None;
            }
        }
    }
}

async fn over(end: &mut watch::Receiver<Option<Instant>>) {
    let at = end.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    // Otherwise the runner is gone, and so is the need to read on.
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
