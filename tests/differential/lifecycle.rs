//! Start, stop, kill, restart, rename, remove, wait.

use serde_json::json;
use sockerless_tests::scenario::{
    Gone, Scenario, Step, api, docker, finish, gone, hang_up, until, until_log, until_status,
};

/// Ends with 7 when told to, however it is told.
const OBEDIENT: &str = "trap 'exit 7' TERM; trap 'exit 8' USR1; trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done";

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        start(),
        start_failures(),
        stop(),
        stop_unheeded(),
        stop_signal_of_the_image(),
        kill(),
        restart(),
        rename(),
        remove(),
        wait(),
        wait_in_advance(),
        gone_in_the_middle(),
    ]
}

/// A container that runs [`OBEDIENT`] and has got as far as its traps.
fn obedient(name: &str) -> [Step; 2] {
    [
        docker(&format!(
            "run --detach --name {name} busybox sh -c \"{OBEDIENT}\""
        ))
        .gives(0),
        until_log(name, "ready", 1),
    ]
}

fn state(name: &str) -> Step {
    docker(&format!(
        "inspect {name} --format '{{{{.State.Status}}}} {{{{.State.Running}}}} {{{{.State.ExitCode}}}} {{{{.State.OOMKilled}}}} {{{{.State.Error}}}} {{{{.RestartCount}}}}'"
    ))
    .gives(0)
}

fn start() -> Scenario {
    Scenario::new(
        "start",
        [
            docker("create --name @N busybox sleep 1000").gives(0),
            state("@N"),
            api("POST /containers/@N/start").gives(204),
            state("@N"),
            api("POST /containers/@N/start").gives(304),
            docker("start @N").gives(0),
            docker("rm --force @N").gives(0),
            docker("create --name @N busybox echo once more").gives(0),
            docker("start --attach @N").gives(0),
            docker("start --attach @N").gives(0),
            docker("start @N").gives(0),
            docker("wait @N").gives(0),
            docker("logs @N").gives(0),
            docker("create --name @N-xin --interactive busybox cat").gives(0),
            docker("start --attach --interactive @N-xin")
                .input("through")
                .gives(0),
            api("POST /containers/@N-none/start").gives(404),
            api("POST /containers/@N/start")
                .json(&json!({"Image": "busybox"}))
                .gives(400),
            docker("start @N-none").gives(1),
            docker("start --attach @N-none").gives(1),
        ],
    )
}

fn start_failures() -> Scenario {
    Scenario::new(
        "start-failures",
        [
            docker("create --name @N busybox no-such-program").gives(0),
            api("POST /containers/@N/start").gives(400),
            state("@N"),
            docker("start @N").gives(1),
            docker("start --attach @N").gives(1),
            docker("create --name @N-xperm busybox /etc/passwd").gives(0),
            api("POST /containers/@N-xperm/start").gives(400),
            state("@N-xperm"),
            docker("create --name @N-xfolder busybox /etc").gives(0),
            api("POST /containers/@N-xfolder/start").gives(400),
        ],
    )
}

fn stop() -> Scenario {
    Scenario::new(
        "stop",
        obedient("@N").into_iter().chain([
            docker("stop @N").gives(0),
            state("@N"),
            api("POST /containers/@N/stop").gives(304),
            docker("stop @N").gives(0),
            docker("start @N").gives(0),
            until_log("@N", "ready", 2),
            api("POST /containers/@N/stop?t=5&signal=SIGUSR1").gives(204),
            state("@N"),
            api("POST /containers/@N-none/stop").gives(404),
            api("POST /containers/@N/stop?t=abc").gives(500),
            docker("stop @N-none").gives(1),
        ]),
    )
}

/// The first process of a container does not die of a signal that it has not
/// asked for, other than SIGKILL.
fn stop_unheeded() -> Scenario {
    Scenario::new(
        "stop-unheeded",
        [
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            docker("kill --signal TERM @N").gives(0),
            state("@N"),
            docker("stop --timeout 1 @N").gives(0),
            state("@N"),
            docker("start @N").gives(0),
            docker("stop --timeout 0 @N").gives(0),
            state("@N"),
            docker("run --detach --name @N-xone --stop-timeout 1 busybox sleep 1000").gives(0),
            docker("stop @N-xone").gives(0),
            state("@N-xone"),
        ],
    )
}

fn stop_signal_of_the_image() -> Scenario {
    Scenario::new(
        "stop-signal",
        [
            docker(&format!("run --detach --name @N configured \"{OBEDIENT}\"")).gives(0),
            until_log("@N", "ready", 1),
            docker("stop @N").gives(0),
            state("@N"),
            docker(&format!(
                "run --detach --name @N-xint --stop-signal INT busybox sh -c \"{OBEDIENT}\""
            ))
            .gives(0),
            until_log("@N-xint", "ready", 1),
            docker("stop @N-xint").gives(0),
            state("@N-xint"),
        ],
    )
}

fn kill() -> Scenario {
    Scenario::new(
        "kill",
        obedient("@N").into_iter().chain([
            docker("kill --signal SIGUSR1 @N").gives(0),
            until_status("@N", "exited"),
            state("@N"),
            api("POST /containers/@N/kill").gives(409),
            docker("kill @N").gives(1),
            docker("start @N").gives(0),
            api("POST /containers/@N/kill?signal=9").gives(204),
            until_status("@N", "exited"),
            state("@N"),
            docker("start @N").gives(0),
            docker("kill @N").gives(0),
            docker("wait @N").gives(0),
            api("POST /containers/@N-none/kill").gives(404),
            docker("run --detach --name @N-xup busybox sleep 1000").gives(0),
            api("POST /containers/@N-xup/kill?signal=NONSENSE").gives(400),
            api("POST /containers/@N-xup/kill?signal=99").gives(400),
            api("POST /containers/@N-xup/kill?signal=0").gives(400),
            api("POST /containers/@N-xup/kill?signal=SIGWINCH").gives(204),
            state("@N-xup"),
            docker("kill @N-none").gives(1),
            docker("rm --force @N-xup").gives(0),
        ]),
    )
}

fn restart() -> Scenario {
    Scenario::new(
        "restart",
        obedient("@N").into_iter().chain([
            docker("restart @N").gives(0),
            state("@N"),
            until_log("@N", "ready", 2),
            docker("stop @N").gives(0),
            state("@N"),
            api("POST /containers/@N/restart?t=3").gives(204),
            state("@N"),
            until_log("@N", "ready", 3),
            docker("logs @N").gives(0),
            api("POST /containers/@N-none/restart").gives(404),
            api("POST /containers/@N/restart?t=abc").gives(500),
            docker("restart @N-none").gives(1),
        ]),
    )
}

fn rename() -> Scenario {
    Scenario::new(
        "rename",
        [
            docker("create --name @N busybox true").gives(0),
            docker("create --name @N-xtaken busybox true").gives(0),
            docker("rename @N @N-xnew").gives(0),
            api("GET /containers/@N/json").gives(404),
            docker("inspect @N-xnew --format '{{.Name}}'").gives(0),
            api("POST /containers/@N-xnew/rename?name=@N").gives(204),
            api("POST /containers/@N/rename?name=@N-xtaken").gives(409),
            api("POST /containers/@N/rename?name=@N").gives(400),
            api("POST /containers/@N/rename?name=").gives(400),
            api("POST /containers/@N/rename?name=a%2Fb").gives(400),
            api("POST /containers/@N-none/rename?name=@N-xother").gives(404),
            docker("rename @N-none @N-xother").gives(1),
            docker("rename @N @N-xtaken").gives(1),
            gone(
                Gone::BeforeAnswer,
                "POST /containers/@N/rename?name=@N-xgone",
            ),
            until("GET /containers/@N-xgone/json", "/Name", "/@N-xgone".into()),
        ],
    )
}

fn remove() -> Scenario {
    Scenario::new(
        "remove",
        [
            docker("create --name @N busybox true").gives(0),
            api("DELETE /containers/@N").gives(204),
            api("DELETE /containers/@N").gives(404),
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            api("DELETE /containers/@N").gives(409),
            docker("rm @N").gives(1),
            docker("rm --force @N").gives(0),
            docker("rm @N").gives(1),
            docker("rm --force @N").gives(0),
            docker("create --name @N busybox true").gives(0),
            docker("create --name @N-x2 busybox true").gives(0),
            docker("rm @N @N-none @N-x2").gives(1),
            docker("create --name @N busybox true")
                .save("id", "")
                .gives(0),
            gone(Gone::BeforeAnswer, "DELETE /containers/@N"),
            until(
                "GET /containers/@{id}/json",
                "/message",
                "No such container: @{id}".into(),
            ),
        ],
    )
}

fn wait() -> Scenario {
    Scenario::new(
        "wait",
        [
            docker("run --name @N busybox sh -c 'exit 5'").gives(5),
            docker("wait @N").gives(0),
            api("POST /containers/@N/wait").gives(200),
            api("POST /containers/@N/wait?condition=not-running").gives(200),
            docker("run --detach --name @N-xup busybox sleep 1000").gives(0),
            // The head comes at once, the body when it is over.
            api("POST /containers/@N-xup/wait")
                .background("plain")
                .gives(200),
            api("POST /containers/@N-xup/wait?condition=not-running")
                .background("not-running")
                .gives(200),
            api("POST /containers/@N-xup/wait?condition=next-exit")
                .background("next-exit")
                .gives(200),
            api("POST /containers/@N-xup/wait?condition=removed")
                .background("removed")
                .gives(200),
            docker("wait @N-xup").background("client"),
            docker("wait @N-xup @N").background("two"),
            gone(Gone::AfterHead, "POST /containers/@N-xup/wait"),
            docker("wait @N-xup").background("gone"),
            hang_up("gone"),
            docker("kill @N-xup").gives(0),
            finish("plain"),
            finish("not-running"),
            finish("next-exit"),
            finish("client"),
            finish("two"),
            docker("rm @N-xup").gives(0),
            finish("removed"),
            api("POST /containers/@N/wait?condition=nonsense").gives(400),
            api("POST /containers/@N-none/wait").gives(404),
            docker("wait @N-none").gives(1),
        ],
    )
}

/// `docker run` asks before it starts.
fn wait_in_advance() -> Scenario {
    Scenario::new(
        "wait-in-advance",
        [
            docker("create --name @N busybox sh -c 'exit 3'").gives(0),
            api("POST /containers/@N/wait").gives(200),
            api("POST /containers/@N/wait?condition=next-exit")
                .background("next")
                .gives(200),
            docker("start @N").gives(0),
            finish("next"),
            docker("create --rm --name @N-xrm busybox sh -c 'exit 4'").gives(0),
            api("POST /containers/@N-xrm/wait?condition=removed")
                .background("removed")
                .gives(200),
            docker("start @N-xrm").gives(0),
            finish("removed"),
            api("GET /containers/@N-xrm/json").gives(404),
        ],
    )
}

/// What was begun to end goes on when the client that asked for it goes away.
fn gone_in_the_middle() -> Scenario {
    Scenario::new(
        "gone",
        [
            docker("create --name @N busybox sleep 1000").gives(0),
            // The Engine may or may not have begun by then.
            gone(Gone::BeforeAnswer, "POST /containers/@N/start"),
            docker("start @N").gives(0),
            state("@N"),
            gone(Gone::InHead, "POST /containers/@N/kill"),
            gone(Gone::BeforeAnswer, "POST /containers/@N/stop?t=0"),
            until_status("@N", "exited"),
            gone(Gone::BeforeAnswer, "POST /containers/@N/restart?t=0"),
            until_status("@N", "running"),
            gone(Gone::BeforeAnswer, "POST /containers/@N/kill"),
            until_status("@N", "exited"),
            state("@N"),
        ],
    )
}
