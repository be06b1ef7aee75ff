//! More of everything than anybody writes by hand.

use serde_json::{Map, Value, json};
use sockerless_tests::scenario::{Scenario, api, query};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![labels(), environment()]
}

fn labels() -> Scenario {
    let labels: Map<String, Value> = (0..1000)
        .map(|number| {
            (
                format!("label.{number:04}"),
                json!(format!("value {number}")),
            )
        })
        .collect();
    let filter = |label: &str| query(&json!({"label": [label], "name": ["@N"]}));
    Scenario::new(
        "large-labels",
        [
            api("POST /containers/create?name=@N")
                .json(&json!({"Image": "busybox", "Labels": labels}))
                .gives(201),
            api("GET /containers/@N/json").gives(200),
            api(&format!(
                "GET /containers/json?all=1&filters={}",
                filter("label.0999=value 999")
            ))
            .gives(200),
            api(&format!(
                "GET /containers/json?all=1&filters={}",
                filter("label.0999=other")
            ))
            .gives(200),
        ],
    )
}

/// 128 variables of 1 KiB.
fn environment() -> Scenario {
    let variables: Vec<_> = (0..128)
        .map(|number| format!("V{number}={}", "x".repeat(1020)))
        .collect();
    let create = |name: &str, variables: &Value| {
        api(&format!("POST /containers/create?name={name}"))
            .json(
                &json!({"Image": "busybox", "Cmd": ["sh", "-c", "env | wc -c"], "Env": variables}),
            )
            .gives(201)
    };
    Scenario::new(
        "large-environment",
        [
            create("@N", &json!(variables)),
            api("POST /containers/@N/start").gives(204),
            api("POST /containers/@N/wait").gives(200),
            api("GET /containers/@N/logs?stdout=1&stderr=1").gives(200),
        ],
    )
}
