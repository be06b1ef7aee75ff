//! Parts of blobs whose transfer broke off, so that the next attempt goes on with them.
//!
//! They lie apart from the blobs, under the digest that the whole will have, and are
//! forgotten after a day.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::layout::{copy, failed};
use crate::images::digest::Digest;
use crate::images::feed::FeedReader;
use crate::ports::registry::{Expected, RegistryError, Stored};

/// After which a part is of no use any more.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const CHUNK_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Partial {
    folder: PathBuf,
}

impl Partial {
    /// Opens the folder, and forgets what is too old.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed();
            if age.is_ok_and(|age| age > LIFETIME) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder })
    }

    /// How many bytes there are.
    pub(super) fn kept_bytes(&self, digest: &Digest) -> Result<u64, RegistryError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(failed("look up", &path, &e)),
        }
    }

    /// Adds the rest, to the end or until it breaks off.
    pub(super) fn store(
        &self,
        kept: u64,
        reader: FeedReader,
        expected: &Expected,
    ) -> Result<Stored, RegistryError> {
        let digest = expected.digest.ok_or_else(|| {
            RegistryError::Unavailable("a part is kept under a digest only".to_owned())
        })?;
        let path = self.path(&digest);
        let cannot = |e: io::Error| failed("write", &path, &e);
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(cannot)?;
        file.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => RegistryError::Busy(digest),
            fs::TryLockError::Error(e) => cannot(e),
        })?;
        let begun = hash(&mut file).map_err(cannot)?;
        if begun.1 != kept {
            return Err(RegistryError::Unavailable(format!(
                "{} bytes of {digest} are kept, and not {kept}",
                begun.1
            )));
        }
        let stored = copy(reader, &mut file, &path, begun, expected);
        if !matches!(stored, Ok(_) | Err(RegistryError::Interrupted(_))) {
            fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
        }
        stored
    }

    /// Gives the whole its place.
    pub(super) fn publish(&self, digest: &Digest, target: &Path) -> Result<(), RegistryError> {
        fs::rename(self.path(digest), target).map_err(|e| failed("store", target, &e))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }
}

/// The hash and the number of a file's bytes; the file stands at its end.
fn hash(file: &mut File) -> io::Result<(Sha256, u64)> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hash, size)),
            read => {
                hash.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}
