//! `--restart`: what is started again, how often, and what ends that.

use serde_json::json;
use sockerless_tests::scenario::{Scenario, Step, api, docker, until, until_status};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        on_failure(),
        succeeded(),
        always(),
        restarting(),
        called_off(),
        not_startable(),
        conflicts(),
    ]
}

fn state() -> Step {
    docker("inspect @N --format '{{.State.Status}} {{.State.Running}} {{.State.Restarting}} {{.State.ExitCode}} {{.RestartCount}} {{json .HostConfig.RestartPolicy}}'")
        .gives(0)
}

fn count(count: u32) -> Step {
    until("GET /containers/@N/json", "/RestartCount", json!(count))
}

fn actions() -> Step {
    docker("events --since 10m --until=-1s --filter container=@N --filter type=container --format '{{.Action}} {{.Actor.Attributes.exitCode}}'")
        .gives(0)
}

fn on_failure() -> Scenario {
    Scenario::new(
        "restart-on-failure",
        [
            docker("run --detach --restart on-failure:2 --name @N busybox sh -c 'echo x; exit 3'")
                .gives(0),
            count(2),
            until_status("@N", "exited"),
            state(),
            docker("logs @N").gives(0),
            docker("wait @N").gives(0),
            actions(),
            // A start by a client counts anew.
            docker("start @N").gives(0),
            count(2),
            until_status("@N", "exited"),
            docker("rm @N").gives(0),
        ],
    )
}

fn succeeded() -> Scenario {
    Scenario::new(
        "restart-succeeded",
        [
            docker("run --restart on-failure --name @N busybox true").gives(0),
            until_status("@N", "exited"),
            state(),
            actions(),
            docker("rm @N").gives(0),
        ],
    )
}

fn always() -> Scenario {
    Scenario::new(
        "restart-always",
        [
            docker("run --detach --restart always --name @N busybox sh -c 'sleep 2; exit 3'")
                .gives(0),
            count(1),
            docker("stop --time 0 @N").gives(0),
            docker("inspect @N --format '{{.State.Status}}'").gives(0),
            docker("rm @N").gives(0),
            docker("run --detach --restart unless-stopped --name @N busybox sleep 1000").gives(0),
            docker("kill @N").gives(0),
            until_status("@N", "exited"),
            state(),
            docker("start @N").gives(0),
            docker("update --restart no @N").gives(0),
            state(),
            docker("rm --force @N").gives(0),
        ],
    )
}

/// What can be asked of a container that waits to be started again.
fn restarting() -> Scenario {
    Scenario::new(
        "restart-waits",
        [
            docker("run --detach --restart always --name @N busybox sh -c 'exit 3'").gives(0),
            count(6),
            until_status("@N", "restarting"),
            state(),
            api("POST /containers/@N/exec")
                .json(&json!({"Cmd": ["true"]}))
                .gives(409),
            api("POST /containers/@N/pause").gives(409),
            api("POST /containers/@N/unpause").gives(500),
            api("GET /containers/@N/top").gives(409),
            api("POST /containers/@N/attach?stream=1&stdout=1").gives(409),
            api("POST /containers/@N/start").gives(304),
            api("DELETE /containers/@N").gives(409),
            api("POST /containers/@N/stop").gives(204),
            state(),
            api("POST /containers/@N/stop").gives(304),
            docker("rm @N").gives(0),
        ],
    )
}

fn called_off() -> Scenario {
    Scenario::new(
        "restart-called-off",
        [
            docker("run --detach --restart always --name @N busybox sh -c 'exit 3'").gives(0),
            count(5),
            until_status("@N", "restarting"),
            docker(
                "ps --filter name=@N --filter status=restarting --format '{{.Names}} {{.State}}'",
            )
            .gives(0),
            api("POST /containers/@N/kill").gives(204),
            until_status("@N", "exited"),
            state(),
            docker("start @N").gives(0),
            count(5),
            until_status("@N", "restarting"),
            api("POST /containers/@N/restart").gives(204),
            count(5),
            until_status("@N", "restarting"),
            api("DELETE /containers/@N?force=1").gives(204),
            docker("inspect @N").gives(1),
        ],
    )
}

fn not_startable() -> Scenario {
    Scenario::new(
        "restart-not-startable",
        [
            docker("run --restart always --name @N busybox nonexistent").gives(127),
            state(),
            docker("rm @N").gives(0),
        ],
    )
}

fn conflicts() -> Scenario {
    let create = |policy: serde_json::Value| {
        api("POST /containers/create?name=@N-bad")
            .json(&json!({"Image": "busybox", "HostConfig": {"RestartPolicy": policy}}))
            .gives(400)
    };
    Scenario::new(
        "restart-conflicts",
        [
            docker("create --rm --restart always busybox true").gives(125),
            create(json!({"Name": "nonsense"})),
            create(json!({"Name": "always", "MaximumRetryCount": 1})),
            create(json!({"Name": "no", "MaximumRetryCount": -1})),
            create(json!({"Name": "on-failure", "MaximumRetryCount": -1})),
            create(json!({"MaximumRetryCount": -1})),
        ],
    )
}
