//! What is unpacked is what the layer says.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::archives::{Tar, docker_archive, gzip, image, zstd};
use super::setup::place;

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

fn is_opaque(path: &Path) -> bool {
    xattr(path, "trusted.overlay.opaque")
        .or_else(|| xattr(path, "user.overlay.opaque"))
        .is_some_and(|value| value == b"y")
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

#[tokio::test]
async fn files_links_modes_and_times_are_kept() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let layer = Tar::new()
        .folder("./")
        .folder("bin/")
        .raw("bin/tool", b'0', "", 0o4755, b"program")
        .hard_link("bin/same", "bin/tool")
        .symlink("bin/soft", "tool")
        .symlink("bin/absolute", "/etc/x")
        .symlink("lib", "usr/lib")
        .folder("usr/lib/")
        .file("lib/through-link", b"inside")
        .file(&long, b"long")
        .raw("locked/", b'5', "", 0o500, b"")
        .file("locked/file", b"in a folder that cannot be written")
        .raw("pipe", b'6', "", 0o600, b"")
        .raw("dev/sda", b'4', "", 0o600, b"")
        .raw("dev/null", b'3', "", 0o666, b"")
        .end();
    let place = place();
    place.load(&image("x:1", &[layer])).await.unwrap();
    let root = place.layers_of("x:1").await.remove(0);
    let tool = fs::metadata(root.join("bin/tool")).unwrap();
    assert_eq!(tool.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(tool.mtime(), 1_704_067_200);
    assert_eq!(
        tool.ino(),
        fs::metadata(root.join("bin/same")).unwrap().ino()
    );
    let link = |name: &str| fs::read_link(root.join(name)).unwrap();
    assert_eq!(link("bin/soft"), Path::new("tool"));
    assert_eq!(link("bin/absolute"), Path::new("/etc/x"));
    let through = fs::read(root.join("usr/lib/through-link")).unwrap();
    assert_eq!(through, b"inside");
    assert_eq!(fs::read(root.join(&long)).unwrap(), b"long");
    let locked = fs::metadata(root.join("locked")).unwrap();
    assert_eq!(locked.permissions().mode() & 0o7777, 0o500);
    assert_eq!(locked.mtime(), 1_704_067_200);
    let pipe = fs::metadata(root.join("pipe")).unwrap();
    assert!(pipe.file_type().is_fifo());
    // Devices are the runtime's affair.
    assert!(!root.join("dev/sda").exists());
    assert!(!root.join("dev/null").exists());
}

#[tokio::test]
async fn whiteouts_become_overlays() {
    let lower = Tar::new()
        .file("etc/motd", b"hello")
        .file("srv/old/below", b"below")
        .file("opt/a/b", b"b")
        .end();
    let upper = Tar::new()
        .file("etc/.wh.motd", b"")
        .folder("srv/old/")
        .file("srv/old/.wh..wh..opq", b"")
        .file("srv/old/above", b"above")
        // Hidden, and then there again: nothing of the lower one shows.
        .file("opt/.wh.a", b"")
        .folder("opt/a/")
        .file("opt/a/c", b"c")
        // The same in the other order.
        .folder("var/d/")
        .file("var/.wh.d", b"")
        .file(".wh..wh.aufs", b"bookkeeping")
        .file("not.wh.one", b"plain")
        .end();
    let place = place();
    place.load(&image("x", &[lower, upper])).await.unwrap();
    let layers = place.layers_of("x").await;
    let root = &layers[1];
    assert!(is_whiteout(&root.join("etc/motd")));
    assert!(!root.join("etc/.wh.motd").exists());
    assert!(is_opaque(&root.join("srv/old")));
    assert_eq!(fs::read(root.join("srv/old/above")).unwrap(), b"above");
    assert!(!root.join("srv/old/.wh..wh..opq").exists());
    assert!(is_opaque(&root.join("opt/a")));
    assert!(is_opaque(&root.join("var/d")));
    assert!(!root.join(".wh..wh.aufs").exists());
    assert!(root.join("not.wh.one").exists());
    assert!(!is_opaque(&root.join("etc")));
}

#[tokio::test]
async fn later_entries_replace_earlier_ones() {
    let layer = Tar::new()
        .folder("a/")
        .file("a/inside", b"1")
        .file("a", b"now a file")
        .file("b", b"1")
        .folder("b/")
        .file("b/inside", b"2")
        .symlink("c", "/etc")
        .file("c", b"no longer a link")
        .file("d", b"1")
        .file("d", b"22")
        .end();
    let place = place();
    place.load(&image("x", &[layer])).await.unwrap();
    let root = place.layers_of("x").await.remove(0);
    assert_eq!(fs::read(root.join("a")).unwrap(), b"now a file");
    assert_eq!(fs::read(root.join("b/inside")).unwrap(), b"2");
    assert!(fs::symlink_metadata(root.join("c")).unwrap().is_file());
    assert_eq!(fs::read(root.join("d")).unwrap(), b"22");
    let unpacking = place.folder.path().join("layers/unpacking");
    assert_eq!(fs::read_dir(unpacking).unwrap().count(), 0);
}

#[tokio::test]
async fn attributes_are_kept_but_overlays_own() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Tar::new()
        .pax(&[
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("mtime", b"1704067200.25"),
        ])
        .file("ping", b"x")
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .folder("folder/")
        .end();
    let place = place();
    place.load(&image("x", &[layer])).await.unwrap();
    let root = place.layers_of("x").await.remove(0);
    let ping = root.join("ping");
    assert_eq!(xattr(&ping, "user.note").unwrap(), b"kept");
    if rustix::process::geteuid().is_root() {
        assert_eq!(xattr(&ping, "security.capability").unwrap(), capability);
    }
    assert_eq!(xattr(&ping, "user.overlay.opaque"), None);
    assert_eq!(xattr(&ping, "trusted.overlay.redirect"), None);
    assert!(!is_opaque(&root.join("folder")));
    assert_eq!(fs::metadata(&ping).unwrap().mtime_nsec(), 250_000_000);
}

#[tokio::test]
async fn holes_stay_holes() {
    // 64 MiB with 4 bytes at its end, as GNU tar's `--sparse` (PAX 1.0) writes it.
    let size = 64 * 1024 * 1024u64;
    let mut data = format!("1\n{}\n4\n", size - 4).into_bytes();
    data.resize(512, 0);
    data.extend_from_slice(b"tail");
    let layer = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", size.to_string().as_bytes()),
        ])
        .file("GNUSparseFile.0/sparse", &data)
        .end();
    let place = place();
    place.load(&image("x", &[layer])).await.unwrap();
    let file = place.layers_of("x").await.remove(0).join("sparse");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.len(), size);
    assert!(metadata.blocks() * 512 < size / 2, "{}", metadata.blocks());
    assert!(fs::read(&file).unwrap().ends_with(b"\0tail"));
}

#[tokio::test]
async fn layers_of_every_compression_are_the_same_layer() {
    let layer = Tar::new().file("f", &vec![7; 100_000]).end();
    let layers = [layer.clone()];
    let config = super::archives::config(&layers);
    let place = place();
    for (i, stored) in [layer.clone(), gzip(&layer), zstd(&layer)]
        .into_iter()
        .enumerate()
    {
        let archive = docker_archive(&config, &[&format!("x:{i}")], &[stored]);
        place.load(&archive).await.unwrap();
    }
    let folders = fs::read_dir(place.folder.path().join("layers")).unwrap();
    // The layer, what stands beside it, and the folder for temporary ones.
    assert_eq!(folders.count(), 3);
}

#[tokio::test]
async fn a_layer_may_end_right_after_its_last_byte() {
    let mut layer = Tar::new().file("first", b"1").file("last", b"2").end();
    layer.truncate(512 + 512 + 512 + 1);
    let place = place();
    place.load(&image("x", &[layer.clone()])).await.unwrap();
    let root = place.layers_of("x").await.remove(0);
    assert_eq!(fs::read(root.join("last")).unwrap(), b"2");
    // But not before it.
    layer.pop();
    let error = place.load(&image("y", &[layer])).await.unwrap_err();
    assert!(error.to_string().contains("unexpected EOF"), "{error}");
}
