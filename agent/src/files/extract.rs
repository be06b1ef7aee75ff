//! Extracting a client's tar archive into a folder. The archive is not trusted: nothing of
//! it lands outside the folder.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use flate2::read::MultiGzDecoder;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, PaxExtensions};
use thiserror::Error;

use super::root::{Found, Root, Search, list, look};
use crate::process::errno;

/// Longest run of header blocks, in bytes.
const MAX_HEADER_BYTES: usize = 4 * 1024 * 1024;
const CHUNK_BYTES: usize = 256 * 1024;
/// Folders in folders that are removed for a file in their place.
const MAX_DEPTH: usize = 400;
/// So many bytes of folders' names are remembered until everything is in them.
const MAX_REMEMBERED_BYTES: usize = 16 * 1024 * 1024;

/// How an archive is extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether a folder may not take the place of a file, nor a file that of a folder.
    pub(crate) keep_kinds: bool,
    /// To whom everything is to belong, instead of whom the archive says.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Why an archive was not extracted, or not to its end; in Docker's words.
#[derive(Debug, Error)]
pub(crate) enum ExtractError {
    /// The archive is damaged or asks for what is not allowed.
    #[error("{0}")]
    Archive(String),
    /// The file system refused.
    #[error("{}", text(.0))]
    Files(#[from] io::Error),
}

impl From<Errno> for ExtractError {
    fn from(errno: Errno) -> Self {
        Self::Files(errno.into())
    }
}

fn text(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |number| errno::text(number).to_owned(),
    )
}

/// Extracts everything that `source` has into `folder`, an archive compressed with gzip or not.
pub(crate) fn extract(
    source: impl Read,
    folder: &Found,
    options: Options,
) -> Result<(), ExtractError> {
    let root = Root::archive(folder)?;
    let mut start = Vec::new();
    let mut source = source;
    source.by_ref().take(6).read_to_end(&mut start)?;
    for (magic, name) in [
        (&b"BZh"[..], "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ] {
        if start.starts_with(magic) {
            return Err(ExtractError::Archive(format!(
                "an archive compressed with {name} cannot be extracted by sockerless: send it uncompressed or with gzip"
            )));
        }
    }
    let gzip = start.starts_with(&[0x1f, 0x8b]);
    let whole = io::Cursor::new(start).chain(source);
    let mut work = Extraction {
        root,
        dest: folder.path(),
        options,
        folders: Vec::new(),
        remembered: 0,
    };
    if gzip {
        work.run(MultiGzDecoder::new(whole))
    } else {
        work.run(whole)
    }
}

struct Extraction {
    root: Root,
    dest: String,
    options: Options,
    /// In the order in which they were made.
    folders: Vec<Folder>,
    /// Bytes of their names.
    remembered: usize,
}

/// A folder whose times are set when nothing more is put into it. An open descriptor of each
/// would be more than a process may have.
struct Folder {
    names: Vec<Vec<u8>>,
    /// Device and number, by which it is told from what may have taken its place.
    file: (u64, u64),
    times: Timestamps,
    /// Its mode, where that would keep this user from putting anything into it.
    mode: Option<Mode>,
}

struct Entry {
    name: Vec<u8>,
    link: Vec<u8>,
    kind: EntryType,
    mode: u32,
    owner: (u32, u32),
    times: Timestamps,
    size: u64,
    device: (u32, u32),
    capability: Vec<u8>,
}

impl Extraction {
    fn run(&mut self, source: impl Read) -> Result<(), ExtractError> {
        let mut stream = Stream {
            source,
            buffer: vec![0; CHUNK_BYTES],
            start: 0,
            end: 0,
        };
        let mut parser = Parser::new(Limits {
            max_metadata_size: 1024 * 1024,
            max_path_len: Some(4096),
            ..Limits::default()
        });
        loop {
            let (consumed, entry) = match parser.parse(stream.buffered()) {
                Ok(ParseEvent::NeedData { min_bytes }) => {
                    let more = stream.buffered().len() + 1;
                    if stream.fill(min_bytes.max(more))? {
                        continue;
                    }
                    if stream.buffered().iter().all(|byte| *byte == 0) {
                        break;
                    }
                    return Err(unexpected_end());
                }
                Ok(ParseEvent::Entry { consumed, entry }) => (consumed, Some(Entry::of(&entry))),
                Ok(ParseEvent::SparseEntry { .. }) => {
                    return Err(ExtractError::Archive("sparse files of GNU tar are not known here: make the archive without --sparse".to_owned()));
                }
                Ok(ParseEvent::GlobalExtensions { consumed, .. }) => (consumed, None),
                Ok(ParseEvent::End { .. }) => break,
                Err(error) => {
                    return Err(ExtractError::Archive(match error {
                        tar_core::parse::ParseError::Header(_) => {
                            "archive/tar: invalid tar header".to_owned()
                        }
                        other => format!("archive is damaged: {other}"),
                    }));
                }
            };
            stream.start += consumed;
            if let Some(entry) = entry {
                self.entry(&entry, &mut stream)?;
            }
        }
        // The rest is read, so that whoever sends it is not cut off.
        stream.drain()?;
        for folder in std::mem::take(&mut self.folders).into_iter().rev() {
            self.settle(&folder)?;
        }
        Ok(())
    }

    /// Gives a folder its times and its mode, if it is still there.
    fn settle(&self, folder: &Folder) -> Result<(), ExtractError> {
        let Some((last, above)) = folder.names.split_last() else {
            return Ok(());
        };
        let Some(parent) = self.existing(above)? else {
            return Ok(());
        };
        let made = match fs::openat(&parent, last.as_slice(), FOLDER, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened?,
        };
        if identity(&made)? == folder.file {
            if let Some(mode) = folder.mode {
                fs::fchmod(&made, mode)?;
            }
            let _ = fs::futimens(&made, &folder.times);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, stream: &mut Stream<impl Read>) -> Result<(), ExtractError> {
        let names = clean(&entry.name).ok_or_else(|| {
            ExtractError::Archive(format!("invalid entry name {}", quoted(&entry.name)))
        })?;
        let is_folder = entry.kind == EntryType::Directory
            || entry.name.ends_with(b"/") && entry.kind == EntryType::Regular;
        let Some((last, above)) = names.split_last() else {
            // The folder itself: it stays as it is.
            return stream.skip(if entry.kind == EntryType::Regular {
                entry.size
            } else {
                0
            });
        };
        let folder = self.folder(above)?;
        if let Some(stat) = look(&folder, last)? {
            let there = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let name = quoted(&names.join(&b'/'));
            if self.options.keep_kinds && there && !is_folder {
                return Err(ExtractError::Archive(format!(
                    "cannot overwrite directory {name} with non-directory \"{}\"",
                    self.dest
                )));
            }
            if self.options.keep_kinds && !there && is_folder {
                return Err(ExtractError::Archive(format!(
                    "cannot overwrite non-directory {name} with directory \"{}\"",
                    self.dest
                )));
            }
            if !(there && is_folder) {
                remove(&folder, last, there, 0)?;
            }
        }
        let last = last.as_slice();
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        if is_folder {
            match fs::mkdirat(&folder, last, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let made = fs::openat(&folder, last, FOLDER, Mode::empty())?;
            self.own(|uid, gid| fs::fchown(&made, Some(uid), Some(gid)), entry)?;
            self.remembered += entry.name.len();
            let later = self.remembered <= MAX_REMEMBERED_BYTES;
            let shut = later && !mode.contains(Mode::RWXU) && !nix::unistd::geteuid().is_root();
            fs::fchmod(&made, if shut { mode | Mode::RWXU } else { mode })?;
            if later {
                self.folders.push(Folder {
                    file: identity(&made)?,
                    times: entry.times.clone(),
                    mode: shut.then_some(mode),
                    names,
                });
            } else {
                let _ = fs::futimens(&made, &entry.times);
            }
            return Ok(());
        }
        match entry.kind {
            EntryType::Regular | EntryType::Continuous => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mut file = File::from(fs::openat(
                    &folder,
                    last,
                    flags,
                    Mode::from_raw_mode(0o600),
                )?);
                stream.pass(entry.size, |data| file.write_all(data))?;
                self.own(|uid, gid| fs::fchown(&file, Some(uid), Some(gid)), entry)?;
                fs::fchmod(&file, mode)?;
                if !entry.capability.is_empty() {
                    // Not everybody may; Docker goes on without it too.
                    let _ = fs::fsetxattr(
                        &file,
                        c"security.capability",
                        &entry.capability,
                        fs::XattrFlags::empty(),
                    );
                }
                fs::futimens(&file, &entry.times)?;
                return Ok(());
            }
            EntryType::Symlink => fs::symlinkat(entry.link.as_slice(), &folder, last)?,
            EntryType::Link => {
                let Some(target) = clean(&entry.link) else {
                    return Err(ExtractError::Archive(format!(
                        "invalid hardlink target {}",
                        quoted(&entry.link)
                    )));
                };
                let (name, above) = target.split_last().ok_or(Errno::NOENT)?;
                let from = self.existing(above)?.ok_or(Errno::NOENT)?;
                fs::linkat(&from, name.as_slice(), &folder, last, AtFlags::empty())?;
                return Ok(());
            }
            EntryType::Fifo => {
                fs::mknodat(&folder, last, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?
            }
            EntryType::Char | EntryType::Block => {
                let kind = if entry.kind == EntryType::Char {
                    FileType::CharacterDevice
                } else {
                    FileType::BlockDevice
                };
                let (major, minor) = entry.device;
                fs::mknodat(
                    &folder,
                    last,
                    kind,
                    Mode::from_raw_mode(0o600),
                    fs::makedev(major, minor),
                )?;
            }
            other => {
                return Err(ExtractError::Archive(format!(
                    "unhandled tar header type {}",
                    other.to_byte()
                )));
            }
        }
        self.own(
            |uid, gid| {
                fs::chownat(
                    &folder,
                    last,
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
            },
            entry,
        )?;
        if entry.kind != EntryType::Symlink {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = fs::openat(&folder, last, flags, Mode::empty())?;
            fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), mode)?;
        }
        fs::utimensat(&folder, last, &entry.times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// The folder of these names, made where it is missing.
    fn folder(&self, names: &[Vec<u8>]) -> Result<OwnedFd, ExtractError> {
        let mut path = Vec::new();
        let mut folder = self.open_folder(&path)?;
        for name in names {
            path.push(name.clone());
            folder = match self.search(&path)? {
                Search::Found(found) if found.is_folder() => found.fd,
                Search::Found(_) => return Err(Errno::NOTDIR.into()),
                Search::Missing(real) => {
                    let (last, above) = real.split_last().ok_or(Errno::NOENT)?;
                    // Below a link that leads nowhere the whole way is made.
                    let parent = if above.len() < path.len() - 1 || above != &path[..path.len() - 1]
                    {
                        self.folder(above)?
                    } else {
                        folder
                    };
                    fs::mkdirat(&parent, last.as_slice(), Mode::from_raw_mode(0o755))?;
                    let made = fs::openat(&parent, last.as_slice(), FOLDER, Mode::empty())?;
                    if let Some((uid, gid)) = self.options.owner {
                        self.chown(fs::fchown(
                            &made,
                            Some(Uid::from_raw(uid)),
                            Some(Gid::from_raw(gid)),
                        ))?;
                    }
                    made
                }
            };
        }
        Ok(folder)
    }

    fn existing(&self, names: &[Vec<u8>]) -> Result<Option<OwnedFd>, ExtractError> {
        match self.search(names)? {
            Search::Found(found) => Ok(Some(found.fd)),
            Search::Missing(_) => Ok(None),
        }
    }

    fn open_folder(&self, names: &[Vec<u8>]) -> Result<OwnedFd, ExtractError> {
        self.existing(names)?.ok_or_else(|| Errno::NOENT.into())
    }

    fn search(&self, names: &[Vec<u8>]) -> Result<Search, ExtractError> {
        self.root.find(&names.join(&b'/'), true).map_err(|error| {
            if error.raw_os_error() == Some(libc::EXDEV) {
                // Go's words.
                let name = String::from_utf8_lossy(&names.join(&b'/')).into_owned();
                ExtractError::Archive(format!("statat {name}: path escapes from parent"))
            } else {
                error.into()
            }
        })
    }

    fn own(
        &self,
        chown: impl FnOnce(Uid, Gid) -> rustix::io::Result<()>,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        let (uid, gid) = self.options.owner.unwrap_or(entry.owner);
        self.chown(chown(Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    /// Where there is one user only, everything is that user's.
    fn chown(&self, result: rustix::io::Result<()>) -> Result<(), ExtractError> {
        match result {
            Err(Errno::PERM) if !nix::unistd::geteuid().is_root() => Ok(()),
            result => Ok(result?),
        }
    }
}

/// How a folder is opened that has just been looked at.
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Device and number.
fn identity(file: &OwnedFd) -> Result<(u64, u64), ExtractError> {
    let stat = fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Removes an entry, with all below it.
fn remove(
    folder: &OwnedFd,
    name: &[u8],
    is_folder: bool,
    depth: usize,
) -> Result<(), ExtractError> {
    if !is_folder {
        return Ok(fs::unlinkat(folder, name, AtFlags::empty())?);
    }
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG.into());
    }
    let inner = fs::openat(folder, name, FOLDER, Mode::empty())?;
    for entry in list(&inner)? {
        if let Some(stat) = look(&inner, &entry)? {
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            remove(&inner, &entry, is_folder, depth + 1)?;
        }
    }
    Ok(fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

impl Entry {
    fn of(entry: &ParsedEntry<'_>) -> Self {
        let mtime = Timespec {
            tv_sec: i64::try_from(entry.mtime).unwrap_or(0),
            tv_nsec: 0,
        };
        let mtime = entry.pax.and_then(pax_time).unwrap_or(mtime);
        Self {
            name: entry.path.to_vec(),
            link: entry.link_target.as_deref().unwrap_or_default().to_vec(),
            kind: entry.entry_type,
            mode: entry.mode,
            // Ids of more than 32 bits exist in no Linux.
            owner: (entry.uid as u32, entry.gid as u32),
            times: Timestamps {
                last_access: mtime,
                last_modification: mtime,
            },
            size: entry.size,
            device: (entry.dev_major.unwrap_or(0), entry.dev_minor.unwrap_or(0)),
            capability: entry
                .xattrs
                .iter()
                .find(|(name, _)| name.as_ref() == b"security.capability")
                .map(|(_, value)| value.to_vec())
                .unwrap_or_default(),
        }
    }
}

fn pax_time(pax: &[u8]) -> Option<Timespec> {
    let extension = PaxExtensions::new(pax)
        .filter_map(Result::ok)
        .filter(|one| one.key() == Ok("mtime"))
        .last()?;
    let (whole, fraction) = extension
        .value()
        .ok()
        .map(|text| text.split_once('.').unwrap_or((text, "")))?;
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(Timespec {
        tv_sec: whole.parse().ok().filter(|s| *s >= 0)?,
        tv_nsec: nanos,
    })
}

/// The names of a path in an archive; `None` when it leads out.
fn clean(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop()?;
            }
            name => names.push(name.to_vec()),
        }
    }
    Some(names)
}

fn quoted(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}

fn unexpected_end() -> ExtractError {
    ExtractError::Archive("unexpected EOF".to_owned())
}

struct Stream<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Stream<R> {
    fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn fill(&mut self, wanted: usize) -> Result<bool, ExtractError> {
        if wanted > MAX_HEADER_BYTES {
            return Err(ExtractError::Archive(format!(
                "an entry's header is larger than {MAX_HEADER_BYTES} bytes"
            )));
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.end < wanted {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ExtractError::Archive(error.to_string())),
            }
        }
        Ok(true)
    }

    fn pass(
        &mut self,
        size: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ExtractError> {
        let mut left = size;
        while left > 0 {
            if self.start == self.end && !self.refill()? {
                return Err(unexpected_end());
            }
            let there = self.end - self.start;
            let now = usize::try_from(left).map_or(there, |left| left.min(there));
            take(&self.buffer[self.start..self.start + now])?;
            self.start += now;
            left -= now as u64;
        }
        // An archive may end before its last padding does.
        let mut left = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
        while left > 0 && (self.start < self.end || self.refill()?) {
            let now = left.min(self.end - self.start);
            self.start += now;
            left -= now;
        }
        Ok(())
    }

    fn skip(&mut self, size: u64) -> Result<(), ExtractError> {
        self.pass(size, |_| Ok(()))
    }

    fn refill(&mut self) -> Result<bool, ExtractError> {
        self.start = 0;
        self.end = 0;
        self.fill(1)
    }

    fn drain(&mut self) -> Result<(), ExtractError> {
        while self.refill()? {}
        Ok(())
    }
}

/// Whether a folder's file system is mounted read-only.
pub(crate) fn is_read_only(folder: impl AsFd) -> bool {
    fs::fstatvfs(folder).is_ok_and(|stat| stat.f_flag.contains(fs::StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;
    use crate::files::pack::Packer;
    use tar_core::builder::EntryBuilder;

    const ANY: Options = Options {
        keep_kinds: false,
        owner: None,
    };

    fn entry(name: &str, kind: EntryType, link: &str, data: &[u8]) -> Vec<u8> {
        let mut entry = EntryBuilder::new_ustar();
        entry.path(name).entry_type(kind);
        if !link.is_empty() {
            entry.link_name(link);
        }
        entry.mode(0o640).unwrap();
        entry.uid(nix::unistd::geteuid().as_raw().into()).unwrap();
        entry.gid(nix::unistd::getegid().as_raw().into()).unwrap();
        entry.mtime(1_000_000_000).unwrap();
        entry.size(data.len() as u64).unwrap();
        let mut bytes = entry.finish_bytes();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let top =
                std::env::temp_dir().join(format!("sockerless-{name}-{}", std::process::id()));
            std::fs::create_dir_all(top.join("in/dest")).unwrap();
            std::fs::write(top.join("in/secret"), "kept").unwrap();
            Self(top)
        }

        fn root(&self) -> Root {
            Root::at(&self.0.join("in"), false).unwrap()
        }

        fn dest(&self) -> Found {
            match self.root().find(b"dest", true).unwrap() {
                Search::Found(found) => found,
                Search::Missing(_) => unreachable!("it was made"),
            }
        }

        fn extract(&self, entries: &[Vec<u8>], options: Options) -> Result<(), String> {
            let bytes = entries.concat();
            extract(bytes.as_slice(), &self.dest(), options).map_err(|error| error.to_string())
        }

        fn read(&self, path: &str) -> Option<String> {
            std::fs::read_to_string(self.0.join("in").join(path)).ok()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn refused(name: &str, entries: &[Vec<u8>], why: &str) {
        let place = Place::new(name);
        let error = place.extract(entries, ANY).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert_eq!(place.read("secret").as_deref(), Some("kept"));
        let outside: Vec<_> = std::fs::read_dir(place.0.join("in")).unwrap().collect();
        assert_eq!(outside.len(), 2, "{outside:?}");
    }

    #[test]
    fn nothing_lands_outside() {
        use EntryType::{Link, Regular, Symlink};
        let evil = |name: &str| entry(name, Regular, "", b"evil");
        refused(
            "dotdot",
            &[evil("../secret")],
            "invalid entry name \"../secret\"",
        );
        refused("deepdots", &[evil("a/../../secret")], "invalid entry name");
        refused(
            "symlink",
            &[entry("s", Symlink, "..", b""), evil("s/secret")],
            "statat s: path escapes from parent",
        );
        refused(
            "chain",
            &[
                entry("a", Symlink, "b/..", b""),
                entry("b", Symlink, "../..", b""),
                evil("a/secret"),
            ],
            "path escapes from parent",
        );
        refused(
            "hard",
            &[entry("h", Link, "../secret", b"")],
            "invalid hardlink target",
        );
        refused(
            "missing",
            &[entry("h", Link, "nothing", b"")],
            "no such file",
        );
        refused(
            "unknown",
            &[entry("u", EntryType::new(b'Z'), "", b"")],
            "unhandled tar header type 90",
        );
        refused("garbage", &[b"garbage".to_vec()], "unexpected EOF");
        let mut huge = entry("huge", Regular, "", b"");
        let mut header = EntryBuilder::new_ustar();
        header
            .path("huge")
            .entry_type(Regular)
            .size(1 << 40)
            .unwrap();
        huge.splice(.., header.finish_bytes());
        refused("huge", &[huge], "unexpected EOF");
    }

    #[test]
    fn absolute_names_and_links_stay_inside() {
        use EntryType::{Regular, Symlink};
        let place = Place::new("absolute");
        symlink("../secret", place.0.join("in/dest/taken")).unwrap();
        let entries = [
            entry("/abs", Regular, "", b"1"),
            entry("s", Symlink, "/etc", b""),
            entry("s/file", Regular, "", b"2"),
            // A link in a file's place is replaced, never followed.
            entry("taken", Regular, "", b"3"),
            entry("new/deep/file", Regular, "", b"4"),
        ];
        place.extract(&entries, ANY).unwrap();
        for (path, content) in [
            ("dest/abs", "1"),
            ("dest/etc/file", "2"),
            ("dest/taken", "3"),
            ("dest/new/deep/file", "4"),
            ("secret", "kept"),
        ] {
            assert_eq!(place.read(path).as_deref(), Some(content), "{path}");
        }
    }

    #[test]
    fn kinds_are_kept_if_wanted() {
        use EntryType::{Directory, Regular};
        let place = Place::new("kinds");
        let keep = Options {
            keep_kinds: true,
            ..ANY
        };
        place
            .extract(&[entry("x", Regular, "", b"1")], ANY)
            .unwrap();
        let folder = [entry("x", Directory, "", b"")];
        assert_eq!(
            place.extract(&folder, keep).unwrap_err(),
            "cannot overwrite non-directory \"x\" with directory \"/dest\""
        );
        place.extract(&folder, ANY).unwrap();
        place
            .extract(&[entry("x/y", Regular, "", b"1")], keep)
            .unwrap();
        assert!(
            place
                .extract(&[entry("x", Regular, "", b"1")], keep)
                .is_err()
        );
        place
            .extract(&[entry("x", Regular, "", b"2")], ANY)
            .unwrap();
        assert_eq!(place.read("dest/x").as_deref(), Some("2"));
    }

    #[test]
    fn every_folder_has_its_time_however_many_there_are() {
        use EntryType::{Directory, Regular};
        let place = Place::new("times");
        let mut entries = Vec::new();
        for number in 0..1_500 {
            entries.push(entry(&format!("f{number}"), Directory, "", b""));
        }
        for number in 0..1_500 {
            entries.push(entry(&format!("f{number}/inner"), Regular, "", b"1"));
        }
        // One gives way to a file.
        entries.push(entry("f7", Regular, "", b"2"));
        place.extract(&entries, ANY).unwrap();
        let time = |name: &str| {
            let path = place.0.join("in/dest").join(name);
            std::fs::metadata(path).unwrap().modified().unwrap()
        };
        let expected = time("f7");
        for number in 0..1_500 {
            assert_eq!(time(&format!("f{number}")), expected, "f{number}");
        }
        assert_eq!(place.read("dest/f7").as_deref(), Some("2"));
    }

    #[test]
    fn what_was_packed_is_extracted_again() {
        let place = Place::new("around");
        let source = place.0.join("in/source");
        std::fs::create_dir_all(source.join("sub")).unwrap();
        std::fs::write(source.join("one"), "1").unwrap();
        std::fs::hard_link(source.join("one"), source.join("two")).unwrap();
        symlink("one", source.join("link")).unwrap();
        std::fs::write(source.join("sub").join("n".repeat(200)), vec![7; 1_000_000]).unwrap();
        let Search::Found(found) = place.root().find(b"source", true).unwrap() else {
            unreachable!("it was made")
        };
        let mut packer = Packer::new(Vec::new());
        packer.add(&place.root(), &found, b"copy", false).unwrap();
        let bytes = packer.finish().unwrap();
        extract(bytes.as_slice(), &place.dest(), ANY).unwrap();
        let copy = place.0.join("in/dest/copy");
        assert_eq!(std::fs::read(copy.join("two")).unwrap(), b"1");
        assert_eq!(
            std::fs::read_link(copy.join("link")).unwrap(),
            PathBuf::from("one")
        );
        assert_eq!(
            std::fs::read(copy.join("sub").join("n".repeat(200))).unwrap(),
            vec![7; 1_000_000]
        );
    }
}
