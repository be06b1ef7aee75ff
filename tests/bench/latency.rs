//! How long one call takes, from its beginning to its end, with each engine in turns.

use std::time::{Duration, Instant};

use crate::calls;
use crate::pair::{Pair, Side};

/// A way to spend time with one engine.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What is there before each take; its result is handed on.
    before: fn(&Side) -> Result<String, String>,
    /// What is measured.
    take: fn(&Side, &str) -> Result<String, String>,
    /// What is cleaned up after each take, given the take's result.
    after: fn(&Side, &str) -> Result<(), String>,
}

/// The times of all takes.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) theirs: Vec<Duration>,
    pub(crate) ours: Vec<Duration>,
}

fn nothing(_: &Side) -> Result<String, String> {
    Ok(String::new())
}

fn keep(_: &Side, _: &str) -> Result<(), String> {
    Ok(())
}

fn created(side: &Side) -> Result<String, String> {
    calls::create(side, &["true"])
}

fn exited(side: &Side) -> Result<String, String> {
    let id = created(side)?;
    calls::start(side, &id)?;
    calls::wait(side, &id)?;
    Ok(id)
}

fn running(side: &Side) -> Result<String, String> {
    let id = calls::create(side, &["sleep", "1000"])?;
    calls::start(side, &id)?;
    Ok(id)
}

fn get(side: &Side, target: &str) -> Result<String, String> {
    side.call("GET", target, None, 200).map(|_| String::new())
}

/// All rows.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "`docker run --rm --network none busybox true`",
            before: nothing,
            take: |side, _| side.docker(&["run", "--rm", "--network", "none", "busybox", "true"]),
            after: keep,
        },
        Row {
            name: "`docker run --rm busybox true` (network `bridge`)",
            before: nothing,
            take: |side, _| side.docker(&["run", "--rm", "busybox", "true"]),
            after: keep,
        },
        Row {
            name: "`docker exec CONTAINER true`",
            before: running,
            take: |side, id| side.docker(&["exec", id, "true"]).map(|_| id.to_owned()),
            after: calls::remove,
        },
        Row {
            name: "the same by the API: create, start to its end, inspect",
            before: running,
            take: |side, id| calls::exec(side, id).map(|()| id.to_owned()),
            after: calls::remove,
        },
        Row {
            name: "`docker version`, most of which is the client itself",
            before: nothing,
            take: |side, _| side.docker(&["version"]),
            after: keep,
        },
        Row {
            name: "`GET /_ping`",
            before: nothing,
            take: |side, _| get(side, "/_ping"),
            after: keep,
        },
        Row {
            name: "`GET /containers/json?all=1`, one container",
            before: created,
            take: |side, id| get(side, "/containers/json?all=1").map(|_| id.to_owned()),
            after: calls::remove,
        },
        Row {
            name: "`GET /containers/ID/json`",
            before: created,
            take: |side, id| get(side, &format!("/containers/{id}/json")).map(|_| id.to_owned()),
            after: calls::remove,
        },
        Row {
            name: "`POST /containers/create`",
            before: nothing,
            take: |side, _| created(side),
            after: calls::remove,
        },
        Row {
            name: "`POST /containers/ID/start`",
            before: created,
            take: |side, id| calls::start(side, id).map(|()| id.to_owned()),
            after: calls::remove,
        },
        Row {
            name: "`DELETE /containers/ID`, exited",
            before: exited,
            take: |side, id| calls::remove(side, id).map(|()| String::new()),
            after: keep,
        },
        Row {
            name: "`DELETE /containers/ID?force=true`, running",
            before: running,
            take: |side, id| calls::remove(side, id).map(|()| String::new()),
            after: keep,
        },
    ]
}

/// Takes turns, so that what else the machine does at a moment meets both.
pub(crate) fn measure(row: &Row, pair: &Pair, takes: usize) -> Result<Times, String> {
    let mut times = Times::default();
    for turn in 0..takes {
        let mut sides = [
            (&pair.theirs, &mut times.theirs),
            (&pair.ours, &mut times.ours),
        ];
        if turn % 2 == 1 {
            sides.reverse();
        }
        for (side, times) in sides {
            let prepared = (row.before)(side)?;
            let begin = Instant::now();
            let result = (row.take)(side, &prepared)?;
            times.push(begin.elapsed());
            (row.after)(side, &result)?;
        }
    }
    Ok(times)
}
