//! Finds where two normalised results differ, and which of the differences are
//! a limit of the platform that `data/differences.json` cites.

use serde::Deserialize;
use serde_json::Value;
use similar::TextDiff;

use crate::scenario::Runtime;

const DIFFERENCES: &str = include_str!("../data/differences.json");

/// A difference that a limit of the platform makes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// The scenario's name, or `*`.
    pub scenario: String,
    /// The step's title, or the operation's id.
    pub step: String,
    /// A JSON pointer into the result, and with it all below it.
    pub path: String,
    /// The runtimes that have this limit.
    pub runtimes: Vec<String>,
    /// The limit.
    pub limit: String,
    /// Where the platform documents it.
    pub source: String,
}

/// The differences that are allowed, from the file that comes with the tests.
///
/// # Errors
/// A sentence about an entry that is none, or that allows what no limit can:
/// an exit code, a status, a stream.
pub fn allowed() -> Result<Vec<Allowed>, String> {
    parse(DIFFERENCES)
}

fn parse(json: &str) -> Result<Vec<Allowed>, String> {
    let entries: Vec<Allowed> =
        serde_json::from_str(json).map_err(|error| format!("differences.json: {error}"))?;
    for entry in &entries {
        let named = format!(
            "differences.json: {} / {} / {}",
            entry.scenario, entry.step, entry.path
        );
        if !(entry.path.starts_with("/body/") || entry.path.starts_with("/headers/")) {
            return Err(format!(
                "{named}: only a value of a JSON body or a header may differ"
            ));
        }
        if entry.limit.is_empty() || entry.source.is_empty() {
            return Err(format!("{named}: which limit of the platform is this?"));
        }
        if entry.runtimes.is_empty()
            || entry
                .runtimes
                .iter()
                .any(|name| Runtime::named(name).is_none())
        {
            return Err(format!("{named}: for which runtimes?"));
        }
    }
    Ok(entries)
}

impl Allowed {
    /// Whether this entry allows the difference.
    #[must_use]
    pub fn allows(
        &self,
        runtime: Runtime,
        scenario: &str,
        title: &str,
        operation: Option<&str>,
        pointer: &str,
    ) -> bool {
        self.runtimes.iter().any(|name| name == runtime.name())
            && (self.scenario == "*" || self.scenario == scenario)
            && (self.step == title || Some(self.step.as_str()) == operation)
            && (pointer == self.path
                || pointer
                    .strip_prefix(&self.path)
                    .is_some_and(|rest| rest.starts_with('/')))
    }
}

/// The pointers at which two values differ, the deepest that tell it.
#[must_use]
pub fn differing(left: &Value, right: &Value) -> Vec<String> {
    let mut pointers = Vec::new();
    descend(left, right, String::new(), &mut pointers);
    pointers
}

fn descend(left: &Value, right: &Value, pointer: String, pointers: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            for name in names {
                let below = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                match (left.get(name), right.get(name)) {
                    (Some(left), Some(right)) => descend(left, right, below, pointers),
                    _ => pointers.push(below),
                }
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                descend(left, right, format!("{pointer}/{index}"), pointers);
            }
        }
        _ if left == right => {}
        _ => pointers.push(pointer),
    }
}

/// The two values as text, line by line.
#[must_use]
pub fn unified(oracle: &Value, subject: &Value) -> String {
    let (oracle, subject) = (lines(oracle), lines(subject));
    TextDiff::from_lines(&oracle, &subject)
        .unified_diff()
        .context_radius(2)
        .header("Docker Engine", "Sockerless")
        .to_string()
}

/// JSON, but with texts of several lines as lines.
fn lines(value: &Value) -> String {
    let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut text = String::with_capacity(pretty.len());
    for line in pretty.lines() {
        let indent = line.len() - line.trim_start().len();
        text.push_str(&line.replace("\\n", &format!("\\n\n{:indent$}| ", "")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_differing_value_is_pointed_at() {
        let left = json!({"a": 1, "b": {"c/d": [1, 2]}, "e": null});
        let right = json!({"a": 1, "b": {"c/d": [1, 3]}, "f": null});
        assert_eq!(differing(&left, &right), ["/b/c~1d/1", "/e", "/f"]);
        assert!(differing(&left, &left).is_empty());
    }

    #[test]
    fn exit_codes_statuses_and_streams_may_never_differ() {
        for path in ["/exit", "/status", "/stdout", "/streams/stdout", "/body"] {
            let entry = json!([{"scenario": "*", "step": "x", "path": path,
                "runtimes": ["function"], "limit": "l", "source": "s"}]);
            parse(&entry.to_string()).unwrap_err();
        }
        allowed().unwrap();
    }

    #[test]
    fn an_entry_allows_its_path_and_what_is_below() {
        let entry = json!([{"scenario": "*", "step": "Op", "path": "/body/A",
            "runtimes": ["function"], "limit": "l", "source": "s"}]);
        let entry = &parse(&entry.to_string()).unwrap()[0];
        let allows = |runtime, pointer| entry.allows(runtime, "s", "t", Some("Op"), pointer);
        assert!(allows(Runtime::Function, "/body/A"));
        assert!(allows(Runtime::Function, "/body/A/0"));
        assert!(!allows(Runtime::Function, "/body/AB"));
        assert!(!allows(Runtime::Microvm, "/body/A"));
    }
}
