//! `docker pause` and `unpause`, and what can be done to a paused container.

use sockerless_tests::scenario::{Scenario, Step, api, docker};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![pause(), ends(), not_running()]
}

fn run() -> Step {
    docker(
        "run --detach --name @N busybox sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.1; done'",
    )
    .gives(0)
}

fn state() -> Step {
    docker("inspect @N --format '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}}'")
        .gives(0)
}

fn pause() -> Scenario {
    Scenario::new(
        "pause-states",
        [
            run(),
            docker("pause @N").gives(0),
            state(),
            docker("ps --filter name=@N --filter status=paused --format '{{.Names}} {{.State}}'")
                .gives(0),
            docker("pause @N").gives(1),
            docker("exec @N true").gives(1),
            api("POST /containers/@N/exec")
                .json(&serde_json::json!({"Cmd": ["true"]}))
                .gives(409),
            api("POST /containers/@N/start").gives(409),
            docker("rm @N").gives(1),
            docker("logs @N").gives(0),
            docker("unpause @N").gives(0),
            state(),
            docker("exec @N echo on").gives(0),
            docker("unpause @N").gives(1),
            api("POST /containers/@N/pause").gives(204),
            api("POST /containers/@N/pause").gives(409),
            api("POST /containers/@N/unpause").gives(204),
            api("POST /containers/@N/unpause").gives(500),
            docker("rm --force @N").gives(0),
        ],
    )
    .microvm_only()
}

/// A paused container can be ended in every way.
fn ends() -> Scenario {
    let mut steps = vec![run()];
    for (way, code) in [
        ("stop --time 30", 7),
        ("kill", 137),
        ("restart --time 30", 0),
    ] {
        steps.extend([
            docker("pause @N").gives(0),
            docker(&format!("{way} @N")).gives(0),
        ]);
        steps.push(state());
        if code != 0 {
            steps.push(docker("start @N").gives(0));
        }
    }
    steps.extend([
        docker("pause @N").gives(0),
        docker("rm --force @N").gives(0),
        docker("inspect @N").gives(1),
    ]);
    Scenario::new("pause-ends", steps).microvm_only()
}

fn not_running() -> Scenario {
    Scenario::new(
        "pause-not-running",
        [
            docker("create --name @N busybox true").gives(0),
            docker("pause @N").gives(1),
            docker("unpause @N").gives(1),
            docker("pause @N-xnone").gives(1),
            docker("unpause @N-xnone").gives(1),
            docker("rm @N").gives(0),
        ],
    )
}
