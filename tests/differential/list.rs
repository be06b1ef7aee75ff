//! `ps` with its filters, and `inspect`.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Gone, Scenario, Step, api, docker, gone, query, until};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![list(), list_filters(), list_errors(), inspect(), prefixes()]
}

fn filtered(filters: &Value) -> Step {
    api(&format!(
        "GET /containers/json?all=1&filters={}",
        query(filters)
    ))
    .gives(200)
}

/// The list may know of an end a moment later than the client.
fn ended(name: &str) -> Step {
    until(
        &format!(
            "GET /containers/json?all=1&filters={}",
            query(&json!({"name": [name]}))
        ),
        "/0/State",
        "exited".into(),
    )
}

fn list() -> Scenario {
    Scenario::new(
        "list",
        [
            docker("create --name @N-xnew --label scenario=list --annotation a=b busybox true").gives(0),
            docker("run --detach --name @N-xup --label scenario=list busybox sleep 1000").gives(0),
            docker("run --name @N-xdone --label scenario=list busybox sh -c 'exit 3'").gives(3),
            ended("@N-xdone"),
            filtered(&json!({"label": ["scenario=list"]})),
            api(&format!("GET /containers/json?filters={}", query(&json!({"label": ["scenario=list"]})))).gives(200),
            api(&format!("GET /containers/json?size=1&filters={}", query(&json!({"name": ["@N-xup"]})))).gives(200),
            api(&format!("GET /containers/json?limit=2&filters={}", query(&json!({"label": ["scenario=list"]})))).gives(200),
            filtered(&json!({"label": ["scenario=list"]})).version("1.24"),
            filtered(&json!({"label": ["scenario=list"]})).version("1.45"),
            filtered(&json!({"label": ["scenario=list"]})).version("1.46"),
            docker("ps --filter label=scenario=list").table().gives(0),
            docker("ps --all --filter label=scenario=list").table().gives(0),
            docker("ps --all --quiet --no-trunc --filter label=scenario=list").gives(0),
            docker("ps --last 1 --filter label=scenario=list --format '{{.Names}}'").gives(0),
            docker("ps --latest --filter label=scenario=list --format '{{.Names}}'").gives(0),
            docker("ps -a --filter label=scenario=list --format '{{.Names}} {{.Image}} {{.Command}} {{.Status}} {{.State}} {{.Labels}} {{.Ports}} {{.Mounts}} {{.Networks}}'")
                .gives(0),
            gone(Gone::BeforeAnswer, "GET /containers/json?all=1"),
            docker("rm --force @N-xup").gives(0),
        ],
    )
    .alone()
}

fn list_filters() -> Scenario {
    let of = |filters: &Value| {
        let mut filters = filters.clone();
        filters["name"] = json!(["^/?@N-x"]);
        filtered(&filters)
    };
    Scenario::new(
        "list-filters",
        [
            docker("create --name @N-xnew --label a=1 --label scenario=list-filters busybox true")
                .save("new", "")
                .gives(0),
            docker("run --detach --name @N-xup --label a=2 --label b busybox sleep 1000")
                .save("up", "")
                .gives(0),
            docker("run --name @N-xdone --label a=1 configured 'exit 3'").gives(3),
            ended("@N-xdone"),
            of(&json!({})),
            filtered(&json!({"name": ["@N-xup"]})),
            filtered(&json!({"name": ["@N-x(new|done)$"]})),
            filtered(&json!({"name": {"/@N-xup": true}})),
            filtered(&json!({"name": ["@N-xup", "@N-xdone"]})),
            filtered(&json!({"name": ["@N-none"]})),
            of(&json!({"label": ["a"]})),
            of(&json!({"label": ["a=1"]})),
            of(&json!({"label": ["a=1", "scenario=list-filters"]})),
            of(&json!({"label": ["a=3"]})),
            of(&json!({"label": ["b"]})),
            of(&json!({"status": ["running"]})),
            of(&json!({"status": ["created", "exited"]})),
            of(&json!({"status": ["paused"]})),
            of(&json!({"exited": ["3"]})),
            of(&json!({"exited": ["0"]})),
            of(&json!({"id": ["@{up}"]})),
            of(&json!({"ancestor": ["busybox"]})),
            of(&json!({"ancestor": ["busybox:latest", "configured"]})),
            of(&json!({"ancestor": ["none"]})),
            of(&json!({"before": ["@N-xup"]})),
            of(&json!({"since": ["@N-xup"]})),
            of(&json!({"since": ["@{new}"]})),
            of(&json!({"network": ["bridge"]})),
            of(&json!({"network": ["none"]})),
            of(&json!({"health": ["none"]})),
            of(&json!({"is-task": ["false"]})),
            of(&json!({"volume": ["none"]})),
            of(&json!({"label": ["a=1"], "status": ["exited"]})),
            // Without `all`, naming a status asks for it all the same.
            api(&format!(
                "GET /containers/json?filters={}",
                query(&json!({"name": ["@N-x"], "status": ["exited"]}))
            ))
            .gives(200),
            docker("ps --filter name=@N-x --filter status=exited --format '{{.Names}}'").gives(0),
            docker("ps --filter name=@N-x --format '{{.Names}}'").gives(0),
            docker("rm --force @N-xup").gives(0),
        ],
    )
}

fn list_errors() -> Scenario {
    let filtered =
        |filters: &Value| api(&format!("GET /containers/json?filters={}", query(filters)));
    Scenario::new(
        "list-errors",
        [
            api("GET /containers/json?filters=nonsense").gives(400),
            api("GET /containers/json?filters=%5B%5D").gives(400),
            api("GET /containers/json?limit=nonsense").gives(500),
            filtered(&json!({"nonsense": ["x"]})).gives(400),
            filtered(&json!({"status": ["nonsense"]})).gives(400),
            filtered(&json!({"exited": ["nonsense"]})).gives(400),
            filtered(&json!({"health": ["nonsense"]})).gives(400),
            filtered(&json!({"is-task": ["nonsense"]})).gives(400),
            filtered(&json!({"before": ["@N-none"]})).gives(404),
            filtered(&json!({"since": ["@N-none"]})).gives(404),
            filtered(&json!({"name": 5})).gives(400),
            docker("ps --filter nonsense=x").gives(1),
            docker("ps --filter status=nonsense").gives(1),
            docker("ps --filter nonsense").gives(125),
        ],
    )
}

fn inspect() -> Scenario {
    Scenario::new(
        "inspect",
        [
            docker("run --detach --name @N --label a=b -e ONE=1 -w /etc -m 256m --stop-timeout 4 busybox sleep 1000").save("id", "").gives(0),
            api("GET /containers/@N/json").gives(200),
            api("GET /containers/@N/json?size=1").gives(200),
            api("GET /containers/@N/json").version("1.24").gives(200),
            api("GET /containers/@N/json").version("1.40").gives(200),
            api("GET /containers/@{id}/json").gives(200),
            docker("stop --timeout 0 @N").gives(0),
            api("GET /containers/@N/json").gives(200),
            docker("inspect @N --format '{{.Path}} {{.Args}} {{.State.Status}} {{.State.ExitCode}} {{.Config.Hostname}}'").gives(0),
            docker("inspect @N @N-none").head_only().gives(1),
            docker("inspect --type container @N-none").gives(1),
            docker("container inspect @N-none").gives(1),
            api("GET /containers/@N-none/json").gives(404),
            gone(Gone::BeforeAnswer, "GET /containers/@N/json"),
        ],
    )
}

/// A container is found by any prefix of its id that no other has, but a name
/// comes first.
fn prefixes() -> Scenario {
    Scenario::new(
        "prefixes",
        [
            docker("create --name @N busybox true")
                .save("id", "")
                .gives(0),
            docker("ps --all --quiet --filter name=@N")
                .save("short", "")
                .gives(0),
            docker("inspect @{short} --format '{{.Name}}'").gives(0),
            api("GET /containers/@{short}/json").head_only().gives(200),
            api("POST /containers/@{short}/rename?name=@N-xnew").gives(204),
            docker("start --attach @{short}").gives(0),
            docker("rm @{short}").gives(0),
            docker("inspect --type container @{short}").gives(1),
            api("GET /containers/zzzz/json").gives(404),
        ],
    )
}
