//! The two engines, and what both can be asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sockerless_tests::engines::{Engine, run_script};
use sockerless_tests::fixtures::Fixtures;
use sockerless_tests::http::{Request, fetch};
use sockerless_tests::scenario::Runtime;

/// No call takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// One of the two, and the client that speaks with it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) engine: Engine,
    /// Where all of its state is.
    pub(crate) folder: PathBuf,
    client: PathBuf,
    config: PathBuf,
}

impl Side {
    /// Runs the client, which has to succeed; gives what it put out.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.client)
            .args(arguments)
            .env("DOCKER_HOST", self.engine.endpoint.docker_host())
            .env("DOCKER_CONFIG", &self.config)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("docker: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(format!(
            "docker {} against {}: {}",
            arguments.join(" "),
            self.engine.endpoint.docker_host(),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// Makes a call of the API, which has to give this status; gives the body.
    pub(crate) fn call(
        &self,
        method: &str,
        target: &str,
        body: Option<&str>,
        status: u16,
    ) -> Result<Vec<u8>, String> {
        let request = Request {
            method: method.to_owned(),
            target: format!("/v1.51{target}"),
            headers: body
                .map(|_| ("Content-Type".to_owned(), "application/json".to_owned()))
                .into_iter()
                .collect(),
            body: body.map(|body| body.as_bytes().to_vec()),
            chunked: false,
        };
        let failed = |what: String| format!("{method} {target}: {what}");
        let (head, body) = fetch(&self.engine.endpoint, &request, LIMIT)
            .map_err(|error| failed(error.to_string()))?;
        if head.status == status {
            return Ok(body);
        }
        Err(failed(format!(
            "{} instead of {status}: {}",
            head.status,
            String::from_utf8_lossy(&body)
        )))
    }
}

/// Both, with the image `busybox`.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) theirs: Side,
    pub(crate) ours: Side,
    _folder: tempfile::TempDir,
}

impl Pair {
    /// Starts both.
    pub(crate) fn start() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("skls-bench-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let program = match std::env::var_os("SOCKERLESS_TEST_PROGRAM") {
            Some(program) => PathBuf::from(program),
            None => {
                run_script("build", &["release"])?;
                sockerless_tests::engines::scripts().join("../target/release/sockerless")
            }
        };
        let client = PathBuf::from(run_script("docker-cli", &[])?);
        let fixtures = folder.path().join("fixtures");
        std::fs::create_dir(&fixtures).map_err(|error| error.to_string())?;
        Fixtures::make(&sockerless_tests::engines::scripts(), &fixtures)?;
        let config = folder.path().join("client");
        let [theirs, ours] = ["theirs", "ours"].map(|name| folder.path().join(name));
        let side = |engine, folder: &Path| Side {
            engine,
            folder: folder.to_owned(),
            client: client.clone(),
            config: config.clone(),
        };
        let pair = Self {
            theirs: side(Engine::real(&theirs)?, &theirs),
            ours: side(Engine::ours(&program, Runtime::Function, &ours)?, &ours),
            _folder: folder,
        };
        let image = fixtures.join("plain.tar").display().to_string();
        for side in pair.sides() {
            side.docker(&["load", "--quiet", "--input", &image])?;
            // The first run of an image is another matter than those after it.
            side.docker(&["run", "--rm", "--network", "none", "busybox", "true"])?;
        }
        Ok(pair)
    }

    /// Theirs, then ours.
    pub(crate) fn sides(&self) -> [&Side; 2] {
        [&self.theirs, &self.ours]
    }

    /// Ends both.
    pub(crate) fn end(self) -> Result<(), String> {
        self.ours.engine.end()
    }
}
