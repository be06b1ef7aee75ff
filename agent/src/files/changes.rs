//! What a container changed in its root: `docker diff`.
//!
//! As Docker does it (moby's `archive.ChangesDirs`): what is new, what is gone, and what has
//! another type, mode, owner, device, capability, or, for what is no folder, another size
//! or time. A folder in which something changed counts as changed.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags, Stat};
use serde::Serialize;

use super::layers::Layers;
use super::pack::capability;
use super::root::{Found, Root, list, look, open, shown};

/// Folders in folders that are gone into: each keeps three descriptors open.
const MAX_DEPTH: usize = 300;

/// What happened to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is not what it was.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The names from the root.
    pub(crate) names: Vec<Vec<u8>>,
    /// What happened.
    pub(crate) kind: Kind,
}

/// Docker's `ContainerChangeResponseItem`.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    #[serde(rename = "Path")]
    path: String,
    #[serde(rename = "Kind")]
    kind: u8,
}

impl Change {
    /// As Docker tells it.
    pub(crate) fn told(&self) -> Told {
        Told {
            path: shown(&self.names),
            kind: match self.kind {
                Kind::Modified => 0,
                Kind::Added => 1,
                Kind::Deleted => 2,
            },
        }
    }
}

/// What was written over the image, folders before what is in them.
pub(crate) fn changes(layers: &Layers) -> io::Result<Vec<Change>> {
    let root = Root::of(layers.whole.try_clone()?);
    let mut found = Changes {
        root: &root,
        all: Vec::new(),
    };
    let (written, image) = (&layers.written, &layers.image);
    found.below(
        written,
        Some(image),
        Some(&layers.whole),
        &mut Vec::new(),
        0,
    )?;
    Ok(found.all)
}

/// All that is in a folder of which the image's own is not seen.
pub(crate) fn all_new(root: &Root, folder: &Found) -> io::Result<Vec<Change>> {
    let mut found = Changes {
        root,
        all: Vec::new(),
    };
    let mut names = folder.names.clone();
    found.below(&folder.fd, None, None, &mut names, 0)?;
    if !found.all.is_empty() {
        found.all.insert(
            0,
            Change {
                names,
                kind: Kind::Modified,
            },
        );
    }
    Ok(found.all)
}

struct Changes<'a> {
    root: &'a Root,
    all: Vec<Change>,
}

impl Changes<'_> {
    /// Compares a folder that was written to with the image's, and with what is seen of both.
    fn below(
        &mut self,
        written: &OwnedFd,
        image: Option<&OwnedFd>,
        together: Option<&OwnedFd>,
        names: &mut Vec<Vec<u8>>,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!(
                "folders lie deeper than {MAX_DEPTH} in each other"
            )));
        }
        let entries = list(written)?;
        for entry in &entries {
            names.push(entry.clone());
            if !self.root.hides(names) {
                self.entry(entry, written, image, together, names, depth)?;
            }
            names.pop();
        }
        let (Some(image), Some(together)) = (image, together) else {
            return Ok(());
        };
        // A folder that was removed and made again hides all that the image has in it;
        // only what is seen of it says so to everybody.
        let entries: HashSet<_> = entries.into_iter().collect();
        for entry in list(image)? {
            if !entries.contains(&entry) && look(together, &entry)?.is_none() {
                names.push(entry);
                if !self.root.hides(names) {
                    self.add(names, Kind::Deleted);
                }
                names.pop();
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        entry: &[u8],
        written: &OwnedFd,
        image: Option<&OwnedFd>,
        together: Option<&OwnedFd>,
        names: &mut Vec<Vec<u8>>,
        depth: usize,
    ) -> io::Result<()> {
        // What goes meanwhile is no change.
        let Some(new) = look(written, entry)? else {
            return Ok(());
        };
        let old = match image {
            Some(image) => look(image, entry)?,
            None => None,
        };
        let start = self.all.len();
        let gone = is_whiteout(&new);
        match &old {
            None if gone => return Ok(()),
            None => self.add(names, Kind::Added),
            Some(_) if gone => {
                self.add(names, Kind::Deleted);
                return Ok(());
            }
            Some(old) => {
                if differ(old, &new)
                    || image.is_some_and(|image| capabilities_differ(image, written, entry, &new))
                {
                    self.add(names, Kind::Modified);
                }
            }
        }
        let said = self.all.len() > start;
        let old_folder = match (image, &old) {
            (Some(image), Some(old)) if is_folder(old) => folder(image, entry)?,
            _ => None,
        };
        if is_folder(&new) {
            let Some(inner) = folder(written, entry)? else {
                return Ok(());
            };
            let seen = match (together, &old_folder) {
                (Some(together), Some(_)) => folder(together, entry)?,
                _ => None,
            };
            self.below(&inner, old_folder.as_ref(), seen.as_ref(), names, depth + 1)?;
            if !said && self.all.len() > start {
                let change = Change {
                    names: names.clone(),
                    kind: Kind::Modified,
                };
                self.all.insert(start, change);
            }
        }
        // What was in a folder in whose place is a file now goes without saying.
        Ok(())
    }

    fn add(&mut self, names: &[Vec<u8>], kind: Kind) {
        self.all.push(Change {
            names: names.to_vec(),
            kind,
        });
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn folder(above: impl AsFd, name: &[u8]) -> io::Result<Option<OwnedFd>> {
    match open(above, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(file) => Ok(Some(file.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn differ(old: &Stat, new: &Stat) -> bool {
    let owned = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    // Some file systems and archives keep whole seconds.
    let same_time = old.st_mtime == new.st_mtime
        && (old.st_mtime_nsec == new.st_mtime_nsec
            || old.st_mtime_nsec == 0
            || new.st_mtime_nsec == 0);
    owned(old) != owned(new) || !is_folder(old) && (!same_time || old.st_size != new.st_size)
}

fn capabilities_differ(image: &OwnedFd, written: &OwnedFd, entry: &[u8], new: &Stat) -> bool {
    let of = |folder: &OwnedFd| {
        open(folder, entry, OFlags::RDONLY)
            .map(capability)
            .unwrap_or_default()
    };
    FileType::from_raw_mode(new.st_mode) == FileType::RegularFile && of(image) != of(written)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let top =
                std::env::temp_dir().join(format!("sockerless-{name}-{}", std::process::id()));
            for half in ["image", "written", "together"] {
                fs::create_dir_all(top.join(half)).unwrap();
            }
            Self(top)
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.join(path)
        }

        fn told(&self) -> Vec<String> {
            let layers = Layers {
                image: fs::File::open(self.path("image")).unwrap().into(),
                written: fs::File::open(self.path("written")).unwrap().into(),
                whole: fs::File::open(self.path("together")).unwrap().into(),
            };
            let told = changes(&layers).unwrap();
            told.iter()
                .map(|change| {
                    let Told { path, kind } = change.told();
                    format!("{}{path}", ["C", "A", "D"][usize::from(kind)])
                })
                .collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
        let time = fs::metadata(from).unwrap().modified().unwrap();
        fs::File::options()
            .write(true)
            .open(to)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    #[test]
    fn what_was_written_is_told_and_nothing_else() {
        let place = Place::new("changes");
        write(place.path("image/etc/conf"), "old");
        write(place.path("image/etc/same"), "same");
        write(place.path("image/opt/a"), "a");
        write(place.path("image/remade/in"), "in");
        write(place.path("image/remade/kept"), "x");
        symlink("a", place.path("image/link")).unwrap();
        write(place.path("written/etc/conf"), "newer");
        copy(
            &place.path("image/etc/same"),
            &place.path("written/etc/same"),
        );
        write(place.path("written/new/deep/file"), "n");
        write(place.path("written/.sockerless/agent"), "no");
        symlink("b", place.path("written/link")).unwrap();
        // Opened by nobody: a folder that only its time tells from the image's.
        fs::create_dir_all(place.path("written/opt")).unwrap();
        // What is seen of a folder that was removed and made again.
        write(place.path("written/remade/kept"), "yy");
        write(place.path("together/remade/kept"), "yy");
        write(place.path("together/opt/a"), "a");
        write(place.path("together/etc/conf"), "newer");
        assert_eq!(
            place.told(),
            [
                "C/etc",
                "C/etc/conf",
                "C/link",
                "A/new",
                "A/new/deep",
                "A/new/deep/file",
                "C/remade",
                "C/remade/kept",
                "D/remade/in"
            ]
        );
        fs::set_permissions(place.path("written/opt"), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(place.told().contains(&"C/opt".to_owned()));
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_and_the_other_way() {
        let place = Place::new("kinds-changed");
        write(place.path("image/was-file"), "f");
        write(place.path("image/was-folder/one"), "1");
        write(place.path("written/was-file/inside"), "i");
        write(place.path("written/was-folder"), "f");
        assert_eq!(
            place.told(),
            ["C/was-file", "A/was-file/inside", "C/was-folder"]
        );
    }

    #[test]
    fn below_a_folder_whose_image_nobody_sees_all_is_new() {
        let place = Place::new("all-new");
        let root = Root::at(&place.path("together"), false).unwrap();
        fs::create_dir_all(place.path("together/tmp")).unwrap();
        let told = || {
            let super::super::root::Search::Found(found) = root.find(b"tmp", true).unwrap() else {
                unreachable!("it was made")
            };
            all_new(&root, &found).unwrap()
        };
        assert_eq!(told(), []);
        write(place.path("together/tmp/d/f"), "1");
        let kinds: Vec<_> = told().iter().map(|change| change.kind).collect();
        assert_eq!(kinds, [Kind::Modified, Kind::Added, Kind::Added]);
    }
}
