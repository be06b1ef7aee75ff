//! The run's output, from the first byte, for any number of readers.
//!
//! Every record goes into a nameless file; each reader reads from it at its own
//! position, so that a slow one holds up nobody and needs no memory. The file is
//! bounded ([`Spool::create`]). When it is full, the oldest records are
//! forgotten; whoever reads the log from further back is told so by one line.
//! Only what a client that is *attached* has not read yet is never forgotten:
//! then the process has to wait, as it does under Docker when an attached client
//! does not read.

pub(crate) mod pack;
mod ring;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sockerless_shared::logs::Record;
use sockerless_shared::logs::spool::{HEADER_BYTES, MAX_RECORD_BYTES, decode, encode};
use sockerless_shared::protocol::stdcopy::OutputStream;
use sockerless_shared::timestamp::Timestamp;
use tokio::sync::Notify;

pub(crate) use ring::nameless_file;

use ring::Ring;

/// Largest spool on a disk, in bytes.
const DISK_CAPACITY: u64 = 256 * 1024 * 1024;

/// Largest spool on a file system that lives in memory, in bytes.
const MEMORY_CAPACITY: u64 = 128 * 1024 * 1024;

/// How much one read takes at most, in bytes: always room for a whole record.
const READ_BYTES: usize = 2 * (HEADER_BYTES + MAX_RECORD_BYTES);

/// The spool of one run. Clones are the same spool.
#[derive(Debug, Clone)]
pub(crate) struct Spool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    closed: bool,
    /// Where each attached client reads, by its number.
    attached: BTreeMap<u64, u64>,
    next_reader: u64,
}

/// Reads a spool from one position on.
#[derive(Debug)]
pub(crate) struct Reader {
    spool: Spool,
    position: u64,
    /// Its number among the attached clients, if it is one.
    attached: Option<u64>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// With the first byte of the run.
    Start,
    /// With what comes next.
    Now,
}

/// What a reader found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Records, at least one.
    Records(Vec<Record>),
    /// Nothing more at the moment.
    Later,
    /// Nothing more at all.
    End,
}

impl Spool {
    /// An empty spool in `folder`, bounded to 256 MiB (128 MiB where the file
    /// system lives in memory) and to half of what is free there now.
    ///
    /// # Errors
    /// When no file can be made there nor in memory.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        Ok(Self::in_file(nameless_file(folder)?, capacity_in(folder)))
    }

    fn in_file(file: File, capacity: u64) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                ring: Ring::new(file, capacity),
                closed: false,
                attached: BTreeMap::new(),
                next_reader: 0,
            }),
            changed: Notify::new(),
        }))
    }

    /// Appends a piece of output. Waits only while the spool is full of what an
    /// attached client has not read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) async fn append(
        &self,
        stream: OutputStream,
        time: Timestamp,
        data: &[u8],
    ) -> io::Result<()> {
        for piece in data.chunks(MAX_RECORD_BYTES) {
            let mut record = Vec::with_capacity(HEADER_BYTES + piece.len());
            encode(&mut record, stream, time, piece);
            loop {
                let changed = self.0.changed.notified();
                if self.state().try_append(&record)? {
                    break;
                }
                changed.await;
            }
            self.0.changed.notify_waiters();
        }
        Ok(())
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.0.changed.notify_waiters();
    }

    /// A reader of the log. What it has not read may be forgotten.
    pub(crate) fn read_log(&self) -> Reader {
        Reader {
            spool: self.clone(),
            position: 0,
            attached: None,
        }
    }

    /// A reader for an attached client: nothing is forgotten that it has not read.
    pub(crate) fn attach(&self, from: From) -> Reader {
        let mut state = self.state();
        let position = match from {
            // What is forgotten already is reported by the first read.
            From::Start => 0,
            From::Now => state.ring.end(),
        };
        let number = state.next_reader;
        state.next_reader += 1;
        state.attached.insert(number, position);
        Reader {
            spool: self.clone(),
            position,
            attached: Some(number),
        }
    }

    /// Bytes held, headers included.
    pub(crate) fn size(&self) -> u64 {
        let state = self.state();
        state.ring.end() - state.ring.start()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the record could be appended; not if an attached client is in the way.
    fn try_append(&mut self, record: &[u8]) -> io::Result<bool> {
        let length = record.len() as u64;
        loop {
            let lacking = self.ring.lacking(length);
            if lacking > 0 && !self.forget(lacking)? {
                return Ok(false);
            }
            if self.ring.append(record)? {
                return Ok(true);
            }
        }
    }

    /// Forgets at least `lacking` bytes, in whole records, and some more, so that
    /// it is not done for every record. Whether it could.
    fn forget(&mut self, lacking: u64) -> io::Result<bool> {
        let unread = self.attached.values().copied().min().unwrap_or(u64::MAX);
        let wanted = self.ring.start() + lacking;
        let generous = wanted + self.ring.capacity() / 16;
        let mut position = self.ring.start();
        'all: while position < generous {
            let bytes = self.ring.read(position, READ_BYTES)?;
            let mut at = 0;
            while let Some((_, used)) = decode(&bytes[at..]).map_err(io::Error::other)? {
                if position >= generous || position + used as u64 > unread {
                    break 'all;
                }
                at += used;
                position += used as u64;
            }
            if at == 0 {
                break;
            }
        }
        self.ring.forget_before(position);
        Ok(position >= wanted)
    }
}

impl Reader {
    /// The next records, waiting for them; `None` at the end of the run.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<Record>>> {
        let spool = self.spool.clone();
        loop {
            let changed = spool.0.changed.notified();
            match self.poll()? {
                Next::Records(records) => return Ok(Some(records)),
                Next::End => return Ok(None),
                Next::Later => changed.await,
            }
        }
    }

    /// The next records, if there are any.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn poll(&mut self) -> io::Result<Next> {
        let mut state = self.spool.state();
        let mut records = Vec::new();
        let forgotten = state.ring.start().saturating_sub(self.position);
        self.position = self.position.max(state.ring.start());
        let bytes = state.ring.read(self.position, READ_BYTES)?;
        let mut at = 0;
        while let Some((record, used)) = decode(&bytes[at..]).map_err(io::Error::other)? {
            if forgotten > 0 && records.is_empty() {
                records.push(notice(forgotten, record.time));
            }
            records.push(record);
            at += used;
        }
        self.position += at as u64;
        if let Some(number) = self.attached {
            state.attached.insert(number, self.position);
        }
        let closed = state.closed;
        drop(state);
        if records.is_empty() {
            return Ok(if closed { Next::End } else { Next::Later });
        }
        if self.attached.is_some() {
            // A writer may wait for the space.
            self.spool.0.changed.notify_waiters();
        }
        Ok(Next::Records(records))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(number) = self.attached {
            self.spool.state().attached.remove(&number);
            self.spool.0.changed.notify_waiters();
        }
    }
}

fn capacity_in(folder: &Path) -> u64 {
    let free = nix::sys::statvfs::statvfs(folder).map_or(DISK_CAPACITY, |stat| {
        stat.blocks_available().saturating_mul(stat.fragment_size())
    });
    let in_memory = nix::sys::statfs::statfs(folder)
        .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    let most = if in_memory {
        MEMORY_CAPACITY
    } else {
        DISK_CAPACITY
    };
    most.min(free / 2)
}

/// What stands in the log for what was forgotten.
fn notice(bytes: u64, time: Timestamp) -> Record {
    Record {
        stream: OutputStream::Stderr,
        time,
        data: format!(
            "sockerless: {bytes} bytes of older output are not kept: the log of a run is bounded by the space in /tmp\n"
        )
        .into_bytes(),
    }
}

#[cfg(test)]
mod tests;
