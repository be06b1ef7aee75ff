//! A real Docker Engine, beside ours.

use std::path::Path;
use std::process::Command;

use sockerless_tests::engines::{Engine, run_script};

use super::run;

/// The real Engine and the client.
pub(crate) struct Theirs {
    engine: Engine,
    client: String,
    folder: tempfile::TempDir,
}

impl Theirs {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("skls-").tempdir().unwrap();
        Self {
            engine: Engine::real(&folder.path().join("engine")).unwrap(),
            client: run_script("docker-cli", &[]).unwrap(),
            folder,
        }
    }

    /// A program in the Engine's network.
    pub(crate) fn beside(&self, program: &Path) -> Command {
        self.engine.beside(program)
    }

    /// The client with these arguments, not yet run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command
            .args(arguments)
            .env("DOCKER_HOST", self.engine.endpoint.docker_host())
            .env("DOCKER_CONFIG", self.folder.path().join("client"));
        command
    }

    /// Runs the client, which has to succeed; gives what it put out.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }
}
