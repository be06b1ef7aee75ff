//! Replaces what two correct engines may answer differently: ids, times, and
//! the values that `data/machine-dependent.json` lists, each with its reason.

use std::collections::BTreeSet;

use regex_lite::{Captures, Regex};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::grid::Grid;
use crate::script::Record;

const MACHINE_DEPENDENT: &str = include_str!("../data/machine-dependent.json");

/// Headers that say how a body is cut up, or when it was sent.
const FRAMING_HEADERS: [&str; 4] = ["content-length", "date", "transfer-encoding", "connection"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    operations: Vec<String>,
    /// JSON pointers into the body; `*` stands for any one name or index.
    paths: Vec<String>,
    why: String,
    /// Whether it depends on the machine even that there is anything.
    #[serde(default)]
    optional: bool,
}

/// What is normalised everywhere.
#[derive(Debug)]
pub struct Rules {
    entries: Vec<Entry>,
    time: Regex,
    span: Regex,
    id: Regex,
    server: Regex,
    texts: Vec<(Regex, &'static str)>,
    gaps: Regex,
}

/// Times that are no accident: Docker's zero time, and the fixtures' own.
const FIXED_TIMES: [&str; 2] = ["0001-01-01T00:00:00Z", "2024-01-01T00:00:00Z"];

impl Rules {
    /// Reads the rules that come with the tests.
    ///
    /// # Errors
    /// A sentence about what is wrong in the file.
    pub fn load() -> Result<Self, String> {
        let entries: Vec<Entry> = serde_json::from_str(MACHINE_DEPENDENT)
            .map_err(|error| format!("machine-dependent.json: {error}"))?;
        if let Some(entry) = entries.iter().find(|entry| entry.why.is_empty()) {
            return Err(format!(
                "machine-dependent.json: {:?} has no reason",
                entry.paths
            ));
        }
        let regex = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
        Ok(Self {
            entries,
            time: regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")?,
            span: regex(
                r"(?:Less than a second|About an? (?:minute|hour)|\b\d+ (?:second|minute|hour|day|week|month|year)s?)( ago)?\b",
            )?,
            server: regex(r"^[A-Z][a-z]+/[\w.+-]+")?,
            id: regex(r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b")?,
            texts: vec![
                // runc 1.2 and later put these words before the cause.
                (regex("error during container init: ")?, ""),
                // How the name of a host is looked up that is not there.
                (
                    regex("dial tcp: lookup [^\n\"]*")?,
                    "dial tcp: lookup fails",
                ),
                // The folder into which an archive is unpacked has a random name.
                (regex(r"open \S*/docker-import-\d+/")?, "open <unpacked>/"),
                // Steps of a pull that are told only if they last.
                (
                    regex(r"[0-9a-f]{12}: (?:Verifying Checksum|Waiting|Retrying in .*)\n")?,
                    "",
                ),
                // The versions that the programs themselves have.
                (
                    regex(r"docker/\d[\w.+-]* \(linux\)")?,
                    "docker/<version> (linux)",
                ),
                (
                    regex(r"Docker/\d[\w.+-]* \(linux\)")?,
                    "Docker/<version> (linux)",
                ),
            ],
            gaps: regex(" {2,}")?,
        })
    }
}

/// Normalises the records of one scenario with one engine, in order: an id is
/// replaced by the number of its first appearance.
#[derive(Debug)]
pub struct Normaliser<'a> {
    rules: &'a Rules,
    grid: &'a Grid,
    known: &'a BTreeSet<String>,
    local: Vec<(String, &'static str)>,
    overlooked: &'static str,
    ids: Vec<String>,
}

impl<'a> Normaliser<'a> {
    /// `known` are digests of fixtures, which both engines must name alike;
    /// `local` are texts of this engine's surroundings, and their stand-ins.
    #[must_use]
    pub fn new(
        rules: &'a Rules,
        grid: &'a Grid,
        known: &'a BTreeSet<String>,
        local: Vec<(String, &'static str)>,
    ) -> Self {
        Self {
            rules,
            grid,
            known,
            local,
            overlooked: "",
            ids: Vec::new(),
        }
    }

    /// Leaves out warnings that begin so, if that is anything.
    #[must_use]
    pub fn overlooking(self, overlooked: &'static str) -> Self {
        Self { overlooked, ..self }
    }

    /// The record's value, normalised.
    pub fn normalise(&mut self, record: &Record) -> Value {
        let mut value = record.value.clone();
        if value["status"] != 101
            && let Some(headers) = value["headers"].as_object_mut()
        {
            headers.retain(|name, _| !FRAMING_HEADERS.contains(&name.as_str()));
        }
        if let Some(headers) = value["headers"].as_object_mut() {
            headers.remove("date");
            // A program names itself, and its version.
            if let Some(Value::String(server)) = headers.get_mut("server") {
                *server = self.rules.server.replace(server, "<program>").into_owned();
            }
        }
        if !self.overlooked.is_empty()
            && let Some(Value::Array(warnings)) = value.pointer_mut("/body/Warnings")
        {
            let overlooked = |text: &str| text.starts_with(self.overlooked);
            warnings.retain(|warning| !warning.as_str().is_some_and(overlooked));
        }
        let operation = record
            .request
            .as_ref()
            .and_then(|request| self.grid.operation(request));
        if let Some(operation) = operation
            && let Some(body) = value.get_mut("body")
        {
            for entry in &self.rules.entries {
                if entry.operations.iter().any(|name| name == operation) {
                    for path in &entry.paths {
                        let names: Vec<&str> = path.split('/').skip(1).collect();
                        settle(body, &names, entry.optional);
                    }
                }
            }
            if operation.starts_with("ImageCreate")
                || operation == "ImageLoad"
                || operation == "ImagePush"
            {
                settle_progress(body);
            }
        }
        self.texts(&mut value);
        if record.view.table || record.view.sorted {
            for part in ["stdout", "stderr"] {
                if let Some(Value::String(text)) = value.get_mut(part) {
                    *text = self.settle_lines(text, record.view.sorted, record.view.table);
                }
            }
        }
        value
    }

    fn settle_lines(&self, text: &str, sorted: bool, table: bool) -> String {
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| {
                if table {
                    self.rules
                        .gaps
                        .replace_all(line, "  ")
                        .trim_end()
                        .to_owned()
                } else {
                    line.to_owned()
                }
            })
            .collect();
        if sorted {
            lines.sort();
        }
        lines.join("\n")
    }

    fn texts(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.texts(value)),
            Value::Object(members) => {
                let old = std::mem::take(members);
                for (name, mut value) in old {
                    let name = self.text(&name);
                    self.texts(&mut value);
                    members.insert(name, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (local, stand_in) in &self.local {
            text = text.replace(local, stand_in);
        }
        for (pattern, stand_in) in &self.rules.texts {
            text = pattern.replace_all(&text, *stand_in).into_owned();
        }
        let text = self.rules.time.replace_all(&text, |found: &Captures<'_>| {
            if FIXED_TIMES.contains(&&found[0]) {
                found[0].to_owned()
            } else {
                "<time>".to_owned()
            }
        });
        let text = self.rules.span.replace_all(&text, "<span>$1");
        let (known, ids) = (self.known, &mut self.ids);
        self.rules
            .id
            .replace_all(&text, |found: &Captures<'_>| {
                stand_in(&found[0], known, ids)
            })
            .into_owned()
    }
}

fn stand_in(found: &str, known: &BTreeSet<String>, ids: &mut Vec<String>) -> String {
    let same = |id: &String| id.starts_with(found) || found.starts_with(id.as_str());
    if known.iter().any(same) {
        return found.to_owned();
    }
    let number = match ids.iter().position(same) {
        Some(number) => {
            if ids[number].len() < found.len() {
                found.clone_into(&mut ids[number]);
            }
            number
        }
        None => {
            ids.push(found.to_owned());
            ids.len() - 1
        }
    };
    let kind = if found.len() == 64 { "id" } else { "short-id" };
    format!("<{kind} {number}>")
}

/// Replaces what is at a path by the name of its type, if there is anything; what
/// is optional is left out.
fn settle(value: &mut Value, path: &[&str], optional: bool) {
    let Some((first, rest)) = path.split_first() else {
        let kind = match value {
            Value::Null => "<null>",
            Value::Bool(_) => "<bool>",
            Value::Number(_) => "<number>",
            Value::String(_) => "<string>",
            Value::Array(_) => "<array>",
            Value::Object(_) => "<object>",
        };
        *value = kind.into();
        return;
    };
    match value {
        Value::Object(members) if *first == "*" => {
            members
                .values_mut()
                .for_each(|value| settle(value, rest, optional));
        }
        Value::Array(values) if *first == "*" => {
            values
                .iter_mut()
                .for_each(|value| settle(value, rest, optional));
        }
        Value::Object(members) if optional && rest.is_empty() => {
            members.remove(*first);
        }
        Value::Object(members) => {
            if let Some(value) = members.get_mut(*first) {
                settle(value, rest, optional);
            }
        }
        _ => {}
    }
}

/// Of a sequence of progress messages keeps those that do not depend on how
/// fast things went: no amounts, no waiting; those of one layer together.
fn settle_progress(body: &mut Value) {
    const CHANCE: [&str; 7] = [
        "Waiting",
        "Importing",
        "Downloading",
        "Extracting",
        "Verifying Checksum",
        "Loading layer",
        "Pushing",
    ];
    let Some(sequence) = body.get_mut("sequence").and_then(Value::as_array_mut) else {
        return;
    };
    sequence.retain(|message| {
        message["status"]
            .as_str()
            .is_none_or(|status| !CHANCE.contains(&status))
    });
    // Stable: within a layer the order stays, and what has no id keeps its place
    // before or after all layers.
    let first = sequence.iter().position(is_of_layer);
    let last = sequence.iter().rposition(is_of_layer);
    if let (Some(first), Some(last)) = (first, last) {
        sequence[first..=last].sort_by_key(|message| message["id"].as_str().map(str::to_owned));
    }
}

fn is_of_layer(message: &Value) -> bool {
    message
        .as_object()
        .map(Map::len)
        .is_some_and(|_| message["progressDetail"].is_object() && message["aux"].is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::View;
    use serde_json::json;

    fn normalised(values: &[Value]) -> Vec<Value> {
        let (rules, grid) = (Rules::load().unwrap(), Grid::load().unwrap());
        let known = BTreeSet::from(["a".repeat(64)]);
        let mut normaliser = Normaliser::new(
            &rules,
            &grid,
            &known,
            vec![("unix:///x".to_owned(), "<host>")],
        );
        values
            .iter()
            .map(|value| {
                normaliser.normalise(&Record {
                    step: 0,
                    title: String::new(),
                    request: None,
                    command: None,
                    gone: false,
                    value: value.clone(),
                    view: View::default(),
                })
            })
            .collect()
    }

    #[test]
    fn an_id_keeps_its_number_in_both_its_forms() {
        let long = format!("0123456789ab{}", "c".repeat(52));
        let values = normalised(&[
            json!({"stdout": format!("{long}\n")}),
            json!({"stdout": "0123456789ab and ffffffffffff"}),
            json!({"stdout": "a".repeat(64)}),
        ]);
        assert_eq!(values[0]["stdout"], "<id 0>\n");
        assert_eq!(values[1]["stdout"], "<short-id 0> and <short-id 1>");
        assert_eq!(values[2]["stdout"], "a".repeat(64));
    }

    #[test]
    fn times_spans_and_hosts_are_replaced_but_not_the_zero_time() {
        let values = normalised(&[json!({
            "stdout": "2026-01-02T03:04:05.678Z 0001-01-01T00:00:00Z",
            "stderr": "Up 3 seconds, Exited (0) Less than a second ago at unix:///x",
        })]);
        assert_eq!(values[0]["stdout"], "<time> 0001-01-01T00:00:00Z");
        assert_eq!(
            values[0]["stderr"],
            "Up <span>, Exited (0) <span> ago at <host>"
        );
    }

    #[test]
    fn only_the_type_of_a_listed_value_is_kept() {
        let mut value = json!({"a": [{"b": 1, "c": 2}, {"b": "x"}]});
        settle(&mut value, &["a", "*", "b"], false);
        assert_eq!(
            value,
            json!({"a": [{"b": "<number>", "c": 2}, {"b": "<string>"}]})
        );
        settle(&mut value, &["a", "*", "b"], true);
        assert_eq!(value, json!({"a": [{"c": 2}, {}]}));
    }
}
