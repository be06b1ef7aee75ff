//! What clients see when the relay misbehaves as API Gateway may: messages are lost,
//! repeated, reordered and delayed, and connections are cut, in both directions, between
//! frontend and control plane as well as between control plane and agent. Clients see
//! nothing of it but time.
//!
//! The misbehaviour is drawn from a seed, which is printed: `SOCKERLESS_TEST_SEED=N` draws
//! the same again.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

const MB: usize = 1024 * 1024;

/// On about one connection in two thousand messages; the 50 MB below take about twenty thousand.
const CHAOS: &str = "drop=0.01,repeat=0.05,reorder=0.05,reorder-by=30,delay=10,disconnect=0.0005,forget-disconnect=0.5";

fn seed() -> u64 {
    let seed = std::env::var("SOCKERLESS_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        });
    println!("SOCKERLESS_TEST_SEED={seed}");
    seed
}

fn subject(seed: u64, chaos: &str) -> Subject {
    let policy = format!("seed={seed},{chaos}");
    Subject::start_with(Runtime::Function, &["--chaos".to_owned(), policy])
}

/// Bytes that repeat nowhere near.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[test]
fn fifty_megabytes_through_an_attach_come_back_equal() {
    let seed = seed();
    let subject = subject(seed, CHAOS);
    let sent = noise(seed, 50 * MB);
    let mut client = subject
        .command(&["run", "--rm", "--interactive", "busybox", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A client that ended early is told by what it put out.
            let _ = stdin.write_all(&sent);
            drop(stdin);
        });
        client.wait_with_output().unwrap()
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(output.stdout.len(), sent.len(), "{stderr}");
    assert!(output.stdout == sent, "the bytes differ");
}

#[test]
fn every_run_has_its_own_output_and_exit_code() {
    let subject = subject(seed(), CHAOS);
    let next = AtomicU8::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 40 {
                        break;
                    }
                    let script = format!("echo out {number}; echo err {number} >&2; exit {number}");
                    let seen = subject.try_docker(&["run", "--rm", "busybox", "sh", "-c", &script]);
                    let expected = (
                        Some(number.into()),
                        format!("out {number}\n"),
                        format!("err {number}\n"),
                    );
                    assert_eq!(seen, expected);
                }
            });
        }
    });
    assert_eq!(subject.docker(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn a_detached_container_is_followed_entered_and_stopped() {
    let subject = subject(seed(), CHAOS);
    let script = "trap 'echo bye; exit 9' TERM; i=0; while true; do echo line $i; i=$((i+1)); [ $i = 2000 ] && touch /tmp/all; [ $i -gt 2000 ] && break; done; while true; do sleep 0.05; done";
    let id = subject.docker(&["run", "--detach", "busybox", "sh", "-c", script]);
    let id = id.trim();
    let follower = subject
        .command(&["logs", "--follow", id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let waiter = subject
        .command(&["wait", id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for code in [0, 1, 77] {
        let script =
            format!("while [ ! -e /tmp/all ]; do sleep 0.05; done; echo in {code}; exit {code}");
        let seen = subject.try_docker(&["exec", id, "sh", "-c", &script]);
        assert_eq!(seen, (Some(code), format!("in {code}\n"), String::new()));
    }
    subject.docker(&["stop", id]);
    let told = waiter.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "9\n");
    let lines: String = (0..=2000).map(|n| format!("line {n}\n")).collect();
    let expected = format!("{lines}bye\n");
    let followed = follower.wait_with_output().unwrap();
    assert!(
        followed.stdout == expected.as_bytes(),
        "the followed log differs"
    );
    assert!(subject.docker(&["logs", id]) == expected, "the log differs");
    let state = subject.docker(&["inspect", "--format", "{{.State.ExitCode}}", id]);
    assert_eq!(state, "9\n");
}
