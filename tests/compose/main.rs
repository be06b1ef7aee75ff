//! `docker compose` with a file of two services, a network and a volume, under `microvm`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use sockerless_tests::engines::run_script;
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

/// The reader waits for what the writer writes: without the volume it would wait for ever.
const FILE: &str = r#"
name: pair
services:
  writer:
    image: busybox
    command: sh -c 'echo from the writer > /data/now; echo written; trap "exit 0" TERM; sleep 1000 & wait'
    volumes: ["data:/data", "/scratch"]
    networks: [back]
  reader:
    image: busybox
    command: sh -c 'until test -s /data/now; do sleep 0.1; done; cat /data/now; trap "exit 0" TERM; sleep 1000 & wait'
    depends_on: [writer]
    volumes: ["data:/data:ro"]
    networks: [back]
networks:
  back:
    labels: {of: pair}
volumes:
  data:
"#;

/// The program, a daemon, and a folder with the file.
struct Project {
    subject: Subject,
    program: PathBuf,
}

impl Project {
    fn start() -> Self {
        let subject = Subject::start(Runtime::Microvm);
        std::fs::write(subject.folder().join("compose.yaml"), FILE).unwrap();
        let program = PathBuf::from(run_script("docker-compose", &[]).unwrap());
        Self { subject, program }
    }

    fn folder(&self) -> &Path {
        self.subject.folder()
    }

    /// Runs the program; gives its exit code and what it put out.
    fn try_compose(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new("timeout")
            .args(["-s", "KILL", "120"])
            .arg(&self.program)
            .args(arguments)
            .current_dir(self.folder())
            .env("DOCKER_HOST", self.subject.endpoint().docker_host())
            .env("DOCKER_CONFIG", self.folder().join("client"))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Runs the program, which has to succeed.
    fn compose(&self, arguments: &[&str]) -> (String, String) {
        let (code, stdout, stderr) = self.try_compose(arguments);
        assert_eq!(code, Some(0), "compose {arguments:?}: {stdout}{stderr}");
        (stdout, stderr)
    }
}

#[test]
fn a_file_with_a_network_and_a_volume_goes_up_and_down() {
    let mut project = Project::start();
    let (_, said) = project.compose(&["up", "--detach"]);
    assert!(
        said.contains("cannot reach each other by name yet"),
        "what is not there is not said: {said}"
    );

    let (services, _) = project.compose(&["ps", "--format", "{{.Service}} {{.State}}"]);
    let mut services: Vec<_> = services.lines().collect();
    services.sort_unstable();
    assert_eq!(services, ["reader running", "writer running"]);

    // The reader has read by the time that its own file shows it.
    let read = "until test -s /data/now; do sleep 0.1; done; cat /data/now";
    let (seen, _) = project.compose(&["exec", "-T", "reader", "sh", "-c", read]);
    assert_eq!(seen, "from the writer\n");
    let (code, _, _) = project.try_compose(&["exec", "-T", "reader", "touch", "/data/mine"]);
    assert_eq!(code, Some(1), "the reader's volume is read-only");

    let (log, _) = project.compose(&["logs", "--no-color", "writer"]);
    assert_eq!(log, "writer-1  | written\n");

    let subject = &project.subject;
    let network = subject.docker(&[
        "network",
        "inspect",
        "pair_back",
        "--format",
        "{{.Labels.of}} {{len .Containers}}",
    ]);
    assert_eq!(network, "pair 2\n");
    assert_eq!(
        subject.docker(&["volume", "ls", "--quiet", "--filter", "name=pair_data"]),
        "pair_data\n"
    );

    // Another daemon on the same state knows all of it.
    project.subject.kill();
    project.subject.begin();
    let data = "pair_data:/x";
    let again = ["run", "--rm", "--volume", data, "busybox", "cat", "/x/now"];
    assert_eq!(project.subject.docker(&again), "from the writer\n");
    project.compose(&["up", "--detach"]);

    project.compose(&["down", "--volumes"]);
    let subject = &project.subject;
    assert_eq!(subject.docker(&["ps", "--all", "--quiet"]), "");
    assert_eq!(subject.docker(&["volume", "ls", "--quiet"]), "");
    let left = ["network", "ls", "--quiet", "--filter", "type=custom"];
    assert_eq!(subject.docker(&left), "");
    project.subject.end();
}
