//! A layer written anew, so that it keeps the rules of [`super::strict`]: folders that have
//! no entry get one, devices are left out, holes become zeroes. The rest stays as it is, in
//! its order; the same layer makes the same bytes.

use std::collections::HashSet;
use std::io::{self, Write};

use super::{Attributes, LayerError, LayerPath, LayerSink};

const BLOCK: u64 = 512;
/// Largest number in a header's field for the size: eleven octal digits.
const MAX_OCTAL_SIZE: u64 = 0o77_777_777_777;

/// Writes a tar.
#[derive(Debug)]
pub struct Repack<W> {
    out: W,
    folders: HashSet<LayerPath>,
    /// Size of the present file, and how much of it is written.
    size: u64,
    written: u64,
}

impl<W: Write> Repack<W> {
    /// To this writer, which is complete after [`LayerSink::finish`].
    pub fn new(out: W) -> Self {
        Self {
            out,
            folders: HashSet::new(),
            size: 0,
            written: 0,
        }
    }

    /// The writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// Entries for the folders above, as Docker makes folders that have none.
    fn parents(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        let mut missing = Vec::new();
        let mut parent = path.parent();
        while !parent.is_root() && !self.folders.contains(&parent) {
            missing.push(parent.clone());
            parent = parent.parent();
        }
        let plain = Attributes {
            mode: 0o755,
            ..Attributes::default()
        };
        for folder in missing.into_iter().rev() {
            self.entry(&folder, tar::EntryType::Directory, &plain, 0, b"")?;
            self.folders.insert(folder);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &LayerPath,
        kind: tar::EntryType,
        attributes: &Attributes,
        size: u64,
        link: &[u8],
    ) -> Result<(), LayerError> {
        let mut name = path.as_bytes().to_vec();
        if path.is_root() {
            name.push(b'.');
        }
        if kind == tar::EntryType::Directory {
            name.push(b'/');
        }
        self.named(&name, kind, attributes, size, link)
            .map_err(|error| LayerError::Storage(format!("{path}: {error}")))
    }

    fn named(
        &mut self,
        name: &[u8],
        kind: tar::EntryType,
        attributes: &Attributes,
        size: u64,
        link: &[u8],
    ) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        let mut extensions = Vec::new();
        let old = header.as_old_mut();
        if !fits(name, &mut old.name) {
            extension(&mut extensions, b"path", name);
        }
        if !fits(link, &mut old.linkname) {
            extension(&mut extensions, b"linkpath", link);
        }
        let seconds = u64::try_from(attributes.mtime_s).unwrap_or(0);
        for (key, number) in [
            (&b"size"[..], size),
            (b"uid", attributes.uid.into()),
            (b"gid", attributes.gid.into()),
        ] {
            let most = if key == b"size" {
                MAX_OCTAL_SIZE
            } else {
                0o7_777_777
            };
            if number > most {
                extension(&mut extensions, key, number.to_string().as_bytes());
            }
        }
        if attributes.mtime_ns > 0 || attributes.mtime_s < 0 {
            let time = format!("{}.{:09}", attributes.mtime_s, attributes.mtime_ns);
            // What is before 1970 is as good as 1970 to a container.
            if attributes.mtime_s >= 0 {
                extension(&mut extensions, b"mtime", time.as_bytes());
            }
        }
        for (key, value) in &attributes.xattrs {
            let key = [b"SCHILY.xattr.", &key[..]].concat();
            extension(&mut extensions, &key, value);
        }
        if !extensions.is_empty() {
            let mut pax = tar::Header::new_ustar();
            pax.set_entry_type(tar::EntryType::XHeader);
            fits(b"PaxHeaders.0/entry", &mut pax.as_old_mut().name);
            pax.set_mode(0o644);
            pax.set_uid(0);
            pax.set_gid(0);
            pax.set_mtime(0);
            pax.set_size(extensions.len() as u64);
            pax.set_cksum();
            self.out.write_all(pax.as_bytes())?;
            self.out.write_all(&extensions)?;
            zeroes(&mut self.out, padding(extensions.len() as u64))?;
        }
        header.set_entry_type(kind);
        header.set_mode(attributes.mode);
        header.set_uid(u64::from(attributes.uid).min(0o7_777_777));
        header.set_gid(u64::from(attributes.gid).min(0o7_777_777));
        header.set_mtime(seconds.min(MAX_OCTAL_SIZE));
        header.set_size(size.min(MAX_OCTAL_SIZE));
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn marker(&mut self, folder: &LayerPath, name: &[u8]) -> Result<(), LayerError> {
        let joined = if folder.is_root() {
            name.to_vec()
        } else {
            [folder.as_bytes(), b"/", name].concat()
        };
        let path = LayerPath::new(&joined)?;
        self.parents(&path)?;
        let plain = Attributes {
            mode: 0o644,
            ..Attributes::default()
        };
        self.entry(&path, tar::EntryType::Regular, &plain, 0, b"")
    }
}

impl<W: Write> LayerSink for Repack<W> {
    fn directory(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), LayerError> {
        self.parents(path)?;
        self.folders.insert(path.clone());
        self.entry(path, tar::EntryType::Directory, attributes, 0, b"")
    }

    fn file(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        size: u64,
    ) -> Result<(), LayerError> {
        self.parents(path)?;
        (self.size, self.written) = (size, 0);
        self.entry(path, tar::EntryType::Regular, attributes, size, b"")
    }

    fn file_data(&mut self, offset: u64, data: &[u8]) -> Result<(), LayerError> {
        let hole = offset.saturating_sub(self.written);
        let write = zeroes(&mut self.out, hole).and_then(|()| self.out.write_all(data));
        self.written = offset.saturating_add(data.len() as u64);
        write.map_err(|error| LayerError::Storage(error.to_string()))
    }

    fn file_end(&mut self) -> Result<(), LayerError> {
        let rest = self.size.saturating_sub(self.written) + padding(self.size);
        zeroes(&mut self.out, rest).map_err(|error| LayerError::Storage(error.to_string()))
    }

    fn symlink(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        target: &[u8],
    ) -> Result<(), LayerError> {
        self.parents(path)?;
        self.entry(path, tar::EntryType::Symlink, attributes, 0, target)
    }

    fn hard_link(&mut self, path: &LayerPath, target: &LayerPath) -> Result<(), LayerError> {
        self.parents(path)?;
        let plain = Attributes::default();
        self.entry(path, tar::EntryType::Link, &plain, 0, target.as_bytes())
    }

    fn fifo(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), LayerError> {
        self.parents(path)?;
        self.entry(path, tar::EntryType::Fifo, attributes, 0, b"")
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        let name = [b".wh.", path.file_name()].concat();
        self.marker(&path.parent(), &name)
    }

    fn opaque(&mut self, directory: &LayerPath) -> Result<(), LayerError> {
        self.marker(directory, b".wh..wh..opq")
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        let end = zeroes(&mut self.out, 2 * BLOCK).and_then(|()| self.out.flush());
        end.map_err(|error| LayerError::Storage(error.to_string()))
    }
}

/// Puts a text into a field, as much as fits; whether all of it did.
fn fits(text: &[u8], field: &mut [u8; 100]) -> bool {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    text.len() <= field.len()
}

/// `<length> <key>=<value>\n`, where the length counts its own digits.
fn extension(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

fn zeroes(out: &mut impl Write, mut bytes: u64) -> io::Result<()> {
    const ZEROES: [u8; 4096] = [0; 4096];
    while bytes > 0 {
        let now = usize::try_from(bytes).map_or(ZEROES.len(), |bytes| bytes.min(ZEROES.len()));
        out.write_all(&ZEROES[..now])?;
        bytes -= now as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::strict::Strict;
    use super::super::{LayerLimits, read};
    use super::*;

    /// A tar with everything that breaks a rule, and long names.
    fn unruly() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind, link: &str, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o640);
            header.set_uid(7);
            header.set_gid(3_000_000);
            header.set_mtime(1_704_067_200);
            header.set_size(data.len() as u64);
            if link.is_empty() {
                tar.append_data(&mut header, name, data).unwrap();
            } else {
                tar.append_link(&mut header, name, link).unwrap();
            }
        };
        let long = "n".repeat(150);
        add("a/b/file", tar::EntryType::Regular, "", b"text");
        add(
            &format!("a/{long}/{long}"),
            tar::EntryType::Regular,
            "",
            &[7; 1000],
        );
        add("a/link", tar::EntryType::Link, "a/b/file", b"");
        add("a/soft", tar::EntryType::Symlink, &long, b"");
        add("dev/null", tar::EntryType::Char, "", b"");
        add("gone/.wh.old", tar::EntryType::Regular, "", b"");
        add("hidden/.wh..wh..opq", tar::EntryType::Regular, "", b"");
        tar.into_inner().unwrap()
    }

    fn breaks(tar: &[u8]) -> bool {
        let mut strict = Strict::default();
        read(tar, None, LayerLimits::default(), &mut strict).unwrap();
        strict.breaks()
    }

    fn repacked(tar: &[u8]) -> Vec<u8> {
        let mut repack = Repack::new(Vec::new());
        read(tar, None, LayerLimits::default(), &mut repack).unwrap();
        repack.into_inner()
    }

    /// What a layer says, one line an entry.
    fn told(tar: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            io::Read::read_to_end(&mut entry, &mut content).unwrap();
            let path = entry.path().unwrap().display().to_string();
            let link = entry.link_name().unwrap().map(|l| l.display().to_string());
            let header = entry.header();
            format!(
                "{path} {:?} {link:?} {:o} {} {}",
                header.entry_type(),
                header.mode().unwrap(),
                header.uid().unwrap(),
                content.len()
            )
        });
        entries.collect()
    }

    #[test]
    fn an_unruly_layer_is_made_to_keep_the_rules() {
        let tar = unruly();
        assert!(breaks(&tar));
        let new = repacked(&tar);
        assert!(!breaks(&new));
        assert_eq!(repacked(&tar), new);
        // What keeps the rules is not changed by doing it again.
        assert_eq!(repacked(&new), new);
        let long = "n".repeat(150);
        assert_eq!(
            told(&new),
            [
                "a/ Directory None 755 0 0".to_owned(),
                "a/b/ Directory None 755 0 0".to_owned(),
                "a/b/file Regular None 640 7 4".to_owned(),
                format!("a/{long}/ Directory None 755 0 0"),
                format!("a/{long}/{long} Regular None 640 7 1000"),
                "a/link Link Some(\"a/b/file\") 0 0 0".to_owned(),
                format!("a/soft Symlink Some({long:?}) 640 7 0"),
                "gone/ Directory None 755 0 0".to_owned(),
                "gone/.wh.old Regular None 644 0 0".to_owned(),
                "hidden/ Directory None 755 0 0".to_owned(),
                "hidden/.wh..wh..opq Regular None 644 0 0".to_owned(),
            ]
        );
    }

    #[test]
    fn attributes_are_kept() {
        let attributes = Attributes {
            mode: 0o4755,
            uid: 5_000_000,
            gid: 4,
            mtime_s: 1_704_067_200,
            mtime_ns: 5,
            xattrs: vec![(b"user.key".to_vec(), vec![0, 255])],
        };
        let mut repack = Repack::new(Vec::new());
        let path = LayerPath::new(b"file").unwrap();
        repack.file(&path, &attributes, 10).unwrap();
        repack.file_data(4, b"data").unwrap();
        repack.file_end().unwrap();
        repack.finish().unwrap();
        let tar = repack.into_inner();
        // Done again it is the same, which it could not be if anything were lost on the way.
        assert_eq!(repacked(&tar), tar);
        let mut archive = tar::Archive::new(&tar[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let extensions: Vec<(String, Vec<u8>)> = entry
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|extension| {
                let extension = extension.unwrap();
                let key = extension.key().unwrap().to_owned();
                (key, extension.value_bytes().to_vec())
            })
            .collect();
        let expected = [
            ("uid", &b"5000000"[..]),
            ("mtime", b"1704067200.000000005"),
            ("SCHILY.xattr.user.key", &[0, 255]),
        ];
        assert_eq!(
            extensions,
            expected.map(|(key, value)| (key.to_owned(), value.to_vec()))
        );
        assert_eq!(entry.header().mode().unwrap(), 0o4755);
        let mut content = Vec::new();
        io::Read::read_to_end(&mut entry, &mut content).unwrap();
        assert_eq!(content, b"\0\0\0\0data\0\0");
    }
}
