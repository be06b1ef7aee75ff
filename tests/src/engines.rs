//! Starts what scenarios run against, and ends it: the real Engine, the subject,
//! a registry for each.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::http::{Endpoint, Request, fetch};
use crate::process::Running;
use crate::scenario::Runtime;

/// A program of ours that is not ready within this time has failed.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// `dockerd` and we give containers 10 s, twice, before they are killed.
const END_LIMIT: Duration = Duration::from_secs(40);

/// Where the repository's scripts are.
#[must_use]
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts")
}

/// Runs a script and gives its last line.
///
/// # Errors
/// What the script said, when it failed.
pub fn run_script(name: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(scripts().join(name));
    // What cargo says of the program it runs is not to be said of what the script
    // builds: build scripts (ring's) are run again whenever it differs.
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(|variable| {
            [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_BIN_",
                "CARGO_CRATE_",
            ]
            .iter()
            .any(|prefix| variable.starts_with(prefix))
        }) {
            command.env_remove(&variable);
        }
    }
    let output = command
        .args(arguments)
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{name} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    Ok(stdout.lines().last().unwrap_or_default().to_owned())
}

/// An engine under test; ended when dropped, unless it was there before.
#[derive(Debug)]
pub struct Engine {
    /// Where it listens.
    pub endpoint: Endpoint,
    keeper: Keeper,
}

#[derive(Debug)]
enum Keeper {
    /// Somebody else's: left as it is.
    Foreign,
    /// `scripts/oracle-engine`, with its folder.
    Script(PathBuf),
    /// Our own program.
    Program(Option<Running>),
}

impl Engine {
    /// One that runs already.
    ///
    /// # Errors
    /// When the address is none.
    pub fn foreign(host: &str) -> Result<Self, String> {
        Ok(Self {
            endpoint: Endpoint::parse(host)?,
            keeper: Keeper::Foreign,
        })
    }

    /// Starts a real Docker Engine with its state in `folder`.
    ///
    /// # Errors
    /// What the script said.
    pub fn real(folder: &Path) -> Result<Self, String> {
        let keeper = std::process::id().to_string();
        run_script(
            "oracle-engine",
            &["start", "--while", &keeper, &folder.display().to_string()],
        )?;
        Ok(Self {
            endpoint: Endpoint::Unix(folder.join("docker.sock")),
            keeper: Keeper::Script(folder.to_owned()),
        })
    }

    /// Starts our own program with its state in `folder`.
    ///
    /// # Errors
    /// What it said, when it was not ready in time.
    pub fn ours(program: &Path, runtime: Runtime, folder: &Path) -> Result<Self, String> {
        Self::ours_with(program, runtime, folder, &[])
    }

    /// As [`Engine::ours`], with more options.
    ///
    /// # Errors
    /// What it said, when it was not ready in time.
    pub fn ours_with(
        program: &Path,
        runtime: Runtime,
        folder: &Path,
        options: &[String],
    ) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let endpoint = Endpoint::Unix(folder.join("docker.sock"));
        let mut running = Running::start(
            Command::new(program)
                .arg("local")
                .args(["--listen", &endpoint.docker_host()])
                .arg("--data-dir")
                .arg(folder.join("data"))
                .args(["--default-runtime", runtime.name()])
                .args(options)
                .env_remove("DOCKER_HOST"),
        )
        .map_err(|error| format!("{}: {error}", program.display()))?;
        running.half_close();
        let deadline = Instant::now() + READY_LIMIT;
        while !answers(&endpoint) {
            if running.has_ended() || Instant::now() >= deadline {
                return Err(format!(
                    "{} did not become ready; it said:\n{}{}",
                    program.display(),
                    running.stdout_so_far(),
                    running.stderr_so_far()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            endpoint,
            keeper: Keeper::Program(Some(running)),
        })
    }

    /// Starts a registry where this engine reaches it on its loopback.
    ///
    /// # Errors
    /// What the registry said.
    pub fn registry(&self, program: &Path, configuration: &Path) -> Result<Running, String> {
        start_registry(self.beside(program).arg("serve").arg(configuration))
    }

    /// Starts a server of a folder's files where this engine reaches it on its loopback.
    ///
    /// # Errors
    /// What it said.
    pub fn files(&self, address: SocketAddr, folder: &Path) -> Result<Running, String> {
        let mut command = self.beside(Path::new("python3"));
        command
            .args(["-u", "-m", "http.server", "--bind"])
            .arg(address.ip().to_string())
            .arg("--directory")
            .arg(folder)
            .arg(address.port().to_string());
        let server = Running::start(&mut command).map_err(|error| format!("python3: {error}"))?;
        if server.await_text(b"Serving HTTP on", Instant::now() + READY_LIMIT) {
            return Ok(server);
        }
        Err(format!(
            "the server of files does not listen; it said:\n{}{}",
            server.stdout_so_far(),
            server.stderr_so_far()
        ))
    }

    /// Starts a registry with a token server where this engine reaches it on its loopback.
    ///
    /// # Errors
    /// What it said.
    pub fn tokens(&self, address: SocketAddr) -> Result<Running, String> {
        let mut command = self.beside(Path::new("python3"));
        command
            .arg(scripts().join("lib/token_server.py"))
            .arg(address.ip().to_string())
            .arg(address.port().to_string());
        start_registry(&mut command)
    }

    /// A program in this engine's network.
    #[must_use]
    pub fn beside(&self, program: &Path) -> Command {
        match &self.keeper {
            Keeper::Script(folder) => {
                let mut command = Command::new(scripts().join("oracle-engine"));
                command.arg("exec").arg(folder).arg(program);
                command
            }
            Keeper::Foreign | Keeper::Program(_) => Command::new(program),
        }
    }

    /// Whether a registry on the machine's own loopback is this engine's, too.
    #[must_use]
    pub fn shares_network(&self) -> bool {
        !matches!(self.keeper, Keeper::Script(_))
    }

    /// Ends it.
    ///
    /// # Errors
    /// What went wrong at its end, if it was our own program: it has to stop on
    /// SIGTERM, in time, with exit code 0.
    pub fn end(mut self) -> Result<(), String> {
        let Keeper::Program(running) = &mut self.keeper else {
            return Ok(());
        };
        let Some(running) = running.take() else {
            return Ok(());
        };
        running.signal(Signal::SIGTERM)?;
        let ended = running
            .finish(Instant::now() + END_LIMIT)
            .map_err(|error| format!("after SIGTERM: {error}"))?;
        if ended.code == 0 {
            return Ok(());
        }
        Err(format!(
            "after SIGTERM the program ended with {} and said:\n{}",
            ended.code,
            String::from_utf8_lossy(&ended.stderr)
        ))
    }

    /// Kills our own program, which then has no time for anything.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(mut self) -> Result<(), String> {
        if let Keeper::Program(running) = &mut self.keeper
            && let Some(running) = running.take()
        {
            running.signal(Signal::SIGKILL)?;
            running.finish(Instant::now() + END_LIMIT)?;
        }
        Ok(())
    }

    /// The process whose descendants are the engine's, unless it is somebody else's.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        match &self.keeper {
            Keeper::Foreign => None,
            Keeper::Script(folder) => std::fs::read_to_string(folder.join("supervisor.pid"))
                .ok()
                .and_then(|pid| pid.trim().parse().ok()),
            Keeper::Program(running) => running.as_ref().map(Running::id),
        }
    }

    /// The most memory that our own program has had, in KiB.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        let Keeper::Program(Some(running)) = &self.keeper else {
            return None;
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
    }

    /// What our own program has said by now.
    #[must_use]
    pub fn log(&self) -> String {
        match &self.keeper {
            Keeper::Program(Some(running)) => running.stderr_so_far(),
            _ => String::new(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Keeper::Script(folder) = &self.keeper
            && let Err(error) =
                run_script("oracle-engine", &["stop", &folder.display().to_string()])
        {
            eprintln!("{error}");
        }
    }
}

fn answers(endpoint: &Endpoint) -> bool {
    let ping = Request {
        method: "GET".to_owned(),
        target: "/_ping".to_owned(),
        ..Request::default()
    };
    fetch(endpoint, &ping, Duration::from_secs(2)).is_ok_and(|(head, _)| head.status == 200)
}

/// Starts a registry and waits until it listens.
///
/// # Errors
/// What it said instead.
pub fn start_registry(command: &mut Command) -> Result<Running, String> {
    let registry = Running::start(command).map_err(|error| format!("registry: {error}"))?;
    if registry.await_text(b"listening on", Instant::now() + READY_LIMIT) {
        return Ok(registry);
    }
    Err(format!(
        "the registry does not listen; it said:\n{}{}",
        registry.stdout_so_far(),
        registry.stderr_so_far()
    ))
}

/// A port of the loopback that was free a moment ago.
///
/// # Errors
/// What the system says.
pub fn free_port() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))
}

/// Builds our own program and its agent, and gives its path, unless `SOCKERLESS_TEST_PROGRAM`
/// names one.
///
/// # Errors
/// What cargo said.
pub fn own_program() -> Result<PathBuf, String> {
    if let Some(program) = std::env::var_os("SOCKERLESS_TEST_PROGRAM") {
        return Ok(program.into());
    }
    run_script("build", &["debug"])?;
    // target/debug/deps/differential-… is this program.
    let folder = std::env::current_exe()
        .ok()
        .and_then(|path| path.parent()?.parent().map(Path::to_owned))
        .ok_or("this program has no path")?;
    let program = folder.join("sockerless");
    if program.is_file() {
        return Ok(program);
    }
    Err(format!(
        "{} is not what scripts/build made: is the target folder another one?",
        program.display()
    ))
}
