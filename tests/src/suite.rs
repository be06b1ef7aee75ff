//! The suite: each scenario against both engines, then the grid and the list of
//! allowed differences.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::compare::{Allowed, allowed, differing, unified};
use crate::engines::{Engine, free_port, own_program, run_script, scripts, start_registry};
use crate::fixtures::Fixtures;
use crate::grid::{Cell, Grid};
use crate::http::Endpoint;
use crate::normal::{Normaliser, Rules};
use crate::process::Running;
use crate::scenario::{Runtime, Scenario};
use crate::script::{Played, Record, Stage, play};

/// What the environment says about a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `SOCKERLESS_TEST_ORACLE_HOST`: a Docker Engine that runs already.
    pub oracle: Option<String>,
    /// `SOCKERLESS_TEST_DOCKER_HOST`: a subject that runs already, or `engine`:
    /// a second real Engine, which proves the suite itself.
    pub subject: Option<String>,
    /// `SOCKERLESS_TEST_RUNTIME`: the runtime of the subject's containers.
    pub runtime: Runtime,
    /// How those warnings of the subject begin that are overlooked: a runtime's own, of what its
    /// platform does not have. Empty for none.
    pub overlooked: &'static str,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// A sentence about a variable that makes no sense.
    pub fn from_environment() -> Result<Self, String> {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let runtime = read("SOCKERLESS_TEST_RUNTIME").unwrap_or_else(|| "function".to_owned());
        Ok(Self {
            oracle: read("SOCKERLESS_TEST_ORACLE_HOST"),
            subject: read("SOCKERLESS_TEST_DOCKER_HOST"),
            runtime: Runtime::named(&runtime).ok_or_else(|| {
                format!("SOCKERLESS_TEST_RUNTIME={runtime} is neither function nor microvm")
            })?,
            overlooked: "",
        })
    }

    /// Whether the subject is a real Engine, which has no platform's limits.
    fn proves_itself(&self) -> bool {
        self.subject.as_deref() == Some("engine")
    }
}

/// Both engines, ready, with the fixtures loaded.
#[derive(Debug)]
struct Ready {
    oracle: Engine,
    subject: Engine,
    oracle_stage: Stage,
    subject_stage: Stage,
    known: BTreeSet<String>,
    registries: Vec<Running>,
    _folder: tempfile::TempDir,
}

/// The suite.
#[derive(Debug)]
pub struct Suite {
    settings: Settings,
    rules: Rules,
    grid: Grid,
    allowed: Vec<Allowed>,
    engines: OnceLock<Result<Ready, String>>,
    seen: Mutex<Seen>,
    order: RwLock<()>,
}

#[derive(Debug, Default)]
struct Seen {
    cells: BTreeSet<Cell>,
    allowed: BTreeSet<usize>,
}

impl Suite {
    /// A suite whose engines start with its first scenario.
    ///
    /// # Errors
    /// A sentence about what is wrong in the tests' data.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let grid = Grid::load()?.of_runtime(settings.runtime.name());
        Ok(Self {
            settings,
            rules: Rules::load()?,
            grid,
            allowed: allowed()?,
            engines: OnceLock::new(),
            seen: Mutex::new(Seen::default()),
            order: RwLock::new(()),
        })
    }

    /// Whether the subject's runtime can do what the scenario wants.
    #[must_use]
    pub fn applies(&self, scenario: &Scenario) -> bool {
        self.settings.proves_itself() || scenario.runtimes.contains(&self.settings.runtime)
    }

    /// Runs a scenario with both engines.
    ///
    /// # Errors
    /// A text that shows what differs.
    pub fn run(&self, scenario: &Scenario) -> Result<(), String> {
        let engines = self
            .engines
            .get_or_init(|| start(&self.settings))
            .as_ref()
            .map_err(Clone::clone)?;
        let (_shared, _alone);
        if scenario.alone {
            _alone = self.order.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _shared = self.order.read().unwrap_or_else(PoisonError::into_inner);
        }
        let (oracle, subject) = std::thread::scope(|scope| {
            let oracle = scope.spawn(|| play(scenario, &engines.oracle_stage));
            let subject = play(scenario, &engines.subject_stage);
            (oracle.join(), subject)
        });
        let oracle = oracle.map_err(|_| "the oracle's half panicked".to_owned())?;
        self.check(scenario, engines, &oracle, &subject)
    }

    fn check(
        &self,
        scenario: &Scenario,
        engines: &Ready,
        oracle: &Played,
        subject: &Played,
    ) -> Result<(), String> {
        if let Some(error) = &oracle.error {
            return Err(format!("with the real Engine: {error}"));
        }
        let mut problems = Vec::new();
        for record in &oracle.records {
            problems.extend(unexpected(scenario, record));
        }
        self.note(&oracle.records);
        let normaliser = |stage: &Stage| {
            let local = vec![
                (stage.endpoint.docker_host(), "<host>"),
                (stage.registry.clone(), "<registry>"),
                (stage.guarded.clone(), "<guarded>"),
                (stage.index.clone(), "<index>"),
                (stage.tokens.clone(), "<tokens>"),
            ];
            Normaliser::new(&self.rules, &self.grid, &engines.known, local)
        };
        let mut of_oracle = normaliser(&engines.oracle_stage);
        let mut of_subject =
            normaliser(&engines.subject_stage).overlooking(self.settings.overlooked);
        for (left, right) in oracle.records.iter().zip(&subject.records) {
            let (oracle, subject) = (of_oracle.normalise(left), of_subject.normalise(right));
            problems.extend(self.difference(scenario, left, &oracle, &subject));
        }
        if let Some(error) = &subject.error {
            problems.push(format!("Sockerless: {error}"));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems.join("\n"))
    }

    /// What differs in one step, as a text, unless all of it is allowed.
    fn difference(
        &self,
        scenario: &Scenario,
        record: &Record,
        oracle: &serde_json::Value,
        subject: &serde_json::Value,
    ) -> Option<String> {
        let operation = record
            .request
            .as_ref()
            .and_then(|request| self.grid.operation(request));
        let mut refused = Vec::new();
        for pointer in differing(oracle, subject) {
            let allowing = self.allowed.iter().position(|entry| {
                !self.settings.proves_itself()
                    && entry.allows(
                        self.settings.runtime,
                        &scenario.name,
                        &record.title,
                        operation,
                        &pointer,
                    )
            });
            match allowing {
                Some(entry) => {
                    self.seen().allowed.insert(entry);
                }
                None => refused.push(pointer),
            }
        }
        if refused.is_empty() {
            return None;
        }
        Some(format!(
            "step {}, {}\n  differs at {}\n{}",
            record.step,
            record.title,
            refused.join(", "),
            unified(oracle, subject)
        ))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the cells of the grid that the real Engine's answers belong to.
    fn note(&self, records: &[Record]) {
        let mut seen = self.seen();
        for record in records {
            let operation = record
                .request
                .as_ref()
                .and_then(|request| self.grid.operation(request));
            let row = match (operation, &record.command) {
                (Some(operation), _) => operation.to_owned(),
                (None, Some(command)) => format!("docker {command}"),
                (None, None) => continue,
            };
            let column = if record.gone {
                "gone".to_owned()
            } else if let Some(code) = code(record) {
                code.to_string()
            } else {
                continue;
            };
            seen.cells.insert(Cell { row, column });
        }
    }

    /// Prints the grid and what is missing; to be called after all scenarios.
    ///
    /// # Errors
    /// A text with the cells that no step has filled, and the entries of the
    /// list of differences that no longer differ.
    pub fn conclude(&self) -> Result<(), String> {
        let seen = self.seen();
        let missing = self.grid.missing(&seen.cells);
        println!(
            "grid: {} of {} cells filled, {} beyond every request",
            self.grid.size() - missing.len(),
            self.grid.size(),
            self.grid.unreachable().len()
        );
        let mut problems: Vec<String> = missing
            .iter()
            .map(|cell| format!("no step has seen {} answer {}", cell.row, cell.column))
            .collect();
        problems.extend(
            self.grid
                .wrongly_unreachable(&seen.cells)
                .iter()
                .map(|cell| {
                    format!(
                        "operations.json says that {} cannot answer {}, but it did",
                        cell.row, cell.column
                    )
                }),
        );
        if !self.settings.proves_itself() {
            let runtime = self.settings.runtime.name();
            for (number, entry) in self.allowed.iter().enumerate() {
                if entry.runtimes.iter().any(|name| name == runtime)
                    && !seen.allowed.contains(&number)
                {
                    problems.push(format!(
                        "differences.json: {} / {} / {} no longer differs: remove it",
                        entry.scenario, entry.step, entry.path
                    ));
                }
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems.join("\n"))
    }

    /// Ends both engines.
    ///
    /// # Errors
    /// What went wrong at the subject's end.
    pub fn end(self) -> Result<(), String> {
        let Some(Ok(engines)) = self.engines.into_inner() else {
            return Ok(());
        };
        drop(engines.registries);
        if std::env::var_os("SOCKERLESS_TEST_LOG").is_some() {
            println!("{}", engines.subject.log());
        }
        let ended = engines.subject.end();
        drop(engines.oracle);
        ended
    }
}

/// The exit code or status of a record.
fn code(record: &Record) -> Option<i64> {
    record.value["status"]
        .as_i64()
        .or_else(|| record.value["exit"].as_i64())
}

/// The complaint about a step of which the scenario itself has a wrong idea.
fn unexpected(scenario: &Scenario, record: &Record) -> Option<String> {
    let expected = scenario.steps[record.step].expect?;
    let given = code(record);
    (given != Some(expected)).then(|| {
        format!(
            "the scenario is wrong: step {}, {}: expected {expected}, but the real Engine gave {}",
            record.step,
            record.title,
            serde_json::to_string_pretty(&record.value).unwrap_or_default()
        )
    })
}

fn start(settings: &Settings) -> Result<Ready, String> {
    let folder = tempfile::Builder::new()
        .prefix("skls-")
        .tempdir()
        .map_err(|error| format!("no folder: {error}"))?;
    let client = PathBuf::from(run_script("docker-cli", &[])?);
    let registry_program = PathBuf::from(run_script("test-registry", &[])?);
    let fixtures_folder = folder.path().join("fixtures");
    std::fs::create_dir(&fixtures_folder).map_err(|error| error.to_string())?;
    let mut fixtures = Fixtures::make(&scripts(), &fixtures_folder)?;

    let addresses = Addresses {
        open: free_port()?,
        guarded: free_port()?,
        index: free_port()?,
        tokens: free_port()?,
    };
    let registries = Registries::write(folder.path(), "registry", &addresses)?;
    std::fs::copy(
        fixtures_folder.join("rootfs.tar"),
        registries.index.join("rootfs.tar"),
    )
    .map_err(|error| format!("rootfs.tar: {error}"))?;
    let registry = start_registry(
        std::process::Command::new(&registry_program)
            .arg("serve")
            .arg(&registries.open),
    )?;
    fixtures.publish(&Endpoint::Tcp(addresses.open))?;
    let mut running = vec![registry];

    let oracle = match &settings.oracle {
        Some(host) => Engine::foreign(host)?,
        None => Engine::real(&folder.path().join("oracle"))?,
    };
    let subject = match settings.subject.as_deref() {
        Some("engine") => Engine::real(&folder.path().join("subject"))?,
        Some(host) => Engine::foreign(host)?,
        None => Engine::ours(
            &own_program()?,
            settings.runtime,
            &folder.path().join("subject"),
        )?,
    };
    let mut stages = Vec::new();
    for (engine, name) in [(&oracle, "registry-oracle"), (&subject, "registry")] {
        let shares = engine.shares_network();
        // What the one pushes, the other does not find.
        let own = if shares {
            Registries::write(folder.path(), "registry", &addresses)?
        } else {
            copy_folder(&folder.path().join("registry"), &folder.path().join(name))?;
            let own = Registries::write(folder.path(), name, &addresses)?;
            running.push(engine.registry(&registry_program, &own.open)?);
            own
        };
        running.push(engine.registry(&registry_program, &own.guarded)?);
        running.push(engine.files(addresses.index, &own.index)?);
        running.push(engine.tokens(addresses.tokens)?);
        let stage = Stage {
            endpoint: engine.endpoint.clone(),
            client: client.clone(),
            registry: addresses.open.to_string(),
            guarded: addresses.guarded.to_string(),
            index: addresses.index.to_string(),
            tokens: addresses.tokens.to_string(),
            fixtures: fixtures_folder.clone(),
        };
        load_images(&stage).map_err(|error| format!("{error}\n{}", engine.log()))?;
        stages.push(stage);
    }
    let subject_stage = stages.pop().ok_or("two stages")?;
    let oracle_stage = stages.pop().ok_or("two stages")?;
    Ok(Ready {
        oracle,
        subject,
        oracle_stage,
        subject_stage,
        known: fixtures.known,
        registries: running,
        _folder: folder,
    })
}

/// Where the registries are; the same for both engines, each in its own network.
struct Addresses {
    open: SocketAddr,
    guarded: SocketAddr,
    index: SocketAddr,
    tokens: SocketAddr,
}

/// The configurations of an engine's registries, and the folder that stands for Docker Hub's
/// index.
struct Registries {
    open: PathBuf,
    guarded: PathBuf,
    index: PathBuf,
}

/// `bob` and `secret`.
const PASSWORDS: &str = "bob:$2y$04$KMgV0DQsKomMlJi9SCBP8epU8Im6w8WlUwQIfKUsb00n3OnHxKXvW\n";

/// What a search finds.
const FOUND: &str = r#"{"num_results":2,"query":"busybox","results":[
{"star_count":30,"is_official":true,"name":"busybox","is_automated":false,"description":"Busybox base image."},
{"star_count":2,"is_official":false,"name":"somebody/busybox","is_automated":false,"description":""}]}"#;

impl Registries {
    /// Over the storage of this name below `folder`.
    fn write(folder: &Path, name: &str, addresses: &Addresses) -> Result<Self, String> {
        let write = |file: &str, text: &str| {
            let path = folder.join(file);
            let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.and_then(|()| std::fs::write(&path, text))
                .map(|()| path)
                .map_err(|error| format!("{file}: {error}"))
        };
        let storage = folder.join(name);
        let passwords = write("passwords", PASSWORDS)?;
        let common = |address: SocketAddr| {
            format!(
                "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
                 http: {{addr: \"{address}\"}}\n",
                storage.display()
            )
        };
        let guard = format!(
            "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            passwords.display()
        );
        write("index/v1/_ping", "true")?;
        write("index/v1/search", FOUND)?;
        Ok(Self {
            open: write(&format!("{name}.yml"), &common(addresses.open))?,
            guarded: write(
                &format!("{name}-guarded.yml"),
                &(common(addresses.guarded) + &guard),
            )?,
            index: folder.join("index"),
        })
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    let output = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .output()
        .map_err(|error| format!("cp: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Loads the images that scenarios run.
fn load_images(stage: &Stage) -> Result<(), String> {
    for name in ["plain.tar", "configured.tar", "user.tar"] {
        let output = std::process::Command::new(&stage.client)
            .env("DOCKER_HOST", stage.endpoint.docker_host())
            .args(["load", "--quiet", "--input"])
            .arg(stage.fixtures.join(name))
            .output()
            .map_err(|error| format!("docker load: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "docker load of {name} into {}: {}",
                stage.endpoint.docker_host(),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    Ok(())
}
