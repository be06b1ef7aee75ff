//! What the flags of `docker run` mean beyond what `tests/flags` tries of each: bad
//! values, failed starts, and flags that meet.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Scenario, Step, api, docker, until_log};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        invalid(),
        not_startable(),
        log_options(),
        log_tails(),
        confined(),
        init(),
        init_signals(),
        files(),
        file_systems(),
    ]
}

fn create(extra: &Value) -> Step {
    let mut body = json!({"Image": "busybox", "Cmd": ["true"]});
    if let (Some(body), Some(extra)) = (body.as_object_mut(), extra.as_object()) {
        body.extend(extra.clone());
    }
    api("POST /containers/create?name=@N-xno").json(&body)
}

/// What `create` refuses.
fn invalid() -> Scenario {
    let bad = [
        json!({"ShmSize": -1}),
        json!({"UTSMode": "x"}),
        json!({"PidMode": "x"}),
        json!({"IpcMode": "x"}),
        json!({"CgroupnsMode": "x"}),
        json!({"MemorySwappiness": 101}),
        json!({"MemorySwappiness": -2}),
        json!({"MemorySwap": 1}),
        json!({"Memory": 104_857_600, "MemorySwap": 1000}),
        json!({"MemoryReservation": 1}),
        json!({"Memory": 10_485_760, "MemoryReservation": 104_857_600}),
        json!({"ExtraHosts": ["foo"]}),
        json!({"ExtraHosts": ["foo:bar"]}),
        json!({"ExtraHosts": ["b=::1"]}),
        json!({"Annotations": {"": "x"}}),
        json!({"Isolation": "x"}),
        json!({"IOMaximumIOps": 5}),
        json!({"IOMaximumBandwidth": 5}),
        json!({"NanoCpus": -1}),
        json!({"NanoCpus": 1000, "CpuPeriod": 1000}),
        json!({"NanoCpus": 1000, "CpuQuota": 1000}),
        json!({"CpuPeriod": 10}),
        json!({"CpuQuota": 10}),
        json!({"CpuShares": -1}),
        json!({"CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 2000}),
        json!({"CpusetCpus": "999"}),
        json!({"CpusetCpus": "a"}),
        json!({"CpusetMems": "9"}),
        json!({"OomScoreAdj": -1001}),
        json!({"Tmpfs": {"rel": ""}}),
        json!({"Tmpfs": {"/": ""}}),
        json!({"CapAdd": ["chown", "CAP_ALL"]}),
        json!({"CapAdd": ["x"]}),
        json!({"CapDrop": ["x"]}),
        json!({"LogConfig": {"Type": "nosuch"}}),
        json!({"LogConfig": {"Type": "json-file", "Config": {"a": "b"}}}),
        json!({"LogConfig": {"Type": "json-file", "Config": {"mode": "x"}}}),
        json!({"LogConfig": {"Type": "json-file", "Config": {"max-buffer-size": "1m"}}}),
        json!({"LogConfig": {"Type": "json-file", "Config": {"mode": "non-blocking", "max-buffer-size": "x"}}}),
        json!({"LogConfig": {"Type": "local", "Config": {"labels": "x"}}}),
    ];
    let mut steps: Vec<Step> = bad
        .iter()
        .map(|host| create(&json!({ "HostConfig": host })).gives(400))
        .collect();
    for option in ["x", "x=y", "no-new-privileges=maybe"] {
        steps.push(create(&json!({"HostConfig": {"SecurityOpt": [option]}})).gives(500));
    }
    steps.push(create(&json!({"Hostname": "x", "HostConfig": {"UTSMode": "host"}})).gives(400));
    steps.push(create(&json!({"MacAddress": "x"})).gives(400));
    steps.push(docker("run --rm --ip 172.17.0.9 busybox true").gives(125));
    steps.push(docker("run --rm --ip nonsense busybox true").gives(125));
    steps.push(
        api("POST /containers/create?platform=plan9/mips")
            .json(&json!({"Image": "busybox"}))
            .gives(404),
    );
    Scenario::new("flags-invalid", steps)
}

/// What `create` takes and `start` refuses.
fn not_startable() -> Scenario {
    let bad = [
        json!({"HostConfig": {"Ulimits": [{"Name": "nosuch", "Soft": 1, "Hard": 1}]}}),
        json!({"HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": 20, "Hard": 10}]}}),
        json!({"HostConfig": {"Sysctls": {"vm.swappiness": "1"}}}),
        json!({"HostConfig": {"Dns": ["bad"]}}),
        json!({"HostConfig": {"Tmpfs": {"/x": "nosuch"}}}),
        json!({"HostConfig": {"GroupAdd": ["-1"]}}),
        json!({"HostConfig": {"GroupAdd": ["nosuch"]}}),
        json!({"HostConfig": {"CpuShares": 1}}),
        json!({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "x"}}}}),
        json!({"Hostname": "x".repeat(65)}),
    ];
    let mut steps = Vec::new();
    for extra in &bad {
        steps.push(create(extra).gives(201));
        steps.push(api("POST /containers/@N-xno/start").gives(500));
        steps.push(docker("inspect @N-xno --format '{{.State.Status}} {{.State.Error}}'").gives(0));
        steps.push(api("DELETE /containers/@N-xno").gives(204));
    }
    Scenario::new("flags-not-startable", steps).microvm_only()
}

fn log_options() -> Scenario {
    let run = "run --name @N --log-driver json-file --label kind=a --label other=b --env ZONE=1 \
               --log-opt labels-regex=^ki --log-opt env-regex=ZON --log-opt max-size=1m busybox echo hi";
    Scenario::new(
        "flags-log-options",
        [
            docker(run).gives(0),
            docker("logs --details @N").gives(0),
            docker("rm @N").gives(0),
            docker("run --name @N --log-driver none busybox echo hi").gives(0),
            docker("logs @N").gives(1),
            api("GET /containers/@N/logs?stdout=1").gives(501),
            docker("rm @N").gives(0),
            docker("run --name @N --log-driver local busybox echo hi").gives(0),
            docker("logs @N").gives(0),
            docker("rm @N").gives(0),
            create(&json!({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "x"}}}}))
                .gives(201),
            api("POST /containers/@N-xno/start").gives(500),
            api("DELETE /containers/@N-xno").gives(204),
        ],
    )
}

/// The last lines of a container that was restarted are those of all its runs.
fn log_tails() -> Scenario {
    let script = "for i in 1 2 3; do echo line $i; done; echo ready; sleep 1000";
    let mut steps = vec![
        docker(&format!(
            "run --detach --name @N --stop-signal KILL busybox sh -c '{script}'"
        ))
        .gives(0),
        until_log("@N", "ready", 1),
        docker("restart --time 5 @N").gives(0),
        until_log("@N", "ready", 2),
    ];
    for tail in [0, 2, 4, 5, 7, 8, 100] {
        steps.push(docker(&format!("logs --tail {tail} @N")).gives(0));
    }
    steps.push(docker("rm --force @N").gives(0));
    Scenario::new("flags-log-tails", steps)
}

/// Execs have the bounds of their container. No soft limit of open files below the hard
/// one: runc's own runtime raises it as it starts, and an exec gets now the one, now the other.
fn confined() -> Scenario {
    let show = "sh -c 'grep -E \"^(Cap|NoNewPrivs|Groups)\" /proc/self/status; ulimit -Sc; ulimit -Hc; ulimit -Hn'";
    let flags = "--cap-drop ALL --cap-add KILL --security-opt no-new-privileges --group-add 5 --ulimit core=1024:2048 --ulimit nofile=60";
    Scenario::new(
        "flags-confined",
        [
            docker(&format!("run --rm {flags} busybox {show}")).gives(0),
            docker(&format!("run --rm --user 1000 {flags} busybox {show}")).gives(0),
            docker(&format!("run --detach --name @N {flags} busybox sleep 1000")).gives(0),
            docker(&format!("exec @N {show}")).gives(0),
            docker(&format!("exec --user 1000 @N {show}")).gives(0),
            docker("exec @N chown 1:1 /etc/passwd").gives(1),
            docker("rm --force @N").gives(0),
            docker("run --rm --cap-add SYS_PTRACE --cap-drop CHOWN busybox grep Cap /proc/self/status")
                .gives(0),
            docker("run --rm --ulimit core=0:0 --ulimit nofile=1024 busybox sh -c 'ulimit -c; ulimit -n'")
                .gives(0),
            docker("run --rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status")
                .gives(0),
            docker("run --rm --oom-score-adj 500 busybox cat /proc/self/oom_score_adj").gives(0),
        ],
    )
    .microvm_only()
}

fn init() -> Scenario {
    let codes = [0, 3, 255]
        .map(|code| docker(&format!("run --rm --init busybox sh -c 'exit {code}'")).gives(code));
    let mut steps = codes.to_vec();
    steps.extend([
        docker("run --rm --init busybox sh -c 'kill -9 $$'").gives(137),
        docker("run --rm --init --workdir /etc busybox pwd").gives(0),
        docker("run --rm --init --interactive busybox cat")
            .input("typed\n")
            .gives(0),
        docker("create --init --name @N busybox echo hi").gives(0),
        docker("inspect @N --format '{{.Path}} {{.Args}} {{.HostConfig.Init}}'").gives(0),
        docker("start --attach @N").gives(0),
        docker("rm @N").gives(0),
    ]);
    Scenario::new("flags-init", steps)
}

/// With an init a signal without a handler ends the container, as it ends no process 1.
fn init_signals() -> Scenario {
    Scenario::new(
        "flags-init-signals",
        [
            docker("run --detach --init --name @N busybox sleep 1000").gives(0),
            docker("stop --time 30 @N").gives(0),
            docker("inspect @N --format '{{.State.ExitCode}}'").gives(0),
            docker("start @N").gives(0),
            docker("kill --signal INT @N").gives(0),
            docker("wait @N").gives(0),
            docker("rm @N").gives(0),
        ],
    )
}

/// Names and resolvers, also after a restart.
fn files() -> Scenario {
    let flags = "--hostname h.example.com --add-host foo:1.2.3.4 --add-host bar:5.6.7.8 --dns 1.1.1.1 --dns 8.8.8.8 --dns-search example.com --dns-option ndots:2";
    let show = "sh -c 'hostname; cat /etc/hostname; grep -E \"foo|bar|localhost\" /etc/hosts; grep -E \"^(nameserver|search|options)\" /etc/resolv.conf'";
    Scenario::new(
        "flags-files",
        [
            docker(&format!("run --name @N {flags} busybox {show}")).gives(0),
            docker("start --attach @N").gives(0),
            docker("rm @N").gives(0),
            docker("run --rm --network none --hostname h --domainname d.example busybox sh -c 'hostname; cat /proc/sys/kernel/domainname; cat /etc/hosts'")
                .gives(0),
            docker("run --rm busybox sh -c 'echo x >> /etc/hosts && tail -n 1 /etc/hosts'").gives(0),
            docker("run --rm --add-host @N:::1 busybox grep @N /etc/hosts").gives(0),
        ],
    )
    .microvm_only()
}

fn file_systems() -> Scenario {
    let at = |path: &str| {
        format!("sh -c \"grep -c ' {path} tmpfs' /proc/mounts; stat -c '%a %U' {path}\"")
    };
    Scenario::new(
        "flags-file-systems",
        [
            docker(&format!("run --rm --tmpfs /made/up busybox {}", at("/made/up"))).gives(0),
            docker(&format!("run --rm --tmpfs /etc:size=64k,mode=711 busybox {}", at("/etc"))).gives(0),
            docker(&format!("run --rm --tmpfs /root busybox {}", at("/root"))).gives(0),
            docker("run --rm --tmpfs /x:size=64k busybox sh -c 'head -c 100000 /dev/zero > /x/y'").gives(1),
            docker("run --rm --tmpfs /x:exec busybox sh -c 'cp /bin/busybox /x/ && /x/busybox echo ran'")
                .gives(0),
            docker("run --rm --tmpfs /x busybox sh -c 'cp /bin/busybox /x/ && /x/busybox echo ran'")
                .gives(126),
            docker("run --rm --tmpfs /x:ro busybox touch /x/y").gives(1),
            docker("run --rm --read-only --tmpfs /tmp busybox sh -c 'echo x > /tmp/y && cat /tmp/y; touch /z'")
                .gives(1),
            docker("run --rm --read-only --workdir /made/up busybox pwd").gives(0),
            docker("run --rm --shm-size 10m busybox sh -c 'df /dev/shm | tail -n 1'").gives(0),
            docker("run --rm --ipc none busybox ls /dev/shm").gives(1),
            docker("run --rm --device /dev/zero:/dev/made/up busybox sh -c 'head -c 3 /dev/made/up | wc -c'")
                .gives(0),
        ],
    )
    .microvm_only()
}
