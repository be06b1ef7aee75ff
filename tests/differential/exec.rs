//! Exec: create, start, inspect, resize.

use serde_json::json;
use sockerless_tests::scenario::{
    Gone, Scenario, Step, api, await_text, docker, finish, gone, half_close, hang_up, send, until,
};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        exec(),
        exec_failures(),
        exec_folders(),
        exec_users(),
        exec_users_events(),
        exec_input(),
        exec_detached(),
        exec_api(),
        exec_errors(),
        exec_ends_with_container(),
        exec_gone(),
        exec_terminal(),
    ]
}

fn sleeper(name: &str) -> Step {
    docker(&format!("run --detach --name {name} busybox sleep 1000")).gives(0)
}

fn exec() -> Scenario {
    let codes = [0, 1, 42, 125, 126, 127, 137, 255];
    Scenario::new(
        "exec",
        [
            sleeper("@N"),
            docker("exec @N echo inside").gives(0),
            docker("exec @N sh -c 'echo out; echo err >&2'").gives(0),
            docker("exec --env ONE=1 -e TWO @N sh -c 'echo $ONE $TWO'")
                .env("TWO", "two")
                .gives(0),
            docker("exec --workdir /etc @N pwd").gives(0),
            docker("exec @N sh -c 'seq 1 20000'").gives(0),
            docker("run --detach --name @N-xenv -e KEPT=yes -w /etc busybox sleep 1000").gives(0),
            docker("exec @N-xenv sh -c 'echo $KEPT; pwd'").gives(0),
            docker("exec -e KEPT=changed @N-xenv sh -c 'echo $KEPT'").gives(0),
            docker("rm --force @N-xenv").gives(0),
        ]
        .into_iter()
        .chain(
            codes
                .into_iter()
                .map(|code| docker(&format!("exec @N sh -c 'exit {code}'")).gives(code)),
        )
        .chain([
            docker("exec @N sh -c 'kill -9 $$'").gives(137),
            docker("exec @N sh -c 'kill -TERM $$'").gives(143),
            docker("rm --force @N").gives(0),
        ]),
    )
}

fn exec_failures() -> Scenario {
    Scenario::new(
        "exec-failures",
        [
            sleeper("@N"),
            docker("exec @N no-such-program").gives(127),
            docker("exec @N /etc/passwd").gives(126),
            docker("exec @N /etc").gives(126),
            docker("exec --workdir /no/such/folder @N true").gives(127),
            docker("exec @N-none true").gives(1),
            docker("exec @N").gives(1),
            docker("exec --detach @N no-such-program").head_only(),
            docker("kill @N").gives(0),
            docker("wait @N").gives(0),
            docker("exec @N true").gives(1),
        ],
    )
}

fn exec_folders() -> Scenario {
    let programs = ["true", "/tmp", "absent", "/absent"];
    let steps = programs.into_iter().flat_map(|program| {
        ["rel", ".", "/absent", "/etc/passwd", "/etc/../etc", "//etc"]
            .map(|folder| docker(&format!("exec --workdir {folder} @N {program}")))
    });
    Scenario::new("exec-folders", std::iter::once(sleeper("@N")).chain(steps))
}

fn exec_users() -> Scenario {
    let users = [
        "root",
        "nobody",
        "0",
        "1234",
        "1234:5",
        "root:root",
        ":",
        ":root",
        "absent",
        "absent:root",
        "root:absent",
        "1234:absent",
        "-1",
        "2147483647",
        "2147483648",
        "99999999999",
        "99999999999999999999",
        "0:2147483648",
        "0:-1",
        "0:0:0",
    ];
    let create = |user: &str| {
        api("POST /containers/@N/exec").json(&json!({
            "Cmd": ["id"], "AttachStdout": true, "User": user,
        }))
    };
    Scenario::new(
        "exec-users",
        std::iter::once(sleeper("@N"))
            .chain(users.into_iter().flat_map(|user| {
                [
                    create(user),
                    docker(&format!("exec --user {user} @N id")),
                    docker(&format!("exec --user {user} @N absent")),
                ]
            }))
            .chain([
                docker("exec --detach --user absent @N true").gives(1),
                docker("pause @N").gives(0),
                create("absent").gives(409),
                docker("unpause @N").gives(0),
                docker("kill @N").gives(0),
                docker("wait @N").gives(0),
                create("absent").gives(409),
            ]),
    )
    .microvm_only()
}

fn exec_users_events() -> Scenario {
    Scenario::new(
        "exec-users-events",
        [
            sleeper("@N"),
            docker("exec --user nobody @N true").gives(0),
            docker("exec --user absent @N true").gives(1),
            docker("exec --user 1234 @N true").gives(0),
            docker("events --since 10m --until=-1s --filter container=@N --format '{{.Action}}'"),
        ],
    )
    .microvm_only()
}

fn exec_input() -> Scenario {
    let many = "0123456789abcdef\n".repeat(20_000);
    Scenario::new(
        "exec-input",
        [
            sleeper("@N"),
            docker("exec --interactive @N cat")
                .input("to the end")
                .gives(0),
            docker("exec -i @N wc -c").input(&many).gives(0),
            docker("exec @N cat").input("nobody reads this").gives(0),
            docker(
                "exec -i @N sh -c 'while read line; do echo \"got $line\"; done; echo end; exit 4'",
            )
            .open_input()
            .background("talk"),
            send("talk", "one\n"),
            await_text("talk", "got one\n"),
            send("talk", "two\n"),
            await_text("talk", "got two\n"),
            half_close("talk"),
            finish("talk"),
            docker("exec -i @N true").input(&many).gives(0),
            docker("exec -i @N sh").input("exit 9\n").gives(9),
            docker("exec -it @N true").gives(1),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn exec_detached() -> Scenario {
    Scenario::new(
        "exec-detached",
        [
            sleeper("@N"),
            docker("exec --detach @N sh -c 'echo done > /tmp/file'").gives(0),
            docker("exec @N sh -c 'until test -s /tmp/file; do sleep 0.05; done; cat /tmp/file'")
                .gives(0),
            api("POST /containers/@N/exec")
                .json(&json!({"Cmd": ["sleep", "1000"]}))
                .save("id", "/Id")
                .gives(201),
            api("GET /exec/@{id}/json").gives(200),
            api("POST /exec/@{id}/start")
                .json(&json!({"Detach": true}))
                .gives(200),
            api("GET /exec/@{id}/json").gives(200),
            api("POST /exec/@{id}/start")
                .json(&json!({"Detach": true}))
                .gives(409),
            api("POST /exec/@{id}/start").json(&json!({})).gives(200),
            // A size does nothing to what has no terminal, and is taken all the same.
            api("POST /exec/@{id}/resize?h=30&w=100").gives(200),
            api("POST /containers/@N/resize?h=30&w=100").gives(200),
            docker("exec @N true").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn exec_api() -> Scenario {
    let all = json!({"Cmd": ["sh", "-c", "echo out; echo err >&2; cat; exit 5"],
        "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Env": ["A=b"], "WorkingDir": "/tmp"});
    let output =
        json!({"Cmd": ["sh", "-c", "echo out; echo err >&2; exit 6"], "AttachStdout": true});
    Scenario::new(
        "exec-api",
        [
            sleeper("@N"),
            api("POST /containers/@N/exec")
                .json(&all)
                .save("all", "/Id")
                .gives(201),
            api("POST /exec/@{all}/start")
                .json(&json!({}))
                .upgrade()
                .background("all")
                .gives(101),
            await_text("all", "err"),
            send("all", "typed"),
            await_text("all", "typed"),
            half_close("all"),
            finish("all"),
            // Known before the stream has ended.
            api("GET /exec/@{all}/json").gives(200),
            api("POST /containers/@N/exec")
                .json(&output)
                .save("output", "/Id")
                .gives(201),
            api("POST /exec/@{output}/start")
                .json(&json!({"Detach": false, "Tty": false}))
                .hijack()
                .gives(200),
            api("GET /exec/@{output}/json").gives(200),
            api("POST /exec/@{output}/start")
                .json(&json!({}))
                .multiplexed()
                .gives(200),
            api("POST /exec/@{output}/start")
                .json(&json!({}))
                .upgrade()
                .gives(101),
            api("POST /exec/@{output}/start")
                .json(&json!({"Detach": true}))
                .gives(409),
            docker("inspect @N --format '{{len .ExecIDs}}'").head_only(),
            api("POST /containers/@N/exec")
                .version("1.24")
                .json(&json!({"Cmd": ["echo", "old"], "AttachStdout": true}))
                .save("old", "/Id")
                .gives(201),
            api("POST /exec/@{old}/start")
                .version("1.24")
                .json(&json!({}))
                .multiplexed()
                .gives(200),
            docker("rm --force @N").gives(0),
            api("GET /exec/@{all}/json").gives(404),
        ],
    )
}

fn exec_errors() -> Scenario {
    let create = |body: &str| {
        api("POST /containers/@N/exec")
            .header("Content-Type", "application/json")
            .body(body.as_bytes())
    };
    Scenario::new(
        "exec-errors",
        [
            sleeper("@N"),
            create("not JSON").gives(400),
            create("").gives(400),
            create("{}").gives(400),
            create("{\"Cmd\": []}").gives(400),
            create("{\"Cmd\": 5}").gives(400),
            create("{\"Cmd\": [\"true\"], \"DetachKeys\": \"nonsense-x\"}").gives(500),
            api("POST /containers/@N-none/exec")
                .json(&json!({"Cmd": ["true"]}))
                .gives(404),
            docker("create --name @N-xnew busybox true").gives(0),
            api("POST /containers/@N-xnew/exec")
                .json(&json!({"Cmd": ["true"]}))
                .gives(409),
            api("POST /exec/none/start").json(&json!({})).gives(404),
            api("GET /exec/none/json").gives(404),
            api("POST /exec/none/resize?h=1&w=1").gives(404),
            api("POST /exec/none/resize?h=a&w=1").gives(400),
            api("POST /exec/none/resize?h=1").gives(400),
            create("{\"Cmd\": [\"true\"]}").save("id", "/Id").gives(201),
            api("POST /exec/@{id}/start")
                .header("Content-Type", "application/json")
                .body(b"not JSON")
                .gives(400),
            // The Engine waits 10 s for a start.
            api("POST /exec/@{id}/resize?h=1&w=1").gives(500),
            api("POST /containers/@N-none/resize?h=1&w=1").gives(404),
            api("POST /containers/@N/resize?h=a&w=1").gives(400),
            api("POST /containers/@N-xnew/resize?h=1&w=1").gives(409),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn exec_ends_with_container() -> Scenario {
    Scenario::new(
        "exec-ends-with-container",
        [
            sleeper("@N"),
            api("POST /containers/@N/exec")
                .json(&json!({"Cmd": ["true"]}))
                .save("before", "/Id")
                .gives(201),
            docker("exec @N sh -c 'echo ready; sleep 1000'").background("client"),
            await_text("client", "ready"),
            docker("kill @N").gives(0),
            finish("client"),
            api("POST /exec/@{before}/start")
                .json(&json!({}))
                .gives(404),
            docker("start @N").gives(0),
            api("POST /exec/@{before}/start")
                .json(&json!({}))
                .gives(404),
            docker("exec @N echo again").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn exec_gone() -> Scenario {
    let cat = json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true});
    Scenario::new(
        "exec-gone",
        [
            sleeper("@N"),
            gone(Gone::InBody, "POST /containers/@N/exec").json(&cat),
            api("POST /containers/@N/exec")
                .json(&cat)
                .save("id", "/Id")
                .gives(201),
            gone(Gone::InBody, "POST /exec/@{id}/start").json(&json!({"Detach": false})),
            api("POST /exec/@{id}/start")
                .json(&json!({}))
                .upgrade()
                .background("cat")
                .gives(101),
            send("cat", "a"),
            await_text("cat", "a"),
            hang_up("cat"),
            // Its input ended with the client, and with it the program.
            until("GET /exec/@{id}/json", "/Running", false.into()),
            api("GET /exec/@{id}/json").gives(200),
            docker("exec @N sh -c 'echo ready; sleep 1000'").background("client"),
            await_text("client", "ready"),
            hang_up("client"),
            gone(Gone::BeforeAnswer, "GET /exec/@{id}/json"),
            gone(Gone::BeforeAnswer, "POST /exec/@{id}/resize?h=1&w=1"),
            gone(Gone::BeforeAnswer, "POST /containers/@N/resize?h=1&w=1"),
            docker("exec @N echo still here").gives(0),
            docker("rm --force @N").gives(0),
        ],
    )
}

/// Shows a new size. Not at a shell's prompt: whether that is drawn again depends
/// on whether the shell's editor was ready for the signal yet.
const RESIZED: &str = "stty size; read line; echo \"got $line\"; stty size; exit 5";

fn exec_terminal() -> Scenario {
    Scenario::new(
        "exec-terminal",
        [
            sleeper("@N"),
            docker("exec --tty @N tty").gives(0),
            api("POST /containers/@N/exec")
                .json(
                    &json!({"Cmd": ["sh", "-c", RESIZED], "Tty": true, "AttachStdin": true,
                    "AttachStdout": true, "AttachStderr": true, "ConsoleSize": [20, 60]}),
                )
                .save("id", "/Id")
                .gives(201),
            api("POST /exec/@{id}/start")
                .json(&json!({"Tty": true}))
                .upgrade()
                .background("terminal")
                .gives(101),
            await_text("terminal", "20 60"),
            api("POST /exec/@{id}/resize?h=30&w=100").gives(200),
            send("terminal", "typed\n"),
            await_text("terminal", "30 100"),
            finish("terminal"),
            api("GET /exec/@{id}/json").gives(200),
            // Made with a terminal, started by a client that asks for none: in frames.
            api("POST /containers/@N/exec")
                .json(
                    &json!({"Cmd": ["sh", "-c", "[ -t 1 ] && echo terminal; echo err >&2"], "Tty": true,
                    "AttachStdout": true, "AttachStderr": true}),
                )
                .save("framed", "/Id")
                .gives(201),
            api("POST /exec/@{framed}/start")
                .json(&json!({"Tty": false}))
                .multiplexed()
                .gives(200),
            api("POST /containers/@N/exec")
                .json(
                    &json!({"Cmd": ["sh"], "Tty": true, "AttachStdin": true, "AttachStdout": true}),
                )
                .save("shell", "/Id")
                .gives(201),
            api("POST /exec/@{shell}/start")
                .json(&json!({"Tty": true}))
                .upgrade()
                .background("shell")
                .gives(101),
            await_text("shell", "# "),
            send("shell", "echo $((6 * 7)); exit 6\n"),
            await_text("shell", "42"),
            finish("shell"),
            api("GET /exec/@{shell}/json").gives(200),
            docker("rm --force @N").gives(0),
        ],
    )
    .microvm_only()
}
