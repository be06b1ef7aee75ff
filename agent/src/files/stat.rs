//! What Docker tells of a path: name, size, mode, time, and where a link leads.

use std::io;

use rustix::fs::{FileType, Stat};
use serde::Serialize;
use sockerless_shared::timestamp::Timestamp;

use super::path::base;
use super::root::{Found, Root, Search, shown};

/// Docker's `PathStat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PathStat {
    name: String,
    size: i64,
    mode: u32,
    mtime: String,
    #[serde(rename = "linkTarget")]
    link_target: String,
}

/// Tells of what was found at an absolute path.
pub(crate) fn path_stat(root: &Root, path: &str, found: &Found) -> io::Result<PathStat> {
    let stat = &found.stat;
    let link_target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        match root.find(path.as_bytes(), true)? {
            Search::Found(target) => target.path(),
            Search::Missing(names) => shown(&names),
        }
    } else {
        String::new()
    };
    let seconds = i128::from(stat.st_mtime);
    let nanos = seconds * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Ok(PathStat {
        name: base(path).to_owned(),
        size: stat.st_size,
        mode: go_mode(stat),
        mtime: Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(0)).rfc3339(),
        link_target,
    })
}

/// Go's `os.FileMode`, whose bits beside the permissions are its own.
fn go_mode(stat: &Stat) -> u32 {
    let mode = stat.st_mode;
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::BlockDevice => 1 << 26,
        FileType::RegularFile | FileType::Unknown => 0,
    };
    let bit = |from: u32, to: u32| if mode & from == 0 { 0 } else { to };
    mode & 0o777 | kind | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20)
}
