//! The container's output on the agent's own stdout, a JSON object a line, for
//! operators and for `docker logs` of agents that died without a word.
//!
//! Lambda takes about 2 MB/s of it, and whoever reads stdout may be slow. The
//! container waits for neither: lines beyond the rate or the queue are left out
//! and counted, and the count is a line of its own.

use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use sockerless_shared::ids::{ContainerId, RunId};
use sockerless_shared::logs::Record;
use sockerless_shared::logs::render::{Line, LineAssembler};
use sockerless_shared::protocol::stdcopy::OutputStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// Bytes a second, and at once.
const RATE: u64 = 1_500_000;
const BURST: u64 = 3_000_000;

/// Bytes that may wait for a slow reader of stdout.
const QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// Writes lines to stdout from a thread of its own: writing may block.
#[derive(Debug, Clone)]
pub(crate) struct OperatorLog {
    queue: Sender<Item>,
    queued: Arc<AtomicUsize>,
}

enum Item {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// The operator's log of one run.
#[derive(Debug)]
pub(crate) struct RunLog {
    log: OperatorLog,
    container: ContainerId,
    run: RunId,
    state: Mutex<State>,
    left_out: AtomicU64,
}

#[derive(Debug)]
struct State {
    assembler: LineAssembler,
    allowance: Allowance,
}

/// A token bucket of [`BURST`] bytes, filled at [`RATE`].
#[derive(Debug)]
struct Allowance {
    bytes: u64,
    since: Instant,
}

#[derive(Serialize)]
struct Entry<'a> {
    container: &'a ContainerId,
    run: &'a RunId,
    stream: OutputStream,
    time: String,
    log: &'a str,
}

impl OperatorLog {
    /// Starts the thread.
    pub(crate) fn start(stdout: impl Write + Send + 'static) -> Self {
        let (queue, items) = channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&queued);
        thread::spawn(move || write(&items, &count, stdout));
        Self { queue, queued }
    }

    /// The log of one run.
    pub(crate) fn for_run(&self, container: ContainerId, run: RunId) -> RunLog {
        RunLog {
            log: self.clone(),
            container,
            run,
            state: Mutex::new(State {
                assembler: LineAssembler::default(),
                allowance: Allowance {
                    bytes: BURST,
                    since: Instant::now(),
                },
            }),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether the line was taken.
    fn push(&self, line: Vec<u8>) -> bool {
        let length = line.len();
        if self.queued.fetch_add(length, Ordering::Relaxed) + length > QUEUED_BYTES {
            self.queued.fetch_sub(length, Ordering::Relaxed);
            return false;
        }
        self.queue.send(Item::Line(line)).is_ok()
    }
}

fn write(items: &Receiver<Item>, queued: &AtomicUsize, mut stdout: impl Write) {
    while let Ok(item) = items.recv() {
        match item {
            Item::Line(line) => {
                // Nobody reads it: then nobody misses it.
                let _ = stdout.write_all(&line);
                queued.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Item::Flush(done) => {
                let _ = stdout.flush();
                let _ = done.send(());
            }
        }
    }
}

impl RunLog {
    /// Takes a piece of output.
    pub(crate) fn record(&self, record: &Record) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            assembler,
            allowance,
        } = &mut *state;
        assembler.push(record, |line| self.line(&line, allowance));
    }

    /// The run is over: writes what is unfinished, and waits for at most `limit`
    /// until all is written.
    pub(crate) async fn finish(&self, limit: Duration) {
        let done = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let State {
                assembler,
                allowance,
            } = &mut *state;
            assembler.finish(|line| self.line(&line, allowance));
            let left_out = self.left_out.load(Ordering::Relaxed);
            if left_out > 0 {
                let entry = serde_json::json!({
                    "container": self.container,
                    "run": self.run,
                    "left_out_lines": left_out,
                });
                self.log.push(format!("{entry}\n").into_bytes());
            }
            let (done, flushed) = oneshot::channel();
            let _ = self.log.queue.send(Item::Flush(done));
            flushed
        };
        let _ = timeout(limit, done).await;
    }

    fn line(&self, line: &Line, allowance: &mut Allowance) {
        let text = String::from_utf8_lossy(&line.data);
        let entry = Entry {
            container: &self.container,
            run: &self.run,
            stream: line.stream,
            time: line.time.rfc3339_fixed(),
            log: &text,
        };
        let Ok(mut bytes) = serde_json::to_vec(&entry) else {
            return;
        };
        bytes.push(b'\n');
        if !allowance.take(bytes.len() as u64) || !self.log.push(bytes) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Allowance {
    fn take(&mut self, bytes: u64) -> bool {
        let now = Instant::now();
        let elapsed = u64::try_from(now.duration_since(self.since).as_micros()).unwrap_or(u64::MAX);
        let earned = elapsed.saturating_mul(RATE) / 1_000_000;
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(BURST);
            self.since = now;
        }
        if bytes > self.bytes {
            return false;
        }
        self.bytes -= bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use sockerless_shared::timestamp::Timestamp;

    use super::*;

    struct Capture(Arc<Mutex<Vec<u8>>>);

    impl Write for Capture {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Blocks until it is told to go on.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn record(data: &str) -> Record {
        Record {
            stream: OutputStream::Stdout,
            time: Timestamp::from_secs(1),
            data: data.into(),
        }
    }

    fn run_log(log: &OperatorLog) -> RunLog {
        log.for_run(
            ContainerId::from_random([1; 32]),
            RunId::from_random([2; 16]),
        )
    }

    #[tokio::test]
    async fn a_line_is_an_object() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = run_log(&OperatorLog::start(Capture(Arc::clone(&written))));
        log.record(&record("he"));
        log.record(&record("llo\nrest"));
        log.finish(Duration::from_secs(5)).await;
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let entries: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(entries[0]["log"], "hello\n");
        assert_eq!(entries[0]["stream"], "stdout");
        assert_eq!(entries[0]["time"], "1970-01-01T00:00:01.000000000Z");
        assert_eq!(entries[0]["run"], "02".repeat(16));
        assert_eq!(entries[1]["log"], "rest");
    }

    #[tokio::test]
    async fn a_stdout_that_nobody_reads_holds_up_nobody() {
        let (go_on, stuck) = mpsc::channel();
        let log = run_log(&OperatorLog::start(Stuck(stuck)));
        for _ in 0..1000 {
            log.record(&record(&format!("{}\n", "x".repeat(16_000))));
        }
        log.finish(Duration::from_millis(10)).await;
        assert!(log.left_out.load(Ordering::Relaxed) > 500);
        drop(go_on);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_bounded() {
        let mut allowance = Allowance {
            bytes: BURST,
            since: Instant::now(),
        };
        let mut taken = 0;
        for _ in 0..100 {
            while allowance.take(10_000) {
                taken += 10_000;
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert!(
            (BURST + 9 * RATE..=BURST + 10 * RATE).contains(&taken),
            "{taken}"
        );
    }
}
