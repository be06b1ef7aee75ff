//! Emptying `/tmp` between two containers of one environment.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder that is emptied, and what was there before the first container: on
/// Lambda nothing, on somebody's own machine what is theirs.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    folder: PathBuf,
    spared: HashSet<OsString>,
}

impl Scratch {
    /// Notes what is in `folder` now.
    pub(crate) fn note(folder: &Path) -> Self {
        let spared = entries(folder)
            .unwrap_or_default()
            .iter()
            .filter_map(|path| path.file_name().map(ToOwned::to_owned))
            .collect();
        Self {
            folder: folder.to_owned(),
            spared,
        }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether something at its top was there before.
    pub(crate) fn spares(&self, name: &[u8]) -> bool {
        self.spared.contains(OsStr::from_bytes(name))
    }

    /// Removes everything else.
    ///
    /// # Errors
    /// The first entry that could not be removed; all others are.
    pub(crate) fn empty(&self) -> io::Result<()> {
        empty(&self.folder, &self.spared)
    }
}

/// Removes everything in `folder` but `spared`, whatever a container left there:
/// folders without permissions, links, trees of any depth.
///
/// A tree is taken apart from above: sub-folders are moved to the top before
/// their parent is removed, so that neither the depth of the tree nor the length
/// of its paths matters.
fn empty(folder: &Path, spared: &HashSet<OsString>) -> io::Result<()> {
    let mut first_error = Ok(());
    let mut next_name = 0u64;
    let mut waiting: Vec<PathBuf> = Vec::new();
    let mut fail = |path: &Path, error: io::Error| {
        if first_error.is_ok() {
            let text = format!("{}: {error}", path.display());
            first_error = Err(io::Error::new(error.kind(), text));
        }
    };
    match entries(folder) {
        Ok(found) => waiting.extend(
            found
                .into_iter()
                .filter(|path| path.file_name().is_some_and(|name| !spared.contains(name))),
        ),
        Err(error) => fail(folder, error),
    }
    while let Some(path) = waiting.pop() {
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        if !is_folder {
            if let Err(error) = fs::remove_file(&path) {
                fail(&path, error);
            }
            continue;
        }
        // Without these, its entries can neither be listed nor moved.
        let _ = fs::set_permissions(&path, Permissions::from_mode(0o700));
        for entry in entries(&path).unwrap_or_default() {
            if !fs::symlink_metadata(&entry).is_ok_and(|meta| meta.is_dir()) {
                if let Err(error) = fs::remove_file(&entry) {
                    fail(&entry, error);
                }
                continue;
            }
            let _ = fs::set_permissions(&entry, Permissions::from_mode(0o700));
            let moved = loop {
                next_name += 1;
                let name = folder.join(format!(".sockerless-{next_name}"));
                if fs::symlink_metadata(&name).is_err() {
                    break name;
                }
            };
            match fs::rename(&entry, &moved) {
                Ok(()) => waiting.push(moved),
                Err(error) => fail(&entry, error),
            }
        }
        if let Err(error) = fs::remove_dir(&path) {
            fail(&path, error);
        }
    }
    first_error
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("sockerless-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn everything_goes_and_nothing_outside() {
        let (inside, outside) = (folder("inside"), folder("outside"));
        fs::write(outside.join("kept"), "x").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        symlink("nowhere", inside.join("dangling")).unwrap();
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::write(inside.join("a/b/.hidden"), "x").unwrap();
        fs::write(inside.join(".sockerless-1"), "a name that is taken").unwrap();
        fs::set_permissions(inside.join("a/b"), Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(inside.join("a"), Permissions::from_mode(0o0)).unwrap();
        empty(&inside, &HashSet::new()).unwrap();
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
        fs::remove_dir(inside).unwrap();
        fs::remove_dir_all(outside).unwrap();
    }

    #[test]
    fn depth_does_not_matter() {
        let top = folder("deep");
        // Built from the inside out: paths this long cannot be named.
        let name = "x".repeat(200);
        let (mut tree, other) = (top.join("tree"), top.join("other"));
        fs::create_dir(&tree).unwrap();
        for _ in 0..300 {
            fs::create_dir(&other).unwrap();
            fs::rename(&tree, other.join(&name)).unwrap();
            fs::rename(&other, &tree).unwrap();
        }
        empty(&top, &HashSet::new()).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        tree.clear();
        fs::remove_dir(top).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(Scratch::note(Path::new("/nonexistent")).empty().is_err());
    }

    #[test]
    fn what_was_there_before_stays() {
        let folder = folder("spared");
        fs::create_dir(folder.join("mine")).unwrap();
        fs::write(folder.join("mine/file"), "x").unwrap();
        let scratch = Scratch::note(&folder);
        fs::write(folder.join("theirs"), "x").unwrap();
        scratch.empty().unwrap();
        assert!(folder.join("mine/file").exists());
        assert!(!folder.join("theirs").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
