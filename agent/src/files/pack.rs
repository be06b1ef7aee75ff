//! A tar archive of what is at a path.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::root::{Found, Root, list, look, open};

/// Folders in folders that are gone into: each keeps a descriptor open, of which Lambda
/// allows 1,024.
const MAX_DEPTH: usize = 400;

/// How much is read of a file at a time, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// Writes an archive.
pub(crate) struct Packer<W> {
    out: W,
    /// The first name of every file that has several.
    names: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    insists: bool,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            names: HashMap::new(),
            buffer: vec![0; PIECE_BYTES],
            insists: false,
        }
    }

    /// Packs what its owner cannot read too, by giving the owner the right to: for folders that
    /// are emptied afterwards.
    pub(crate) fn insisting(mut self) -> Self {
        self.insists = true;
        self
    }

    /// Adds what was found and all below it. Its name in the archive is `name`; empty for a root,
    /// whose own entry is then left out if `inside` alone is wanted.
    pub(crate) fn add(
        &mut self,
        root: &Root,
        found: &Found,
        name: &[u8],
        inside: bool,
    ) -> io::Result<()> {
        if !found.is_folder() {
            let opened = self.reopen(found)?;
            return self.leaf(&found.stat, name, opened, || {
                fs::readlinkat(&found.fd, c"", Vec::new()).map(std::ffi::CString::into_bytes)
            });
        }
        if !inside {
            self.folder(&found.stat, name)?;
        }
        if found.machines {
            return Ok(());
        }
        let skip = |names: &[Vec<u8>]| root.hides(names);
        self.below(&skip, &found.fd, &found.names, name, inside, 0)
    }

    /// Adds what is in a folder, but for some names at its top.
    pub(crate) fn add_inside(
        &mut self,
        folder: &OwnedFd,
        skip: &dyn Fn(&[u8]) -> bool,
    ) -> io::Result<()> {
        let skip = |names: &[Vec<u8>]| matches!(names, [_, only] if skip(only));
        // A name before all others: none of these is a root's own.
        self.below(&skip, folder, &[Vec::new()], b"", true, 0)
    }

    /// Adds one entry of a folder, without what is below it.
    pub(crate) fn add_one(
        &mut self,
        folder: impl AsFd,
        entry: &[u8],
        name: &[u8],
    ) -> io::Result<()> {
        let folder = folder.as_fd();
        let Some(stat) = look(folder, entry)? else {
            return Ok(());
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.folder(&stat, name),
            FileType::RegularFile => {
                let file = open(folder, entry, OFlags::RDONLY)?;
                self.leaf(&stat, name, Some(file), || Ok(Vec::new()))
            }
            _ => self.leaf(&stat, name, None, || {
                fs::readlinkat(folder, entry, Vec::new()).map(std::ffi::CString::into_bytes)
            }),
        }
    }

    /// Adds an empty file that nobody ever had.
    pub(crate) fn add_mark(&mut self, name: &[u8]) -> io::Result<()> {
        let mut entry = EntryBuilder::new_ustar();
        entry.path(name).entry_type(EntryType::Regular);
        self.out.write_all(&entry.finish_bytes())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn folder(&mut self, stat: &Stat, name: &[u8]) -> io::Result<()> {
        self.header(stat, EntryType::Directory, &folder_name(name), b"", 0, &[])
    }

    fn below(
        &mut self,
        skip: &dyn Fn(&[Vec<u8>]) -> bool,
        folder: &OwnedFd,
        names: &[Vec<u8>],
        prefix: &[u8],
        bare: bool,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!(
                "folders lie deeper than {MAX_DEPTH} in each other"
            )));
        }
        // What goes while it is packed is left out, as Docker does, and so is what is in files and
        // folders that cannot be read.
        for entry in list(folder).unwrap_or_default() {
            let mut full = names.to_vec();
            full.push(entry.clone());
            if skip(&full) {
                continue;
            }
            let Ok(Some(stat)) = look(folder, &entry) else {
                continue;
            };
            let mut name = prefix.to_vec();
            if !(bare && prefix.is_empty()) {
                name.push(b'/');
            }
            name.extend_from_slice(&entry);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                self.folder(&stat, &name)?;
                let Ok(inner) = self.open(folder, &entry, flags, &stat) else {
                    continue;
                };
                let machines = matches!(full.as_slice(), [only] if matches!(only.as_slice(), b"proc" | b"sys" | b"dev"));
                if !machines {
                    let inner = OwnedFd::from(inner);
                    self.below(skip, &inner, &full, &name, bare, depth + 1)?;
                }
                continue;
            }
            let opened = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => match self.open(folder, &entry, OFlags::RDONLY, &stat) {
                    Ok(file) => Some(file),
                    Err(_) => continue,
                },
                _ => None,
            };
            self.leaf(&stat, &name, opened, || {
                fs::readlinkat(folder, entry.as_slice(), Vec::new())
                    .map(std::ffi::CString::into_bytes)
            })?;
        }
        Ok(())
    }

    fn open(&self, folder: &OwnedFd, entry: &[u8], flags: OFlags, stat: &Stat) -> io::Result<File> {
        let owners = if flags.contains(OFlags::DIRECTORY) {
            0o500
        } else {
            0o400
        };
        if self.insists && stat.st_mode & owners != owners {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | owners);
            let held = open(folder, entry, OFlags::PATH)?;
            // The entry itself, whatever its name leads to by now.
            fs::chmod(proc_path(&held), mode)?;
        }
        open(folder, entry, flags)
    }

    /// A file that was found, for reading.
    fn reopen(&self, found: &Found) -> io::Result<Option<File>> {
        if FileType::from_raw_mode(found.stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        // The same file, whatever its name leads to by now.
        File::open(proc_path(&found.fd)).map(Some)
    }

    fn leaf(
        &mut self,
        stat: &Stat,
        name: &[u8],
        opened: Option<File>,
        target: impl FnOnce() -> rustix::io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.names.get(&key).cloned() {
                return self.header(stat, EntryType::Link, name, &first, 0, &[]);
            }
            self.names.insert(key, name.to_vec());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let Some(mut file) = opened else {
                    return Ok(());
                };
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let capability = capability(&file);
                self.header(stat, EntryType::Regular, name, b"", size, &capability)?;
                self.content(&mut file, size)
            }
            FileType::Symlink => {
                let Ok(target) = target() else { return Ok(()) };
                self.header(stat, EntryType::Symlink, name, &target, 0, &[])
            }
            FileType::Fifo => self.header(stat, EntryType::Fifo, name, b"", 0, &[]),
            FileType::CharacterDevice => self.header(stat, EntryType::Char, name, b"", 0, &[]),
            FileType::BlockDevice => self.header(stat, EntryType::Block, name, b"", 0, &[]),
            // Tar knows no sockets; Docker leaves them out too.
            FileType::Socket | FileType::Directory | FileType::Unknown => Ok(()),
        }
    }

    /// As many bytes as the header says, whatever the file has become meanwhile.
    fn content(&mut self, file: &mut File, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let read = match file.read(&mut self.buffer[..most]) {
                Ok(0) => {
                    self.buffer[..most].fill(0);
                    most
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.out.write_all(&self.buffer[..read])?;
            left -= read as u64;
        }
        let padding = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
        self.out.write_all(&[0; 512][..padding])
    }

    fn header(
        &mut self,
        stat: &Stat,
        kind: EntryType,
        name: &[u8],
        link: &[u8],
        size: u64,
        capability: &[u8],
    ) -> io::Result<()> {
        let mut entry = EntryBuilder::new_ustar();
        let bad = |error: tar_core::HeaderError| io::Error::other(error.to_string());
        entry.path(name).entry_type(kind);
        entry.mode(stat.st_mode & 0o7777).map_err(bad)?;
        entry.uid(stat.st_uid.into()).map_err(bad)?;
        entry.gid(stat.st_gid.into()).map_err(bad)?;
        entry.size(size).map_err(bad)?;
        entry
            .mtime(u64::try_from(stat.st_mtime).unwrap_or(0))
            .map_err(bad)?;
        if !link.is_empty() {
            entry.link_name(link);
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let (major, minor) = (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            );
            entry.device(major, minor).map_err(bad)?;
        }
        if !capability.is_empty() {
            entry.add_pax("SCHILY.xattr.security.capability", capability);
        }
        self.out.write_all(&entry.finish_bytes())
    }
}

fn proc_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn folder_name(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    name.push(b'/');
    name
}

/// The capabilities that a file gives to those who execute it; empty for none.
pub(crate) fn capability(file: impl AsFd) -> Vec<u8> {
    let mut value = [0_u8; 64];
    match fs::fgetxattr(file, c"security.capability", &mut value) {
        Ok(length) => value.get(..length).unwrap_or_default().to_vec(),
        Err(_) => Vec::new(),
    }
}
