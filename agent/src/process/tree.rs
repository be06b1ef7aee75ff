//! All processes of the container at once: everything below the agent.
//!
//! The agent is process 1 or a child subreaper, so that every process a
//! container ever starts, double-forked or not, stays its descendant.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use nix::unistd::{Pid, getpid};
use tokio::time::{Instant, timeout};

use super::reaper::Reaper;
use super::signals::send;

/// For how long processes that were killed may take to vanish. Only one that
/// hangs in the kernel needs longer, and nothing can be done about it.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for a SIGCHLD before looking again: a descendant that is
/// nobody's child of ours yet sends none.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How many rounds a stop makes after new processes before it gives up.
const STOP_ROUNDS: usize = 100;

/// Kills every process of the container and waits until all are gone. Whether
/// they are.
pub(crate) async fn kill_all(reaper: &Reaper) -> bool {
    let deadline = Instant::now() + END_LIMIT;
    loop {
        let reaped = reaper.reaped();
        if !reaper.reap() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        if getpid().as_raw() == 1 {
            // Everything but ourselves, in one step that no fork outruns.
            send(Pid::from_raw(-1), libc::SIGKILL);
        } else {
            // Stopped first, so that what is being killed starts nothing new.
            let mut seen = stop_all(None);
            seen.extend(descendants(None).iter().map(|process| process.pid));
            for pid in seen {
                send(pid, libc::SIGKILL);
            }
        }
        let _ = timeout(LOOK_AGAIN, reaped).await;
    }
}

/// Stops (SIGSTOP) every process of the container, until a look finds none that
/// still runs. Returns whom it stopped. `helper` is none of them.
pub(crate) fn stop_all(helper: Option<Pid>) -> Vec<Pid> {
    let mut stopped = Vec::new();
    for _ in 0..STOP_ROUNDS {
        let running: Vec<Pid> = descendants(helper)
            .iter()
            .map(|process| process.pid)
            .filter(|pid| !stopped.contains(pid))
            .collect();
        if running.is_empty() {
            break;
        }
        for pid in running {
            send(pid, libc::SIGSTOP);
            stopped.push(pid);
        }
    }
    stopped
}

/// Lets every process of the container go on (SIGCONT).
pub(crate) fn continue_all(helper: Option<Pid>) {
    for process in descendants(helper) {
        send(process.pid, libc::SIGCONT);
    }
}

/// The processes of the container that are in this process group.
pub(crate) fn group(group: Pid) -> Vec<Pid> {
    descendants(None)
        .iter()
        .filter(|process| process.group == group)
        .map(|process| process.pid)
        .collect()
}

/// Every process of the container; `helper` is none of them.
pub(crate) fn pids(helper: Option<Pid>) -> Vec<Pid> {
    descendants(helper)
        .iter()
        .map(|process| process.pid)
        .collect()
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: Pid,
    group: Pid,
}

/// Every process below the agent that has not ended, but for `helper`.
fn descendants(helper: Option<Pid>) -> Vec<Process> {
    let all: Vec<Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect();
    let mut below = below(getpid(), &all);
    below.retain(|process| Some(process.pid) != helper);
    below
}

fn below(root: Pid, all: &[Process]) -> Vec<Process> {
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            next.push(process.pid);
            found.push(process);
        }
    }
    found
}

/// Reads `pid (name) state ppid …`. The name may hold anything, even `)`. A
/// process that has ended and only waits to be reaped is none.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Process {
        pid: Pid::from_raw(pid.parse().ok()?),
        parent: Pid::from_raw(parent),
        group: Pid::from_raw(group),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid: Pid::from_raw(pid),
            parent: Pid::from_raw(parent),
            group: Pid::from_raw(9),
        }
    }

    #[test]
    fn a_name_cannot_fool_the_reader() {
        assert_eq!(
            parse_stat("7 (a) S 1 (x) R 9 9) R 3 9 0"),
            Some(process(7, 3))
        );
        assert_eq!(parse_stat("7 (sh) Z 3 0 0"), None);
        assert_eq!(parse_stat("nonsense"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn only_what_is_below_counts() {
        let all = [
            process(2, 1),
            process(5, 2),
            process(6, 5),
            process(9, 1),
            process(7, 6),
        ];
        let mut pids: Vec<i32> = below(Pid::from_raw(2), &all)
            .iter()
            .map(|p| p.pid.as_raw())
            .collect();
        pids.sort_unstable();
        assert_eq!(pids, [5, 6, 7]);
    }

    #[test]
    fn a_table_read_while_it_changes_cannot_make_a_circle() {
        let all = [process(5, 6), process(6, 5), process(6, 1)];
        assert!(below(Pid::from_raw(5), &all).len() <= 3);
    }
}
