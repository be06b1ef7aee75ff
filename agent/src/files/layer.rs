//! What a container wrote, as a layer of an image: `docker commit`.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::OFlags;

use super::changes::{Kind, changes};
use super::layers::Layers;
use super::pack::Packer;
use super::root::open;
use crate::spool::nameless_file;

/// What stands before the name of what a layer removes (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// Packs and compresses the layer into a nameless file in `folder`; the file, and its length
/// in bytes. May take long.
///
/// # Errors
/// When something cannot be read or there is no room.
pub(crate) fn layer(layers: &Layers, folder: &Path) -> io::Result<(File, u64)> {
    let encoder = GzEncoder::new(nameless_file(folder)?, Compression::default());
    let mut file = pack(layers, encoder)?.finish()?;
    file.flush()?;
    let length = file.stream_position()?;
    file.rewind()?;
    Ok((file, length))
}

fn pack<W: Write>(layers: &Layers, out: W) -> io::Result<W> {
    let mut packer = Packer::new(out);
    for change in changes(layers)? {
        let Some((last, above)) = change.names.split_last() else {
            continue;
        };
        let mut name = above.join(&b'/');
        if !name.is_empty() {
            name.push(b'/');
        }
        match change.kind {
            Kind::Deleted => {
                name.extend_from_slice(WHITEOUT);
                name.extend_from_slice(last);
                packer.add_mark(&name)?;
            }
            Kind::Added | Kind::Modified => {
                name.extend_from_slice(last);
                let folder = descend(&layers.written, above)?;
                packer.add_one(&folder, last, &name)?;
            }
        }
    }
    packer.finish()
}

/// A folder below another one, name by name: no link is followed.
fn descend(from: &OwnedFd, names: &[Vec<u8>]) -> io::Result<OwnedFd> {
    let mut here = from.try_clone()?;
    for name in names {
        here = open(here.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY)?.into();
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::extract::{Options, extract};
    use super::super::root::{Root, Search};
    use super::*;

    #[test]
    fn a_layer_has_what_was_written_and_marks_what_was_removed() {
        let top = std::env::temp_dir().join(format!("sockerless-layer-{}", std::process::id()));
        for folder in [
            "image/etc",
            "written/etc/remade",
            "together/etc/remade",
            "out",
        ] {
            fs::create_dir_all(top.join(folder)).unwrap();
        }
        fs::create_dir_all(top.join("image/etc/remade")).unwrap();
        fs::write(top.join("image/etc/remade/gone"), "old").unwrap();
        fs::write(top.join("written/etc/new"), "new").unwrap();
        fs::hard_link(top.join("written/etc/new"), top.join("written/etc/too")).unwrap();
        let layers = Layers {
            image: File::open(top.join("image")).unwrap().into(),
            written: File::open(top.join("written")).unwrap().into(),
            whole: File::open(top.join("together")).unwrap().into(),
        };
        let (file, length) = layer(&layers, &top).unwrap();
        assert_eq!(file.metadata().unwrap().len(), length);
        let out = Root::at(&top.join("out"), false).unwrap();
        let Search::Found(found) = out.find(b"/", true).unwrap() else {
            unreachable!("it was made")
        };
        let options = Options {
            keep_kinds: false,
            owner: None,
        };
        extract(file, &found, options).unwrap();
        assert_eq!(fs::read(top.join("out/etc/too")).unwrap(), b"new");
        assert!(top.join("out/etc/remade/.wh.gone").exists());
        fs::remove_dir_all(top).unwrap();
    }
}
