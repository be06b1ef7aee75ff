//! Images that mean no good, through the real client: each is refused with a sentence, by
//! `pull` and by `load`, and nothing of it stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

use super::fake::{INDEX, Image, MANIFEST, Registry, Tar, descriptor, digest, gzip, layout};

/// What the daemon may take, in KiB.
const MEMORY_KIB: u64 = 256 * 1024;
/// What is larger than any manifest.
const HUGE_BYTES: usize = 100 << 20;
/// More than a layer may unpack to, in bytes.
const BOMB_BYTES: u64 = 11 << 30;

/// A daemon, a registry that lies, and all that was stored before.
struct Trial {
    subject: Subject,
    registry: Registry,
    stored: BTreeSet<String>,
}

impl Trial {
    fn new() -> Self {
        let subject = Subject::start(Runtime::Function);
        let stored = stored(&subject);
        assert!(!stored.is_empty(), "the listing sees nothing");
        Self {
            subject,
            registry: Registry::start(),
            stored,
        }
    }

    /// The client's command has to fail and to say why; then all is as it was before.
    fn refused(&self, arguments: &[&str], why: &str) {
        let (code, stdout, stderr) = self.subject.try_docker(arguments);
        assert_eq!(code, Some(1), "docker {arguments:?}: {stdout}{stderr}");
        assert!(
            stderr.contains(why),
            "docker {arguments:?} said {stderr:?} and not {why:?}"
        );
        // What failed is cleared away after the client was told.
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut now = stored(&self.subject);
        while now != self.stored {
            assert!(
                Instant::now() < deadline,
                "{why}: left behind: {:?}; missing: {:?}",
                now.difference(&self.stored).collect::<Vec<_>>(),
                self.stored.difference(&now).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(20));
            now = stored(&self.subject);
        }
        let images = self.subject.docker(&["images", "--all", "--quiet"]);
        assert_eq!(images.lines().count(), 1, "{why}: {images}");
    }

    fn pull_refused(&self, tag: &str, why: &str) {
        self.refused(&["pull", &self.registry.name(tag)], why);
    }

    fn load_refused(&self, archive: &[u8], why: &str) {
        let path = self.subject.folder().join("hostile.tar");
        fs::write(&path, archive).unwrap();
        self.refused(&["load", "--input", path.to_str().unwrap()], why);
    }

    /// By both ways.
    fn both_refused(&self, image: &Image, pull: &str, load: &str) {
        self.registry.image("bad", image);
        self.pull_refused("bad", pull);
        self.load_refused(&image.layout(), load);
    }

    fn end(self) {
        let peak = self.subject.engine().peak_memory().unwrap();
        assert!(peak < MEMORY_KIB, "{peak} KiB of memory");
        self.subject.is_well();
    }
}

/// The names of all files and folders that hold images, layers and bodies.
fn stored(subject: &Subject) -> BTreeSet<String> {
    let data = subject.folder().join("state/data");
    let mut names = BTreeSet::new();
    for folder in ["images", "layers", "blobs"] {
        list(&data.join(folder), &data, &mut names);
    }
    names
}

fn list(folder: &Path, root: &Path, names: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        // Gone since its own folder was read.
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, root, names);
        }
        names.insert(path.strip_prefix(root).unwrap().display().to_string());
    }
}

#[test]
fn layers_that_lead_out_of_the_root() {
    let trial = Trial::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "precious").unwrap();
    let target = outside.path().to_str().unwrap();
    for (layer, why) in [
        (Tar::default().file("../evil", b"x"), "invalid entry name"),
        (
            Tar::default().file("a/../../evil", b"x"),
            "invalid entry name",
        ),
        (
            Tar::default().link("x", b'1', "../../../../etc/passwd"),
            "invalid hardlink target",
        ),
        (Tar::default().file("a/.wh...", b""), "invalid whiteout"),
        // As in a chroot, the link leads to a folder within the root, which is not there.
        (
            Tar::default()
                .link("door", b'2', target)
                .file("door/evil", b"x"),
            "Not a directory",
        ),
        (
            Tar::default()
                .link("up", b'2', "../../../../../../../../..")
                .link("door", b'2', &format!("up{target}"))
                .file("door/evil", b"x"),
            "Not a directory",
        ),
    ] {
        trial.both_refused(&Image::of(&layer.end()), why, why);
    }
    let names = fs::read_dir(outside.path()).unwrap().count();
    assert_eq!(names, 1, "something was written outside");
    trial.end();
}

#[test]
fn what_is_not_what_was_announced() {
    let trial = Trial::new();
    let layer = Tar::default().file("f", b"x").end();
    let honest = Image::of(&layer);

    // Other bytes than those of the digest.
    let mut image = honest.clone();
    image.layers[0] = gzip(&Tar::default().file("f", b"y").end());
    trial.both_refused(
        &image,
        "filesystem layer verification failed for digest",
        "which was announced",
    );
    // A layer that the config does not name.
    let other = Image::of(&Tar::default().file("f", b"y").end());
    let image = Image::with(honest.config.clone(), other.layers[0].clone());
    trial.both_refused(
        &image,
        "layers from manifest don't match image configuration",
        "invalid diffID for layer 0",
    );
    // Another size, of a layer and of the config.
    for (size, more) in [("/layers/0/size", 1), ("/layers/0/size", -1)] {
        let mut image = honest.clone();
        let size = image.manifest.pointer_mut(size).unwrap();
        *size = json!(size.as_i64().unwrap() + more);
        trial.both_refused(
            &image,
            "filesystem layer verification failed for digest",
            "which were announced",
        );
    }
    let mut image = honest.clone();
    image.manifest["config"]["size"] = json!(honest.config.len() + 1);
    trial.both_refused(
        &image,
        "image config verification failed for digest",
        "which were announced",
    );
    trial.end();
}

#[test]
fn configs_and_manifests_of_the_wrong_type() {
    let trial = Trial::new();
    let layer = gzip(&Tar::default().file("f", b"x").end());
    let invalid = "image config is not valid";
    for (config, why) in [
        (json!([]), invalid),
        (json!("config"), invalid),
        (json!(7), invalid),
        (Value::Null, invalid),
        (json!({"rootfs": []}), invalid),
        (json!({"config": [], "rootfs": {"type": "layers"}}), invalid),
        (
            json!({"rootfs": {"type": "layers", "diff_ids": "all"}}),
            invalid,
        ),
        (
            json!({"config": {"Env": {"A": "b"}}, "rootfs": {"type": "layers", "diff_ids": []}}),
            invalid,
        ),
        (json!({}), "no RootFS key"),
    ] {
        let image = Image::with(config.to_string().into_bytes(), layer.clone());
        trial.both_refused(&image, why, why);
    }
    let image = Image::with(b"no JSON".to_vec(), layer.clone());
    trial.both_refused(&image, invalid, invalid);

    let honest = Image::with(b"{}".to_vec(), layer);
    for (pointer, value, why) in [
        ("/layers", json!({}), "manifest is not valid"),
        (
            "/layers/0/digest",
            json!("sha256:zz"),
            "manifest is not valid",
        ),
        ("/layers/0/size", json!(-1), "manifest is not valid"),
        ("/schemaVersion", json!(1), "schema 1"),
        (
            "/config/mediaType",
            json!("application/vnd.cncf.helm.config.v1+json"),
            "is not of an image",
        ),
    ] {
        let mut image = honest.clone();
        *image.manifest.pointer_mut(pointer).unwrap() = value;
        trial.both_refused(&image, why, why);
    }
    trial.end();
}

#[test]
fn indexes_without_an_end() {
    let trial = Trial::new();
    let index = |digest: &str, size: usize| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
            "mediaType": INDEX, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": "amd64"}}]})
        .to_string()
        .into_bytes()
    };
    // One that leads to itself can only be one whose digest is a lie.
    let named = digest(b"itself");
    let circle = index(&named, 300);
    trial.registry.manifest("circle", INDEX, &circle);
    trial.registry.manifest(&named, INDEX, &circle);
    trial.pull_refused("circle", "manifest verification failed for digest");
    let archive = layout(&[(named, circle.clone())], &circle);
    trial.load_refused(&archive, "which was announced");

    // One within the other, further than anybody would.
    let mut blobs = Vec::new();
    let mut inner = index(&digest(b"the end"), 7);
    for _ in 0..8 {
        let name = digest(&inner);
        trial.registry.manifest(&name, INDEX, &inner);
        blobs.push((name.clone(), inner.clone()));
        inner = index(&name, inner.len());
    }
    trial.registry.manifest("deep", INDEX, &inner);
    trial.pull_refused("deep", "indexes within it more than 4 deep");
    trial.load_refused(&layout(&blobs, &inner), "indexes within indexes");

    // Nothing but an attestation, and nothing at all.
    for manifests in [
        json!([]),
        json!([{"mediaType": MANIFEST, "digest": digest(b""), "size": 0,
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}]),
    ] {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        trial
            .registry
            .manifest("none", INDEX, index.to_string().as_bytes());
        trial.pull_refused("none", "no matching manifest for linux/amd64");
    }
    trial.end();
}

#[test]
fn what_is_larger_than_memory() {
    let trial = Trial::new();
    let huge = vec![b' '; HUGE_BYTES];
    trial.registry.manifest("huge", MANIFEST, &huge);
    trial.pull_refused("huge", "more than 4194304 bytes");

    // As each of the lists of an archive, and as a manifest that a list names.
    for list in ["manifest.json", "index.json"] {
        let archive = Tar::default().file(list, &huge).end();
        trial.load_refused(
            &archive,
            &format!("{list} in the image archive has more than 4194304 bytes"),
        );
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [descriptor(MANIFEST, &huge)]});
    let blobs = [(digest(&huge), huge.clone())];
    let archive = layout(&blobs, index.to_string().as_bytes());
    trial.load_refused(&archive, "larger than 4194304 bytes");

    // A config.
    let layer = gzip(&Tar::default().file("f", b"x").end());
    let image = Image::with(huge, layer);
    trial.both_refused(
        &image,
        "larger than 4194304 bytes",
        "larger than 4194304 bytes",
    );

    // A layer that says at once that it has no end.
    let endless = Tar::default().entry("f", b'0', "", BOMB_BYTES, &[0; 512]);
    let image = Image::of(&endless.end());
    trial.both_refused(
        &image,
        "more than 10737418240 bytes",
        "more than 10737418240 bytes",
    );
    trial.end();
}

/// Of `make test-full`.
#[test]
#[ignore = "takes minutes"]
fn bombs_of_gzip() {
    let trial = Trial::new();
    // Nothing but zeros behind the end, of which no header tells: some MiB that become many GiB.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let start = Tar::default().file("f", b"x").end();
    std::io::Write::write_all(&mut bomb, &start).unwrap();
    std::io::copy(
        &mut std::io::Read::take(std::io::repeat(0), BOMB_BYTES),
        &mut bomb,
    )
    .unwrap();
    let bomb = bomb.finish().unwrap();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(b"")]}});
    let image = Image::with(config.to_string().into_bytes(), bomb.clone());
    let why = "more than 10737418240 bytes";
    trial.both_refused(&image, why, why);
    // And as a whole archive.
    trial.load_refused(&bomb, "/repositories: no such file or directory");
    trial.end();
}
