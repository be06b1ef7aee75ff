//! Names as paths.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::ports::blobs::BlobName;

/// Longest part of a path made of a name. A file system takes 255 bytes.
const PART_BYTES: usize = 200;

/// Where a blob is, below the store's folder. Different names have different
/// places, none of which is a folder on the way to another, for names have no
/// dots: `a/b` is `a/b.blob`, and a segment that is too long goes on in a folder
/// `….part`.
pub(super) fn relative(name: &BlobName) -> PathBuf {
    let mut path = PathBuf::new();
    let mut segments = name.as_str().split('/').peekable();
    while let Some(mut segment) = segments.next() {
        // Names are ASCII, so that every index is between characters.
        while segment.len() > PART_BYTES {
            let (part, rest) = segment.split_at(PART_BYTES);
            path.push(format!("{part}.part"));
            segment = rest;
        }
        if segments.peek().is_some() {
            path.push(segment);
        } else {
            path.push(format!("{segment}.blob"));
        }
    }
    path
}

/// Makes a folder and those above it, readable by their owner only. One that
/// exists is left as it is.
pub(super) fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The same without blocking.
pub(super) async fn make_private_folders(folder: &Path) -> io::Result<()> {
    tokio::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .await
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn place(name: &str) -> String {
        relative(&BlobName::new(name).unwrap())
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn names_become_paths() {
        assert_eq!(place("logs/0123"), "logs/0123.blob");
        assert_eq!(place("a"), "a.blob");
        let long = place(&"x".repeat(512));
        assert_eq!(
            long,
            format!(
                "{0}.part/{0}.part/{1}.blob",
                "x".repeat(200),
                "x".repeat(112)
            )
        );
    }

    #[test]
    fn no_place_is_anothers_or_on_the_way_to_it() {
        let x = |n| "x".repeat(n);
        let names = [
            "a".into(),
            "a/a".into(),
            "a/a/a".into(),
            "a-a".into(),
            "blob".into(),
            "part/a".into(),
            x(200),
            x(201),
            x(200) + "/x",
            x(400),
            x(401),
        ];
        let places: Vec<_> = names
            .iter()
            .map(|name: &String| relative(&BlobName::new(name.as_str()).unwrap()))
            .collect();
        let mut seen = HashSet::new();
        for place in &places {
            assert!(seen.insert(place), "{place:?} twice");
            assert!(
                !places
                    .iter()
                    .any(|other| other != place && other.starts_with(place)),
                "{place:?}"
            );
        }
    }

    #[test]
    fn what_is_no_name_never_becomes_a_path() {
        for text in [
            "",
            "/",
            "/etc/passwd",
            "../a",
            "a/../b",
            "a//b",
            "a/",
            "a.b",
            "a\0",
            "ä",
        ] {
            assert!(BlobName::new(text).is_err(), "{text:?}");
        }
    }
}
