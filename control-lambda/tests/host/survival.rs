//! What is left when the main process, or the warden, is killed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sockerless_control::embedded::host::Policy;
use sockerless_control::ports::function_host::{InvocationEnd, Network};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::fixture::{Fixture, PATIENCE, answer, function_shape, microvm_shape};
use crate::trial;

/// The first argument of a process that exists to be killed.
pub(crate) const VICTIM: &str = "__victim";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("nothing_outlives_a_killed_main_process", killed_main),
        trial("a_killed_warden_is_replaced", killed_warden),
        trial("a_folder_has_one_host", one_host),
    ]
}

/// Has sandboxes of all kinds, says so, and waits.
pub(crate) async fn be_victim(data: &Path) {
    let fixture = Fixture::open(data, Policy::default(), vec![]).await;
    let mut outbound = function_shape();
    outbound.network = Network::Outbound;
    for shape in [function_shape(), outbound, microvm_shape(1)] {
        let function = fixture.ensure(&shape).await;
        fixture
            .start(&function, "write /kept text\nchildren\nflush\nwait 600")
            .await;
        fixture.report().await;
    }
    println!("up");
    std::future::pending().await
}

async fn killed_main() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap().join("data");
    // As in every test that needs the agent; the victim would print about it.
    crate::fixture::agent();
    let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([VICTIM.as_ref(), data.as_os_str()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    assert_eq!(line.unwrap().unwrap().as_deref(), Some("up"));

    let below = family(&data);
    // A warden; three agents with three children each; what carries their network.
    assert!(below.len() > 3 * 4, "{below:?}");
    victim.kill().await.unwrap();
    gone(&below).await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(data.to_str().unwrap()), "{mounts}");

    // The next one finds the folder usable, and removes old control groups.
    let fixture = Fixture::open(&data, Policy::default(), vec![]).await;
    let function = fixture.ensure(&microvm_shape(1)).await;
    let report = fixture.ask(&function, "read /kept").await;
    assert_eq!(answer(&report, "read /kept"), "\"text\"");
}

async fn killed_warden() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let run = fixture.start(&function, "flush\nwait 600").await;
    fixture.report().await;
    let below = family(&fixture.data);
    let warden = warden_of(&fixture.data);
    kill(Pid::from_raw(warden), Signal::SIGKILL).unwrap();
    assert_eq!(fixture.end().await, (run, InvocationEnd::Lost));
    gone(&below).await;
    let report = fixture.ask(&function, "").await;
    assert!(report.starts_with("served 1\n"), "{report}");
}

async fn one_host() {
    let fixture = Fixture::new().await;
    let second = Fixture::try_open(&fixture.data, Policy::default(), vec![]).await;
    let error = second.err().unwrap().to_string();
    assert!(error.contains("in use"), "{error}");
}

/// Ids and start times of a warden and everything below it.
fn family(data: &Path) -> HashSet<(i32, String)> {
    let processes = processes();
    let mut family = HashSet::from([warden_of(data)]);
    loop {
        let before = family.len();
        for (pid, process) in &processes {
            if family.contains(&process.parent) {
                family.insert(*pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    family
        .into_iter()
        .map(|pid| (pid, processes[&pid].started.clone()))
        .collect()
}

pub(crate) fn warden_of(data: &Path) -> i32 {
    let scratch = data.join("scratch");
    let found: Vec<_> = processes()
        .into_keys()
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0)
                    .any(|argument| argument == scratch.as_os_str().as_encoded_bytes())
            })
        })
        .collect();
    // The warden's own child has its command line until it executes the agent.
    *found.iter().min().expect("a warden runs")
}

struct Process {
    parent: i32,
    started: String,
}

fn processes() -> HashMap<i32, Process> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let path: PathBuf = entry.unwrap().path();
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            // The name, in brackets, may contain anything.
            let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
            Some((
                pid,
                Process {
                    parent: fields[1].parse().ok()?,
                    started: fields[19].to_owned(),
                },
            ))
        })
        .collect()
}

async fn gone(family: &HashSet<(i32, String)>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left: Vec<_> = processes()
            .into_iter()
            .filter(|(pid, process)| family.contains(&(*pid, process.started.clone())))
            .map(|(pid, _)| pid)
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{left:?} still run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
