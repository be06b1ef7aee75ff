//! Keeping `/tmp` in the blob store while no environment has it, and laying it down again.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{FileType, OFlags};
use sockerless_shared::protocol::kept::{Kept, MAX_KEPT_BYTES, MAX_KEPT_ENTRIES};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::channel::{Received, WAITING_PIECES};
use super::extract::{Options, extract};
use super::pack::Packer;
use super::root::{Root, Search, list, look, open};
use crate::cleanup::Scratch;
use crate::net::http::{get, put_file};
use crate::spool::nameless_file;

/// Folders in folders that are counted; packing goes as deep.
const MAX_DEPTH: usize = 400;

/// Puts all that a container left in `scratch` where `url` says. Called when nothing
/// changes it any more, and before it is emptied.
pub(crate) async fn keep(scratch: &Scratch, url: &str, within: Duration) -> Kept {
    match try_keep(scratch, url, within).await {
        Ok(kept) => kept,
        Err(error) => Kept::Lost {
            reason: error.to_string(),
        },
    }
}

async fn try_keep(scratch: &Scratch, url: &str, within: Duration) -> io::Result<Kept> {
    let Some(counted) = count(scratch)? else {
        return Ok(Kept::Nothing);
    };
    if counted.bytes > MAX_KEPT_BYTES || counted.entries > MAX_KEPT_ENTRIES {
        return Ok(Kept::TooMuch {
            bytes: counted.bytes,
            entries: counted.entries,
        });
    }
    let url = url.parse().map_err(io::Error::other)?;
    let scratch = scratch.clone();
    let (file, bytes) = spawn_blocking(move || pack(&scratch))
        .await
        .map_err(io::Error::other)??;
    put_file(&url, &file, bytes, within).await?;
    Ok(Kept::Stored { bytes })
}

/// What there is to keep.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    bytes: u64,
    entries: u64,
}

/// Counts until it is more than is kept; `None` where there is nothing.
fn count(scratch: &Scratch) -> io::Result<Option<Counted>> {
    let mut counted = Counted::default();
    let top = top(scratch.folder())?;
    below(&top, &|name| scratch.spares(name), &mut counted, 0)?;
    Ok((counted.entries > 0).then_some(counted))
}

fn below(
    folder: &OwnedFd,
    skip: &dyn Fn(&[u8]) -> bool,
    counted: &mut Counted,
    depth: usize,
) -> io::Result<()> {
    for name in list(folder)? {
        if skip(&name) || counted.entries > MAX_KEPT_ENTRIES {
            continue;
        }
        let Some(stat) = look(folder, &name)? else {
            continue;
        };
        counted.entries += 1;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth < MAX_DEPTH => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                // What its owner cannot read is counted when it is packed, by its size there.
                if let Ok(inner) = open(folder, &name, flags) {
                    below(&inner.into(), &|_| false, counted, depth + 1)?;
                }
            }
            FileType::RegularFile => {
                counted.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(())
}

fn pack(scratch: &Scratch) -> io::Result<(File, u64)> {
    let encoder = GzEncoder::new(nameless_file(scratch.folder())?, Compression::fast());
    let mut packer = Packer::new(encoder).insisting();
    packer.add_inside(&top(scratch.folder())?, &|name| scratch.spares(name))?;
    let mut file = packer.finish()?.finish()?;
    file.flush()?;
    let length = file.stream_position()?;
    Ok((file, length))
}

fn top(folder: &Path) -> io::Result<OwnedFd> {
    Root::at(folder, false)?.folder().try_clone()
}

/// Lays what is at `url` down in `folder`.
///
/// # Errors
/// When it is not there, or has no room.
pub(crate) async fn lay(url: &str, folder: &Path, within: Duration) -> io::Result<()> {
    let url = url.parse().map_err(io::Error::other)?;
    let root = Root::at(folder, false)?;
    let (pieces, received) = mpsc::channel(WAITING_PIECES);
    let extraction = spawn_blocking(move || {
        let Search::Found(found) = root.find(b"/", true)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let options = Options {
            keep_kinds: false,
            owner: None,
        };
        extract(Received::new(received), &found, options)
            .map_err(|error| io::Error::other(error.to_string()))
    });
    let laid = async {
        get(&url, pieces).await?;
        extraction.await.map_err(io::Error::other)?
    };
    let late = |_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not done within {within:?}"),
        )
    };
    timeout(within, laid).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("sockerless-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_packed_is_all_but_what_was_there_before() {
        let (from, to) = (folder("kept-from"), folder("kept-to"));
        fs::write(from.join("before"), "theirs").unwrap();
        let scratch = Scratch::note(&from);
        assert_eq!(count(&scratch).unwrap(), None);
        fs::create_dir_all(from.join("d/sub")).unwrap();
        fs::write(from.join("d/before"), "kept").unwrap();
        fs::write(from.join("d/sub/shut"), "hidden").unwrap();
        fs::set_permissions(from.join("d/sub/shut"), Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(from.join("d/sub"), Permissions::from_mode(0o0)).unwrap();
        let counted = count(&scratch).unwrap().unwrap();
        assert!(counted.entries >= 3 && counted.bytes >= 4, "{counted:?}");
        let (file, length) = pack(&scratch).unwrap();
        assert_eq!(file.metadata().unwrap().len(), length);
        let mut file = file;
        file.rewind().unwrap();
        let root = Root::at(&to, false).unwrap();
        let Search::Found(found) = root.find(b"/", true).unwrap() else {
            unreachable!("it was made")
        };
        let options = Options {
            keep_kinds: false,
            owner: None,
        };
        extract(file, &found, options).unwrap();
        assert!(!to.join("before").exists());
        assert_eq!(fs::read(to.join("d/before")).unwrap(), b"kept");
        let mode = fs::metadata(to.join("d/sub")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0);
        fs::set_permissions(to.join("d/sub"), Permissions::from_mode(0o700)).unwrap();
        let mode = fs::metadata(to.join("d/sub/shut")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0);
        fs::remove_dir_all(from).unwrap();
        fs::remove_dir_all(to).unwrap();
    }
}
