//! Every operation of the Engine API: `tests/data/api-operations.json` lists them, and here
//! each is asked of a real Engine and of `sockerless local`, under both runtimes. What is
//! served answers as the Engine does; what is refused says so with status 501 and a
//! sentence; anything else is a failure. `docs/compatibility.md` is written from what was
//! seen, and is compared with what it would be.
//!
//! `cargo test -p sockerless-tests --test operations` prepares and starts all that it needs.
//! `SOCKERLESS_TEST_WRITE=1` writes the document instead of comparing it.

mod ask;
mod document;

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;
use sockerless_tests::engines::{Engine, own_program, scripts};
use sockerless_tests::fixtures::Fixtures;
use sockerless_tests::scenario::Runtime;

use ask::{Answer, Asked};

const OPERATIONS: &str = include_str!("../data/api-operations.json");

/// Docker's contract 1.51 has so many operations.
const WHOLE: usize = 107;
/// A sentence that says what to do has at least so many bytes.
const SENTENCE: usize = 30;

/// An operation of the API.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    id: String,
    method: String,
    path: String,
    /// The version that brought it; the first that is served, where it is older.
    since: String,
    probe: Probe,
    /// What the Engine does, too; where this does not, what is said is how it differs.
    #[serde(default)]
    further: Vec<Probe>,
    /// How what is served differs from the Engine's, by runtime.
    #[serde(default)]
    differs: Differs,
    /// The constant with the words by which it is refused on AWS: `FILE#NAME`.
    aws: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Differs {
    function: String,
    microvm: String,
}

/// How the operation is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    /// What it is done to, made beforehand.
    #[serde(default)]
    on: On,
    /// The object's name where nothing is made.
    name: Option<String>,
    #[serde(default)]
    query: String,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    body: Option<Value>,
    /// The body is an archive with nothing in it.
    #[serde(default)]
    tar: bool,
    /// What the Engine answers.
    status: u16,
    /// What is answered here instead, where `differs` says why.
    ours: Option<u16>,
    /// The answer comes from a server that there is not, and its words may differ.
    #[serde(default)]
    outside: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum On {
    #[default]
    Nothing,
    Created,
    Running,
    Paused,
    Exited,
    Exec,
    RunningExec,
    Image,
    ImageOfNowhere,
    Volume,
    Network,
    NetworkAndContainer,
    NetworkWithContainer,
}

/// What became of an operation under one runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Faithful,
    /// The Engine refuses, too, in these words: it is in no swarm and has no plugins either.
    RefusedByBoth(String),
    Differs(String),
    Refused(String),
}

/// What the two answers to the operation's own probe mean.
fn judge(probe: &Probe, engine: &Answer, ours: &Answer) -> Result<State, String> {
    if ours.status == 501 {
        return if ours.message.len() >= SENTENCE {
            Ok(State::Refused(ours.message.clone()))
        } else {
            Err(format!("refused without a sentence: {:?}", ours.message))
        };
    }
    if ours.status != engine.status || (!probe.outside && ours.message != engine.message) {
        return Err(format!(
            "the Engine: {} {}\nours: {} {}",
            engine.status, engine.message, ours.status, ours.message
        ));
    }
    if probe.outside || engine.message.is_empty() {
        return Ok(State::Faithful);
    }
    Ok(State::RefusedByBoth(engine.message.clone()))
}

/// What the Engine says; it has to be what the data say.
fn of_engine(engine: &Engine, operation: &Operation, probe: &Probe) -> Result<Answer, String> {
    match ask::ask(engine, operation, probe, None)? {
        Asked::Answered(answer) if answer.status == probe.status => Ok(answer),
        Asked::Answered(answer) => Err(format!(
            "the data say that the Engine answers {}, but it was {} {}",
            probe.status, answer.status, answer.message
        )),
        Asked::Refused(why) => Err(format!("the Engine refused what the probe needs: {why}")),
    }
}

/// What becomes of the operation under a runtime; `expected` are the Engine's answers to its
/// own probe and to the further ones.
fn state(
    ours: &Engine,
    operation: &Operation,
    runtime: Runtime,
    expected: &[Answer],
) -> Result<State, String> {
    let mut notes = Vec::new();
    let stated = match runtime {
        Runtime::Function => &operation.differs.function,
        Runtime::Microvm => &operation.differs.microvm,
    };
    if !stated.is_empty() {
        notes.push(stated.clone());
    }
    let probes = std::iter::once(&operation.probe).chain(&operation.further);
    let mut first = None;
    for (probe, expected) in probes.zip(expected) {
        let answer = match ask::ask(ours, operation, probe, Some(runtime))? {
            Asked::Answered(answer) => answer,
            Asked::Refused(why) => Answer {
                status: 501,
                message: why,
            },
        };
        if first.is_none() {
            let state = judge(probe, expected, &answer)?;
            if matches!(state, State::Refused(_)) {
                return Ok(state);
            }
            first = Some(state);
        } else if answer.status >= 400 && answer.message.len() >= SENTENCE {
            if !notes.contains(&answer.message) {
                notes.push(answer.message);
            }
        } else if answer.status != probe.ours.unwrap_or(expected.status) {
            return Err(format!(
                "a further probe: the Engine: {} {}\nours: {} {}",
                expected.status, expected.message, answer.status, answer.message
            ));
        }
    }
    match first {
        Some(state) if notes.is_empty() => Ok(state),
        Some(_) => Ok(State::Differs(notes.join("; "))),
        None => Err("there is no answer of the Engine".to_owned()),
    }
}

/// One operation and what was seen of it.
struct Row<'a> {
    operation: &'a Operation,
    function: State,
    microvm: State,
}

fn look<'a>(engine: &Engine, ours: &Engine, operation: &'a Operation) -> Result<Row<'a>, String> {
    let expected = std::iter::once(&operation.probe)
        .chain(&operation.further)
        .map(|probe| of_engine(engine, operation, probe))
        .collect::<Result<Vec<_>, _>>()?;
    let of = |runtime: Runtime| {
        state(ours, operation, runtime, &expected)
            .map_err(|error| format!("{}: {error}", runtime.name()))
    };
    Ok(Row {
        operation,
        function: of(Runtime::Function)?,
        microvm: of(Runtime::Microvm)?,
    })
}

fn check() -> Result<(), String> {
    let operations: Vec<Operation> = serde_json::from_str(OPERATIONS)
        .map_err(|error| format!("api-operations.json: {error}"))?;
    let distinct: std::collections::BTreeSet<_> = operations
        .iter()
        .map(|operation| (&operation.method, &operation.path))
        .collect();
    if distinct.len() != WHOLE || operations.len() != WHOLE {
        return Err(format!(
            "api-operations.json has {} operations, not {WHOLE}",
            distinct.len()
        ));
    }
    let folder = tempfile::Builder::new()
        .prefix("skls-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let fixtures = folder.path().join("fixtures");
    std::fs::create_dir(&fixtures).map_err(|error| error.to_string())?;
    Fixtures::make(&scripts(), &fixtures)?;
    let image = std::fs::read(fixtures.join("plain.tar")).map_err(|error| error.to_string())?;
    let program = own_program()?;
    let engine = Engine::real(&folder.path().join("oracle"))?;
    let ours = Engine::ours(&program, Runtime::Function, &folder.path().join("ours"))?;
    for one in [&engine, &ours] {
        ask::load(one, &image)?;
    }
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for operation in &operations {
        match look(&engine, &ours, operation) {
            Ok(row) => rows.push(row),
            Err(problem) => problems.push(format!(
                "{} ({} {}): {problem}",
                operation.id, operation.method, operation.path
            )),
        }
    }
    if problems.is_empty()
        && let Err(problem) = document::settle(&rows)
    {
        problems.push(problem);
    }
    ours.end()?;
    if problems.is_empty() {
        println!("{} operations are accounted for", rows.len());
        return Ok(());
    }
    Err(problems.join("\n"))
}

fn main() -> ExitCode {
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
    }
}
