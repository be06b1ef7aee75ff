//! The container's healthcheck: probes, run beside its process for as long as that runs.
//!
//! The control plane is told what each probe said, one after another: the next when the one
//! before has been acknowledged, so that however short the interval, no more is said than the
//! link carries. What it has not acknowledged at the run's end it is told with that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use sockerless_shared::health::{Health, Healthcheck, MAX_OUTPUT_BYTES, MAX_RESULTS, ProbeResult};
use sockerless_shared::protocol::control::Report;
use sockerless_shared::timestamp::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::container::{Container, READ_BYTES};
use crate::process::failure::exec_sentence;
use crate::process::launch::{Launched, Outputs, Role, launch};
use crate::process::stdio::Output;
use crate::relay::{Link, Unrecorded};

/// How long after a probe's exit its output may still come, from what it left running.
const OUTPUT_AFTER_EXIT: Duration = Duration::from_secs(2);

/// How long the results are as JSON that are told with the end of a run: that report has to fit
/// one frame of API Gateway, 32 KB, together with a log of at most
/// [`LogSpool::MAX_INLINE_BYTES`] in base64.
///
/// [`LogSpool::MAX_INLINE_BYTES`]: sockerless_shared::protocol::control::LogSpool::MAX_INLINE_BYTES
const MAX_LAST_BYTES: usize = 8 * 1024;

/// Exit code of a probe that has none.
const NO_CODE: i32 = -1;

/// Whether to probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Switch {
    on: bool,
    /// How often it was switched off: also what was off for a moment only has been off.
    offs: u64,
}

/// Probes a container until it is ended.
#[derive(Debug)]
pub(crate) struct Prober {
    switch: watch::Sender<Switch>,
    known: watch::Receiver<Health>,
    untold: Arc<Untold>,
    tasks: [JoinHandle<()>; 2],
}

/// What the control plane has not acknowledged: the verdict after each probe, with its result
/// alone, oldest first; at most [`MAX_RESULTS`].
#[derive(Debug, Default)]
struct Untold {
    verdicts: Mutex<VecDeque<Health>>,
    more: Notify,
}

impl Untold {
    fn verdicts(&self) -> MutexGuard<'_, VecDeque<Health>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, verdict: Health) {
        let mut verdicts = self.verdicts();
        if verdicts.len() == MAX_RESULTS {
            verdicts.pop_front();
        }
        verdicts.push_back(verdict);
        drop(verdicts);
        self.more.notify_one();
    }

    /// Tells one after another for as long as the link is there.
    async fn tell(self: Arc<Self>, link: Link) {
        loop {
            let next = self.verdicts().front().cloned();
            let Some(health) = next else {
                self.more.notified().await;
                continue;
            };
            let told = health.clone();
            match link.report(Report::Health { health }).await {
                Ok(()) | Err(Unrecorded::Refused(_)) => {}
                Err(Unrecorded::Closed) => return,
            }
            // It is gone already if there was too much to tell meanwhile.
            let mut verdicts = self.verdicts();
            if verdicts.front() == Some(&told) {
                verdicts.pop_front();
            }
        }
    }
}

impl Prober {
    /// Begins to probe a container that runs since `started`, if it is to be probed.
    pub(crate) fn begin(
        container: &Arc<Container>,
        link: &Link,
        started: Timestamp,
    ) -> Option<Self> {
        let check = container.spec.healthcheck.clone()?;
        let (switch, switched) = watch::channel(Switch { on: true, offs: 0 });
        let (learned, known) = watch::channel(Health::starting(None));
        let untold = Arc::new(Untold::default());
        let telling = tokio::spawn(Arc::clone(&untold).tell(link.clone()));
        let probing = Probing {
            container: Arc::clone(container),
            untold: Arc::clone(&untold),
            check,
            started,
            switched,
            learned,
        };
        Some(Self {
            switch,
            known,
            untold,
            tasks: [tokio::spawn(probing.run()), telling],
        })
    }

    /// Goes on, or does not: processes that are stopped answer no probe.
    pub(crate) fn switch(&self, on: bool) {
        self.switch.send_modify(|switch| {
            switch.offs += u64::from(switch.on && !on);
            switch.on = on;
        });
    }

    /// Ends. The last verdict, with the results that the control plane may not know.
    pub(crate) async fn end(self) -> Health {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        let untold = self.untold.verdicts();
        let results = untold.iter().flat_map(|health| health.results.clone());
        Health {
            results: newest(results.collect(), MAX_LAST_BYTES),
            ..self.known.borrow().clone()
        }
    }
}

struct Probing {
    container: Arc<Container>,
    untold: Arc<Untold>,
    check: Healthcheck,
    started: Timestamp,
    switched: watch::Receiver<Switch>,
    learned: watch::Sender<Health>,
}

impl Probing {
    async fn run(mut self) {
        let mut seen = 0;
        loop {
            // Whoever switches is gone only together with this task.
            let Ok(offs) = self
                .switched
                .wait_for(|switch| switch.on)
                .await
                .map(|s| s.offs)
            else {
                return;
            };
            let mut switched = self.switched.clone();
            let result = if offs == seen {
                tokio::select! {
                    result = self.next() => Some(result),
                    _ = switched.wait_for(|switch| switch.offs != seen) => None,
                }
            } else {
                None
            };
            seen = self.switched.borrow().offs;
            let known = self.learned.borrow().clone();
            let Some(result) = result else {
                // The control plane, which has it switched off, knows.
                self.learned.send_replace(known.unwatched());
                continue;
            };
            let health = known.with(&self.check, self.started, result.clone());
            self.untold.add(Health {
                results: vec![result],
                ..health.clone()
            });
            self.learned.send_replace(health);
        }
    }

    /// The next probe, when its time has come.
    async fn next(&self) -> ProbeResult {
        let status = self.learned.borrow().status;
        sleep(self.check.pause(status, self.started, clock::now())).await;
        let start = clock::now();
        let (exit_code, output, started) = match probe(&self.container, &self.check).await {
            Ok((code, output)) => (code, output, true),
            Err(why) => (NO_CODE, why, false),
        };
        ProbeResult {
            start,
            end: clock::now(),
            exit_code,
            output,
            started,
        }
    }
}

/// Runs one probe; its exit code, and what it put out or why it has none.
///
/// # Errors
/// When it cannot be started; why.
async fn probe(container: &Container, check: &Healthcheck) -> Result<(i32, String), String> {
    let confinement = &container.spec.confinement;
    let launched = launch(&check.probe, confinement, Role::Exec, &container.reaper)
        .map_err(|failure| exec_sentence(&failure))?;
    let Launched {
        pid, exit, outputs, ..
    } = launched;
    // Ended with the probe, whatever ends that.
    let mut running = Running(Some(pid));
    let said = Arc::new(Mutex::new(Said::default()));
    let mut readers = JoinSet::new();
    let outputs = match outputs {
        Outputs::Apart(stdout, stderr) => vec![stdout, stderr],
        Outputs::Terminal(output) | Outputs::Emulated(output) => vec![output],
    };
    for output in outputs {
        readers.spawn(read(output, Arc::clone(&said)));
    }
    let ended = timeout(check.timeout(), exit).await;
    let code = ended
        .as_ref()
        .ok()
        .map(|code| *code.as_ref().unwrap_or(&NO_CODE));
    if code.is_some() {
        // Its number may be another's by now.
        running.0 = None;
    }
    drop(running);
    let all_read = async { while readers.join_next().await.is_some() {} };
    let _ = timeout(OUTPUT_AFTER_EXIT, all_read).await;
    let said = lock(&said).text();
    Ok(match code {
        Some(code) => (code, said),
        None => {
            let limit = go_duration(check.timeout());
            let mut why = format!("Health check exceeded timeout ({limit})");
            if !said.is_empty() {
                why.push_str(": ");
                why.push_str(&said);
            }
            (NO_CODE, why)
        }
    })
}

/// The last of these results, oldest first, that have no more bytes as JSON.
fn newest(mut results: Vec<ProbeResult>, bytes: usize) -> Vec<ProbeResult> {
    let mut left = bytes;
    let fits = |result: &&ProbeResult| {
        let length = serde_json::to_vec(result).map_or(usize::MAX, |json| json.len());
        let fits = length <= left;
        left = left.saturating_sub(length);
        fits
    };
    let count = results.iter().rev().take_while(fits).count();
    results.split_off(results.len() - count)
}

/// A probe's process group, which ends with this.
struct Running(Option<nix::unistd::Pid>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended in this moment.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn read(output: Output, said: Arc<Mutex<Said>>) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        lock(&said).add(&buffer[..read]);
    }
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The beginning of a probe's output.
#[derive(Debug, Default)]
struct Said {
    bytes: Vec<u8>,
    cut: bool,
}

impl Said {
    fn add(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT_BYTES - self.bytes.len();
        let kept = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.cut |= kept < bytes.len();
    }

    /// As Docker shows it.
    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `200ms`.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |whole: u128, unit: u128, name: &str| {
        let digits = format!("{:0width$}", whole % unit, width = unit.ilog10() as usize);
        match digits.trim_end_matches('0') {
            "" => format!("{}{name}", whole / unit),
            digits => format!("{}.{digits}{name}", whole / unit),
        }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (millis, text) in [
            (0, "0s"),
            (200, "200ms"),
            (1_500, "1.5s"),
            (30_000, "30s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_micros(1_500)), "1.5ms");
    }

    #[test]
    fn of_what_is_told_at_the_end_the_oldest_gives_way() {
        let result = |output: String| ProbeResult {
            start: Timestamp::from_secs(1),
            end: Timestamp::from_secs(2),
            exit_code: 0,
            output,
            started: true,
        };
        // As long as can be, and in JSON six times as long.
        let longest = result("\u{1}".repeat(MAX_OUTPUT_BYTES));
        let all = vec![longest, result("b".to_owned()), result("c".to_owned())];
        assert_eq!(newest(all.clone(), MAX_LAST_BYTES), all[1..]);
        assert_eq!(newest(all.clone(), MAX_LAST_BYTES * 4), all);
        assert_eq!(newest(all, 0), []);
    }

    #[test]
    fn output_is_cut_where_docker_cuts_it() {
        let mut said = Said::default();
        said.add(&[b'a'; 4000]);
        said.add(&[b'b'; 96]);
        assert_eq!(said.text().len(), 4096);
        said.add(b"c");
        assert!(said.text().ends_with("b..."));
    }
}
