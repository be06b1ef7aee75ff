//! Volumes' data: a folder for each below the host's own.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use sockerless_shared::ids::Namespace;
use tokio::sync::oneshot;

use super::shared::{Shared, lock};
use super::wire::Order;
use crate::ports::function_host::HostError;

/// The part of a volume's folder that containers see, named as Docker names it.
const DATA: &str = "_data";

impl Shared {
    /// The folder of a volume. Its name is one component of a path, as `create` demands.
    fn volume(&self, namespace: &Namespace, name: &str) -> PathBuf {
        self.data_dir
            .join("volumes")
            // A name may be that of another folder, such as `..`, when it stands alone.
            .join(format!("of-{namespace}"))
            .join(name)
    }

    /// Makes a volume's folder; where containers' part of it is.
    pub(super) fn make_volume(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<String, HostError> {
        let path = self.volume(namespace, name).join(DATA);
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path);
        made.map_err(|error| failed("make", &path, &error))?;
        match path.into_os_string().into_string() {
            Ok(path) => Ok(path),
            Err(path) => Err(HostError::Failed(format!(
                "the path {} is not UTF-8; choose another --data-dir",
                Path::new(&path).display()
            ))),
        }
    }

    /// Removes a volume's folder.
    pub(super) async fn remove_volume(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<(), HostError> {
        self.remove_tree(self.volume(namespace, name)).await
    }

    /// How much is in a volume.
    pub(super) async fn volume_size(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<u64, HostError> {
        size(self.volume(namespace, name).join(DATA)).await
    }

    /// Removes a folder that sandboxes wrote to; the warden may do what this process may not.
    pub(super) async fn remove_tree(&self, path: PathBuf) -> Result<(), HostError> {
        if !path.exists() {
            return Ok(());
        }
        let (sender, removed) = oneshot::channel();
        let ticket = {
            let mut removals = lock(&self.removals);
            let ticket = removals.keys().max().map_or(0, |last| last + 1);
            removals.insert(ticket, sender);
            ticket
        };
        self.order(
            Order::RemoveTree {
                ticket,
                path: path.clone(),
            },
            Vec::new(),
        );
        let outcome = removed
            .await
            .unwrap_or_else(|_| Some("the sandbox helper ended".to_owned()));
        match outcome {
            None => Ok(()),
            Some(error) => Err(HostError::Failed(format!(
                "remove {}: {error}",
                path.display()
            ))),
        }
    }
}

/// The bytes of all files below a folder; nothing where there is none.
pub(super) async fn size(folder: PathBuf) -> Result<u64, HostError> {
    let walk = tokio::task::spawn_blocking(move || {
        tree_size(&folder).map_err(|error| failed("look at", &folder, &error))
    });
    walk.await
        .map_err(|error| HostError::Failed(format!("look at files: {error}")))?
}

/// A folder that is to be looked at: a path below one that is open, since a container may
/// make folders in folders beyond what a path can be long.
struct Below {
    open: Arc<OwnedFd>,
    path: PathBuf,
}

/// How long a path may be before its folder is opened for those below it, in bytes.
const LONG_PATH: usize = 2048;

/// As Docker counts: the lengths of files, each once, and nothing for folders. What belongs
/// to users that only containers know, and is closed to all others, is not counted.
fn tree_size(folder: &Path) -> io::Result<u64> {
    let Some(top) = open_folder(rustix::fs::CWD, folder)? else {
        return Ok(0);
    };
    let mut total = 0;
    let mut seen = HashSet::new();
    let mut pending = vec![Below {
        open: Arc::new(top),
        path: PathBuf::from("."),
    }];
    while let Some(Below { open, path }) = pending.pop() {
        let Some(folder) = open_folder(&open, &path)? else {
            continue;
        };
        let mut inner = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                // It was removed in this moment.
                Err(Errno::NOENT) => continue,
                found => found?,
            };
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                inner.push(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
            } else if seen.insert((found.st_dev, found.st_ino)) {
                total += u64::try_from(found.st_size).unwrap_or(0);
            }
        }
        let (open, path) = if path.as_os_str().len() > LONG_PATH {
            (Arc::new(folder), PathBuf::new())
        } else {
            (open, path)
        };
        pending.extend(inner.into_iter().map(|name| Below {
            open: Arc::clone(&open),
            path: path.join(name),
        }));
    }
    Ok(total)
}

/// Opens a folder; `None` where there is none any more, or none that this process may look into.
fn open_folder(below: impl AsFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(below, path, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> HostError {
    HostError::Failed(format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;

    #[test]
    fn files_count_once_and_folders_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), b"12345").unwrap();
        fs::hard_link(dir.path().join("a/b/file"), dir.path().join("same")).unwrap();
        fs::write(dir.path().join("other"), b"678").unwrap();
        assert_eq!(tree_size(dir.path()).unwrap(), 8);
        let nowhere = dir.path().join("nowhere");
        assert_eq!(tree_size(&nowhere).unwrap(), 0);
    }

    #[test]
    fn folders_may_lie_deeper_than_a_path_can_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = open_folder(rustix::fs::CWD, dir.path()).unwrap().unwrap();
        let name = "deep".repeat(20);
        for _ in 0..200 {
            rustix::fs::mkdirat(&folder, name.as_str(), Mode::RWXU).unwrap();
            folder = open_folder(&folder, Path::new(&name)).unwrap().unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = openat(&folder, "file", flags, Mode::RWXU).unwrap();
        rustix::io::write(&file, b"12345").unwrap();
        assert_eq!(tree_size(dir.path()).unwrap(), 5);
    }
}
