//! `_ping`, `version`, `info`, and what holds for every request.

use sockerless_tests::scenario::{Gone, Scenario, api, docker, gone};

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
