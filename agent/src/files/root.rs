//! A folder that no path leads out of.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Links that are followed on the way to one path, as in Linux.
const MAX_LINKS: usize = 40;

/// Folders of a root that are the machine's and not the container's: they are there, and
/// empty, as for Docker, which looks at a container's files without its mounts.
const MACHINES: &[&[u8]] = &[b"proc", b"sys", b"dev"];

/// The agent's own folder, which is no part of the container.
const AGENTS: &[u8] = b".sockerless";

/// What `/proc` and `/sys` are, wherever they are mounted.
const MACHINES_KINDS: [i64; 2] = [0x9fa0, 0x6265_6572];

/// What a way out of a folder means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Above {
    /// The folder itself, as for a root.
    Stays,
    /// An error, as for an archive's folder.
    Refused,
}

/// A folder that is the root of what is looked at.
#[derive(Debug)]
pub(crate) struct Root {
    folder: OwnedFd,
    above: Above,
    /// Whether the names of a container's root have their meaning here.
    containers: bool,
}

/// Something that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Itself, for reference only (`O_PATH`).
    pub(crate) fd: OwnedFd,
    /// What it is.
    pub(crate) stat: Stat,
    /// The names from the root, all links resolved.
    pub(crate) names: Vec<Vec<u8>>,
    /// Whether it is a folder of the machine's, to be taken for empty.
    pub(crate) machines: bool,
}

/// What came of a search.
#[derive(Debug)]
pub(crate) enum Search {
    /// It is there.
    Found(Found),
    /// It is not; this is where it would be.
    Missing(Vec<Vec<u8>>),
}

impl Root {
    /// The container's root.
    pub(crate) fn container() -> io::Result<Self> {
        Self::at(Path::new("/"), true)
    }

    /// The root at a path, with or without a container's own names.
    pub(crate) fn at(path: &Path, containers: bool) -> io::Result<Self> {
        let folder = fs::openat(
            CWD,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self {
            folder,
            above: Above::Stays,
            containers,
        })
    }

    /// Itself.
    pub(crate) const fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Whether something is of the root's own file system.
    pub(crate) fn has(&self, what: impl AsFd) -> bool {
        match (fs::fstat(&self.folder), fs::fstat(what)) {
            (Ok(root), Ok(what)) => root.st_dev == what.st_dev,
            _ => false,
        }
    }

    /// This folder as a container's root.
    pub(crate) const fn of(folder: OwnedFd) -> Self {
        Self {
            folder,
            above: Above::Stays,
            containers: true,
        }
    }

    /// A folder that was found, as the root of an archive.
    pub(crate) fn archive(found: &Found) -> io::Result<Self> {
        let folder = found.fd.try_clone()?;
        Ok(Self {
            folder,
            above: Above::Refused,
            containers: false,
        })
    }

    /// Whether a name at the top of a container's root is nobody's business.
    pub(crate) fn hides(&self, names: &[Vec<u8>]) -> bool {
        self.containers && names.first().is_some_and(|name| name == AGENTS)
    }

    fn is_machines(&self, names: &[Vec<u8>]) -> bool {
        self.containers
            && names.len() == 1
            && names
                .first()
                .is_some_and(|name| MACHINES.contains(&name.as_slice()))
    }

    /// Looks for a path; a link at its end is followed if it ends with a slash or `follow`.
    pub(crate) fn find(&self, path: &[u8], follow: bool) -> io::Result<Search> {
        let mut left: VecDeque<Vec<u8>> = split(path);
        let folder_wanted = path.ends_with(b"/") || path.ends_with(b"/.");
        let follow = follow || folder_wanted;
        let mut above: Vec<(Vec<u8>, OwnedFd)> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            let names = |last: &[u8]| -> Vec<Vec<u8>> {
                above
                    .iter()
                    .map(|(name, _)| name.clone())
                    .chain([last.to_vec()])
                    .collect()
            };
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    if above.pop().is_none() && self.above == Above::Refused {
                        return Err(Errno::XDEV.into());
                    }
                    continue;
                }
                _ => {}
            }
            let here = above
                .last()
                .map_or(self.folder.as_fd(), |(_, fd)| fd.as_fd());
            let full = names(&name);
            let hidden = self.hides(&full)
                || self.is_machines(&full[..full.len() - 1])
                || is_machines_kind(here);
            let opened = if hidden {
                Err(Errno::NOENT)
            } else {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                fs::openat(here, name.as_slice(), flags, Mode::empty())
            };
            let fd = match opened {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    let mut missing = full;
                    missing.extend(left);
                    return Ok(Search::Missing(missing));
                }
                Err(error) => return Err(error.into()),
            };
            let stat = fs::fstat(&fd)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink if !left.is_empty() || follow => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = fs::readlinkat(&fd, c"", Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        above.clear();
                    }
                    let mut next = split(&target);
                    next.append(&mut left);
                    left = next;
                }
                FileType::Directory => above.push((name, fd)),
                _ if left.is_empty() && !folder_wanted => {
                    return Ok(Search::Found(Found {
                        fd,
                        stat,
                        names: full,
                        machines: false,
                    }));
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        let names: Vec<Vec<u8>> = above.iter().map(|(name, _)| name.clone()).collect();
        let machines = self.is_machines(&names);
        let fd = match above.pop() {
            Some((_, fd)) => fd,
            None => self.folder.try_clone()?,
        };
        let stat = fs::fstat(&fd)?;
        Ok(Search::Found(Found {
            fd,
            stat,
            names,
            machines,
        }))
    }
}

impl Found {
    /// Whether it is a folder.
    pub(crate) fn is_folder(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// Its path in the root.
    pub(crate) fn path(&self) -> String {
        shown(&self.names)
    }
}

/// Names as a path, for people.
pub(crate) fn shown(names: &[Vec<u8>]) -> String {
    let names: Vec<_> = names
        .iter()
        .map(|name| String::from_utf8_lossy(name))
        .collect();
    format!("/{}", names.join("/"))
}

/// Opens an entry of a folder for reading, but nothing that a link leads to.
pub(crate) fn open(folder: impl AsFd, name: &[u8], flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(fs::openat(folder, name, flags, Mode::empty())?))
}

/// The entries' names, sorted.
pub(crate) fn list(folder: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    if is_machines_kind(folder.as_fd()) {
        return Ok(Vec::new());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = fs::openat(folder, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What an entry of a folder is, not followed.
pub(crate) fn look(folder: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_machines_kind(folder: impl AsFd) -> bool {
    fs::fstatfs(folder).is_ok_and(|stat| {
        #[allow(clippy::useless_conversion)] // its type differs between machines
        i64::try_from(stat.f_type).is_ok_and(|kind| MACHINES_KINDS.contains(&kind))
    })
}

fn split(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(root: &Root, path: &str, follow: bool) -> String {
        match root.find(path.as_bytes(), follow) {
            Ok(Search::Found(found)) => found.path(),
            Ok(Search::Missing(names)) => format!("no {}", shown(&names)),
            Err(error) => error.kind().to_string(),
        }
    }

    #[test]
    fn no_path_leads_out() {
        let top = std::env::temp_dir().join(format!("sockerless-root-{}", std::process::id()));
        std::fs::create_dir_all(top.join("in/a/b")).unwrap();
        std::fs::create_dir_all(top.join("in/proc/x")).unwrap();
        std::fs::create_dir_all(top.join("in/.sockerless")).unwrap();
        std::fs::write(top.join("secret"), "x").unwrap();
        std::fs::write(top.join("in/file"), "x").unwrap();
        for (link, target) in [
            ("up", "../../secret"),
            ("abs", "/a/b"),
            ("loop", "loop"),
            ("root", "/"),
            ("p", "/proc/x"),
        ] {
            symlink(target, top.join("in").join(link)).unwrap();
        }
        let root = Root::at(&top.join("in"), true).unwrap();
        for (path, follow, expected) in [
            ("/a/../../../file", true, "/file"),
            ("up", true, "no /secret"),
            ("up", false, "/up"),
            ("abs", true, "/a/b"),
            ("abs/", false, "/a/b"),
            ("root/root/a", true, "/a"),
            ("proc", true, "/proc"),
            ("p", true, "no /proc/x"),
            (".sockerless", false, "no /.sockerless"),
            ("file/x", true, "not a directory"),
            ("file/", true, "not a directory"),
            ("", true, "/"),
        ] {
            assert_eq!(found(&root, path, follow), expected, "{path}");
        }
        assert!(root.find(b"loop", true).is_err());
        let Ok(Search::Found(folder)) = root.find(b"a", true) else {
            unreachable!("it is there")
        };
        let archive = Root::archive(&folder).unwrap();
        assert_eq!(
            archive
                .find(b"b/../../file", true)
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EXDEV)
        );
        std::fs::remove_dir_all(top).unwrap();
    }
}
