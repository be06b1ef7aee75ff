//! An image that is larger than the memory it may take.

use std::process::Command;

use sockerless_tests::engines::free_port;
use sockerless_tests::large;
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

use super::{registry, registry_program};

/// Loads, pushes, pulls back and saves an image of so many bytes, in files of one layer each,
/// for which the daemon takes less memory than so many MiB.
fn round_trip(layers: u64, bytes: u64, mib: u64) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let address = free_port().unwrap();
    let server = registry_program();
    let _registry = registry(folder, address, "", &mut Command::new(server));
    let subject = Subject::start(Runtime::Function);
    let archive = large::archive(folder, layers, bytes / layers).unwrap();
    subject.docker(&["load", "--quiet", "--input", archive.to_str().unwrap()]);
    std::fs::remove_file(archive).unwrap();
    let name = format!("{address}/large:v1");
    subject.docker(&["tag", "large:v1", &name]);
    subject.docker(&["push", "--quiet", &name]);
    let id = subject.docker(&["image", "inspect", &name, "--format", "{{.Id}}"]);
    subject.docker(&["rmi", &name, "large:v1"]);
    subject.docker(&["pull", "--quiet", &name]);
    assert_eq!(
        subject.docker(&["image", "inspect", &name, "--format", "{{.Id}}"]),
        id
    );
    let saved = folder.join("saved.tar");
    subject.docker(&["save", "--output", saved.to_str().unwrap(), &name]);
    assert!(saved.metadata().unwrap().len() > bytes);
    let peak = subject.engine().peak_memory().unwrap();
    println!("{bytes} bytes took {peak} KiB of memory");
    assert!(peak < mib * 1024, "{peak} KiB of memory");
    subject.is_well();
}

#[test]
fn an_image_of_200_mb_takes_less_memory_than_it_has() {
    round_trip(4, 200 << 20, 128);
}

/// Of `make test-full`.
#[test]
#[ignore = "takes minutes and 10 GB of disk"]
fn an_image_of_2_gb_takes_no_more() {
    // A file whose size does not fit 31 bits.
    round_trip(1, (2 << 30) + 1, 256);
}
