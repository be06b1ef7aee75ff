//! `_ping`, `version`, `info`, and what holds for every request.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Gone, Scenario, api, docker, gone, query};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "ping",
            [
                api("GET /_ping").gives(200),
                api("GET /_ping").unversioned().gives(200),
                api("HEAD /_ping").gives(200),
                api("HEAD /_ping").unversioned().gives(200),
                api("POST /_ping").gives(404),
                gone(Gone::InHead, "GET /_ping"),
                gone(Gone::BeforeAnswer, "GET /_ping"),
                gone(Gone::InHead, "HEAD /_ping"),
            ],
        ),
        Scenario::new(
            "version",
            [
                api("GET /version").gives(200),
                api("GET /version").unversioned().gives(200),
                api("GET /version").version("1.24").gives(200),
                gone(Gone::BeforeAnswer, "GET /version"),
                docker("version --format '{{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}} {{.Server.Arch}}'")
                    .gives(0),
                docker("version --format '{{.Nonsense}}'").gives(1),
            ],
        ),
        Scenario::new(
            "info",
            [
                api("GET /info").gives(200),
                api("GET /info").unversioned().gives(200),
                gone(Gone::BeforeAnswer, "GET /info"),
                docker("info --format '{{.OSType}} {{.NCPU}} {{.MemTotal}} {{.Architecture}} {{.Swarm.LocalNodeState}}'")
                    .gives(0),
                docker("info --format '{{.Nonsense}}'").gives(1),
            ],
        ),
        api_versions(),
        without_a_swarm(),
        without_plugins(),
        Scenario::new(
            "no-such-route",
            [
                api("GET /nonsense").gives(404),
                api("GET /nonsense").unversioned().gives(404),
                api("POST /containers/json").gives(404),
                api("DELETE /containers/json").gives(404),
                api("PATCH /containers/create").gives(404),
                api("GET /").gives(404),
                api("GET /").unversioned().gives(404),
            ],
        ),
    ]
}

/// What only a manager of a swarm can do.
fn without_a_swarm() -> Scenario {
    Scenario::new(
        "no-swarm",
        [
            api("GET /swarm").gives(503),
            api("GET /swarm/unlockkey").gives(503),
            api("POST /swarm/update?version=1")
                .json(&json!({}))
                .gives(503),
            api("POST /swarm/unlock").json(&json!({})).gives(503),
            api("POST /swarm/leave").gives(503),
            api("POST /swarm/leave?force=1").gives(503),
            api("GET /nodes").gives(503),
            api("GET /nodes/x").gives(503),
            api("POST /nodes/x/update?version=1")
                .json(&json!({}))
                .gives(503),
            api("DELETE /nodes/x").gives(503),
            api("GET /services").gives(503),
            api("POST /services/create").json(&json!({})).gives(503),
            api("GET /services/x").gives(503),
            api("GET /services/x/logs?stdout=1").gives(503),
            api("POST /services/x/update?version=1")
                .json(&json!({}))
                .gives(503),
            api("DELETE /services/x").gives(503),
            api("GET /tasks").gives(503),
            api("GET /tasks/x").gives(503),
            api("GET /tasks/x/logs?stdout=1").gives(503),
            api("GET /secrets").gives(503),
            api("POST /secrets/create").json(&json!({})).gives(503),
            api("GET /secrets/x").gives(503),
            api("POST /secrets/x/update?version=1")
                .json(&json!({}))
                .gives(503),
            api("DELETE /secrets/x").gives(503),
            api("GET /configs").gives(503),
            api("POST /configs/create").json(&json!({})).gives(503),
            api("GET /configs/x").gives(503),
            api("POST /configs/x/update?version=1")
                .json(&json!({}))
                .gives(503),
            api("DELETE /configs/x").gives(503),
            api("POST /nodes").gives(404),
            api("GET /swarm/leave").gives(404),
            api("DELETE /tasks/x").gives(404),
            docker("service ls").gives(1),
            docker("node ls").gives(1),
            docker("swarm leave").gives(1),
        ],
    )
}

fn without_plugins() -> Scenario {
    let filters = |filters: Value| format!("GET /plugins?filters={}", query(&filters));
    Scenario::new(
        "no-plugins",
        [
            api("GET /plugins").gives(200),
            api(&filters(json!({"enabled": ["true"]}))).gives(200),
            api(&filters(json!({"nonsense": ["true"]}))).gives(400),
            api("GET /plugins/x/json").gives(404),
            api("GET /plugins/a/b/json").gives(404),
            api("GET /plugins/a/b").gives(404),
            api("DELETE /plugins/x").gives(404),
            api("POST /plugins/x/enable?timeout=0").gives(404),
            api("POST /plugins/x/disable").gives(404),
            api("POST /plugins/x/upgrade?remote=x")
                .json(&json!([]))
                .gives(404),
            api("POST /plugins/x/push").gives(404),
            api("POST /plugins/x/set").json(&json!([])).gives(404),
            docker("plugin ls").gives(0),
            docker("plugin inspect x").gives(1),
        ],
    )
}

/// Every version between the first and the last, and those beyond.
fn api_versions() -> Scenario {
    let within = (24..=51).map(|minor| {
        api("GET /containers/json?limit=1&filters=%7B%22label%22%3A%5B%22none%22%5D%7D")
            .version(&format!("1.{minor}"))
            .gives(200)
    });
    let beyond = ["1.0", "1.23", "0.9", "1.52", "1.99", "2.0", "1", "1."]
        .into_iter()
        .flat_map(|version| {
            [
                api("GET /_ping").version(version).gives(400),
                api("GET /containers/json").version(version).gives(400),
                api("POST /containers/none/start")
                    .version(version)
                    .gives(400),
            ]
        });
    let nonsense = ["abc", "1.5x", "-1"]
        .into_iter()
        .map(|version| api("GET /_ping").version(version).gives(404));
    let clients = [
        docker("version --format '{{.Client.APIVersion}}'").env("DOCKER_API_VERSION", "1.24"),
        docker("ps --quiet --filter label=none").env("DOCKER_API_VERSION", "1.24"),
        docker("ps --quiet").env("DOCKER_API_VERSION", "1.23"),
        docker("ps --quiet").env("DOCKER_API_VERSION", "1.99"),
    ];
    Scenario::new(
        "api-versions",
        within.chain(beyond).chain(nonsense).chain(clients),
    )
}
