//! More of everything than anybody writes by hand.

use serde_json::{Map, Value, json};
use sockerless_tests::scenario::{Scenario, api, query};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![labels(), environment(), arguments(), exec_arguments()]
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

/// 128 variables of 1 KiB: what a process is started with may have 2 MiB in all, and 128 KiB
/// in one piece.
fn environment() -> Scenario {
    let variables: Vec<_> = (0..128)
        .map(|number| format!("V{number}={}", "x".repeat(1020)))
        .collect();
    let too_long = format!("V={}", "x".repeat(128 * 1024));
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
            create("@N-xlong", &json!([too_long])),
            api("POST /containers/@N-xlong/start").gives(400),
        ],
    )
}

fn many_arguments() -> Vec<String> {
    (0..1024).map(|_| "x".repeat(1023)).collect()
}

fn arguments() -> Scenario {
    let mut command = vec!["sh".to_owned(), "-c".to_owned(), "echo $#".to_owned()];
    command.extend(many_arguments());
    Scenario::new(
        "large-arguments",
        [
            api("POST /containers/create?name=@N")
                .json(&json!({"Image": "busybox", "Cmd": command}))
                .gives(201),
            api("POST /containers/@N/start").gives(204),
            api("POST /containers/@N/wait").gives(200),
            api("GET /containers/@N/logs?stdout=1&stderr=1").gives(200),
        ],
    )
}

fn exec_arguments() -> Scenario {
    let mut command = vec!["sh".to_owned(), "-c".to_owned(), "echo $#".to_owned()];
    command.extend(many_arguments());
    Scenario::new(
        "large-exec",
        [
            api("POST /containers/create?name=@N")
                .json(&json!({"Image": "busybox", "Cmd": ["sleep", "1000"]}))
                .gives(201),
            api("POST /containers/@N/start").gives(204),
            api("POST /containers/@N/exec")
                .json(&json!({"Cmd": command, "AttachStdout": true, "AttachStderr": true}))
                .save("exec", "/Id")
                .gives(201),
            api("POST /exec/@{exec}/start").json(&json!({})).gives(200),
        ],
    )
}
