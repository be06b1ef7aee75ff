//! Registries with TLS of a private authority, and without TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use sockerless_tests::engines::own_program;
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

use super::network::{ADDRESS, Network};
use super::{registry, registry_program, run};

fn openssl(folder: &Path, line: &str) {
    let arguments = line.split_whitespace();
    run(Command::new("openssl").args(arguments).current_dir(folder));
}

/// A private authority, and a certificate that it signed.
fn certificates(folder: &Path) {
    fs::write(
        folder.join("server"),
        format!("subjectAltName=IP:{ADDRESS}\nbasicConstraints=CA:FALSE\n"),
    )
    .unwrap();
    openssl(
        folder,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=private \
         -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt",
    );
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=registry \
         -keyout server.key -out server.csr",
    );
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
         -extfile server -out server.crt",
    );
}

#[test]
fn a_private_authority_is_believed_once_it_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    certificates(folder);
    let network = Network::new();
    let known = folder.join("certs.d");
    let program = folder.join("sockerless");
    let script = format!(
        "#!/bin/sh\nexport SOCKERLESS_REGISTRY_CERTS={} SOCKERLESS_INSECURE_REGISTRY={ADDRESS}:5001\n\
         exec {} {} \"$@\"\n",
        known.display(),
        network.enter(),
        own_program().unwrap().display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let address = |port: u16| format!("{ADDRESS}:{port}").parse().unwrap();
    let server = registry_program();
    let tls = format!(
        "  tls: {{certificate: {0}/server.crt, key: {0}/server.key}}\n",
        folder.display()
    );
    let _private = registry(folder, address(5000), &tls, &mut network.command(&server));
    let _plain = registry(folder, address(5001), "", &mut network.command(&server));
    let _unnamed = registry(folder, address(5002), "", &mut network.command(&server));
    let subject = Subject::start_program(Runtime::Function, &program, &[]);

    let private = format!("{ADDRESS}:5000/a/image:v1");
    subject.docker(&["tag", "busybox", &private]);
    let (code, _, stderr) = subject.try_docker(&["push", &private]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("certificate signed by unknown authority"),
        "{stderr}"
    );

    // It is looked for with every operation, as in Docker.
    let host = known.join(format!("{ADDRESS}:5000"));
    fs::create_dir_all(&host).unwrap();
    fs::copy(folder.join("ca.crt"), host.join("ca.crt")).unwrap();
    subject.docker(&["push", &private]);
    let seen = || {
        let what = "{{.Id}} {{.RepoDigests}}";
        subject.docker(&["image", "inspect", &private, "--format", what])
    };
    let pushed = seen();
    assert!(pushed.contains("@sha256:"), "{pushed}");
    subject.docker(&["rmi", &private]);
    subject.docker(&["pull", &private]);
    assert_eq!(seen(), pushed);
    let said = subject.docker(&["run", "--rm", &private, "echo", "private"]);
    assert_eq!(said, "private\n");

    // Without TLS only where the settings say so.
    let plain = format!("{ADDRESS}:5001/a/image:v1");
    subject.docker(&["tag", "busybox", &plain]);
    subject.docker(&["push", &plain]);
    let unnamed = format!("{ADDRESS}:5002/a/image:v1");
    subject.docker(&["tag", "busybox", &unnamed]);
    let (code, _, stderr) = subject.try_docker(&["push", &unnamed]);
    assert_eq!(code, Some(1), "{stderr}");

    fs::write(host.join("ca.crt"), "nonsense").unwrap();
    let (code, _, stderr) = subject.try_docker(&["pull", &private]);
    assert_eq!(code, Some(1), "{stderr}");
}
