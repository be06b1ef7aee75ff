//! Places in a container's root to mount on, made where they are missing.
//!
//! What is in the root comes from an image, or from an earlier run of the container:
//! a symbolic link in it may point anywhere. Every path is therefore resolved by the
//! kernel with the container's root as its root, and used by descriptor alone. Nothing
//! of the container runs meanwhile.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat};
use rustix::io::Errno;

use super::{During, SetupError};

/// A container's root.
pub(super) struct Root(OwnedFd);

/// What is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder.
    Folder,
    /// Something that is no folder.
    File,
}

/// Something in the root, however it was found.
pub(super) struct Place(OwnedFd);

impl Root {
    /// The root that stands at this path.
    pub(super) fn open(path: &Path) -> Result<Self, SetupError> {
        rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during(|| format!("open {}", path.display()))
        .map(Self)
    }

    /// What is at this path, if anything is.
    pub(super) fn find(&self, path: &str) -> Result<Option<Place>, SetupError> {
        match self.resolve(Path::new(path)) {
            Ok(fd) => Ok(Some(Place(fd))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).during(|| format!("look at {path} in the container")),
        }
    }

    /// What is at this path, made if it is missing, with the folders on the way to it.
    pub(super) fn make(&self, path: &str, kind: Kind) -> Result<Place, SetupError> {
        let during = || format!("make {path} in the container");
        let parts: Vec<_> = Path::new(path)
            .components()
            .filter_map(|component| match component {
                Component::Normal(part) => Some(part),
                // The root's parent is the root.
                Component::ParentDir
                | Component::CurDir
                | Component::RootDir
                | Component::Prefix(_) => None,
            })
            .collect();
        let mut so_far = PathBuf::from("/");
        let mut here = self.resolve(&so_far).during(during)?;
        for (index, part) in parts.iter().enumerate() {
            so_far.push(part);
            let last = index + 1 == parts.len();
            here = match self.resolve(&so_far) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    if last && kind == Kind::File {
                        let flags =
                            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                        openat(&here, *part, flags, Mode::from_raw_mode(0o644)).during(during)?;
                    } else {
                        mkdirat(&here, *part, Mode::from_raw_mode(0o755)).during(during)?;
                    }
                    self.resolve(&so_far).during(during)?
                }
                Err(error) => return Err(error).during(during),
            };
        }
        Ok(Place(here))
    }

    fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(
                &self.0,
                path,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                how,
            ) {
                // The kernel could not be sure of `..`, because something was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

impl Place {
    /// A path for calls that take no descriptor. Good for as long as this lives, and
    /// where `/proc` shows this process.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Whether it is a folder.
    pub(super) fn is_folder(&self) -> Result<bool, SetupError> {
        let kind = rustix::fs::FileType::from_raw_mode(self.mode()?);
        Ok(kind == rustix::fs::FileType::Directory)
    }

    /// Type and permissions.
    pub(super) fn mode(&self) -> Result<u32, SetupError> {
        statat(self.0.as_fd(), "", AtFlags::EMPTY_PATH)
            .during(Self::looking)
            .map(|stat| stat.st_mode)
    }

    fn looking() -> String {
        "look at a place in the container".to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        let root = Root::open(&inside).unwrap();
        (dir, root)
    }

    #[test]
    fn folders_and_files_are_made_where_they_are_missing() {
        let (dir, root) = root();
        assert!(root.find("/a/b").unwrap().is_none());
        assert!(
            root.make("/a/b", Kind::Folder)
                .unwrap()
                .is_folder()
                .unwrap()
        );
        assert!(
            !root
                .make("/a/c/file", Kind::File)
                .unwrap()
                .is_folder()
                .unwrap()
        );
        assert!(dir.path().join("root/a/c/file").is_file());
        assert!(root.find("/a/c/file").unwrap().is_some());
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let (dir, root) = root();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let inside = dir.path().join("root");
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../../../../outside", inside.join("relative")).unwrap();
        for link in ["absolute", "relative"] {
            // A link to what does not exist below the root cannot be mounted on.
            assert!(root.make(&format!("/{link}"), Kind::Folder).is_err());
            assert!(root.make(&format!("/{link}/x"), Kind::Folder).is_err());
        }
        assert!(root.make("/../../up", Kind::Folder).is_ok());
        assert!(inside.join("up").is_dir());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        // A link that stays inside is followed there.
        symlink("/up", inside.join("within")).unwrap();
        root.make("/within/x", Kind::Folder).unwrap();
        assert!(inside.join("up/x").is_dir());
    }
}
