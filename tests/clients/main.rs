//! Docker clients in other languages do what their READMEs show: dockerode (Node.js),
//! docker-py (Python), bollard (Rust). `sockerless local` alone is run, with a registry.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::path::Path;
use std::process::Command;

use sockerless_tests::engines::{free_port, run_script, scripts, start_registry};
use sockerless_tests::fixtures::Fixtures;
use sockerless_tests::http::Endpoint;
use sockerless_tests::process::Running;
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

/// A daemon of its own, and a registry that it reaches.
struct World {
    subject: Subject,
    /// What the registry has.
    pulled: String,
    _registry: Running,
    _folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("skls-").tempdir().unwrap();
        let address = free_port().unwrap();
        let configuration = folder.path().join("registry.yml");
        let content = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            folder.path().join("registry").display()
        );
        std::fs::write(&configuration, content).unwrap();
        let program = run_script("test-registry", &[]).unwrap();
        let registry =
            start_registry(Command::new(program).arg("serve").arg(&configuration)).unwrap();
        let mut fixtures = Fixtures::make(&scripts(), folder.path()).unwrap();
        fixtures.publish(&Endpoint::Tcp(address)).unwrap();
        Self {
            subject: Subject::start(Runtime::Microvm),
            pulled: format!("{address}/test/single:v1"),
            _registry: registry,
            _folder: folder,
        }
    }

    /// Runs a client's examples, which have to succeed.
    fn run(&self, command: &mut Command) {
        let output = command
            .env("DOCKER_HOST", self.subject.endpoint().docker_host())
            .env("HOME", self.subject.folder())
            .env("IMAGE", "busybox")
            .env("PULLED", &self.pulled)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

#[test]
fn dockerode_does_what_its_readme_shows() {
    let modules = run_script("dockerode", &[]).unwrap();
    let mut node = Command::new("node");
    node.arg(example("dockerode.js")).env("NODE_PATH", modules);
    World::start().run(&mut node);
}

#[test]
fn docker_py_does_what_its_readme_shows() {
    let python = run_script("docker-py", &["install"]).unwrap();
    World::start().run(Command::new(python).arg("-B").arg(example("docker_py.py")));
}

#[test]
fn bollard_does_what_its_readme_shows() {
    let program = run_script("bollard-examples", &[]).unwrap();
    World::start().run(&mut Command::new(program));
}
