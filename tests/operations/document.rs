//! `docs/compatibility.md`, from what was seen.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::{Row, State};

const FLAGS: &str = include_str!("../data/run-flags.json");
const WRITE: &str = "SOCKERLESS_TEST_WRITE";

#[derive(Debug, Deserialize)]
struct Flag {
    flag: String,
    /// As for an operation; of some values alone, `VALUES: ` stands before it.
    aws: Option<String>,
    function: Outcome,
    microvm: Outcome,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    state: String,
    note: String,
}

/// Compares the document with what it has to be, or writes it.
///
/// # Errors
/// When it is another.
pub(crate) fn settle(rows: &[Row<'_>]) -> Result<(), String> {
    let text = write(rows)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(&path, text).map_err(|error| error.to_string());
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    if present == text {
        return Ok(());
    }
    let difference = similar::TextDiff::from_lines(&present, &text)
        .unified_diff()
        .context_radius(0)
        .header("docs/compatibility.md", "what was seen")
        .to_string();
    Err(format!(
        "docs/compatibility.md is not what was seen; `make compatibility` writes it:\n{difference}"
    ))
}

fn write(rows: &[Row<'_>]) -> Result<String, String> {
    let mut text = String::from(
        "# Compatibility with Docker\n\n\
         Written by `make compatibility` from what a real Docker Engine 28 and `sockerless local`\n\
         answered to the same requests; never edited by hand.\n\n\
         - **faithful**: answered as by the Engine.\n\
         - **differs**: served, but for what is said.\n\
         - **refused**: status 501 with these words. *As by the Engine*: with the words of an Engine\n  \
           that, too, is in no swarm and has no plugins.\n\n\
         The columns are the runtimes on one machine. On AWS the same control plane answers, and\n\
         containers have the runtime `function` alone; the last column says what else is refused\n\
         there, in the words that the code has for it. `make test-aws` is what has been tried of\n\
         it.\n\n",
    );
    let is_served = |state: &State| matches!(state, State::Faithful | State::Differs(_));
    let served = |row: &&Row<'_>| is_served(&row.function) || is_served(&row.microvm);
    let _ = writeln!(
        text,
        "## Operations of the Engine API 1.51\n\n{} of {} are served.\n",
        rows.iter().filter(served).count(),
        rows.len()
    );
    text.push_str(
        "| operation | | since | `function` | `microvm` | on AWS |\n|---|---|--:|---|---|---|\n",
    );
    for row in rows {
        let operation = row.operation;
        let _ = writeln!(
            text,
            "| {} | `{} {}` | {} | {} | {} | {} |",
            operation.id,
            operation.method,
            operation.path,
            operation.since,
            shown(&row.function),
            same(&row.microvm, &row.function),
            on_aws(operation.aws.as_deref())?,
        );
    }
    let flags: Vec<Flag> =
        serde_json::from_str(FLAGS).map_err(|error| format!("run-flags.json: {error}"))?;
    text.push_str(
        "\n## Flags of `docker run`\n\n\
         Each is tried by `tests/flags`, with the Engine where it is faithful.\n\n\
         | flag | `function` | `microvm` | on AWS |\n|---|---|---|---|\n",
    );
    for flag in &flags {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            flag.flag,
            noted(&flag.function.state, &flag.function.note),
            noted(&flag.microvm.state, &flag.microvm.note),
            on_aws(flag.aws.as_deref())?,
        );
    }
    Ok(text)
}

/// What the last column says: the words of a constant, so that it cannot say anything else
/// than the code does.
fn on_aws(constant: Option<&str>) -> Result<String, String> {
    let Some(constant) = constant else {
        return Ok("as `function`".to_owned());
    };
    let (value, place) = match constant.split_once(": ") {
        Some((value, place)) => (format!("{value} "), place),
        None => (String::new(), constant),
    };
    let (file, name) = place
        .split_once('#')
        .ok_or_else(|| format!("{place} is not FILE#NAME"))?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let source = std::fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
    let words = words_of(&source, name).ok_or_else(|| format!("{file} has no words {name}"))?;
    Ok(noted(&format!("{value}refused"), &words))
}

/// The text of a constant in a source.
fn words_of(source: &str, name: &str) -> Option<String> {
    let (_, rest) = source.split_once(&format!("const {name}: &str ="))?;
    let literal = rest.trim_start().strip_prefix('"')?.split_once("\";")?.0;
    // A line that ends with a backslash goes on with the next line's text.
    let mut words = String::new();
    for line in literal.lines() {
        let line = if words.is_empty() {
            line
        } else {
            line.trim_start()
        };
        words.push_str(line.strip_suffix('\\').unwrap_or(line));
    }
    Some(words)
}

fn shown(state: &State) -> String {
    match state {
        State::Faithful => "faithful".to_owned(),
        State::RefusedByBoth(words) => noted("refused, as by the Engine", words),
        State::Differs(note) => noted("differs", note),
        State::Refused(words) => noted("refused", words),
    }
}

/// The words that stand in the column before need not be repeated.
fn same(state: &State, other: &State) -> String {
    match state {
        State::RefusedByBoth(_) | State::Refused(_) if state == other => "refused".to_owned(),
        State::Differs(_) if state == other => "differs".to_owned(),
        State::Faithful | State::RefusedByBoth(_) | State::Differs(_) | State::Refused(_) => {
            shown(state)
        }
    }
}

fn noted(state: &str, note: &str) -> String {
    if note.is_empty() {
        state.to_owned()
    } else {
        format!("{state}: {}", cell(note))
    }
}

/// Text within a table of Markdown.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('\n', " ")
        .replace('<', "&lt;")
}
