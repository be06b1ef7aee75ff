//! The grid: every operation × {each answer that the Engine API documents for
//! it, the client gone half-way}. A cell is filled by what the real Engine was
//! seen to answer, never by what a scenario claims.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;
use serde::Deserialize;

use crate::scenario::Api;

/// The operations, with the statuses that the Engine API v1.51 documents.
const OPERATIONS: &str = include_str!("../data/operations.json");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    api: Vec<ApiRow>,
    client: Vec<ClientRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiRow {
    id: String,
    method: String,
    path: String,
    #[serde(default)]
    query: Option<String>,
    statuses: Vec<u16>,
    /// Answers that no request can bring about, with the reason; `gone` too.
    #[serde(default)]
    unreachable: BTreeMap<String, String>,
    /// The runtimes that have it; all if none is named.
    #[serde(default)]
    runtimes: Vec<String>,
    /// The runtimes that can be seen to give an answer, where not all can.
    #[serde(default)]
    answers_of: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientRow {
    command: String,
    exits: Vec<i64>,
    #[serde(default)]
    gone: bool,
    #[serde(default)]
    runtimes: Vec<String>,
}

/// One cell: an operation or a client's verb, and an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The operation's id, or `docker VERB`.
    pub row: String,
    /// A status, an exit code, or `gone`.
    pub column: String,
}

#[derive(Debug)]
struct Operation {
    id: String,
    method: String,
    path: Regex,
    query: Option<String>,
}

/// The whole grid.
#[derive(Debug)]
pub struct Grid {
    operations: Vec<Operation>,
    cells: BTreeSet<Cell>,
    unreachable: BTreeMap<Cell, String>,
    /// The rows that not every runtime has.
    runtimes: BTreeMap<String, Vec<String>>,
    /// The cells of other rows that not every runtime has.
    answers_of: BTreeMap<Cell, Vec<String>>,
}

impl Grid {
    /// Reads the grid that comes with the tests.
    ///
    /// # Errors
    /// A sentence about what is wrong in the file.
    pub fn load() -> Result<Self, String> {
        Self::parse(OPERATIONS)
    }

    /// The rows and cells that a runtime of this name has.
    #[must_use]
    pub fn of_runtime(mut self, name: &str) -> Self {
        let (rows, answers) = (&self.runtimes, &self.answers_of);
        self.cells.retain(|cell| {
            let only = rows.get(&cell.row).or_else(|| answers.get(cell));
            only.is_none_or(|only| only.iter().any(|one| one == name))
        });
        self
    }

    fn parse(json: &str) -> Result<Self, String> {
        let file: File =
            serde_json::from_str(json).map_err(|error| format!("operations.json: {error}"))?;
        let mut operations = Vec::new();
        let mut cells = BTreeSet::new();
        let mut unreachable = BTreeMap::new();
        let mut runtimes = BTreeMap::new();
        let mut answers_of = BTreeMap::new();
        for row in file.api {
            if !row.runtimes.is_empty() {
                runtimes.insert(row.id.clone(), row.runtimes);
            }
            let columns: BTreeSet<String> = row
                .statuses
                .iter()
                .map(u16::to_string)
                .chain(["gone".to_owned()])
                .collect();
            for column in &columns {
                let cell = Cell {
                    row: row.id.clone(),
                    column: column.clone(),
                };
                match row.unreachable.get(column) {
                    Some(reason) => {
                        unreachable.insert(cell, reason.clone());
                    }
                    None => {
                        cells.insert(cell);
                    }
                }
            }
            let mut named = row.unreachable.keys().chain(row.answers_of.keys());
            if let Some(stray) = named.find(|key| !columns.contains(*key)) {
                return Err(format!("operations.json: {} has no {stray}", row.id));
            }
            answers_of.extend(row.answers_of.into_iter().map(|(column, runtimes)| {
                let row = row.id.clone();
                (Cell { row, column }, runtimes)
            }));
            operations.push(Operation {
                path: pattern(&row.path)?,
                id: row.id,
                method: row.method,
                query: row.query,
            });
        }
        for row in file.client {
            let columns = row.exits.iter().map(i64::to_string);
            let gone = row.gone.then(|| "gone".to_owned());
            if !row.runtimes.is_empty() {
                runtimes.insert(format!("docker {}", row.command), row.runtimes);
            }
            cells.extend(columns.chain(gone).map(|column| Cell {
                row: format!("docker {}", row.command),
                column,
            }));
        }
        Ok(Self {
            operations,
            cells,
            unreachable,
            runtimes,
            answers_of,
        })
    }

    /// The id of the operation that a request asks for.
    #[must_use]
    pub fn operation(&self, api: &Api) -> Option<&str> {
        let (path, query) = api.target.split_once('?').unwrap_or((&api.target, ""));
        self.operations
            .iter()
            .find(|operation| {
                operation.method == api.method
                    && operation.path.is_match(path)
                    && operation.query.as_ref().is_none_or(|name| {
                        query
                            .split('&')
                            .any(|pair| pair.split('=').next() == Some(name))
                    })
            })
            .map(|operation| operation.id.as_str())
    }

    /// The cells that no answer has filled.
    #[must_use]
    pub fn missing(&self, seen: &BTreeSet<Cell>) -> Vec<Cell> {
        self.cells.difference(seen).cloned().collect()
    }

    /// Cells that are said to be beyond every request, but were answered.
    #[must_use]
    pub fn wrongly_unreachable(&self, seen: &BTreeSet<Cell>) -> Vec<Cell> {
        seen.iter()
            .filter(|cell| self.unreachable.contains_key(cell))
            .cloned()
            .collect()
    }

    /// How many cells there are to fill.
    #[must_use]
    pub fn size(&self) -> usize {
        self.cells.len()
    }

    /// The cells beyond every request, with the reasons.
    #[must_use]
    pub fn unreachable(&self) -> &BTreeMap<Cell, String> {
        &self.unreachable
    }
}

fn pattern(path: &str) -> Result<Regex, String> {
    let escaped = regex_lite::escape(path);
    let slots = Regex::new(r"\\\{\w+\\\}").map_err(|error| error.to_string())?;
    Regex::new(&format!("^{}$", slots.replace_all(&escaped, "(.+)")))
        .map_err(|error| format!("operations.json: {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, target: &str) -> Api {
        Api {
            method: method.to_owned(),
            target: target.to_owned(),
            ..Api::default()
        }
    }

    #[test]
    fn requests_find_their_operation() {
        let grid = Grid::load().unwrap();
        for (method, target, id) in [
            ("GET", "/_ping", Some("SystemPing")),
            ("HEAD", "/_ping", Some("SystemPingHead")),
            ("GET", "/containers/a/json?size=1", Some("ContainerInspect")),
            ("GET", "/containers/json", Some("ContainerList")),
            ("GET", "/images/a/b:c/json", Some("ImageInspect")),
            ("GET", "/images/json", Some("ImageList")),
            (
                "POST",
                "/images/create?fromImage=a",
                Some("ImageCreate (pull)"),
            ),
            (
                "POST",
                "/images/create?repo=x&fromSrc=-",
                Some("ImageCreate (import)"),
            ),
            ("GET", "/nowhere", None),
        ] {
            assert_eq!(
                grid.operation(&asked(method, target)),
                id,
                "{method} {target}"
            );
        }
    }

    #[test]
    fn a_cell_is_missing_until_it_was_seen() {
        let grid = Grid::parse(
            r#"{"api": [{"id": "A", "method": "GET", "path": "/a/{id}", "statuses": [200, 500],
                "unreachable": {"500": "why"}}], "client": []}"#,
        )
        .unwrap();
        let cell = |column: &str| Cell {
            row: "A".to_owned(),
            column: column.to_owned(),
        };
        let mut seen = BTreeSet::from([cell("200")]);
        assert_eq!(grid.missing(&seen), [cell("gone")]);
        seen.insert(cell("gone"));
        assert!(grid.missing(&seen).is_empty());
        seen.insert(cell("500"));
        assert_eq!(grid.wrongly_unreachable(&seen), [cell("500")]);
    }

    #[test]
    fn a_runtime_owes_what_it_can_be_seen_to_answer() {
        let grid = |name: &str| {
            let whole = Grid::parse(
                r#"{"api": [{"id": "A", "method": "GET", "path": "/a", "statuses": [200, 409],
                    "answers_of": {"409": ["microvm"]}}], "client": []}"#,
            );
            whole.unwrap().of_runtime(name).size()
        };
        assert_eq!((grid("microvm"), grid("function")), (3, 2));
    }

    #[test]
    fn a_reason_for_an_answer_that_is_not_documented_is_refused() {
        Grid::parse(
            r#"{"api": [{"id": "A", "method": "GET", "path": "/a", "statuses": [200],
                "unreachable": {"418": "why"}}], "client": []}"#,
        )
        .unwrap_err();
    }
}
