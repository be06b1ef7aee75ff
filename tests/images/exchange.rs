//! Archives between Sockerless, a real Docker Engine, and podman's library (buildah): what one
//! saves, the others load.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sockerless_tests::engines::run_script;
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

use super::run;
use super::theirs::Theirs;

/// The files of an archive, by their names.
fn files(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(name, content);
    }
    files
}

/// A file's content as text, the lists of images in one order.
fn in_order(name: &str, content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content).into_owned();
    let mut images = match name {
        "index.json" | "manifest.json" => serde_json::from_slice::<Value>(content).unwrap(),
        _ => return text,
    };
    let list = match name {
        "index.json" => &mut images["manifests"],
        _ => &mut images,
    };
    list.as_array_mut().unwrap().sort_by_key(Value::to_string);
    // As long as before: nothing but the order of what is in it may differ.
    format!("{} bytes: {images}", text.len())
}

/// What Docker wrote before images had manifests. Nothing in an archive leads to it any more.
fn is_of_version_one(content: &[u8]) -> bool {
    serde_json::from_slice::<Value>(content)
        .is_ok_and(|value| value["id"].is_string() && value["container_config"].is_object())
}

#[test]
fn what_one_saves_the_others_load() {
    let subject = Subject::start(Runtime::Microvm);
    let theirs = Theirs::start();
    let folder = tempfile::tempdir().unwrap();
    let [ours, of_engine] = ["ours.tar", "theirs.tar"].map(|name| folder.path().join(name));
    let (ours, of_engine) = (ours.as_path(), of_engine.as_path());
    for fixture in ["plain.tar", "configured.tar"] {
        let path = subject.fixture(fixture);
        subject.docker(&["load", "--quiet", "--input", &path]);
        theirs.docker(&["load", "--quiet", "--input", &path]);
    }
    subject.docker(&["tag", "configured", "example.com/deep/name:v1"]);
    theirs.docker(&["tag", "configured", "example.com/deep/name:v1"]);
    let names = ["busybox", "configured", "example.com/deep/name"];
    let save = |path: &Path| {
        let path = path.display().to_string();
        [&["save", "--output", &path], &names[..]]
            .concat()
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let [save_ours, save_theirs] = [save(ours), save(of_engine)];
    subject.docker(&save_ours.iter().map(String::as_str).collect::<Vec<_>>());
    theirs.docker(&save_theirs.iter().map(String::as_str).collect::<Vec<_>>());

    // The same files to the byte, but for the order of images, which the Engine leaves to
    // chance, and what nobody reads any more.
    let (left, right) = (files(of_engine), files(ours));
    for (name, content) in &right {
        assert_eq!(
            left.get(name).map(|bytes| in_order(name, bytes)),
            Some(in_order(name, content)),
            "{name}"
        );
    }
    for (name, content) in left.iter().filter(|(name, _)| !right.contains_key(*name)) {
        assert!(is_of_version_one(content), "{name} is missing");
    }

    // Each loads the other's, and has the same images then.
    let id = ["image", "inspect", "--format", "{{.Id}} {{.RepoTags}}"];
    let inspect: Vec<_> = [&id[..], &names[..1], &["example.com/deep/name:v1"]].concat();
    let before = subject.docker(&inspect);
    assert_eq!(theirs.docker(&inspect), before);
    let remove = ["rmi", "busybox", "configured", "example.com/deep/name:v1"];
    subject.docker(&remove);
    theirs.docker(&remove);
    subject.docker(&["load", "--quiet", "--input", of_engine.to_str().unwrap()]);
    theirs.docker(&["load", "--quiet", "--input", ours.to_str().unwrap()]);
    assert_eq!(subject.docker(&inspect), before);
    assert_eq!(theirs.docker(&inspect), before);
    let line = [
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "echo",
        "runs",
    ];
    assert_eq!(subject.docker(&line), "runs\n");
    assert_eq!(theirs.docker(&line), "runs\n");

    // podman's library reads and writes them, too.
    let buildah = Path::new(&run_script("image-tools", &[]).unwrap()).join("bin/buildah");
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    fs::write(folder.path().join("policy.json"), policy).unwrap();
    let podman = |line: &str| {
        let storage = "--storage-driver vfs --root store --runroot run";
        run(Command::new(&buildah)
            .args(storage.split_whitespace())
            .args(line.split_whitespace())
            .current_dir(folder.path()))
    };
    for archive in ["ours.tar", "theirs.tar"] {
        let pulled = podman(&format!(
            "pull --quiet --signature-policy policy.json docker-archive:{archive}:busybox:latest"
        ));
        assert_eq!(
            format!("sha256:{}", pulled.trim()),
            before[..71],
            "{archive}"
        );
    }
    podman(&format!(
        "push --quiet --signature-policy policy.json {} docker-archive:podman.tar:example.com/podman:v1",
        &before[7..71]
    ));
    let archive = folder.path().join("podman.tar").display().to_string();
    assert_eq!(
        subject.docker(&["load", "--quiet", "--input", &archive]),
        "Loaded image: example.com/podman:v1\n"
    );
    theirs.docker(&["load", "--quiet", "--input", &archive]);
    let line = [
        "run",
        "--rm",
        "--network",
        "none",
        "example.com/podman:v1",
        "echo",
        "runs",
    ];
    assert_eq!(subject.docker(&line), "runs\n");
    assert_eq!(theirs.docker(&line), "runs\n");
    subject.is_well();
}
