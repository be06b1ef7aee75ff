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
         containers have the runtime `function` alone; the last column says what else is otherwise\n\
         there. `make test-aws` is what has been tried of it.\n\n",
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
            if operation.aws.is_empty() {
                "as `function`".to_owned()
            } else {
                cell(&operation.aws)
            },
        );
    }
    let flags: Vec<Flag> =
        serde_json::from_str(FLAGS).map_err(|error| format!("run-flags.json: {error}"))?;
    text.push_str(
        "\n## Flags of `docker run`\n\n\
         Each is tried by `tests/flags`, with the Engine where it is faithful.\n\n\
         | flag | `function`, here and on AWS | `microvm` |\n|---|---|---|\n",
    );
    for flag in &flags {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} |",
            flag.flag,
            noted(&flag.function.state, &flag.function.note),
            noted(&flag.microvm.state, &flag.microvm.note)
        );
    }
    Ok(text)
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
