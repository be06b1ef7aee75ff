//! The suite: each scenario against a real Engine and against Sockerless, with each of its
//! runtimes; then the grid and the list of allowed differences.

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

/// How often the real Engine is asked again when a scenario differs: some of its answers depend
/// on which of two things it does first, and each of them is right.
const ASKED_AGAIN: usize = 2;

/// What the environment says about a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `SOCKERLESS_TEST_ORACLE_HOST`: a Docker Engine that runs already.
    pub oracle: Option<String>,
    /// `SOCKERLESS_TEST_DOCKER_HOST`: a subject that runs already, or `engine`:
    /// a second real Engine, which proves the suite itself.
    pub subject: Option<String>,
    /// `SOCKERLESS_TEST_RUNTIME`: the runtimes of the subjects' containers, a subject each.
    pub runtimes: Vec<Runtime>,
    /// How those warnings of the subject begin that are overlooked: a runtime's own, of what its
    /// platform does not have. Empty for none.
    pub overlooked: &'static str,
}

impl Settings {
    /// Reads the environment; where it names no runtime, `runtimes` are taken, or of a subject
    /// that runs already, which has but one, their first.
    ///
    /// # Errors
    /// A sentence about a variable that makes no sense.
    pub fn from_environment(runtimes: &[Runtime]) -> Result<Self, String> {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let subject = read("SOCKERLESS_TEST_DOCKER_HOST");
        let runtimes = match read("SOCKERLESS_TEST_RUNTIME") {
            Some(name) => vec![Runtime::named(&name).ok_or_else(|| {
                format!("SOCKERLESS_TEST_RUNTIME={name} is neither function nor microvm")
            })?],
            None if subject.is_some() => runtimes.iter().copied().take(1).collect(),
            None => runtimes.to_vec(),
        };
        Ok(Self {
            oracle: read("SOCKERLESS_TEST_ORACLE_HOST"),
            subject,
            runtimes,
            overlooked: "",
        })
    }

    /// Whether the subject is a real Engine, which has no platform's limits.
    fn proves_itself(&self) -> bool {
        self.subject.as_deref() == Some("engine")
    }
}

/// An engine, and what its steps need.
#[derive(Debug)]
struct Side {
    engine: Engine,
    stage: Stage,
}

/// All engines, ready, with the fixtures loaded.
#[derive(Debug)]
struct Ready {
    oracle: Side,
    /// In the order of the runtimes.
    subjects: Vec<Side>,
    known: BTreeSet<String>,
    registries: Vec<Running>,
    _folder: tempfile::TempDir,
}

/// What is known of one runtime.
#[derive(Debug)]
struct Subject {
    runtime: Runtime,
    grid: Grid,
    seen: Mutex<Seen>,
}

/// The suite.
#[derive(Debug)]
pub struct Suite {
    settings: Settings,
    rules: Rules,
    subjects: Vec<Subject>,
    allowed: Vec<Allowed>,
    engines: OnceLock<Result<Ready, String>>,
    order: RwLock<()>,
}

#[derive(Debug, Default)]
struct Seen {
    cells: BTreeSet<Cell>,
    allowed: BTreeSet<usize>,
    /// The scenarios that were the same as a later answer of the Engine, not as its first.
    undecided: BTreeSet<String>,
}

impl Suite {
    /// A suite whose engines start with its first scenario.
    ///
    /// # Errors
    /// A sentence about what is wrong in the tests' data.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let subject = |runtime: &Runtime| {
            Ok(Subject {
                runtime: *runtime,
                grid: Grid::load()?.of_runtime(runtime.name()),
                seen: Mutex::default(),
            })
        };
        Ok(Self {
            subjects: settings
                .runtimes
                .iter()
                .map(subject)
                .collect::<Result<_, String>>()?,
            settings,
            rules: Rules::load()?,
            allowed: allowed()?,
            engines: OnceLock::new(),
            order: RwLock::new(()),
        })
    }

    /// Whether a subject's runtime can do what the scenario wants.
    #[must_use]
    pub fn applies(&self, scenario: &Scenario) -> bool {
        self.subjects
            .iter()
            .any(|subject| self.applies_to(subject, scenario))
    }

    fn applies_to(&self, subject: &Subject, scenario: &Scenario) -> bool {
        self.settings.proves_itself() || scenario.runtimes.contains(&subject.runtime)
    }

    /// Runs a scenario with all engines. What differs from the real Engine's answers is held
    /// against what it answers when it is asked again; it has to be one of them.
    ///
    /// # Errors
    /// A text that shows what differs from the first of them.
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
        let (oracle, subjects) = std::thread::scope(|scope| {
            let oracle = scope.spawn(|| play(scenario, &engines.oracle.stage));
            let subjects: Vec<_> = self
                .subjects
                .iter()
                .zip(&engines.subjects)
                .filter(|(subject, _)| self.applies_to(subject, scenario))
                .map(|(subject, side)| {
                    let played = scope.spawn(|| play(scenario, &side.stage));
                    (subject, side, played)
                })
                .collect();
            let subjects: Vec<_> = subjects
                .into_iter()
                .map(|(subject, side, played)| (subject, side, played.join()))
                .collect();
            (oracle.join(), subjects)
        });
        let oracle = oracle.map_err(|_| "the oracle's half panicked".to_owned())?;
        let mut problems = Vec::new();
        for (subject, side, played) in subjects {
            let runtime = subject.runtime.name();
            let played = played.map_err(|_| format!("the half of {runtime} panicked"))?;
            let check = |oracle: &Played| {
                let halves = [(&engines.oracle.stage, oracle), (&side.stage, &played)];
                self.check(scenario, subject, &engines.known, halves)
            };
            let Err(problem) = check(&oracle) else {
                continue;
            };
            let again = || check(&play(scenario, &engines.oracle.stage)).is_ok();
            if (0..ASKED_AGAIN).any(|_| again()) {
                subject.seen().undecided.insert(scenario.name.clone());
            } else {
                problems.push(format!("{runtime}: {problem}"));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems.join("\n"))
    }

    /// Holds a subject's records against the oracle's.
    fn check(
        &self,
        scenario: &Scenario,
        subject: &Subject,
        known: &BTreeSet<String>,
        [(oracle_stage, oracle), (subject_stage, played)]: [(&Stage, &Played); 2],
    ) -> Result<(), String> {
        if let Some(error) = &oracle.error {
            return Err(format!("with the real Engine: {error}"));
        }
        let mut problems = Vec::new();
        for record in &oracle.records {
            problems.extend(unexpected(scenario, record));
        }
        subject.note(&oracle.records);
        let normaliser = |stage: &Stage| {
            let local = vec![
                (stage.endpoint.docker_host(), "<host>"),
                (stage.registry.clone(), "<registry>"),
                (stage.guarded.clone(), "<guarded>"),
                (stage.index.clone(), "<index>"),
                (stage.tokens.clone(), "<tokens>"),
            ];
            Normaliser::new(&self.rules, &subject.grid, known, local)
        };
        let mut of_oracle = normaliser(oracle_stage);
        let mut of_subject = normaliser(subject_stage).overlooking(self.settings.overlooked);
        for (left, right) in oracle.records.iter().zip(&played.records) {
            let halves = [of_oracle.normalise(left), of_subject.normalise(right)];
            problems.extend(self.difference(scenario, subject, left, &halves));
        }
        if let Some(error) = &played.error {
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
        subject: &Subject,
        record: &Record,
        [oracle, given]: &[serde_json::Value; 2],
    ) -> Option<String> {
        let operation = record
            .request
            .as_ref()
            .and_then(|request| subject.grid.operation(request));
        let mut refused = Vec::new();
        for pointer in differing(oracle, given) {
            let allowing = self.allowed.iter().position(|entry| {
                !self.settings.proves_itself()
                    && entry.allows(
                        subject.runtime,
                        &scenario.name,
                        &record.title,
                        operation,
                        &pointer,
                    )
            });
            match allowing {
                Some(entry) => {
                    subject.seen().allowed.insert(entry);
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
            unified(oracle, given)
        ))
    }

    /// Prints the grid and what is missing; to be called after all scenarios.
    ///
    /// # Errors
    /// A text with the cells that no step has filled, and the entries of the
    /// list of differences that no longer differ.
    pub fn conclude(&self) -> Result<(), String> {
        let allowed: &[Allowed] = if self.settings.proves_itself() {
            &[]
        } else {
            &self.allowed
        };
        let problems: Vec<String> = self
            .subjects
            .iter()
            .flat_map(|subject| {
                let runtime = subject.runtime.name();
                let problems = subject.conclude(allowed).into_iter();
                problems.map(move |problem| format!("{runtime}: {problem}"))
            })
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems.join("\n"))
    }

    /// Ends all engines.
    ///
    /// # Errors
    /// What went wrong at a subject's end.
    pub fn end(self) -> Result<(), String> {
        let Some(Ok(engines)) = self.engines.into_inner() else {
            return Ok(());
        };
        drop(engines.registries);
        let mut ended = Ok(());
        for Side { engine, .. } in engines.subjects {
            if std::env::var_os("SOCKERLESS_TEST_LOG").is_some() {
                println!("{}", engine.log());
            }
            ended = ended.and(engine.end());
        }
        drop(engines.oracle);
        ended
    }
}

impl Subject {
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

    /// Prints the grid; gives what is missing, of the grid and of the allowed differences.
    fn conclude(&self, allowed: &[Allowed]) -> Vec<String> {
        let runtime = self.runtime.name();
        let seen = self.seen();
        let missing = self.grid.missing(&seen.cells);
        println!(
            "{runtime}: {} of {} cells of the grid filled, {} beyond every request",
            self.grid.size() - missing.len(),
            self.grid.size(),
            self.grid.unreachable().len()
        );
        for scenario in &seen.undecided {
            println!("{runtime}: the Engine has more than one answer to {scenario}");
        }
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
        for (number, entry) in allowed.iter().enumerate() {
            if entry.runtimes.iter().any(|name| name == runtime) && !seen.allowed.contains(&number)
            {
                problems.push(format!(
                    "differences.json: {} / {} / {} no longer differs: remove it",
                    entry.scenario, entry.step, entry.path
                ));
            }
        }
        problems
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

    let addresses = Addresses::free()?;
    let original = Registries::write(folder.path(), "registry", &addresses)?;
    let filled = start_registry(
        std::process::Command::new(&registry_program)
            .arg("serve")
            .arg(&original.open),
    )?;
    fixtures.publish(&Endpoint::Tcp(addresses.open))?;
    drop(filled);

    let oracle = match &settings.oracle {
        Some(host) => Engine::foreign(host)?,
        None => Engine::real(&folder.path().join("oracle"))?,
    };
    let mut sides = vec![("registry-oracle".to_owned(), oracle)];
    for runtime in &settings.runtimes {
        let name = runtime.name();
        let engine = match settings.subject.as_deref() {
            Some("engine") => Engine::real(&folder.path().join("subject"))?,
            Some(host) => Engine::foreign(host)?,
            None => Engine::ours(&own_program()?, *runtime, &folder.path().join(name))?,
        };
        sides.push((format!("registry-{name}"), engine));
    }
    let mut running = Vec::new();
    let mut sides = sides
        .into_iter()
        .map(|(name, engine)| {
            // What the one pushes, the others do not find.
            let addresses = Addresses::free()?;
            copy_folder(&folder.path().join("registry"), &folder.path().join(&name))?;
            let own = Registries::write(folder.path(), &name, &addresses)?;
            std::fs::copy(
                fixtures_folder.join("rootfs.tar"),
                own.index.join("rootfs.tar"),
            )
            .map_err(|error| format!("rootfs.tar: {error}"))?;
            running.push(engine.registry(&registry_program, &own.open)?);
            running.push(engine.registry(&registry_program, &own.guarded)?);
            if !engine.shares_network() {
                // A manifest is what the client fetches by itself, from where it is.
                running.push(start_registry(
                    std::process::Command::new(&registry_program)
                        .arg("serve")
                        .arg(&own.guarded),
                )?);
            }
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
            Ok(Side { engine, stage })
        })
        .collect::<Result<Vec<_>, String>>()?
        .into_iter();
    Ok(Ready {
        oracle: sides.next().ok_or("no oracle")?,
        subjects: sides.collect(),
        known: fixtures.known,
        registries: running,
        _folder: folder,
    })
}

/// Where an engine's registries are.
struct Addresses {
    open: SocketAddr,
    guarded: SocketAddr,
    index: SocketAddr,
    tokens: SocketAddr,
}

impl Addresses {
    fn free() -> Result<Self, String> {
        Ok(Self {
            open: free_port()?,
            guarded: free_port()?,
            index: free_port()?,
            tokens: free_port()?,
        })
    }
}

/// The configurations of an engine's registries, and the folder that stands for Docker Hub's
/// index.
struct Registries {
    open: PathBuf,
    guarded: PathBuf,
    index: PathBuf,
}

/// Who may use a guarded registry, in the form of `htpasswd`: `bob` with `secret`.
pub const PASSWORDS: &str = "bob:$2y$04$KMgV0DQsKomMlJi9SCBP8epU8Im6w8WlUwQIfKUsb00n3OnHxKXvW\n";

/// What a registry's configuration has more, for those in this file alone to use it.
#[must_use]
pub fn guard(passwords: &Path) -> String {
    format!(
        "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
        passwords.display()
    )
}

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
        let guard = guard(&passwords);
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
