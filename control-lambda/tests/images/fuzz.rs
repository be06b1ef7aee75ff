//! Layers that were damaged at random: no panic, no endless loop.

use proptest::prelude::*;
use sockerless_control::images::layer;

use super::archives::{Tar, gzip};

fn whole() -> Vec<u8> {
    Tar::new()
        .folder("a/")
        .file("a/b", b"some content")
        .symlink("a/c", "b")
        .hard_link("a/d", "a/b")
        .file("a/.wh.e", b"")
        .pax(&[("SCHILY.xattr.user.x", b"y"), ("mtime", b"1.5")])
        .file(&"long".repeat(60), b"x")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"4096"),
        ])
        .file(
            "GNUSparseFile.0/sparse",
            &[&b"1\n100\n4\n"[..], &[0; 504], b"data"].concat(),
        )
        .end()
}

/// Makes every block's checksum right, or most damage would be seen by it alone.
fn with_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_headers(damage in proptest::collection::vec((0usize..8192, any::<u8>()), 1..8)) {
        let mut bytes = whole();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        with_checksums(&mut bytes);
        let _ = layer::check(&bytes);
    }

    #[test]
    fn damaged_streams(at in 0usize..4096, byte in any::<u8>(), cut in 0usize..4096) {
        let mut bytes = gzip(&whole());
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut.max(10));
        let _ = layer::check(&bytes);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = layer::check(&bytes);
    }
}

#[test]
fn the_undamaged_one_is_read() {
    let read = layer::check(&whole()).unwrap();
    assert_eq!(read.entries, 7);
    let mut again = whole();
    with_checksums(&mut again);
    assert_eq!(layer::check(&again).unwrap().entries, 7);
}
