//! [`SqliteTable`]: the contract, and what it promises beyond it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use sockerless_control::embedded::table::{OpenTableError, SqliteTable};
use sockerless_control::ports::Table;
use sockerless_control::ports::table::{Condition, Key, Write};
use sockerless_shared::timestamp::Timestamp;

mod contract {
    use super::*;

    async fn table() -> Arc<dyn Table> {
        Arc::new(SqliteTable::in_memory().unwrap())
    }

    crate::table::table_contract!(table());
}

/// The concurrent cases once more with a file below.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conflicts_are_found_in_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let table: Arc<dyn Table> = Arc::new(SqliteTable::open(&folder.path().join("t")).unwrap());
    crate::table::of_concurrent_claims_one_wins(Arc::clone(&table)).await;
    crate::table::concurrent_counters_lose_nothing(table).await;
}

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn put(sort: String, body: &str) -> Write {
    Write::Put {
        key: Key::new("p", sort),
        body: Bytes::from(body.to_owned()),
        expires: None,
        condition: Condition::Always,
    }
}

#[tokio::test]
async fn a_second_opening_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    let first = SqliteTable::open(&path).unwrap();
    let second = SqliteTable::open(&path).unwrap_err();
    assert!(matches!(second, OpenTableError::InUse(_)), "{second:?}");
    assert!(
        second
            .to_string()
            .contains("another process has it open; stop that one")
    );
    // Another process is told the same.
    let child = child("opener", &path).wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&child.stdout).contains("refused: store"));
    drop(first);
    SqliteTable::open(&path).unwrap();
}

#[test]
fn the_file_is_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    let _table = SqliteTable::open(&path).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn files_of_others_and_of_later_versions_are_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);

    std::fs::write(
        path("text"),
        "no database at all, but longer than a header is".repeat(9),
    )
    .unwrap();
    let error = SqliteTable::open(&path("text")).unwrap_err();
    assert!(matches!(error, OpenTableError::NotOurs(_)), "{error:?}");

    let other = rusqlite::Connection::open(path("other")).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    let error = SqliteTable::open(&path("other")).unwrap_err();
    assert!(matches!(error, OpenTableError::NotOurs(_)), "{error:?}");

    drop(SqliteTable::open(&path("later")).unwrap());
    let later = rusqlite::Connection::open(path("later")).unwrap();
    later.pragma_update(None, "user_version", 2).unwrap();
    drop(later);
    let error = SqliteTable::open(&path("later")).unwrap_err();
    assert!(
        matches!(error, OpenTableError::TooNew { found: 2, .. }),
        "{error:?}"
    );

    let error = SqliteTable::open(&path("no/such/folder")).unwrap_err();
    assert!(matches!(error, OpenTableError::File { .. }), "{error:?}");
}

/// A child writes as fast as it can and says on its stdout what was answered;
/// it is killed in the middle of it, and all it said is there.
#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    let mut next = 0u32;
    for round in 1..=4 {
        let mut writer = child("writer", &path);
        let mut said = None;
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        for line in lines.by_ref() {
            if let Some(n) = line.unwrap().strip_prefix("wrote ") {
                said = Some(n.parse().unwrap());
            }
            if said.is_some_and(|n: u32| n >= next + 200 * round) {
                break;
            }
        }
        writer.kill().unwrap();
        // What it said between the decision to kill it and its death counts too.
        for line in lines.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("wrote ") {
                said = Some(n.parse().unwrap_or(said.unwrap()));
            }
        }
        writer.wait().unwrap();

        let table = SqliteTable::open(&path).unwrap();
        let items = table.query("p", "", None, usize::MAX, NOW).await.unwrap();
        let said = said.unwrap();
        assert!(
            items.len() as u32 > said,
            "round {round}: said {said}, {} there",
            items.len()
        );
        for (n, item) in items.iter().enumerate() {
            assert_eq!(
                (item.key.sort.as_str(), &item.body[..]),
                (&*sort(n as u32), &*body(n as u32))
            );
        }
        // Written in the same transaction as the last of them.
        let counter = table
            .get(&Key::new("counter", "c"), NOW)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(counter.version as usize, items.len());
        next = items.len() as u32;
    }
}

fn sort(n: u32) -> String {
    format!("{n:010}")
}

fn body(n: u32) -> Vec<u8> {
    format!("\"{}\"", n.to_string().repeat(n as usize % 700)).into_bytes()
}

const CHILD_ROLE: &str = "CONTRACT_CHILD_ROLE";
const CHILD_PATH: &str = "CONTRACT_CHILD_PATH";

fn child(role: &str, path: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "embedded::table::child_process",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_ROLE, role)
        .env(CHILD_PATH, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "the other process of the tests above, which start it"]
async fn child_process() {
    let (Ok(role), Some(path)) = (std::env::var(CHILD_ROLE), std::env::var_os(CHILD_PATH)) else {
        return;
    };
    let table = match SqliteTable::open(Path::new(&path)) {
        Ok(table) => table,
        Err(error) => {
            println!("refused: {error}");
            return;
        }
    };
    if role == "writer" {
        let already = table
            .query("p", "", None, usize::MAX, NOW)
            .await
            .unwrap()
            .len();
        for n in already as u32.. {
            let item = put(sort(n), std::str::from_utf8(&body(n)).unwrap());
            let counter = Write::Put {
                key: Key::new("counter", "c"),
                body: Bytes::from_static(b"{}"),
                expires: None,
                condition: Condition::Always,
            };
            table.transact(vec![item, counter], NOW).await.unwrap();
            println!("wrote {n}");
        }
    }
}
