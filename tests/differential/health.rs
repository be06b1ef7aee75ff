//! Healthchecks: verdicts, what they are shown as, and their events.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Scenario, Step, api, docker, until};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        verdicts(),
        results(),
        events(),
        paused(),
        timeouts(),
        not_startable(),
        start_period(),
        none(),
        output(),
        configured(),
    ]
}

fn until_health(status: &str) -> Step {
    until(
        "GET /containers/@N/json",
        "/State/Health/Status",
        json!(status),
    )
}

fn listed(status: &str) -> Step {
    docker(&format!("ps --filter name=@N --filter health={status} --format '{{{{.Names}}}} {{{{.State}}}} {{{{.Status}}}}'"))
        .gives(0)
}

fn verdicts() -> Scenario {
    Scenario::new(
        "health-verdicts",
        [
            docker("create --name @N --health-cmd 'echo probed; test -e /tmp/ok' --health-interval 300ms --health-retries 1 busybox sleep 1000").gives(0),
            api("GET /containers/@N/json").gives(200),
            docker("start @N").gives(0),
            until_health("unhealthy"),
            listed("unhealthy"),
            listed("healthy"),
            listed("none"),
            docker("exec @N touch /tmp/ok").gives(0),
            until_health("healthy"),
            listed("healthy"),
            docker("inspect @N --format '{{.State.Health.FailingStreak}} {{json .Config.Healthcheck}}'").gives(0),
            // Before the end: a probe that it cuts short may be one more that failed.
            docker("events --since 10m --until=-1s --filter container=@N --filter event=health_status --format '{{.Action}}'").gives(0),
            docker("events --since 10m --until=-1s --filter container=@N --filter 'event=health_status: healthy' --format '{{.Action}}'").gives(0),
            docker("stop --time 0 @N").gives(0),
            docker("inspect @N --format '{{.State.Health.Status}}'").gives(0),
            docker("rm @N").gives(0),
        ],
    )
}

/// What each probe said is there as soon as it has ended, whether it changed the verdict or not.
fn results() -> Scenario {
    let until_result = |index: usize| {
        until(
            "GET /containers/@N/json",
            &format!("/State/Health/Log/{index}/ExitCode"),
            json!(3),
        )
    };
    Scenario::new(
        "health-results",
        [
            docker("run --detach --name @N --health-cmd 'echo probed; exit 3' --health-interval 1500ms --health-retries 100 busybox sleep 1000").gives(0),
            until_result(0),
            docker("inspect @N --format '{{.State.Health.Status}} {{len .State.Health.Log}} {{.State.Health.FailingStreak}}'").gives(0),
            until_result(1),
            until_result(4),
            docker("inspect @N --format '{{with .State.Health}}{{.Status}} {{range .Log}}{{.ExitCode}} {{json .Output}} {{end}}{{end}}'").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

/// A probe's events, and the verdict's among them.
fn events() -> Scenario {
    let told = || {
        docker("events --since 10m --until=-1s --filter container=@N --filter event=exec_create --filter event=exec_start --filter event=exec_die --filter event=health_status --format '{{.Action}} {{.Actor.Attributes.exitCode}}'")
            .gives(0)
    };
    // Once, since the next probe comes an hour later.
    let once = "--health-interval 1h --health-start-period 1h --health-start-interval 300ms";
    Scenario::new(
        "health-events",
        [
            docker(&format!(
                "run --detach --name @N --health-cmd 'true and more' {once} busybox sleep 1000"
            ))
            .gives(0),
            until_health("healthy"),
            told(),
            docker("rm --force @N").gives(0),
            // Of a probe that takes too long the Engine leaves order and exit code to chance.
            docker("run --detach --name @N --health-cmd 'exit 3' --health-interval 4s --health-retries 1 busybox sleep 1000").gives(0),
            until_health("unhealthy"),
            docker("pause @N").gives(0),
            told(),
            docker("rm --force @N").gives(0),
        ],
    )
    .microvm_only()
}

fn paused() -> Scenario {
    Scenario::new(
        "health-paused",
        [
            docker(
                "run --detach --name @N --health-cmd true --health-interval 1s busybox sleep 1000",
            )
            .gives(0),
            until_health("healthy"),
            docker("pause @N").gives(0),
            docker("inspect @N --format '{{.State.Health.Status}}'").gives(0),
            docker("unpause @N").gives(0),
            until_health("healthy"),
            docker("rm --force @N").gives(0),
        ],
    )
    .microvm_only()
}

fn timeouts() -> Scenario {
    Scenario::new(
        "health-timeouts",
        [
            docker("run --detach --name @N --health-cmd 'echo before; sleep 30' --health-interval 100ms --health-timeout 1500ms --health-retries 1 busybox sleep 1000").gives(0),
            until_health("unhealthy"),
            docker("inspect @N --format '{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}'").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn not_startable() -> Scenario {
    Scenario::new(
        "health-not-startable",
        [
            create(&json!({"Test": ["CMD", "nonexistent"], "Interval": 100_000_000, "Retries": 1}))
                .gives(201),
            docker("start @N").gives(0),
            until_health("unhealthy"),
            docker("inspect @N --format '{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}'").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn start_period() -> Scenario {
    Scenario::new(
        "health-start-period",
        [
            docker("run --detach --name @N --health-cmd 'test -e /tmp/ok' --health-interval 1h --health-start-period 1h --health-start-interval 200ms --health-retries 1 busybox sleep 1000").gives(0),
            docker("inspect @N --format '{{.State.Health.Status}} {{.State.Health.FailingStreak}}'").gives(0),
            listed("starting"),
            docker("exec @N touch /tmp/ok").gives(0),
            until_health("healthy"),
            docker("events --since 10m --until=-1s --filter container=@N --filter event=health_status --format '{{.Action}}'").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn none() -> Scenario {
    Scenario::new(
        "health-none",
        [
            docker("run --detach --name @N --no-healthcheck busybox sleep 1000").gives(0),
            docker("inspect @N --format '{{json .State.Health}} {{json .Config.Healthcheck}}'")
                .gives(0),
            listed("none"),
            docker("rm --force @N").gives(0),
            create(&json!({"Test": ["NONSENSE"]})).gives(201),
            docker("start @N").gives(0),
            docker("inspect @N --format '{{json .State.Health}} {{json .Config.Healthcheck}}'")
                .gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn output() -> Scenario {
    Scenario::new(
        "health-output",
        [
            docker("run --detach --name @N --health-cmd 'head -c 5000 /dev/zero | tr \"\\0\" a' --health-interval 100ms busybox sleep 1000").gives(0),
            until_health("healthy"),
            docker("inspect @N --format '{{len (index .State.Health.Log 0).Output}} {{slice (index .State.Health.Log 0).Output 4090}}'").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn create(health: &Value) -> Step {
    api("POST /containers/create?name=@N")
        .json(&json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": health}))
}

fn configured() -> Scenario {
    let refused = |health: Value| create(&health).gives(400);
    let mut steps = vec![
        refused(json!({"Interval": 1})),
        refused(json!({"Interval": -1})),
        refused(json!({"Timeout": 5})),
        refused(json!({"StartPeriod": 5})),
        refused(json!({"StartInterval": 5})),
        refused(json!({"Retries": -1})),
        refused(json!({"Test": "x"})),
        refused(json!({"Interval": "x"})),
    ];
    for taken in [
        json!({"Test": []}),
        json!({"Test": ["CMD"]}),
        json!({"Test": ["CMD-SHELL", "x"], "Interval": 1_000_000, "Retries": 0}),
        json!({"Test": ["CMD", "a"], "Retries": 3, "StartPeriod": 2_000_000, "StartInterval": 3_000_000, "Timeout": 4_000_000}),
    ] {
        steps.extend([
            create(&taken).gives(201),
            docker("inspect @N --format '{{json .Config.Healthcheck}}'").gives(0),
            docker("rm @N").gives(0),
        ]);
    }
    Scenario::new("health-configured", steps)
}
