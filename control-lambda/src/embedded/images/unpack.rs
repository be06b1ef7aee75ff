//! Writes a layer's entries into a folder, as overlay wants a lower directory.
//!
//! Nothing a layer says leads out of the folder: names are clean before they
//! come here, and every directory is opened by the kernel with the folder as
//! its root (`openat2`, `RESOLVE_IN_ROOT`), so that symbolic links of earlier
//! entries lead where they would lead in the container. No device nodes are
//! made but overlay's whiteouts, which give access to nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Stat, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;

use super::files::Scratch;
use super::layers::OverlayXattr;
use crate::images::layer::{Attributes, LayerError, LayerPath, LayerSink};

/// A folder that a layer is being written to.
pub(super) struct Unpacker<'a> {
    root: OwnedFd,
    /// Where replaced entries are moved to.
    scratch: &'a Scratch,
    xattr: OverlayXattr,
    /// Whether owners can be set.
    is_root: bool,
    /// The directory that was used last.
    last: Option<(LayerPath, OwnedFd)>,
    file: Option<OpenFile>,
    /// Set at the end: modes may forbid, and times would change with, what is
    /// still to be written.
    directories: BTreeMap<LayerPath, Attributes>,
    trash: Vec<std::path::PathBuf>,
}

struct OpenFile {
    file: OwnedFd,
    path: LayerPath,
    attributes: Attributes,
    size: u64,
    written_to: u64,
}

impl<'a> Unpacker<'a> {
    /// Writes into `root`, which exists and is empty.
    pub(super) fn new(root: &Path, scratch: &'a Scratch, xattr: OverlayXattr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::openat(CWD, root, flags, Mode::empty())?,
            scratch,
            xattr,
            is_root: rustix::process::geteuid().is_root(),
            last: None,
            file: None,
            directories: BTreeMap::new(),
            trash: Vec::new(),
        })
    }

    /// A directory within the folder.
    fn open(&self, path: &LayerPath, extra: OFlags) -> Result<OwnedFd, Errno> {
        let name: &[u8] = if path.is_root() {
            b"."
        } else {
            path.as_bytes()
        };
        rustix::fs::openat2(
            &self.root,
            OsStr::from_bytes(name),
            OFlags::DIRECTORY | OFlags::CLOEXEC | extra,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// The directory at `path`, made with its parents where they are missing.
    fn directory_at(&mut self, path: &LayerPath) -> Result<OwnedFd, LayerError> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return directory.try_clone().map_err(|e| storage(path, e));
        }
        let directory = match self.open(path, OFlags::PATH) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_directories(path)?,
            Err(Errno::NOSYS) => {
                return Err(LayerError::Storage(
                    "this kernel, or a filter over it, has no openat2; Linux 5.6 or newer is needed"
                        .to_owned(),
                ));
            }
            Err(e) => return Err(storage(path, e)),
        };
        let kept = directory.try_clone().map_err(|e| storage(path, e))?;
        self.last = Some((path.clone(), kept));
        Ok(directory)
    }

    fn make_directories(&mut self, path: &LayerPath) -> Result<OwnedFd, LayerError> {
        let mut here = LayerPath::default();
        let mut directory = self
            .open(&here, OFlags::PATH)
            .map_err(|e| storage(&here, e))?;
        for component in path.components() {
            let child = [here.as_bytes(), b"/", component].concat();
            let child = LayerPath::new(&child)?;
            let name = OsStr::from_bytes(component);
            directory = match self.open(&child, OFlags::PATH) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let hides = self.take_away_whiteout(&directory, name)?;
                    match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) => {}
                        // A dangling link, or a file in the place of a directory.
                        Err(Errno::EXIST) => {
                            return Err(storage(&child, io::Error::from(Errno::NOTDIR)));
                        }
                        Err(e) => return Err(storage(&child, e)),
                    }
                    // The umask may have taken bits.
                    self.directories
                        .entry(child.clone())
                        .or_insert_with(|| Attributes {
                            mode: 0o755,
                            ..Attributes::default()
                        });
                    if hides {
                        self.set_opaque(&child)?;
                    }
                    self.open(&child, OFlags::PATH)
                        .map_err(|e| storage(&child, e))?
                }
                Err(e) => return Err(storage(&child, e)),
            };
            here = child;
        }
        Ok(directory)
    }

    /// The directory that `path` is in, free of whatever had this name.
    fn place(&mut self, path: &LayerPath) -> Result<OwnedFd, LayerError> {
        let parent = self.directory_at(&path.parent())?;
        let name = OsStr::from_bytes(path.file_name());
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(parent),
            Err(e) => return Err(storage(path, e)),
            Ok(stat) if file_type(&stat) == FileType::Directory => {
                let away = self.scratch.fresh();
                rustix::fs::renameat(&parent, name, CWD, &away).map_err(|e| storage(path, e))?;
                self.trash.push(away);
                self.last = None;
            }
            Ok(_) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())
                    .map_err(|e| storage(path, e))?;
                self.last = None;
            }
        }
        Ok(parent)
    }

    /// Whether there was one.
    fn take_away_whiteout(&self, parent: &OwnedFd, name: &OsStr) -> Result<bool, LayerError> {
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_whiteout(&stat) => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())
                    .map_err(|e| LayerError::Storage(format!("{}: {e}", name.display())))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn set_opaque(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        let directory = self
            .open(path, OFlags::RDONLY)
            .map_err(|e| storage(path, e))?;
        rustix::fs::fsetxattr(
            &directory,
            self.xattr.opaque_name(),
            b"y",
            XattrFlags::empty(),
        )
        .map_err(|e| storage(path, e))
    }

    /// Owner, mode, attributes and times of something that is open.
    fn dress(&self, file: &OwnedFd, attributes: &Attributes) -> Result<(), Errno> {
        if self.is_root {
            let (uid, gid) = owner(attributes);
            rustix::fs::fchown(file, uid, gid)?;
        }
        // After the owner: changing it takes the setuid bit and capabilities away.
        rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode as RawMode))?;
        for (name, value) in &attributes.xattrs {
            match rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
                // As Docker does: a file system without attributes, or a user who
                // may not set them, does not stop an image.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(e) => return Err(e),
            }
        }
        rustix::fs::futimens(file, &times(attributes))
    }
}

impl LayerSink for Unpacker<'_> {
    fn directory(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), LayerError> {
        if !path.is_root() {
            let parent = self.directory_at(&path.parent())?;
            let name = OsStr::from_bytes(path.file_name());
            let before = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
            let exists = matches!(&before, Ok(stat) if file_type(stat) == FileType::Directory);
            let hides = matches!(&before, Ok(stat) if is_whiteout(stat));
            if !exists {
                let parent = self.place(path)?;
                rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(|e| storage(path, e))?;
            }
            if hides {
                self.set_opaque(path)?;
            }
        }
        self.directories.insert(path.clone(), attributes.clone());
        Ok(())
    }

    fn file(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        size: u64,
    ) -> Result<(), LayerError> {
        let parent = self.place(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = OsStr::from_bytes(path.file_name());
        let file = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| storage(path, e))?;
        self.file = Some(OpenFile {
            file,
            path: path.clone(),
            attributes: attributes.clone(),
            size,
            written_to: 0,
        });
        Ok(())
    }

    fn file_data(&mut self, offset: u64, data: &[u8]) -> Result<(), LayerError> {
        use std::os::unix::fs::FileExt as _;
        let Some(open) = &mut self.file else {
            return Err(LayerError::Corrupt("content without a file".to_owned()));
        };
        // `write_all_at` is of std's `File`, which is the same descriptor.
        let file = std::fs::File::from(open.file.try_clone().map_err(|e| storage(&open.path, e))?);
        file.write_all_at(data, offset)
            .map_err(|e| storage(&open.path, e))?;
        open.written_to = offset + data.len() as u64;
        Ok(())
    }

    fn file_end(&mut self) -> Result<(), LayerError> {
        let Some(open) = self.file.take() else {
            return Err(LayerError::Corrupt("the end of no file".to_owned()));
        };
        if open.written_to < open.size {
            rustix::fs::ftruncate(&open.file, open.size).map_err(|e| storage(&open.path, e))?;
        }
        self.dress(&open.file, &open.attributes)
            .map_err(|e| storage(&open.path, e))
    }

    fn symlink(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        target: &[u8],
    ) -> Result<(), LayerError> {
        let parent = self.place(path)?;
        let name = OsStr::from_bytes(path.file_name());
        rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, name)
            .map_err(|e| storage(path, e))?;
        self.dress_at(&parent, path, attributes)
    }

    fn hard_link(&mut self, path: &LayerPath, target: &LayerPath) -> Result<(), LayerError> {
        let missing = || LayerError::HardLinkTarget {
            path: path.to_string(),
            target: target.to_string(),
        };
        if path == target || target.is_root() {
            return Err(missing());
        }
        let parent = self.place(path)?;
        let target_parent = match self.open(&target.parent(), OFlags::PATH) {
            Ok(directory) => directory,
            Err(_) => return Err(missing()),
        };
        let result = rustix::fs::linkat(
            &target_parent,
            OsStr::from_bytes(target.file_name()),
            &parent,
            OsStr::from_bytes(path.file_name()),
            AtFlags::empty(),
        );
        match result {
            Ok(()) => Ok(()),
            // A directory cannot be linked to.
            Err(Errno::NOENT | Errno::PERM) => Err(missing()),
            Err(e) => Err(storage(path, e)),
        }
    }

    fn fifo(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), LayerError> {
        let parent = self.place(path)?;
        let name = OsStr::from_bytes(path.file_name());
        let mode = Mode::from_raw_mode(attributes.mode as RawMode);
        rustix::fs::mknodat(&parent, name, FileType::Fifo, mode, 0)
            .map_err(|e| storage(path, e))?;
        self.dress_at(&parent, path, attributes)?;
        rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()).map_err(|e| storage(path, e))
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        let parent = self.directory_at(&path.parent())?;
        let name = OsStr::from_bytes(path.file_name());
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // A whiteout is about lower layers; what this layer has stays, and a
            // directory must then show nothing of theirs.
            Ok(stat) if file_type(&stat) == FileType::Directory => self.set_opaque(path),
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => {
                let device = rustix::fs::makedev(0, 0);
                rustix::fs::mknodat(
                    &parent,
                    name,
                    FileType::CharacterDevice,
                    Mode::empty(),
                    device,
                )
                .map_err(|e| storage(path, e))
            }
            Err(e) => Err(storage(path, e)),
        }
    }

    fn opaque(&mut self, directory: &LayerPath) -> Result<(), LayerError> {
        self.directory_at(directory)?;
        self.set_opaque(directory)
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        let directories = std::mem::take(&mut self.directories);
        // Children before their parents.
        for (path, attributes) in directories.iter().rev() {
            let directory = match self.open(path, OFlags::RDONLY | OFlags::NOFOLLOW) {
                Ok(directory) => directory,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(storage(path, e)),
            };
            self.dress(&directory, attributes)
                .map_err(|e| storage(path, e))?;
        }
        Ok(())
    }
}

impl Unpacker<'_> {
    /// Owner and times of what cannot be opened.
    fn dress_at(
        &self,
        parent: &OwnedFd,
        path: &LayerPath,
        attributes: &Attributes,
    ) -> Result<(), LayerError> {
        let name = OsStr::from_bytes(path.file_name());
        if self.is_root {
            let (uid, gid) = owner(attributes);
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| storage(path, e))?;
        }
        rustix::fs::utimensat(parent, name, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| storage(path, e))
    }

    /// What was replaced on the way, to be removed.
    pub(super) fn take_trash(&mut self) -> Vec<std::path::PathBuf> {
        std::mem::take(&mut self.trash)
    }
}

fn owner(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(attributes.uid)),
        Some(Gid::from_raw(attributes.gid)),
    )
}

fn times(attributes: &Attributes) -> Timestamps {
    let time = Timespec {
        tv_sec: attributes.mtime_s,
        tv_nsec: attributes.mtime_ns.min(999_999_999).into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn storage(path: &LayerPath, error: impl Into<io::Error>) -> LayerError {
    LayerError::Storage(format!("{path}: {}", error.into()))
}
