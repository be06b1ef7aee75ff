//! How much memory an engine has resident, alone and for each container that idles.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sockerless_tests::process::contains;

use crate::calls;
use crate::pair::{Pair, Side};
use crate::throughput;

pub(crate) const NAME: &str = "memory";

const IDLE: usize = 20;

/// Of one engine, in KiB: proportional set sizes, so that what processes share is
/// counted once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// All of the engine's processes after the runs, with what it keeps ready.
    pub(crate) resident: u64,
    /// All processes, for each container that idles: the container's, and what the
    /// engine has beside it.
    pub(crate) idle: u64,
}

/// Of both.
#[derive(Debug)]
pub(crate) struct Memories {
    pub(crate) runs: usize,
    pub(crate) theirs: Memory,
    pub(crate) ours: Memory,
}

/// Makes the runs with both, then measures.
pub(crate) fn measure(pair: &Pair, runs: usize) -> Result<Memories, String> {
    let [theirs, ours] = pair.sides().map(|side| one(side, runs));
    Ok(Memories {
        runs,
        theirs: theirs?,
        ours: ours?,
    })
}

fn one(side: &Side, runs: usize) -> Result<Memory, String> {
    throughput::runs(side, runs)?;
    let resident = total(side)?;
    // Some containers go where the engine keeps something ready, and add little:
    // those after them count.
    let mut containers = idle(side)?;
    let some = total(side)?;
    containers.extend(idle(side)?);
    let all = total(side)?;
    for id in containers {
        calls::remove(side, &id)?;
    }
    let idle = all.saturating_sub(some) / IDLE as u64;
    Ok(Memory { resident, idle })
}

/// Containers that idle.
fn idle(side: &Side) -> Result<Vec<String>, String> {
    (0..IDLE)
        .map(|_| {
            let id = calls::create(side, &["sleep", "1000"])?;
            calls::start(side, &id)?;
            Ok(id)
        })
        .collect()
}

fn total(side: &Side) -> Result<u64, String> {
    Ok(tree(side)?.into_iter().map(pss).sum())
}

/// The engine's processes: the first, those that have left its tree but name its
/// folder, and all that descend from any of them.
fn tree(side: &Side) -> Result<BTreeSet<u32>, String> {
    let first = side
        .engine
        .process()
        .ok_or("the engine's process is not known")?;
    let mut open = vec![first];
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let processes = std::fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    for entry in processes.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
            // Those that init has adopted.
            if parent == 1 && names(pid, &side.folder) {
                open.push(pid);
            }
        }
    }
    let mut found = BTreeSet::new();
    while let Some(pid) = open.pop() {
        if found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    Ok(found)
}

fn names(pid: u32, folder: &Path) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    contains(&command, folder.as_os_str().as_bytes())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, blanks and parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// A process's proportional set size; none is 0: it has ended, or is the kernel's.
fn pss(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}
