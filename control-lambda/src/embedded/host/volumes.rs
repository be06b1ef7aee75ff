//! Volumes' data: a folder for each below the host's own.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

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
        let mut seen = HashSet::new();
        tree_size(&folder, &mut seen).map_err(|error| failed("look at", &folder, &error))
    });
    walk.await
        .map_err(|error| HostError::Failed(format!("look at files: {error}")))?
}

/// As Docker counts: the lengths of files, each once, and nothing for folders. What belongs
/// to users that only containers know, and is closed to all others, is not counted.
fn tree_size(folder: &Path, seen: &mut HashSet<(u64, u64)>) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(0);
        }
        entries => entries?,
    };
    let mut total = 0;
    for entry in entries {
        let entry = entry?;
        let found = match entry.metadata() {
            // It was removed in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        if found.is_dir() {
            total += tree_size(&entry.path(), seen)?;
        } else if seen.insert((found.dev(), found.ino())) {
            total += found.len();
        }
    }
    Ok(total)
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
        assert_eq!(tree_size(dir.path(), &mut HashSet::new()).unwrap(), 8);
        let nowhere = dir.path().join("nowhere");
        assert_eq!(tree_size(&nowhere, &mut HashSet::new()).unwrap(), 0);
    }
}
