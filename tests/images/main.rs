//! Any image from anywhere: registries with TLS of a private authority, images that real
//! tools made, images too large for memory. Only Sockerless is run here, with Debian's
//! registry, skopeo, umoci and buildah beside it. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod build;
mod ecr;
mod exchange;
mod fake;
mod guarded;
mod hostile;
mod large;
mod network;
mod theirs;
mod tls;
mod tools;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sockerless_tests::engines::{run_script, start_registry};
use sockerless_tests::process::Running;

/// Starts a registry with its state below `folder`; `more` is added to its configuration.
fn registry(folder: &Path, address: SocketAddr, more: &str, within: &mut Command) -> Running {
    let name = format!("registry-{}", address.port());
    let configuration = folder.join(format!("{name}.yml"));
    let text = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http:\n  addr: \"{address}\"\n{more}",
        folder.join(&name).display()
    );
    std::fs::write(&configuration, text).unwrap();
    start_registry(within.arg("serve").arg(configuration)).unwrap()
}

/// Runs a client that reads a password, which has to be the right one.
fn log_in(mut client: Command, password: &str) {
    use std::io::Write as _;

    let mut login = client
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    login
        .stdin
        .take()
        .unwrap()
        .write_all(password.as_bytes())
        .unwrap();
    assert!(login.wait().unwrap().success());
}

/// The digest that an image has in its own repository, among the lines of its `RepoDigests`.
fn digest_among(digests: &str, name: &str) -> String {
    let (repository, _tag) = name.rsplit_once(':').unwrap();
    let found = digests
        .lines()
        .find_map(|line| line.strip_prefix(repository)?.strip_prefix('@'));
    found.unwrap().to_owned()
}

fn registry_program() -> PathBuf {
    run_script("test-registry", &[]).unwrap().into()
}

/// Runs a program, which has to succeed; gives what it put out.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
