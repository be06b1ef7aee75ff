//! A file of bounded size that holds the end of an endless sequence of bytes.
//! Positions count from the beginning of the sequence and never wrap; where
//! they lie in the file does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};

/// Space taken from the start, so that a container that fills `/tmp` can still
/// be heard, in bytes.
const RESERVED: u64 = 1024 * 1024;

/// The file and how much of the sequence it may hold.
#[derive(Debug)]
pub(crate) struct Ring {
    file: File,
    capacity: u64,
    /// Position of the first byte still held.
    start: u64,
    /// Position after the last byte.
    end: u64,
}

impl Ring {
    /// A ring in `file` of at most `capacity` bytes, at least [`RESERVED`].
    pub(crate) fn new(file: File, capacity: u64) -> Self {
        let reserved = i64::try_from(RESERVED).unwrap_or(0);
        // Where it is not possible, the space has to be found while writing.
        let _ = fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, reserved);
        Self {
            file,
            capacity: capacity.max(RESERVED),
            start: 0,
            end: 0,
        }
    }

    /// Position of the first byte still held.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// Position after the last byte.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes must be forgotten before `more` can be written.
    pub(crate) const fn lacking(&self, more: u64) -> u64 {
        (self.end - self.start + more).saturating_sub(self.capacity)
    }

    /// How much it may hold.
    pub(crate) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Forgets everything before `position`.
    pub(crate) fn forget_before(&mut self, position: u64) {
        self.start = position.clamp(self.start, self.end);
    }

    /// Appends bytes; [`Ring::lacking`] must be 0 for them. When the disk is
    /// full, the ring shrinks to what it has and `Ok(false)` is returned:
    /// something has to be forgotten first.
    ///
    /// # Errors
    /// When the file cannot be written for another reason.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let full = |error: &io::Error| {
            matches!(
                error.raw_os_error(),
                Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
            )
        };
        let written = self
            .parts(self.end, bytes.len())
            .try_for_each(|(at, range)| self.file.write_all_at(&bytes[range], at));
        match written {
            Ok(()) => {
                self.end += bytes.len() as u64;
                Ok(true)
            }
            // Only while it still grows: then every position equals its place.
            Err(error) if full(&error) && self.end < self.capacity => {
                self.capacity = self.end.max(RESERVED);
                if self.lacking(bytes.len() as u64) == 0 {
                    return Err(error);
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads up to `limit` bytes from `position`, which must be held.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn read(&self, position: u64, limit: usize) -> io::Result<Vec<u8>> {
        let held = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; held.min(limit)];
        for (at, range) in self.parts(position, bytes.len()) {
            self.file.read_exact_at(&mut bytes[range], at)?;
        }
        Ok(bytes)
    }

    /// Where `length` bytes from `position` lie: at most two pieces, each with
    /// its place in the file.
    fn parts(
        &self,
        position: u64,
        length: usize,
    ) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> + use<> {
        let at = position % self.capacity;
        let room = usize::try_from(self.capacity - at).unwrap_or(usize::MAX);
        let first = length.min(room);
        [(at, 0..first), (0, first..length)]
            .into_iter()
            .filter(|(_, range)| !range.is_empty())
    }
}

/// A file in `folder` that has no name, so that it vanishes with the agent and
/// the container never sees it; in memory where the folder cannot be written.
///
/// # Errors
/// When neither is possible.
pub(crate) fn nameless_file(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
        .clone()
        .custom_flags(libc::O_TMPFILE)
        .open(folder)
        .or_else(|_| {
            // A file system without O_TMPFILE.
            let path = folder.join(format!(".sockerless-{}", std::process::id()));
            let file = options.clone().create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        })
        .or_else(|_: io::Error| {
            let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
            Ok(nix::sys::memfd::memfd_create(c"spool", flags)?.into())
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_the_end_of_what_was_written(pieces in prop::collection::vec((1..700_000usize, any::<u8>()), 1..12)) {
            let mut ring = Ring::new(nameless_file(&std::env::temp_dir()).unwrap(), 1);
            let mut all = Vec::new();
            for (length, byte) in pieces {
                let bytes: Vec<u8> = (0..length).map(|i| byte.wrapping_add((i % 251) as u8)).collect();
                let lacking = ring.lacking(length as u64);
                ring.forget_before(ring.start() + lacking);
                prop_assert!(ring.append(&bytes).unwrap());
                all.extend(bytes);
                prop_assert_eq!(ring.end(), all.len() as u64);
                let held = ring.read(ring.start(), usize::MAX).unwrap();
                let start = usize::try_from(ring.start()).unwrap();
                prop_assert!(held == all[start..]);
            }
        }
    }
}
