//! `docker run` and `docker create`, with their flags and exit codes.

use nix::sys::signal::Signal;
use serde_json::json;
use sockerless_tests::scenario::{
    Gone, Scenario, api, await_text, docker, file, finish, gone, half_close, hang_up, query,
    read_file, send, signal, until, until_status,
};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        output(),
        exit_codes(),
        failures(),
        environment(),
        options(),
        memory(),
        networks(),
        exposed(),
        platforms(),
        input(),
        interactive(),
        names_and_ids(),
        remove_at_end(),
        signals(),
        run_signals_itself(),
        gone_client(),
        image_defaults(),
        create(),
        create_errors(),
        create_gone(),
        terminal(),
        users(),
    ]
}

fn output() -> Scenario {
    Scenario::new(
        "run-output",
        [
            docker("run --rm busybox echo Hello from Lambda!").gives(0),
            docker("run --rm busybox sh -c 'echo out; echo err >&2'").gives(0),
            docker("run --rm busybox true").gives(0),
            docker("run --rm busybox printf 'no newline'").gives(0),
            docker("run --rm busybox sh -c 'seq 1 20000'").gives(0),
            docker("run --rm busybox sh -c 'printf \"\\000\\001\\377\\n\"'").gives(0),
            docker("run --rm --attach stderr busybox sh -c 'echo out; echo err >&2'").gives(0),
            docker("run --rm --attach stdout busybox sh -c 'echo out; echo err >&2'").gives(0),
            docker("run --rm --quiet --pull never busybox echo quiet").gives(0),
        ],
    )
}

fn exit_codes() -> Scenario {
    let codes = [
        0, 1, 2, 42, 124, 125, 126, 127, 128, 130, 137, 143, 200, 254, 255,
    ];
    Scenario::new(
        "run-exit-codes",
        codes
            .into_iter()
            .map(|code| docker(&format!("run --rm busybox sh -c 'exit {code}'")).gives(code)),
    )
}

fn failures() -> Scenario {
    Scenario::new(
        "run-failures",
        [
            docker("run --rm busybox no-such-program").gives(127),
            docker("run --rm busybox /no/such/program").gives(127),
            docker("run --rm busybox /etc/passwd").gives(126),
            docker("run --rm busybox /etc").gives(126),
            docker("run --rm --entrypoint no-such-program busybox").gives(127),
            docker("run --rm --pull never no-such-image true").gives(125),
            docker("run --rm BAD true").gives(125),
            docker("run --no-such-flag busybox true").gives(125),
            docker("run").gives(1),
            docker("run --rm --workdir relative busybox true").gives(125),
            docker("run --rm --env-file none busybox true").gives(125),
            docker("run --rm --name a/b busybox true").gives(125),
            docker("run --rm --stop-signal NONSENSE busybox true").gives(125),
            docker("run --rm --runtime no-such-runtime busybox true").gives(125),
            docker("run --name @N busybox no-such-program").gives(127),
            docker("inspect @N --format '{{.State.Status}} {{.State.ExitCode}}'").gives(0),
            docker("run --detach --name @N-xd busybox no-such-program").gives(127),
        ],
    )
}

fn environment() -> Scenario {
    let show = "sh -c 'env | grep -E \"^(ONE|TWO|THREE|FOUR|PATH|GREETING|EMPTY)=\" | sort'";
    Scenario::new(
        "run-environment",
        [
            docker(&format!(
                "run --rm --env ONE=1 -e TWO='two words' -e EMPTY= busybox {show}"
            ))
            .gives(0),
            docker(&format!("run --rm -e THREE -e FOUR busybox {show}"))
                .env("THREE", "from the client")
                .gives(0),
            file(
                "list.env",
                b"# a comment\nONE=from file\n\nTWO=a=b\nTHREE\n",
            ),
            docker(&format!(
                "run --rm --env-file list.env -e ONE=from-flag busybox {show}"
            ))
            .env("THREE", "from the client")
            .gives(0),
            file("bad.env", b"A B=1\n"),
            docker("run --rm --env-file bad.env busybox true").gives(125),
            docker(&format!("run --rm -e PATH=/nowhere:/bin busybox {show}")).gives(0),
            docker("run --rm -e ONE=1 --entrypoint /bin/sh configured -c 'echo $GREETING $ONE'")
                .gives(0),
            docker("run --rm -e GREETING=bye configured").gives(0),
            docker("run --rm -e ONE=ü -e 'TWO=line\nbreak' busybox sh -c 'echo \"$ONE $TWO\"'")
                .gives(0),
            docker("create --name @N -e ONE=1 -e ONE=2 -e PATH busybox true").gives(0),
            docker("inspect @N --format '{{range .Config.Env}}{{println .}}{{end}}'")
                .sorted()
                .gives(0),
        ],
    )
}

fn options() -> Scenario {
    Scenario::new(
        "run-options",
        [
            docker("run --rm --workdir /etc busybox pwd").gives(0),
            docker("run --rm -w /etc/ busybox pwd").gives(0),
            docker("run --rm --entrypoint echo busybox with an entrypoint").gives(0),
            docker("run --rm --entrypoint '' busybox echo without").gives(0),
            docker("run --rm --entrypoint /bin/sh configured -c 'echo replaced'").gives(0),
            docker("run --detach --name @N --label a=1 -l b --label a=2 --stop-signal INT --stop-timeout 3 busybox sleep 1000")
                .gives(0),
            docker("inspect @N --format '{{json .Config.Labels}} {{.Config.StopSignal}} {{.Config.StopTimeout}}'")
                .gives(0),
            file("labels", b"c=3\n# comment\nd\n"),
            docker("create --name @N-xl --label-file labels busybox").gives(0),
            docker("inspect @N-xl --format '{{json .Config.Labels}} {{json .Config.Cmd}}'").gives(0),
            docker("run --rm --cidfile cid busybox true").gives(0),
            read_file("cid"),
            docker("run --rm --cidfile cid busybox true").gives(125),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn memory() -> Scenario {
    Scenario::new(
        "run-memory",
        [
            docker("run --rm --memory 256m busybox true").gives(0),
            docker("create --name @N -m 1g busybox true").gives(0),
            docker("inspect @N --format '{{.HostConfig.Memory}}'").gives(0),
            docker("create --name @N-xlow --memory 1m busybox true").gives(1),
            docker("create --name @N-xbad --memory lots busybox true").gives(125),
            // A string that grows until there is no more memory for it.
            docker("run --name @N-xoom --memory 128m --memory-swap 128m busybox sh -c 'a=x; while :; do a=$a$a; done'")
                .head_only()
                .gives(137),
            docker("inspect @N-xoom --format '{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}'")
                .gives(0),
        ],
    )
}

fn networks() -> Scenario {
    Scenario::new(
        "run-network",
        [
            docker("run --rm --network none busybox sh -c 'ls /sys/class/net || echo no sysfs'").head_only().gives(0),
            docker("run --rm --network none busybox echo without a network").gives(0),
            docker("run --rm --network bridge busybox echo with a network").gives(0),
            docker("create --name @N --network none busybox true").gives(0),
            docker("inspect @N --format '{{.HostConfig.NetworkMode}}'").gives(0),
            docker("run --rm busybox sh -c 'nc -l -p 7000 -e echo heard & sleep 0.2; nc 127.0.0.1 7000'")
                .gives(0),
        ],
    )
}

/// Exposed ports are shown while there is a network that they would be in.
fn exposed() -> Scenario {
    let shown = || docker("inspect @N --format '{{json .NetworkSettings.Ports}}'").gives(0);
    let listed = || docker("ps --all --filter name=@N --format '{{.Ports}}'").gives(0);
    Scenario::new(
        "run-exposed-ports",
        [
            docker("create --name @N --expose 80 --expose 53/udp busybox sleep 1000").gives(0),
            shown(),
            docker("start @N").gives(0),
            shown(),
            listed(),
            api(&format!(
                "GET /containers/json?all=1&filters={}",
                query(&json!({"name": ["@N"]}))
            ))
            .gives(200),
            docker("stop --time 0 @N").gives(0),
            shown(),
            listed(),
            docker("rm @N").gives(0),
            docker("run --detach --name @N --network none --expose 80 busybox sleep 1000").gives(0),
            shown(),
            docker("rm --force @N").gives(0),
        ],
    )
}

/// A platform that an image is not of is noticed before anything is made.
fn platforms() -> Scenario {
    let create = |platform: &str, status| {
        api(&format!(
            "POST /containers/create?name=@N&platform={platform}"
        ))
        .json(&json!({"Image": "busybox", "Cmd": ["true"]}))
        .gives(status)
    };
    let taken = |platform: &str| [create(platform, 201), docker("rm @N").gives(0)];
    let mut steps = vec![
        docker("run --rm --pull never --platform linux/arm64 busybox true").gives(125),
        create("linux/arm64", 404),
        create("windows", 404),
        create("bad/x/y/z", 400),
        // Older versions overlook it.
        api("POST /containers/create?name=@N&platform=linux/arm64")
            .version("1.40")
            .json(&json!({"Image": "busybox"}))
            .gives(201),
        docker("rm @N").gives(0),
    ];
    for platform in ["linux/amd64", "linux", "LINUX/x86_64", "linux/amd64/v2"] {
        steps.extend(taken(platform));
    }
    // An image of another platform, whose files are this one's all the same.
    steps.extend([
        docker("import --platform linux/arm64 fixtures/rootfs.tar @N:other").gives(0),
        docker("run --rm --pull never @N:other echo with a warning").gives(0),
        docker("run --rm --pull never --platform linux/arm64 @N:other echo without").gives(0),
        docker("run --rm --pull never --platform linux/amd64 @N:other true").gives(125),
        docker("rmi @N:other").gives(0),
    ]);
    Scenario::new("run-platforms", steps)
}

fn input() -> Scenario {
    let many = "0123456789abcdef\n".repeat(20_000);
    Scenario::new(
        "run-input",
        [
            docker("run --rm --interactive busybox cat")
                .input("to the end")
                .gives(0),
            docker("run --rm -i busybox wc -c").input(&many).gives(0),
            docker("run --rm -i busybox cat").input(&many).gives(0),
            docker("run --rm busybox cat")
                .input("nobody reads this")
                .gives(0),
            docker("run --rm -i busybox true").input(&many).gives(0),
            docker("run --rm -i busybox head -c 4")
                .input(&many)
                .gives(0),
            docker("run --rm -i busybox sh")
                .input("echo scripted; exit 6\n")
                .gives(6),
            docker("run --rm -i --attach stdin busybox cat")
                .input("unseen")
                .gives(0),
        ],
    )
}

fn interactive() -> Scenario {
    Scenario::new(
        "run-interactive",
        [
            docker("run --rm -i busybox sh -c 'while read line; do echo \"got $line\"; done; echo end'")
                .open_input()
                .background("talk"),
            send("talk", "one\n"),
            await_text("talk", "got one\n"),
            send("talk", "two\n"),
            await_text("talk", "got two\n"),
            half_close("talk"),
            finish("talk"),
        ],
    )
}

fn names_and_ids() -> Scenario {
    Scenario::new(
        "run-names",
        [
            docker("run --detach --name @N busybox sleep 1000")
                .save("id", "")
                .gives(0),
            docker("run --name @N busybox true").gives(125),
            docker("create --name @N busybox true").gives(1),
            docker("inspect @{id} --format '{{.Name}}'").gives(0),
            docker("rm --force @N").gives(0),
            docker("run --name @N busybox echo free again").gives(0),
            docker("run --rm --name x busybox true").gives(125),
            docker("run --rm --name _bad busybox true").gives(125),
        ],
    )
}

fn remove_at_end() -> Scenario {
    Scenario::new(
        "run-rm",
        [
            docker("run --rm --name @N busybox true").gives(0),
            api("GET /containers/@N/json").gives(404),
            docker("run --detach --rm --name @N busybox sleep 1000").gives(0),
            api("POST /containers/@N/wait?condition=removed")
                .background("removed")
                .gives(200),
            docker("stop --timeout 0 @N").gives(0),
            finish("removed"),
            api("GET /containers/@N/json").gives(404),
            docker("run --rm --name @N busybox no-such-program").gives(127),
            api("GET /containers/@N/json").gives(404),
        ],
    )
}

fn signals() -> Scenario {
    let obedient =
        "trap 'exit 7' TERM; trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done";
    Scenario::new(
        "run-signals",
        [
            docker(&format!("run --rm busybox sh -c \"{obedient}\"")).background("term"),
            await_text("term", "ready"),
            signal("term", Signal::SIGTERM),
            finish("term"),
            docker(&format!("run --rm busybox sh -c \"{obedient}\"")).background("int"),
            await_text("int", "ready"),
            signal("int", Signal::SIGINT),
            finish("int"),
            docker("run --name @N busybox sh -c 'echo ready; sleep 1000'").background("killed"),
            await_text("killed", "ready"),
            docker("kill @N").gives(0),
            finish("killed"),
            docker("run --rm busybox sh -c 'sh -c \"kill -9 \\$\\$\"; echo $?'").gives(0),
            docker("run --rm --name @N-xt busybox sh -c 'trap \"exit 143\" TERM; echo ready; while :; do sleep 0.05; done'")
                .background("stopped"),
            await_text("stopped", "ready"),
            docker("stop @N-xt").gives(0),
            finish("stopped"),
        ],
    )
}

/// The kernel discards what the first process of a PID namespace sends itself
/// and does not handle. Inside a function nobody can make a namespace (AWS Lambda
/// gives neither the right nor user namespaces), and a shell's own signal never
/// passes the agent: ARCHITECTURE.md, "The main process is shielded as process 1 is".
fn run_signals_itself() -> Scenario {
    Scenario::new(
        "run-signals-itself",
        [docker("run --rm busybox sh -c 'kill -TERM $$; sleep 0.1; exit 3'").gives(3)],
    )
    .microvm_only()
}

fn gone_client() -> Scenario {
    Scenario::new(
        "run-gone",
        [
            docker("run --name @N busybox sh -c 'echo ready; sleep 1000'").background("client"),
            await_text("client", "ready"),
            hang_up("client"),
            until_status("@N", "running"),
            docker("rm --force @N").gives(0),
            docker("run --rm -i --name @N busybox cat")
                .open_input()
                .background("client"),
            send("client", "a"),
            await_text("client", "a"),
            hang_up("client"),
            // Its input has ended, so it ends, and is removed.
            until(
                "GET /containers/@N/json",
                "/message",
                "No such container: @N".into(),
            ),
        ],
    )
}

fn image_defaults() -> Scenario {
    Scenario::new(
        "run-image-defaults",
        [
            docker("run --rm configured").gives(0),
            docker(
                "run --rm configured 'cat hello; ls /srv/old; test -e /etc/motd || echo removed'",
            )
            .gives(0),
            docker("create --name @N configured").gives(0),
            docker("inspect @N --format '{{json .Config}}'").gives(0),
            docker("run --rm busybox").gives(0),
            docker("run -i --rm busybox")
                .input("echo from the default shell\n")
                .gives(0),
        ],
    )
}

fn create() -> Scenario {
    Scenario::new(
        "create",
        [
            api("POST /containers/create?name=@N")
                .json(&json!({"Image": "busybox", "Cmd": ["echo", "created"], "Labels": {"scenario": "create"}}))
                .save("id", "/Id")
                .gives(201),
            api("GET /containers/@N/json").gives(200),
            docker("start --attach @N").gives(0),
            api("GET /containers/@{id}/json").gives(200),
            api("POST /containers/create?name=@N-xold")
                .version("1.24")
                .json(&json!({"Image": "busybox:latest", "Cmd": "echo a string", "Env": ["A=b"]}))
                .gives(201),
            docker("inspect @N-xold --format '{{json .Config.Cmd}} {{json .Config.Env}} {{.Config.Image}}'")
                .gives(0),
            api("POST /containers/create?name=@N-xshort")
                .json(&json!({"Image": "busybox", "Entrypoint": "echo", "Cmd": ["x"], "Unknown": 1}))
                .gives(201),
            docker("start --attach @N-xshort").gives(0),
            api("GET /images/busybox/json").save("image", "/Id").gives(200),
            api("POST /containers/create?name=@N-xid").json(&json!({"Image": "@{image}"})).gives(201),
            docker("inspect @N-xid --format '{{.Image}} {{.Config.Image}}'").gives(0),
            api("POST /containers/create").unversioned()
                .json(&json!({"Image": "busybox", "Labels": {"scenario": "create"}}))
                .chunked()
                .gives(201),
            docker("create --name @N-xcli busybox true").gives(0),
        ],
    )
}

fn create_errors() -> Scenario {
    let create = |body: &serde_json::Value| api("POST /containers/create?name=@N-xno").json(body);
    let raw = |body: &str| {
        api("POST /containers/create?name=@N-xno")
            .header("Content-Type", "application/json")
            .body(body.as_bytes())
    };
    Scenario::new(
        "create-errors",
        [
            raw("not JSON").gives(400),
            raw("").gives(400),
            raw("{").gives(400),
            raw("[]").gives(400),
            raw("null").gives(400),
            raw("\"text\"").gives(400),
            raw("{\"Image\": \"busybox\"} and more").gives(400),
            api("POST /containers/create").gives(400),
            api("POST /containers/create")
                .header("Content-Type", "text/plain")
                .body(b"{}")
                .gives(400),
            create(&json!({})).gives(400),
            create(&json!({"Image": ""})).gives(400),
            create(&json!({"Image": 5})).gives(400),
            create(&json!({"Image": "busybox", "Cmd": 5})).gives(400),
            create(&json!({"Image": "busybox", "Env": "A=b"})).gives(400),
            create(&json!({"Image": "busybox", "Env": ["=b"]})).gives(400),
            create(&json!({"Image": "busybox", "Tty": "yes"})).gives(400),
            create(&json!({"Image": "busybox", "HostConfig": []})).gives(400),
            create(&json!({"Image": "busybox", "HostConfig": {"Memory": "1g"}})).gives(400),
            create(&json!({"Image": "busybox", "HostConfig": {"Memory": 1}})).gives(400),
            create(&json!({"Image": "busybox", "HostConfig": {"Memory": -1}})).gives(400),
            create(&json!({"Image": "busybox", "WorkingDir": "relative"})).gives(400),
            create(&json!({"Image": "busybox", "StopSignal": "NONSENSE"})).gives(400),
            create(&json!({"Image": "busybox", "HostConfig": {"RestartPolicy": {"Name": "nope"}}}))
                .gives(400),
            create(&json!({"Image": "no-such-image"})).gives(404),
            create(&json!({"Image": "busybox:no-such-tag"})).gives(404),
            create(&json!({"Image": "BAD"})).gives(400),
            api("POST /containers/create?name=a%2Fb")
                .json(&json!({"Image": "busybox"}))
                .gives(400),
            api("POST /containers/create?name=x")
                .json(&json!({"Image": "busybox"}))
                .gives(400),
            api("POST /containers/create?platform=a%2Fb%2Fc%2Fd")
                .json(&json!({"Image": "busybox"}))
                .gives(400),
            docker("create --name @N busybox true").gives(0),
            api("POST /containers/create?name=@N")
                .json(&json!({"Image": "busybox"}))
                .gives(409),
            api("POST /containers/create?name=@N")
                .json(&json!({"Image": "no-such-image"}))
                .gives(404),
            docker("create --name @N busybox true").gives(1),
        ],
    )
}

fn create_gone() -> Scenario {
    let body = json!({"Image": "busybox", "Labels": {"scenario": "create-gone"}});
    Scenario::new(
        "create-gone",
        [
            gone(Gone::InHead, "POST /containers/create?name=@N").json(&body),
            gone(Gone::InBody, "POST /containers/create?name=@N").json(&body),
            // Nothing of the two halves is left.
            api("POST /containers/create?name=@N")
                .json(&body)
                .gives(201),
            gone(Gone::BeforeAnswer, "POST /containers/create?name=@N-x1").json(&body),
            until_status("@N-x1", "created"),
        ],
    )
}

fn terminal() -> Scenario {
    Scenario::new(
        "run-terminal",
        [
            docker("run --rm --tty busybox tty").gives(0),
            docker(
                "run --rm -t busybox sh -c 'echo out; echo err >&2; test -t 1 && echo terminal'",
            )
            .gives(0),
            docker("run --rm -it busybox true").gives(1),
        ],
    )
    .microvm_only()
}

fn users() -> Scenario {
    Scenario::new(
        "run-users",
        [
            docker("run --rm busybox id").gives(0),
            docker("run --rm --user app busybox id").gives(0),
            docker("run --rm --user 1234:5678 busybox id").gives(0),
            docker("run --rm user 'id; pwd'").gives(0),
            docker("run --rm busybox sh -c 'echo written > /srv/file && cat /srv/file'").gives(0),
            docker("run --rm --workdir /made/up busybox pwd").gives(0),
            docker("run --rm --hostname thehost busybox hostname").gives(0),
        ],
    )
    .microvm_only()
}
