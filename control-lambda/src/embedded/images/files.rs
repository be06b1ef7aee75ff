//! Folders for what is not finished yet, and for what is to go.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// A folder whose content means nothing after a restart.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    next: AtomicU64,
}

impl Scratch {
    /// Opens the folder, empty.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let scratch = Self {
            path,
            next: AtomicU64::new(0),
        };
        for entry in fs::read_dir(&scratch.path)? {
            remove_tree(&entry?.path(), &scratch)?;
        }
        Ok(scratch)
    }

    /// A name that is not in use.
    pub(super) fn fresh(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.path.join(format!("{}-{number}", std::process::id()))
    }

    /// Another one that is not in use, when a tree is taken apart.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A path that is removed when this is dropped, unless it was kept.
#[derive(Debug)]
pub(super) struct Doomed<'a> {
    path: Option<PathBuf>,
    scratch: &'a Scratch,
}

impl<'a> Doomed<'a> {
    pub(super) fn new(scratch: &'a Scratch) -> Self {
        Self {
            path: Some(scratch.fresh()),
            scratch,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(self.scratch.path())
    }

    pub(super) fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for Doomed<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = remove_tree(&path, self.scratch)
        {
            tracing::warn!(%error, path = %path.display(), "temporary files could not be removed");
        }
    }
}

/// Removes a file or a folder with all that is in it, however deep: folders
/// within are moved up before they are emptied, so that neither the stack nor
/// the number of open files grows with the depth. One that is not there is no error.
pub(super) fn remove_tree(path: &Path, scratch: &Scratch) -> io::Result<()> {
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        match rustix::fs::unlinkat(CWD, &path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
        let directory = open_directory(CWD, &path)?;
        empty(directory.as_fd(), scratch, &mut waiting)?;
        drop(directory);
        rustix::fs::unlinkat(CWD, &path, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

fn open_directory(at: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(at, path, flags, Mode::empty()) {
        Ok(directory) => {
            // Root needs no bits to do as it likes; others do.
            let _ = rustix::fs::fchmod(&directory, Mode::RWXU);
            Ok(directory)
        }
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(at, path, Mode::RWXU, AtFlags::empty())?;
            Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
        }
        Err(e) => Err(e.into()),
    }
}

fn empty(
    directory: BorrowedFd<'_>,
    scratch: &Scratch,
    waiting: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let mut entries = rustix::fs::Dir::read_from(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) => continue,
                // A file system that does not say the type with the name.
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let moved = scratch.fresh();
        // Moving a folder changes its `..`, for which its own write bit is needed.
        let child = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let _ = rustix::fs::chmodat(directory, child, Mode::RWXU, AtFlags::empty());
        rustix::fs::renameat(directory, name, CWD, &moved)?;
        waiting.push(moved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_any_depth_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(folder.path().join("scratch")).unwrap();
        let top = folder.path().join("deep");
        fs::create_dir(&top).unwrap();
        // Deeper than there may be open files, and than a path may be long.
        let mut at = open_directory(CWD, &top).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::openat(&at, "f", OFlags::CREATE, Mode::RUSR).unwrap();
            at = open_directory(at.as_fd(), Path::new("d")).unwrap();
        }
        remove_tree(&top, &scratch).unwrap();
        assert!(!top.exists());
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        remove_tree(&top, &scratch).unwrap();
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(folder.path().join("scratch")).unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("link")).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        remove_tree(&tree, &scratch).unwrap();
        remove_tree(&link, &scratch).unwrap();
        assert!(kept.join("file").exists());
    }
}
