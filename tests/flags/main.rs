//! Every flag of `docker run`: `tests/data/run-flags.json` says of each what becomes of
//! it under either runtime, and here each is tried. What is called faithful is tried
//! with a real Engine as well; what differs does as the table says; what is refused is
//! refused with the table's own words. A flag that the client has and the table has
//! not is a failure.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use regex_lite::Regex;
use serde::Deserialize;
use sockerless_tests::engines::{Engine, own_program, run_script, scripts};
use sockerless_tests::fixtures::Fixtures;
use sockerless_tests::scenario::Runtime;

const TABLE: &str = include_str!("../data/run-flags.json");

/// No probe takes longer, in seconds.
const LIMIT: &str = "60";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    flag: String,
    /// The field of the API that it sets, `query`, or `client` where no engine hears of it.
    field: String,
    probe: Probe,
    function: Outcome,
    microvm: Outcome,
    /// For `docs/compatibility.md`.
    #[serde(default, rename = "aws")]
    _aws: Option<String>,
}

/// What is done, and what comes of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Probe {
    arguments: Option<Vec<String>>,
    /// Run with `docker run --rm`.
    command: Option<Vec<String>>,
    /// Or: looked at after `docker create`.
    inspect: Option<String>,
    stdin: Option<String>,
    files: BTreeMap<String, String>,
    /// Whether `--rm` cannot be given with it.
    keep: bool,
    /// Its whole output; `None` where that is as it may be.
    stdout: Option<String>,
    /// A part of what is said.
    stderr: Option<String>,
    code: Option<i32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    state: State,
    /// For people; of what is refused, the very words.
    note: String,
    /// What is otherwise than in the entry's own probe.
    #[serde(default)]
    probe: Option<Probe>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Faithful,
    Differs,
    Refused,
}

/// Two engines with the same image, and the client.
struct Bench {
    oracle: Engine,
    ours: Engine,
    client: String,
    folder: tempfile::TempDir,
}

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn start() -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::Builder::new()
            .prefix("skls-")
            .tempdir()
            .map_err(text)?;
        let fixtures = folder.path().join("fixtures");
        std::fs::create_dir(&fixtures).map_err(text)?;
        Fixtures::make(&scripts(), &fixtures)?;
        let program = own_program()?;
        let bench = Self {
            oracle: Engine::real(&folder.path().join("oracle"))?,
            ours: Engine::ours(&program, Runtime::Function, &folder.path().join("ours"))?,
            client: run_script("docker-cli", &[])?,
            folder,
        };
        let image = fixtures.join("plain.tar").display().to_string();
        for engine in [&bench.oracle, &bench.ours] {
            let arguments = ["load", "--quiet", "--input", &image].map(str::to_owned);
            let said = bench.docker(engine, &arguments, &Probe::default(), Path::new("/"))?;
            if said.code != Some(0) {
                return Err(said.stderr);
            }
        }
        Ok(bench)
    }

    fn docker(
        &self,
        engine: &Engine,
        arguments: &[String],
        probe: &Probe,
        folder: &Path,
    ) -> Result<Said, String> {
        let text = |error: std::io::Error| error.to_string();
        let input = match &probe.stdin {
            None => Stdio::null(),
            Some(stdin) => {
                let path = folder.join("stdin");
                std::fs::write(&path, stdin).map_err(text)?;
                std::fs::File::open(path).map_err(text)?.into()
            }
        };
        let output = Command::new("timeout")
            .args(["-s", "KILL", LIMIT, &self.client])
            .args(arguments)
            .current_dir(folder)
            .stdin(input)
            .env("DOCKER_HOST", engine.endpoint.docker_host())
            .env("DOCKER_CONFIG", self.folder.path().join("client"))
            .output()
            .map_err(text)?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Does what the probe says, with one engine.
    fn probe(
        &self,
        engine: &Engine,
        probe: &Probe,
        runtime: Option<Runtime>,
    ) -> Result<Said, String> {
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir_in(self.folder.path()).map_err(text)?;
        for (name, content) in &probe.files {
            std::fs::write(folder.path().join(name), content).map_err(text)?;
        }
        let unique = folder
            .path()
            .file_name()
            .map(|name| name.to_string_lossy().trim_start_matches('.').to_owned())
            .unwrap_or_default();
        let mut arguments = vec![match probe.inspect {
            None => "run".to_owned(),
            Some(_) => "create".to_owned(),
        }];
        if probe.inspect.is_none() && !probe.keep {
            arguments.push("--rm".to_owned());
        }
        if let Some(runtime) = runtime {
            arguments.extend(["--runtime".to_owned(), runtime.name().to_owned()]);
        }
        let own = probe.arguments.iter().flatten();
        arguments.extend(own.map(|argument| argument.replace('@', &unique)));
        arguments.push("busybox".to_owned());
        arguments.extend(probe.command.iter().flatten().cloned());
        let said = self.docker(engine, &arguments, probe, folder.path())?;
        let (Some(format), Some(0)) = (&probe.inspect, said.code) else {
            return Ok(said);
        };
        let id = said.stdout.trim().to_owned();
        let inspect = ["inspect", "--format", format, &id].map(str::to_owned);
        let seen = self.docker(engine, &inspect, probe, folder.path())?;
        let remove = ["rm", &id].map(str::to_owned);
        self.docker(engine, &remove, probe, folder.path())?;
        Ok(Said {
            stderr: said.stderr,
            ..seen
        })
    }

    fn check(&self, entry: &Entry, runtime: Runtime) -> Result<(), Failed> {
        let outcome = match runtime {
            Runtime::Function => &entry.function,
            Runtime::Microvm => &entry.microvm,
        };
        let mut wanted = entry.probe.clone();
        if let Some(own) = outcome.probe.clone() {
            wanted.arguments = own.arguments.or(wanted.arguments);
            if own.command.is_some() {
                (wanted.command, wanted.inspect) = (own.command, None);
            }
            (wanted.stdout, wanted.stderr, wanted.code) = (own.stdout, own.stderr, own.code);
        }
        let normal = |mut said: Said| {
            if let Ok(id) = Regex::new("[0-9a-f]{64}") {
                said.stdout = id.replace_all(&said.stdout, "ID").into_owned();
            }
            said
        };
        let ours = normal(self.probe(&self.ours, &wanted, Some(runtime))?);
        if outcome.state == State::Refused {
            if ours.code == Some(125) || (wanted.inspect.is_some() && ours.code == Some(1)) {
                return contains(&ours.stderr, &outcome.note, &ours);
            }
            return Err(format!("the table says that it is refused: {ours:?}").into());
        }
        expect(&wanted, &ours)?;
        if outcome.state == State::Faithful {
            let oracle = normal(self.probe(&self.oracle, &wanted, None)?);
            expect(&wanted, &oracle)?;
            if oracle.stdout != ours.stdout || oracle.stderr != ours.stderr {
                return Err(format!("the Engine: {oracle:?}\nours: {ours:?}").into());
            }
        }
        Ok(())
    }
}

fn expect(wanted: &Probe, said: &Said) -> Result<(), Failed> {
    if said.code != Some(wanted.code.unwrap_or(0)) {
        return Err(format!("another exit code than in the table: {said:?}").into());
    }
    if let Some(stdout) = &wanted.stdout
        && *stdout != said.stdout
    {
        return Err(format!("another output than in the table: {said:?}").into());
    }
    contains(&said.stderr, wanted.stderr.as_deref().unwrap_or(""), said)
}

fn contains(text: &str, part: &str, said: &Said) -> Result<(), Failed> {
    if text.contains(part) {
        Ok(())
    } else {
        Err(format!("{part:?} is not said: {said:?}").into())
    }
}

/// What the table lacks, and what it has too much.
fn table_is_whole(bench: &Bench, entries: &[Entry]) -> Result<(), Failed> {
    // Without an engine the client shows every flag, and not those for its kind alone.
    let nobody = Engine::foreign("unix:///nonexistent")?;
    let help = ["run", "--help"].map(str::to_owned);
    let help = bench.docker(&nobody, &help, &Probe::default(), Path::new("/"))?;
    let flag = Regex::new(r"(?m)^ {2}(?:-\w, |    )(--[a-z0-9-]+)").map_err(|e| e.to_string())?;
    let mut flags: Vec<_> = flag
        .captures_iter(&help.stdout)
        .filter_map(|found| Some(found.get(1)?.as_str().to_owned()))
        .collect();
    flags.sort();
    let listed: Vec<_> = entries.iter().map(|entry| entry.flag.clone()).collect();
    if flags.is_empty() || flags != listed {
        return Err(format!("`docker run --help` has {flags:?}\nthe table has {listed:?}").into());
    }
    for entry in entries {
        for outcome in [&entry.function, &entry.microvm] {
            if entry.field.is_empty()
                || (outcome.state != State::Faithful && outcome.note.is_empty())
            {
                return Err(format!("{} lacks a field or a note", entry.flag).into());
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let (bench, entries) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let (bench, entries) = (Arc::new(bench), Arc::new(entries));
    let mut trials = vec![{
        let (bench, entries) = (Arc::clone(&bench), Arc::clone(&entries));
        Trial::test("the_table_has_every_flag", move || {
            table_is_whole(&bench, &entries)
        })
    }];
    for entry in entries.iter() {
        for runtime in [Runtime::Function, Runtime::Microvm] {
            let (bench, entry) = (Arc::clone(&bench), entry.clone());
            let name = format!("{} {}", entry.flag, runtime.name());
            trials.push(Trial::test(name, move || bench.check(&entry, runtime)));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Ended before the process is: it has engines to stop.
    drop(bench);
    if conclusion.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn prepare() -> Result<(Bench, Vec<Entry>), String> {
    let entries =
        serde_json::from_str(TABLE).map_err(|error| format!("run-flags.json: {error}"))?;
    Ok((Bench::start()?, entries))
}
