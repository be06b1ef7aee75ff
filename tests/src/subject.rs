//! One daemon of our own with its own state, for suites that have nothing to
//! compare it with.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test stops at what it did not expect"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::engines::{Engine, own_program, run_script, scripts};
use crate::fixtures::Fixtures;
use crate::http::{Endpoint, Request, fetch};
use crate::scenario::Runtime;

/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// One daemon, the client, and the fixtures, of which `busybox` is loaded.
#[derive(Debug)]
pub struct Subject {
    engine: Option<Engine>,
    program: PathBuf,
    runtime: Runtime,
    client: PathBuf,
    fixtures: PathBuf,
    folder: tempfile::TempDir,
    options: Vec<String>,
}

impl Subject {
    /// Starts a daemon with this default runtime.
    #[must_use]
    pub fn start(runtime: Runtime) -> Self {
        Self::start_program(runtime, own(), &[])
    }

    /// As [`Subject::start`], with more options.
    #[must_use]
    pub fn start_with(runtime: Runtime, options: &[String]) -> Self {
        Self::start_program(runtime, own(), options)
    }

    /// Starts this program, which is the daemon in the end.
    #[must_use]
    pub fn start_program(runtime: Runtime, program: &Path, options: &[String]) -> Self {
        let folder = tempfile::Builder::new().prefix("skls-").tempdir().unwrap();
        let fixtures = folder.path().join("fixtures");
        std::fs::create_dir(&fixtures).unwrap();
        Fixtures::make(&scripts(), &fixtures).unwrap();
        let mut subject = Self {
            engine: None,
            program: program.to_owned(),
            runtime,
            client: PathBuf::from(run_script("docker-cli", &[]).unwrap()),
            fixtures,
            folder,
            options: options.to_vec(),
        };
        subject.begin();
        subject.docker(&["load", "--quiet", "--input", &subject.fixture("plain.tar")]);
        subject
    }

    /// Starts the daemon on the state that is there.
    pub fn begin(&mut self) {
        let state = self.folder.path().join("state");
        let engine = Engine::ours_with(&self.program, self.runtime, &state, &self.options);
        self.engine = Some(engine.unwrap());
    }

    /// The daemon.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.engine().endpoint
    }

    /// The path of a fixture.
    #[must_use]
    pub fn fixture(&self, name: &str) -> String {
        self.fixtures.join(name).display().to_string()
    }

    /// Runs the client, which has to succeed; gives what it put out.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.try_docker(arguments);
        assert_eq!(code, Some(0), "docker {arguments:?}: {stderr}");
        stdout
    }

    /// Runs the client; gives its exit code and what it put out.
    #[must_use]
    pub fn try_docker(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// The client with these arguments, not yet run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command
            .args(arguments)
            .env("DOCKER_HOST", self.endpoint().docker_host())
            .env("DOCKER_CONFIG", self.folder.path().join("client"));
        command
    }

    /// Status and JSON body of the answer to a GET.
    #[must_use]
    pub fn get(&self, target: &str) -> (u16, Value) {
        let request = Request {
            method: "GET".to_owned(),
            target: target.to_owned(),
            ..Request::default()
        };
        let (head, body) = fetch(self.endpoint(), &request, LIMIT).unwrap();
        (
            head.status,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    /// The folder with all that the daemon keeps.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the daemon.
    pub fn kill(&mut self) {
        self.engine.take().unwrap().kill().unwrap();
    }

    /// Ends the daemon as an operator does.
    pub fn end(&mut self) {
        self.engine.take().unwrap().end().unwrap();
    }

    /// Whatever was done to it, it still works.
    pub fn is_well(&self) {
        assert_eq!(self.get("/_ping").0, 200);
        assert_eq!(
            self.docker(&["run", "--rm", "busybox", "echo", "well"]),
            "well\n"
        );
    }
}

/// Our own program, built once.
fn own() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| own_program().unwrap())
}
