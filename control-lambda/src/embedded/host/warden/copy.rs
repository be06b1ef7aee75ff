//! A copy of a folder with all that belongs to it: owners, permissions, times, links,
//! extended attributes.
//!
//! Nothing changes the folder meanwhile, and no link in it is followed.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat,
};
use rustix::io::Errno;

/// Longest list of attributes' names, and longest value, in bytes (Linux's own limit).
const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;

/// Copies what is in a folder into another, which is there and empty, and makes that one
/// look like it.
pub(super) fn tree(from: &Path, to: &Path) -> io::Result<()> {
    let mut links = HashMap::new();
    folder(from, to, &mut links)?;
    finish(&fs::metadata(from)?, from, to)
}

/// First copies of files that have more than one name.
type Links = HashMap<(u64, u64), PathBuf>;

fn folder(from: &Path, to: &Path, links: &mut Links) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let found = entry.metadata()?;
        if found.is_dir() {
            fs::create_dir(&to)?;
            folder(&from, &to, links)?;
        } else if found.nlink() > 1 {
            let place = (found.dev(), found.ino());
            if let Some(first) = links.get(&place) {
                fs::hard_link(first, &to)?;
                continue;
            }
            one(&found, &from, &to)?;
            links.insert(place, to.clone());
        } else {
            one(&found, &from, &to)?;
        }
        finish(&found, &from, &to)?;
    }
    Ok(())
}

/// Something that is no folder.
fn one(found: &Metadata, from: &Path, to: &Path) -> io::Result<()> {
    let kind = found.file_type();
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if kind.is_file() {
        return fs::copy(from, to).map(drop);
    }
    let kind = if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_socket() {
        FileType::Socket
    } else if kind.is_char_device() {
        FileType::CharacterDevice
    } else {
        FileType::BlockDevice
    };
    Ok(mknodat(
        CWD,
        to,
        kind,
        Mode::from_raw_mode(0o600),
        found.rdev(),
    )?)
}

/// Owner, permissions, attributes and times, in the order in which none undoes another.
fn finish(found: &Metadata, from: &Path, to: &Path) -> io::Result<()> {
    lchown(to, Some(found.uid()), Some(found.gid()))?;
    if !found.is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777))?;
        attributes(from, to)?;
    }
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(found.atime(), found.atime_nsec()),
        last_modification: time(found.mtime(), found.mtime_nsec()),
    };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Extended attributes, as far as both file systems have them; overlayfs keeps its own to
/// itself.
fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; MAX_ATTRIBUTE_BYTES];
    let length = match rustix::fs::listxattr(from, &mut names) {
        Err(Errno::NOTSUP) => return Ok(()),
        length => length?,
    };
    names.truncate(length);
    let mut value = vec![0; MAX_ATTRIBUTE_BYTES];
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = std::ffi::OsStr::from_bytes(name);
        let c_name = CString::new(name.to_owned().into_vec())?;
        let length = rustix::fs::getxattr(from, c_name.as_c_str(), &mut value)?;
        let bytes = value.get(..length).unwrap_or_default();
        match rustix::fs::setxattr(to, c_name.as_c_str(), bytes, XattrFlags::empty()) {
            Err(Errno::NOTSUP | Errno::PERM) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;

    #[test]
    fn everything_that_belongs_to_a_folder_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), b"content").unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::hard_link(from.join("sub/file"), from.join("same")).unwrap();
        symlink("/nowhere/at/all", from.join("link")).unwrap();
        mknodat(
            CWD,
            from.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o640),
            0,
        )
        .unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();

        tree(&from, &to).unwrap();

        let mode = |path: &str| fs::symlink_metadata(to.join(path)).unwrap().mode() & 0o7777;
        assert_eq!(fs::read(to.join("sub/file")).unwrap(), b"content");
        assert_eq!((mode("sub/file"), mode("")), (0o4711, 0o1777));
        assert_eq!(
            fs::metadata(to.join("same")).unwrap().ino(),
            fs::metadata(to.join("sub/file")).unwrap().ino()
        );
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("/nowhere/at/all")
        );
        assert!(
            fs::symlink_metadata(to.join("pipe"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        let time = |path: &Path| fs::metadata(path).unwrap().mtime_nsec();
        assert_eq!(time(&from.join("sub")), time(&to.join("sub")));
    }
}
