//! Archives that mean no good: each is refused with a sentence, nothing of it
//! stays, and nothing outside is touched.

use std::fs;
use std::time::Duration;

use serde_json::json;
use sockerless_control::images::Digest;
use sockerless_control::images::layer::LayerLimits;

use super::archives::{Tar, config, docker_archive, gzip, image, oci_archive};
use super::setup::{place, place_with, stuck};

/// Loads, expects a refusal that says `why`, and looks for leftovers.
async fn refused(archive: &[u8], why: &str) {
    refused_within(LayerLimits::default(), archive, why).await;
}

async fn refused_within(limits: LayerLimits, archive: &[u8], why: &str) {
    let place = place_with(limits);
    let error = place.load(archive).await.unwrap_err().to_string();
    assert!(error.contains(why), "{error:?} does not say {why:?}");
    assert_eq!(place.leftovers().await, Vec::<String>::new(), "{why}");
}

async fn refused_layer(layer: Vec<u8>, why: &str) {
    refused(&image("x", &[layer]), why).await;
}

#[tokio::test]
async fn entries_that_lead_out() {
    for name in ["../evil", "a/../../evil", "/../evil", ".."] {
        refused_layer(Tar::new().file(name, b"x").end(), "invalid entry name").await;
    }
    refused_layer(Tar::new().folder("../evil/").end(), "invalid entry name").await;
    refused_layer(
        Tar::new().hard_link("x", "../../../../etc/passwd").end(),
        "invalid hardlink target",
    )
    .await;
    refused_layer(Tar::new().file("a/.wh...", b"").end(), "invalid whiteout").await;
    refused_layer(Tar::new().file(".wh..", b"").end(), "invalid whiteout").await;
    refused_layer(Tar::new().file(".wh.", b"").end(), "invalid whiteout").await;
    refused_layer(Tar::new().file("./", b"x").end(), "no file can have").await;
}

#[tokio::test]
async fn links_do_not_lead_out_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "precious").unwrap();
    let target = outside.path().to_str().unwrap();
    let precious = format!("{target}/precious");
    let layer = Tar::new()
        .symlink("door", target)
        .file("door/evil", b"x")
        .folder("door/folder/")
        .file("door/.wh.precious", b"")
        .symlink("proc", "/proc/self/root")
        .file("proc/evil", b"x")
        .symlink("file", &precious)
        .raw("file", b'0', "", 0o644, b"overwritten")
        .end();
    let place = place();
    // As in a chroot: the links lead to folders within the layer, which are not
    // there; nothing is made behind a dangling link.
    let error = place.load(&image("x", &[layer])).await.unwrap_err();
    assert!(error.to_string().contains("Not a directory"), "{error}");
    // With the folder there, what is written goes there.
    let layer = Tar::new()
        .folder(&format!("{}/", target.trim_start_matches('/')))
        .symlink("door", target)
        .file("door/evil", b"x")
        .file("door/.wh.precious", b"")
        .symlink("door2", &precious)
        .file("door2", b"overwritten")
        .end();
    place.load(&image("x", &[layer])).await.unwrap();
    let root = place.layers_of("x").await.remove(0);
    assert!(
        root.join(target.trim_start_matches('/'))
            .join("evil")
            .exists()
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(
        fs::read(outside.path().join("precious")).unwrap(),
        b"precious"
    );
}

#[tokio::test]
async fn hard_links_to_nothing() {
    for target in ["missing", "etc/passwd", "x", "folder"] {
        let layer = Tar::new().folder("folder/").hard_link("x", target).end();
        refused_layer(layer, "no such file or directory").await;
    }
}

#[tokio::test]
async fn wrong_digests() {
    let layer = Tar::new().file("f", b"x").end();
    let other = Tar::new().file("f", b"y").end();
    refused(
        &docker_archive(&config(&[layer.clone()]), &["x:1"], &[other.clone()]),
        "invalid diffID for layer 0",
    )
    .await;
    // A blob whose name lies.
    let name = format!("blobs/sha256/{}", Digest::of(b"something else").hex());
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": [name]}]);
    let archive = Tar::new()
        .file(&name, &layer)
        .file("c.json", config(&[layer.clone()]).to_string().as_bytes())
        .file("manifest.json", manifest.to_string().as_bytes())
        .end();
    refused(&archive, "which was announced").await;
    // A layer that is there already does not excuse other bytes.
    let place = place();
    place.load(&image("good", &[layer.clone()])).await.unwrap();
    let lie = docker_archive(&config(&[layer]), &["x:1"], &[other]);
    let error = place.load(&lie).await.unwrap_err().to_string();
    assert!(error.contains("invalid diffID for layer 0"), "{error}");
}

#[tokio::test]
async fn what_others_brought_is_not_had_for_its_digest() {
    let place = place();
    let secret = Tar::new().file("secret", b"of another").end();
    place
        .load(&image("theirs", &[secret.clone()]))
        .await
        .unwrap();
    // An archive that names the blob, and has other bytes under its name.
    let name = format!("blobs/sha256/{}", Digest::of(&secret).hex());
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": [name]}]);
    let config = config(&[secret.clone()]).to_string();
    let archive = Tar::new()
        .file(&name, b"junk")
        .file("c.json", config.as_bytes())
        .file("manifest.json", manifest.to_string().as_bytes())
        .end();
    let error = place.load(&archive).await.unwrap_err().to_string();
    assert!(error.contains("which was announced"), "{error}");
    // One that names it and does not have it at all.
    let whole = oci_archive("x:1", &[secret.clone()], &[secret.clone()]);
    let mut without = Vec::new();
    let mut entries = tar::Archive::new(&whole[..]);
    let mut builder = tar::Builder::new(&mut without);
    for entry in entries.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if !path.ends_with(Digest::of(&secret).hex()) {
            let mut header = entry.header().clone();
            builder.append_data(&mut header, path, &mut entry).unwrap();
        }
    }
    builder.finish().unwrap();
    drop(builder);
    let error = place.load(&without).await.unwrap_err().to_string();
    assert!(error.contains("no such file"), "{error}");
}

#[tokio::test]
async fn bombs() {
    let limits = LayerLimits {
        unpacked_bytes: 1_000_000,
        entries: 100,
    };
    let zeros = Tar::new().file("zeros", &vec![0; 3_000_000]).end();
    let bomb = docker_archive(&config(&[zeros.clone()]), &["x:1"], &[gzip(&zeros)]);
    refused_within(limits, &bomb, "more than 1000000 bytes").await;
    // Nothing but zeros after the end.
    let mut long = Tar::new().file("f", b"x").end();
    long.resize(3_000_000, 0);
    let bomb = docker_archive(&config(&[long.clone()]), &["x:1"], &[gzip(&long)]);
    refused_within(limits, &bomb, "more than 1000000 bytes").await;
    // One hole of an exbibyte.
    let hole = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"hole"),
            ("GNU.sparse.realsize", b"1152921504606846976"),
        ])
        .file("x", &[&b"0\n"[..], &[0; 510]].concat())
        .end();
    refused_within(limits, &image("x", &[hole]), "more than 1000000 bytes").await;
    let mut many = Tar::new();
    for i in 0..200 {
        many = many.folder(&format!("{i}/"));
    }
    refused_within(limits, &image("x", &[many.end()]), "more than 100 entries").await;
    // Layers that are small each and large together.
    let half = |byte: u8| Tar::new().file("f", &vec![byte; 600_000]).end();
    refused_within(
        limits,
        &image("x", &[half(1), half(2)]),
        "image unpacks to more than 1000000 bytes",
    )
    .await;
}

#[tokio::test]
async fn headers_that_eat_memory() {
    let name = "n".repeat(5000);
    refused_layer(Tar::new().file(&name, b"").end(), "path exceeds limit").await;
    let huge = vec![b'x'; 2_000_000];
    let layer = Tar::new().pax(&[("comment", &huge)]).file("f", b"").end();
    refused_layer(layer, "metadata exceeds limit").await;
    let layer = Tar::new().cut_file("f", u64::MAX >> 12, b"short");
    refused_layer(layer, "more than 10737418240 bytes").await;
    let layer = Tar::new().cut_file("f", 5000, b"short");
    refused_layer(layer, "unexpected EOF").await;
}

#[tokio::test]
async fn layers_that_are_none() {
    refused_layer(vec![b'x'; 5000], "invalid tar header").await;
    let layer = Tar::new().file("f", &vec![1; 10_000]).end();
    let mut broken = gzip(&layer);
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    let archive = docker_archive(&config(&[layer.clone()]), &["x:1"], &[broken]);
    let place = place();
    place.load(&archive).await.unwrap_err();
    assert!(place.leftovers().await.is_empty());
    let cut = gzip(&layer)[..middle].to_vec();
    refused(
        &docker_archive(&config(&[layer]), &["x:1"], &[cut]),
        "unexpected EOF",
    )
    .await;
    refused_layer(
        Tar::new().raw("f", b'Z', "", 0o644, b"").end(),
        "unhandled tar header type 90",
    )
    .await;
    refused(&image("x", &[b"BZh9aaaa".to_vec()]), "bzip2").await;
}

#[tokio::test]
async fn archives_that_are_none() {
    refused(b"", "/repositories: no such file or directory").await;
    refused(b"short", "unexpected EOF").await;
    refused(&vec![b'x'; 5000], "invalid tar header").await;
    refused(&vec![0; 10_240], "/repositories: no such file or directory").await;
    refused(&Tar::new().file("f", b"x").end(), "/repositories: no such").await;
    refused(
        &Tar::new().file("manifest.json", b"null").end(),
        "cannot be null",
    )
    .await;
    refused(
        &Tar::new().file("manifest.json", b"{").end(),
        "unexpected EOF",
    )
    .await;
    refused(
        &Tar::new().file("manifest.json", b"[{\"Config\":7}]").end(),
        "invalid manifest",
    )
    .await;
    let deep = "[".repeat(100_000);
    refused(
        &Tar::new().file("manifest.json", deep.as_bytes()).end(),
        "exceeded max depth",
    )
    .await;
    let large = vec![b' '; 5_000_000];
    refused(
        &Tar::new().file("manifest.json", &large).end(),
        "has more than 4194304 bytes",
    )
    .await;
    for config in ["missing", "../../../../etc/passwd", "/etc/passwd", ""] {
        let manifest = json!([{"Config": config, "RepoTags": ["x:1"], "Layers": []}]);
        let archive = Tar::new().file("manifest.json", manifest.to_string().as_bytes());
        let error = place().load(&archive.end()).await.unwrap_err().to_string();
        assert!(
            error.contains("no such file") || error.contains("invalid entry name"),
            "{error}"
        );
    }
    refused(
        &Tar::new().file("../evil", b"x").end(),
        "invalid entry name",
    )
    .await;
    refused(
        &Tar::new().symlink("a", "../../etc/passwd").end(),
        "invalid entry name",
    )
    .await;
    let many = (0..20_001).fold(Tar::new(), |tar, i| tar.folder(&format!("{i}/")));
    refused(&many.end(), "more than 20000 entries").await;
}

#[tokio::test]
async fn links_in_a_circle() {
    let manifest = json!([{"Config": "a", "RepoTags": ["x:1"], "Layers": []}]);
    let archive = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("manifest.json", manifest.to_string().as_bytes())
        .end();
    refused(&archive, "no such file").await;
}

#[tokio::test]
async fn lists_that_do_not_fit() {
    let layer = Tar::new().file("f", b"x").end();
    let layers = [layer.clone()];
    refused(
        &docker_archive(&config(&layers), &["x:1"], &[]),
        "layers length mismatch: expected 0, got 1",
    )
    .await;
    for (tag, why) in [
        ("UPPER:1", "must be lowercase"),
        ("no tag", "invalid reference format"),
        ("untagged", "invalid tag"),
    ] {
        refused(&docker_archive(&config(&layers), &[tag], &layers), why).await;
    }
    let mut windows = config(&layers);
    windows["os"] = json!("windows");
    refused(
        &docker_archive(&windows, &["x:1"], &layers),
        "cannot load windows image on linux",
    )
    .await;
    refused(&docker_archive(&json!([]), &["x:1"], &layers), "not valid").await;
    refused(
        &docker_archive(&json!({}), &["x:1"], &layers),
        "no RootFS key",
    )
    .await;
}

#[tokio::test]
async fn an_index_that_contains_itself_by_depth() {
    let mut tar = Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let media_type = "application/vnd.oci.image.index.v1+json";
    let mut inner = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": []});
    for _ in 0..8 {
        let bytes = inner.to_string();
        let digest = Digest::of(bytes.as_bytes());
        tar = tar.file(&format!("blobs/sha256/{}", digest.hex()), bytes.as_bytes());
        inner = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [
            {"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()}
        ]});
    }
    let archive = tar.file("index.json", inner.to_string().as_bytes()).end();
    refused(&archive, "indexes within indexes").await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let layer = Tar::new().file("f", &vec![1; 1_000_000]).end();
    let archive = image("x", &[layer]);
    for at in [3, 700, 100_000, archive.len() - 1500] {
        let place = place();
        let mut messages = Vec::new();
        let namespace = place.namespace.clone();
        let body = stuck(&archive[..at]);
        let load = place
            .images
            .load(&namespace, body, None, true, &mut messages);
        let gone = tokio::time::timeout(Duration::from_millis(200), load).await;
        assert!(gone.is_err());
        // The threads that were writing notice, each in its own time.
        let mut left = place.leftovers().await;
        for _ in 0..100 {
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            left = place.leftovers().await;
        }
        assert_eq!(left, Vec::<String>::new(), "{at}");
        // And one that is cut off.
        let cut = place.load(&archive[..at]).await.unwrap_err().to_string();
        assert!(cut.contains("unexpected EOF"), "{cut}");
        assert_eq!(place.leftovers().await, Vec::<String>::new(), "{at}");
    }
}
