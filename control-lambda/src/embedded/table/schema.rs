//! Opening the file: the lock, the settings, the schema and its version.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use thiserror::Error;

/// The schema's version, stored in the file. One that is earlier would be
/// brought up to it here, in the transaction that reads it.
const VERSION: i64 = 1;

/// Marks the file as ours in SQLite's header: "skls".
const APPLICATION: i64 = 0x736b_6c73;

/// Pages of 4 KiB in the write-ahead log after which it is worked into the file.
/// Only that waits for the disk, so it is done seldom.
const CHECKPOINT_PAGES: u32 = 4096;

/// Prepared statements kept; there are fewer.
const STATEMENTS: usize = 16;

/// Items have a row id of their own because bodies are larger than what a
/// table clustered on its key reads well.
const SCHEMA: &str = "
    CREATE TABLE items (
        id INTEGER PRIMARY KEY,
        partition BLOB NOT NULL,
        sort BLOB NOT NULL,
        version INTEGER NOT NULL,
        expires INTEGER,
        body BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX items_by_key ON items (partition, sort);
    CREATE INDEX items_by_expiry ON items (expires) WHERE expires IS NOT NULL;
";

/// Why a table could not be opened.
#[derive(Debug, Error)]
pub enum OpenTableError {
    /// Another process has it.
    #[error(
        "store {0}: another process has it open; stop that one first or choose another data folder"
    )]
    InUse(PathBuf),
    /// The file cannot be made or opened.
    #[error("store {path}: cannot open the file: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else's file.
    #[error("store {0}: this is not a sockerless store; choose another data folder")]
    NotOurs(PathBuf),
    /// From a later version of this program.
    #[error(
        "store {path}: its format is version {found}, this program knows {VERSION}; use a newer sockerless or another data folder"
    )]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// The version found.
        found: i64,
    },
    /// SQLite failed.
    #[error("store {path}: cannot set up: {source}")]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Opens or makes the file.
pub(super) fn open(path: &Path) -> Result<Connection, OpenTableError> {
    make_file(path).map_err(|source| OpenTableError::File {
        path: path.to_owned(),
        source,
    })?;
    Connection::open(path)
        .and_then(|mut connection| {
            configure(&connection)?;
            let marks = prepare(&mut connection)?;
            Ok((connection, marks))
        })
        .map_err(|source| classify(path, source))
        .and_then(|(connection, marks)| marks.check(path).map(|()| connection))
}

/// Makes the file, rather than let SQLite do it, for its mode: it holds
/// secrets. SQLite gives the write-ahead log the same mode.
///
/// A file that exists is not even opened: SQLite locks it with POSIX locks, of
/// which a process loses all it has on a file as soon as it closes any
/// descriptor of that file.
fn make_file(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a table without a file.
pub(super) fn open_in_memory() -> Result<Connection, OpenTableError> {
    Connection::open_in_memory()
        .and_then(|mut connection| {
            configure(&connection)?;
            prepare(&mut connection)?;
            Ok(connection)
        })
        .map_err(|source| classify(Path::new(":memory:"), source))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Whoever holds the lock holds it for as long as it lives.
    connection.busy_timeout(Duration::ZERO)?;
    // Exclusive before the first access: the index of the write-ahead log is
    // then in this process's memory, and the lock is held until it ends.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// Whose file it is and of which version.
struct Marks {
    application: i64,
    version: i64,
}

impl Marks {
    fn check(&self, path: &Path) -> Result<(), OpenTableError> {
        if self.application != APPLICATION {
            return Err(OpenTableError::NotOurs(path.to_owned()));
        }
        if self.version != VERSION {
            return Err(OpenTableError::TooNew {
                path: path.to_owned(),
                found: self.version,
            });
        }
        Ok(())
    }
}

/// Makes the schema in a file that has none. Takes the lock.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Marks> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get(0));
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 && number("user_version")? == 0i64 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    let marks = Marks {
        application: number("application_id")?,
        version: number("user_version")?,
    };
    transaction.commit()?;
    Ok(marks)
}

fn classify(path: &Path, source: rusqlite::Error) -> OpenTableError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenTableError::InUse(path),
        Some(ErrorCode::NotADatabase) => OpenTableError::NotOurs(path),
        _ => OpenTableError::Sqlite { path, source },
    }
}
