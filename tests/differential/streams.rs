//! Attach and logs.

use serde_json::json;
use sockerless_tests::scenario::{
    Gone, Scenario, api, await_text, docker, finish, gone, half_close, hang_up, send, until_log,
    until_status,
};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        attach(),
        attach_api(),
        attach_before_start(),
        attach_half_close(),
        attach_errors(),
        attach_gone(),
        attach_terminal(),
        logs(),
        logs_follow(),
        logs_details(),
        logs_of_several_runs(),
        logs_since_until(),
        logs_errors(),
        logs_gone(),
    ]
}

const BOTH: &str = "sh -c 'echo out; echo err >&2; read line; echo \"got $line\"'";

fn attach() -> Scenario {
    Scenario::new(
        "attach",
        [
            docker(&format!("run --detach --interactive --name @N busybox {BOTH}")).gives(0),
            until_log("@N", "err", 1),
            docker("attach @N").open_input().background("typing"),
            send("typing", "typed\n"),
            await_text("typing", "got typed"),
            finish("typing"),
            docker("logs @N").gives(0),
            docker("attach @N").gives(1),
            docker("attach @N-none").gives(1),
            docker("run --detach --name @N-xup busybox sh -c 'trap \"exit 4\" TERM; while :; do echo tick; sleep 0.05; done'")
                .gives(0),
            docker("attach --no-stdin @N-xup").head_only().background("client"),
            await_text("client", "tick"),
            docker("attach --no-stdin --sig-proxy=false @N-xup").background("gone"),
            await_text("gone", "tick"),
            hang_up("gone"),
            until_status("@N-xup", "running"),
            docker("stop @N-xup").gives(0),
            finish("client"),
        ],
    )
}

fn attach_api() -> Scenario {
    Scenario::new(
        "attach-api",
        [
            docker(&format!("create --interactive --name @N busybox {BOTH}")).gives(0),
            api("POST /containers/@N/attach?stream=1&stdin=1&stdout=1&stderr=1")
                .upgrade()
                .background("upgraded")
                .gives(101),
            api("POST /containers/@N/attach?stream=1&stdout=1&stderr=1")
                .hijack()
                .background("plain")
                .multiplexed()
                .gives(200),
            api("POST /containers/@N/attach?stream=1&stderr=1")
                .upgrade()
                .background("only stderr")
                .gives(101),
            api("POST /containers/@N/attach?stream=1&stdout=1")
                .version("1.41")
                .upgrade()
                .background("old")
                .multiplexed()
                .gives(101),
            docker("start @N").gives(0),
            await_text("upgraded", "err"),
            send("upgraded", "a line\n"),
            await_text("upgraded", "got a line"),
            finish("upgraded"),
            finish("plain"),
            finish("only stderr"),
            finish("old"),
            docker("wait @N").gives(0),
            // What there was before is put out first, when asked for.
            api("POST /containers/@N/attach?logs=1&stdout=1&stderr=1")
                .upgrade()
                .gives(101),
            api("POST /containers/@N/attach?logs=1&stdout=1")
                .hijack()
                .multiplexed()
                .gives(200),
        ],
    )
}

fn attach_before_start() -> Scenario {
    Scenario::new(
        "attach-before-start",
        [
            docker("create --name @N busybox sh -c 'seq 1 3000; exit 3'").gives(0),
            api("POST /containers/@N/attach?stream=1&stdout=1&stderr=1")
                .upgrade()
                .background("early")
                .gives(101),
            docker("start @N").gives(0),
            finish("early"),
            docker("wait @N").gives(0),
        ],
    )
}

/// The input can end while the output goes on.
fn attach_half_close() -> Scenario {
    Scenario::new(
        "attach-half-close",
        [
            api("POST /containers/create?name=@N")
                .json(
                    &json!({"Image": "busybox", "Cmd": ["sh", "-c", "cat; echo then; exit 2"],
                    "OpenStdin": true, "StdinOnce": true, "AttachStdin": true,
                    "AttachStdout": true, "AttachStderr": true}),
                )
                .gives(201),
            api("POST /containers/@N/attach?stream=1&stdin=1&stdout=1&stderr=1")
                .upgrade()
                .background("talk")
                .gives(101),
            docker("start @N").gives(0),
            send("talk", "some text"),
            await_text("talk", "some text"),
            half_close("talk"),
            finish("talk"),
            docker("wait @N").gives(0),
        ],
    )
}

fn attach_errors() -> Scenario {
    Scenario::new(
        "attach-errors",
        [
            api("POST /containers/@N-none/attach?stream=1&stdout=1").gives(404),
            api("POST /containers/@N-none/attach?stream=1&stdout=1")
                .upgrade()
                .gives(404),
            docker("create --name @N busybox true").gives(0),
            api("POST /containers/@N/attach?stream=1&stdout=1&detachKeys=nonsense-x").gives(400),
            docker("attach @N").gives(1),
        ],
    )
}

fn attach_gone() -> Scenario {
    Scenario::new(
        "attach-gone",
        [
            docker("run --detach --interactive --name @N busybox sh -c 'while read line; do echo \"got $line\"; done; echo end'")
                .gives(0),
            api("POST /containers/@N/attach?stream=1&stdin=1&stdout=1")
                .upgrade()
                .background("first")
                .gives(101),
            send("first", "one\n"),
            await_text("first", "got one"),
            hang_up("first"),
            gone(Gone::InHead, "POST /containers/@N/attach?stream=1&stdin=1"),
            // Somebody else goes on where the first one stopped.
            api("POST /containers/@N/attach?stream=1&stdin=1&stdout=1")
                .upgrade()
                .background("second")
                .gives(101),
            send("second", "two\n"),
            await_text("second", "got two"),
            hang_up("second"),
            docker("logs @N").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn attach_terminal() -> Scenario {
    Scenario::new(
        "attach-terminal",
        [
            api("POST /containers/create?name=@N")
                .json(&json!({"Image": "busybox", "Tty": true, "OpenStdin": true,
                    "Cmd": ["sh", "-c", "echo ready; read line; echo \"got $line\"; stty size; exit 5"]}))
                .gives(201),
            api("POST /containers/@N/attach?stream=1&stdin=1&stdout=1&stderr=1")
                .upgrade()
                .background("terminal")
                .gives(101),
            docker("start @N").gives(0),
            await_text("terminal", "ready"),
            api("POST /containers/@N/resize?h=30&w=100").gives(200),
            send("terminal", "typed\n"),
            await_text("terminal", "30 100"),
            finish("terminal"),
            docker("wait @N").gives(0),
            api("GET /containers/@N/logs?stdout=1&stderr=1").gives(200),
            api("GET /containers/@N/logs?stdout=1&stderr=1")
                .version("1.41")
                .gives(200),
            docker("run --detach -it --name @N-xup busybox sh -c 'while read line; do echo \"got $line\"; done'").gives(0),
            // The keys that leave a container to itself.
            api("POST /containers/@N-xup/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a")
                .upgrade()
                .background("detached")
                .gives(101),
            send("detached", "typed\n"),
            await_text("detached", "got typed\r\n"),
            send("detached", "\u{1}"),
            finish("detached"),
            until_status("@N-xup", "running"),
            docker("rm --force @N-xup").gives(0),
        ],
    )
    .microvm_only()
}

fn logs() -> Scenario {
    Scenario::new(
        "logs",
        [
            docker("run --name @N busybox sh -c 'seq 1 5; sleep 0.3; echo err >&2; sleep 0.3; printf unfinished'").gives(0),
            docker("logs @N").gives(0),
            docker("logs --tail 2 @N").gives(0),
            docker("logs --tail 0 @N").gives(0),
            docker("logs --tail all @N").gives(0),
            docker("logs --tail -1 @N").gives(0),
            docker("logs --timestamps @N").gives(0),
            docker("logs --follow @N").gives(0),
            docker("logs --details @N").gives(0),
            docker("logs --details --timestamps --tail 2 @N").gives(0),
            api("GET /containers/@N/logs?stdout=1").gives(200),
            api("GET /containers/@N/logs?stderr=1").gives(200),
            api("GET /containers/@N/logs?stdout=1&stderr=1&tail=3&timestamps=1").gives(200),
            api("GET /containers/@N/logs?stdout=1&tail=nonsense").gives(200),
            api("GET /containers/@N/logs?stdout=1&follow=1").gives(200),
            api("GET /containers/@N/logs?stdout=1").version("1.24").multiplexed().gives(200),
            docker("run --name @N-xlong busybox sh -c 'head -c 40000 /dev/zero | tr \"\\000\" x; echo; echo after'")
                .gives(0),
            docker("logs @N-xlong").gives(0),
            docker("create --name @N-xnew busybox true").gives(0),
            docker("logs @N-xnew").gives(0),
            docker("logs @N-none").gives(1),
        ],
    )
}

fn logs_follow() -> Scenario {
    Scenario::new(
        "logs-follow",
        [
            docker("run --detach --interactive --name @N busybox sh -c 'echo first; while read line; do echo \"got $line\"; done; echo last; exit 3'")
                .gives(0),
            until_log("@N", "first", 1),
            docker("logs --follow @N").background("client"),
            api("GET /containers/@N/logs?stdout=1&follow=1").background("api").gives(200),
            api("GET /containers/@N/logs?stdout=1&follow=1&tail=0").background("from now").gives(200),
            await_text("client", "first"),
            await_text("api", "first"),
            api("POST /containers/@N/attach?stream=1&stdin=1").upgrade().background("input").gives(101),
            send("input", "a\n"),
            await_text("client", "got a"),
            await_text("api", "got a"),
            await_text("from now", "got a"),
            send("input", "b\n"),
            await_text("from now", "got b"),
            docker("kill @N").gives(0),
            finish("client"),
            finish("api"),
            finish("from now"),
            hang_up("input"),
            docker("start @N").gives(0),
            until_log("@N", "first", 2),
            docker("logs @N").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn logs_details() -> Scenario {
    Scenario::new(
        "logs-details",
        [
            docker("run --name @N --log-opt labels=one,two,none --log-opt env=VARIABLE --label two='a b&c' --label one=1 --label other=x --env VARIABLE=x,~y= --env OTHER=z busybox sh -c 'echo out; sleep 0.2; echo err >&2'")
                .gives(0),
            docker("inspect @N --format '{{json .HostConfig.LogConfig}}'").gives(0),
            docker("logs --details @N").gives(0),
            docker("logs --details --timestamps @N").gives(0),
            api("GET /containers/@N/logs?stdout=1&details=1").gives(200),
            docker("rm @N").gives(0),
        ],
    )
}

fn logs_of_several_runs() -> Scenario {
    Scenario::new(
        "logs-of-several-runs",
        [
            docker("run --name @N busybox sh -c 'echo out; sleep 0.2; echo err >&2; sleep 0.2; printf unfinished'").gives(0),
            docker("start --attach @N").gives(0),
            docker("logs @N").gives(0),
            docker("logs --tail 1 @N").gives(0),
            docker("logs --tail 4 @N").gives(0),
            docker("logs --tail 5 @N").gives(0),
            api("GET /containers/@N/logs?stdout=1&tail=2").gives(200),
            api("GET /containers/@N/logs?stderr=1&tail=1").gives(200),
            docker("rm @N").gives(0),
        ],
    )
}

fn logs_since_until() -> Scenario {
    Scenario::new(
        "logs-since-until",
        [
            docker("run --detach --name @N busybox sh -c 'echo one; sleep 1.1; date +%s > /tmp/between; sleep 1.1; echo two; sleep 1000'").gives(0),
            until_log("@N", "two", 1),
            docker("exec @N cat /tmp/between").save("between", "").head_only().gives(0),
            docker("logs --since @{between} @N").gives(0),
            docker("logs --until @{between} @N").gives(0),
            docker("logs --until @{between} --since 1 --tail 1 @N").gives(0),
            docker("logs --since @{between} --tail 1 @N").gives(0),
            docker("logs --since @{between} --tail 100 @N").gives(0),
            docker("logs --until @{between} --tail 2 @N").gives(0),
            docker("logs --since 2020-01-01T00:00:00Z @N").gives(0),
            docker("logs --until 2020-01-01T00:00:00Z @N").gives(0),
            docker("logs --since 2099-01-01T00:00:00Z @N").gives(0),
            docker("logs --until 2099-01-01T00:00:00Z @N").gives(0),
            docker("logs --since 1h @N").gives(0),
            docker("logs --until 1h @N").gives(0),
            api("GET /containers/@N/logs?stdout=1&since=1").gives(200),
            api("GET /containers/@N/logs?stdout=1&since=1.5&until=4102444800").gives(200),
            api("GET /containers/@N/logs?stdout=1&until=1.000000001").gives(200),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn logs_errors() -> Scenario {
    Scenario::new(
        "logs-errors",
        [
            docker("create --name @N busybox true").gives(0),
            api("GET /containers/@N/logs").gives(400),
            api("GET /containers/@N/logs?stdout=1&since=abc").gives(500),
            api("GET /containers/@N/logs?stdout=1&until=abc").gives(500),
            api("GET /containers/@N-none/logs?stdout=1").gives(404),
            docker("logs --since nonsense @N").gives(1),
        ],
    )
}

fn logs_gone() -> Scenario {
    Scenario::new(
        "logs-gone",
        [
            docker(
                "run --detach --name @N busybox sh -c 'while :; do echo tick; sleep 0.05; done'",
            )
            .gives(0),
            api("GET /containers/@N/logs?stdout=1&follow=1")
                .background("api")
                .gives(200),
            await_text("api", "tick"),
            hang_up("api"),
            docker("logs --follow @N").background("client"),
            await_text("client", "tick"),
            hang_up("client"),
            gone(Gone::InHead, "GET /containers/@N/logs?stdout=1"),
            until_log("@N", "tick", 3),
            docker("rm --force @N").gives(0),
        ],
    )
}
