//! `docker stats`: what the container uses, as `/proc` tells it, in Docker's JSON.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep_until};

use super::answer::{Head, answer, line};
use super::{Gone, Session};
use crate::clock;
use crate::process::tree;

/// How often a reading is sent.
const PERIOD: Duration = Duration::from_secs(1);

const TICKS_PER_SECOND: u64 = 100;
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// What the client asked for; see the grant's `Stats`.
pub(super) struct Options {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) stream: bool,
    pub(super) one_shot: bool,
    pub(super) memory_limit: u64,
}

/// Sends readings until one is enough or the run ends.
pub(super) async fn stats<W: AsyncWrite + Unpin>(
    session: &Session,
    options: &Options,
    send: &mut W,
    gone: impl Future<Output = ()> + Send,
) -> Result<(), Gone> {
    answer(send, Head::ok("application/json")).await?;
    let work = async {
        let Some(container) = session.container().await else {
            return Ok(());
        };
        let helper = container.reaper.helper();
        let (mut before, mut before_at) = (no_cpu(), NO_TIME.to_owned());
        let mut next = Instant::now();
        let mut first = true;
        loop {
            let reading = Reading::take(helper);
            let at = clock::now().rfc3339();
            if !first || options.one_shot || options.stream {
                let value = reading.show(options, &at, &before_at, &before);
                line(send, &value).await?;
                session.active.took(1);
                if !options.stream {
                    return Ok(());
                }
            }
            first = false;
            (before, before_at) = (reading.cpu(), at);
            next += PERIOD;
            sleep_until(next).await;
        }
    };
    tokio::select! {
        result = work => result,
        () = session.recorded() => Ok(()),
        () = gone => Err(Gone),
    }
}

#[derive(Default)]
struct Reading {
    user: u64,
    system: u64,
    /// Time on processors, in nanoseconds; `user` and `system` count whole ticks.
    busy: u64,
    machine: u64,
    cpus: u64,
    processes: u64,
    memory: u64,
    read: u64,
    written: u64,
    networks: Map<String, Value>,
}

impl Reading {
    fn take(helper: Option<nix::unistd::Pid>) -> Self {
        let mut reading = Self {
            networks: networks(&fs::read_to_string("/proc/net/dev").unwrap_or_default()),
            ..Self::default()
        };
        // Processes that ended count on through their parent, in the end the agent.
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) {
            reading.user = u64::try_from(usage.user_time().num_nanoseconds()).unwrap_or(0);
            reading.system = u64::try_from(usage.system_time().num_nanoseconds()).unwrap_or(0);
            reading.busy = reading.user + reading.system;
        }
        for pid in tree::pids(helper) {
            let file =
                |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let stat = file("stat");
            let fields: Vec<&str> = stat
                .rsplit_once(") ")
                .map(|(_, rest)| rest.split(' ').collect())
                .unwrap_or_default();
            let number = |index: usize| {
                fields
                    .get(index)
                    .and_then(|text| text.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            let nanos = 1_000_000_000 / TICKS_PER_SECOND;
            let (user, system) = (number(11) * nanos, number(12) * nanos);
            let ended = (number(13) + number(14)) * nanos;
            reading.user += user + number(13) * nanos;
            reading.system += system + number(14) * nanos;
            // Of threads that have ended only the ticks are known.
            reading.busy += ended + on_processors(pid).max(user + system);
            reading.processes += number(17);
            reading.memory += memory(&file("smaps_rollup")).unwrap_or_else(|| number(21) * 4096);
            let io = file("io");
            let io = |name: &str| {
                io.lines()
                    .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
                    .unwrap_or(0)
            };
            reading.read += io("read_bytes:");
            reading.written += io("write_bytes:");
        }
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        reading.cpus = machine
            .lines()
            .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
            .count() as u64;
        let ticks: u64 = machine
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|text| text.parse::<u64>().ok())
            .sum();
        reading.machine = ticks * (1_000_000_000 / TICKS_PER_SECOND);
        reading
    }

    fn cpu(&self) -> Value {
        json!({
            "cpu_usage": {
                "total_usage": self.busy,
                "usage_in_kernelmode": self.system,
                "usage_in_usermode": self.user,
            },
            "system_cpu_usage": self.machine,
            "online_cpus": self.cpus,
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        })
    }

    fn show(&self, options: &Options, at: &str, before_at: &str, before: &Value) -> Value {
        let bytes =
            |op: &str, value: u64| json!({"major": 0, "minor": 0, "op": op, "value": value});
        let mut value = json!({
            "name": options.name,
            "id": options.id,
            "read": at,
            "preread": before_at,
            "pids_stats": {"current": self.processes},
            "blkio_stats": {
                "io_service_bytes_recursive": [bytes("read", self.read), bytes("write", self.written)],
                "io_serviced_recursive": null,
                "io_queue_recursive": null,
                "io_service_time_recursive": null,
                "io_wait_time_recursive": null,
                "io_merged_recursive": null,
                "io_time_recursive": null,
                "sectors_recursive": null,
            },
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": self.cpu(),
            "precpu_stats": before,
            "memory_stats": {
                "usage": self.memory,
                "stats": {"anon": self.memory, "inactive_file": 0},
                "limit": options.memory_limit,
            },
        });
        if !self.networks.is_empty() {
            value["networks"] = Value::Object(self.networks.clone());
        }
        // Docker names the container only where it compares two readings.
        if options.one_shot
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("name");
            fields.remove("id");
        }
        value
    }
}

/// How long the threads of a process have been on processors, in nanoseconds; nothing where the
/// kernel does not count it.
fn on_processors(pid: nix::unistd::Pid) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn no_cpu() -> Value {
    json!({
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    })
}

/// A process's share of what it has in memory, in bytes.
fn memory(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The interfaces but the loopback, which the agent uses too.
fn networks(dev: &str) -> Map<String, Value> {
    dev.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let numbers: Vec<u64> = rest.split_whitespace().filter_map(|text| text.parse().ok()).collect();
            let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] = numbers[..] else {
                return None;
            };
            let name = name.trim();
            (name != "lo").then(|| {
                let counted = json!({
                    "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
                    "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
                });
                (name.to_owned(), counted)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_counted_but_for_the_loopback() {
        let dev = "Inter-| Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let found = networks(dev);
        assert_eq!(found.len(), 1);
        assert_eq!(found["eth0"]["tx_bytes"], 9);
        assert_eq!(memory("Rss: 8 kB\nPss:      12 kB\n"), Some(12 * 1024));
        assert_eq!(memory(""), None);
    }
}
