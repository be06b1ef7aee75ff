//! What a random sequence is made of. Every move leaves its container where nothing goes on
//! by itself, so that two engines that do the same also show the same: a short container is
//! waited for after each start, a long one ends only when it is told to.

use proptest::prelude::any;
use proptest::strategy::Strategy;
use serde_json::{Value, json};
use sockerless_tests::scenario::{Runtime, Step, api, docker, query};

/// A call, and all that is needed to wait for what comes of it. The numbers choose among
/// what each kind of call may be given.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    kind: Kind,
    container: usize,
    first: u16,
    second: u16,
}

/// As many moves as a sequence may have.
const LONGEST: usize = 14;
/// The kinds, the usual ones more often.
const KINDS: [Kind; 30] = [
    Kind::Create,
    Kind::Create,
    Kind::Create,
    Kind::Create,
    Kind::Create,
    Kind::Create,
    Kind::Start,
    Kind::Start,
    Kind::Start,
    Kind::Start,
    Kind::Stop,
    Kind::Stop,
    Kind::Restart,
    Kind::Kill,
    Kind::Kill,
    Kind::Pause,
    Kind::Unpause,
    Kind::Rename,
    Kind::Exec,
    Kind::ExecClient,
    Kind::ExecClient,
    Kind::Wait,
    Kind::Logs,
    Kind::Remove,
    Kind::Remove,
    Kind::Inspect,
    Kind::List,
    Kind::Image,
    Kind::Resize,
    Kind::Attach,
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Create,
    Start,
    Stop,
    Restart,
    Kill,
    Pause,
    Unpause,
    Rename,
    Exec,
    ExecClient,
    Wait,
    Logs,
    Remove,
    Inspect,
    List,
    Image,
    Resize,
    Attach,
}

/// What a client runs beside a container's process.
const EXECS: [&str; 6] = ["echo hi", "sh -c 'exit 3'", "absent", "/tmp", "env", "id"];

/// Containers: the first half is long, the second short.
const CONTAINERS: [&str; 4] = ["@N-xa", "@N-xb", "@N-xc", "@N-xd"];

/// Random sequences; a shorter one is simpler, and so are smaller numbers.
pub(crate) fn sequences() -> impl Strategy<Value = Vec<Move>> {
    let one = (
        0..KINDS.len(),
        0..CONTAINERS.len(),
        any::<u16>(),
        any::<u16>(),
    )
        .prop_map(|(kind, container, first, second)| Move {
            kind: KINDS[kind],
            container,
            first,
            second,
        });
    proptest::collection::vec(one, 1..=LONGEST)
}

/// The calls of a move.
pub(crate) fn steps(one: &Move, runtime: Runtime) -> Vec<Step> {
    let name = CONTAINERS[one.container];
    let long = one.container < CONTAINERS.len() / 2;
    let wait = || api(&format!("POST /containers/{name}/wait"));
    let post = |rest: &str| api(&format!("POST /containers/{name}/{rest}"));
    match one.kind {
        Kind::Create => vec![create(one, name, long, runtime), state(name)],
        Kind::Start if long => vec![post("start"), state(name)],
        Kind::Start => vec![post("start"), wait(), state(name)],
        Kind::Stop => vec![
            post(one.choose(&[
                "stop?t=0",
                "stop?t=0&signal=KILL",
                "stop?t=x",
                "stop?t=0&signal=NONE",
            ])),
            state(name),
        ],
        Kind::Restart if long => vec![post("restart?t=0"), state(name)],
        Kind::Restart => vec![post("restart?t=0"), wait(), state(name)],
        Kind::Kill => kill(one, name),
        Kind::Pause => vec![post("pause"), state(name)],
        Kind::Unpause => vec![post("unpause"), state(name)],
        Kind::Rename => vec![rename(one, name)],
        Kind::Exec => vec![post("exec").json(&exec(one, runtime))],
        Kind::ExecClient => vec![docker(&format!(
            "exec {} {name} {}",
            one.choose(&[
                "",
                "",
                "-u 0",
                "-u nobody",
                "-u absent",
                "-w /tmp",
                "-w /absent",
                "-e A=b",
                "-w rel"
            ]),
            one.choose_second(match runtime {
                Runtime::Microvm => &EXECS,
                // Whose a function's processes are, the platform says.
                Runtime::Function => &EXECS[..EXECS.len() - 1],
            })
        ))],
        Kind::Wait if long => vec![post(
            one.choose(&["wait?condition=bad", "wait?condition=next"]),
        )],
        Kind::Wait => vec![post(one.choose(&[
            "wait",
            "wait?condition=not-running",
            "wait?condition=bad",
            "wait?condition=",
        ]))],
        Kind::Logs => vec![logs(one, name)],
        Kind::Remove => vec![
            api(&format!(
                "DELETE /containers/{name}{}",
                one.choose(&[
                    "",
                    "?force=1",
                    "?v=1",
                    "?force=1&v=1",
                    "?force=bad",
                    "?force=0"
                ])
            )),
            state(name),
        ],
        Kind::Inspect => vec![api(&format!(
            "GET /containers/{name}/json{}",
            one.choose(&["", "?size=0", "?size=bad"])
        ))],
        Kind::List => vec![list(one, name)],
        Kind::Image => vec![image(one)],
        Kind::Resize => vec![post(one.choose(&[
            "resize",
            "resize?h=1",
            "resize?h=1&w=x",
            "resize?h=-1&w=1",
            "resize?h=99999999999&w=1",
        ]))],
        Kind::Attach => vec![post(one.choose(&[
            "attach?logs=1&stdout=1",
            "attach?logs=1&stdout=1&stderr=1",
            "attach?detachKeys=nonsense",
            "attach?logs=1",
        ]))],
    }
}

impl Move {
    fn choose<'a>(&self, among: &[&'a str]) -> &'a str {
        among[usize::from(self.first) % among.len()]
    }

    fn choose_second<'a>(&self, among: &[&'a str]) -> &'a str {
        among[usize::from(self.second) % among.len()]
    }
}

/// What a container is found to be after a move; its times are normalised away.
fn state(name: &str) -> Step {
    api(&format!("GET /containers/{name}/json"))
}

/// A create request with at most one thing that is out of the ordinary.
fn create(one: &Move, name: &str, long: bool, runtime: Runtime) -> Step {
    let command = if long {
        json!(["sleep", "1000"])
    } else {
        // With a pause: which of two pipes is read first is left to chance.
        json!(["sh", "-c", "echo out; sleep 0.1; echo err >&2; exit 3"])
    };
    let mut body = json!({"Image": "busybox", "Cmd": command, "HostConfig": {}});
    let mut oddities = oddities(long);
    if runtime == Runtime::Function {
        // A function's root cannot be written to, so that no folder is made there.
        for (_, values) in &mut oddities {
            values.retain(|value| value != "/made/new");
        }
    }
    // One at a time: of two mistakes it is left to chance which is found first. A quarter are
    // as usual.
    if !one.second.is_multiple_of(4) {
        let place = usize::from(one.first);
        let (pointer, values) = &oddities[place % oddities.len()];
        let value = &values[place / oddities.len() % values.len()];
        match pointer.split_once('/') {
            Some((outer, inner)) => body[outer][inner] = value.clone(),
            None => body[*pointer] = value.clone(),
        }
    }
    api(&format!("POST /containers/create?name={name}")).json(&body)
}

/// Fields and values, of which some are refused. Known to differ, and left out until they do
/// not: a working folder that is a file (the Engine notices when it creates), a mount without
/// a source or a target, or a relative tmpfs, beside another mistake (the Engine finds the
/// mount first), the log driver
/// `none` with an attach that wants the history, a bad `max-file` with a look at the logs.
fn oddities(long: bool) -> Vec<(&'static str, Vec<Value>)> {
    let mut all = vec![
        (
            "Image",
            vec![
                json!("absent"),
                json!(""),
                json!("UPPER"),
                json!(7),
                json!(null),
            ],
        ),
        (
            "Env",
            vec![
                json!(["A=b"]),
                json!(["A"]),
                json!(["=b"]),
                json!([""]),
                json!("A=b"),
                json!(["A=b", "A=c"]),
            ],
        ),
        (
            "Labels",
            vec![
                json!({"a": "b"}),
                json!({"": ""}),
                json!({"a": 1}),
                json!([]),
                json!({"a.b/c": "ü"}),
            ],
        ),
        (
            "WorkingDir",
            vec![
                json!("/tmp"),
                json!("relative"),
                json!("/made/new"),
                json!(""),
            ],
        ),
        (
            "User",
            vec![
                json!("0"),
                json!("1000:1000"),
                json!("nobody"),
                json!("absent"),
                json!(":"),
                json!("0:absent"),
            ],
        ),
        (
            "Hostname",
            vec![
                json!("h"),
                json!("bad_host!"),
                json!("-x"),
                json!("a.b.c"),
                json!("x".repeat(70)),
            ],
        ),
        ("Domainname", vec![json!("example.org"), json!("")]),
        (
            "StopSignal",
            vec![
                json!("KILL"),
                json!("SIGKILL"),
                json!("9"),
                json!("BAD"),
                json!("99"),
            ],
        ),
        (
            "StopTimeout",
            vec![json!(0), json!(1), json!("x"), json!(1.5)],
        ),
        (
            "ExposedPorts",
            vec![
                json!({"80/tcp": {}}),
                json!({"80-82/udp": {}}),
                json!({"80": {}, "81/x": {}, "": {}}),
                json!([]),
            ],
        ),
        ("OpenStdin", vec![json!(true), json!("yes")]),
        ("Volumes", vec![json!([])]),
        ("Nonsense", vec![json!(1)]),
        (
            "HostConfig/Memory",
            vec![
                json!(1),
                json!(6291456),
                json!(67108864),
                json!(-1),
                json!("64m"),
            ],
        ),
        (
            "HostConfig/MemorySwap",
            vec![json!(-1), json!(1), json!(67108864)],
        ),
        (
            "HostConfig/MemoryReservation",
            vec![json!(1), json!(67108864)],
        ),
        (
            "HostConfig/MemorySwappiness",
            vec![json!(-1), json!(101), json!(50)],
        ),
        (
            "HostConfig/NanoCpus",
            vec![
                json!(1_000_000_000),
                json!(-1),
                json!(1_000_000_000_000_000_i64),
            ],
        ),
        (
            "HostConfig/CpuShares",
            vec![json!(2), json!(512), json!(-1)],
        ),
        (
            "HostConfig/CpuQuota",
            vec![json!(50000), json!(1), json!(-1)],
        ),
        ("HostConfig/CpuPeriod", vec![json!(100000), json!(1)]),
        (
            "HostConfig/CpusetCpus",
            vec![json!("0"), json!("99"), json!("x")],
        ),
        (
            "HostConfig/PidsLimit",
            vec![json!(100), json!(-1), json!(0)],
        ),
        ("HostConfig/ReadonlyRootfs", vec![json!(true)]),
        (
            "HostConfig/NetworkMode",
            vec![json!("none"), json!("bridge"), json!("default"), json!("")],
        ),
        (
            "HostConfig/CapAdd",
            vec![
                json!(["CHOWN"]),
                json!(["cap_chown"]),
                json!(["BAD"]),
                json!("CHOWN"),
            ],
        ),
        (
            "HostConfig/CapDrop",
            vec![json!(["ALL"]), json!(["BAD"]), json!(["NET_RAW"])],
        ),
        (
            "HostConfig/Ulimits",
            vec![
                json!([{"Name": "core", "Soft": 0, "Hard": 0}]),
                json!([{"Name": "bad", "Soft": 1, "Hard": 1}]),
                json!([{"Name": "core", "Soft": 2, "Hard": 1}]),
            ],
        ),
        (
            "HostConfig/LogConfig",
            vec![
                json!({"Type": "json-file", "Config": {"max-size": "1m"}}),
                json!({"Type": "json-file", "Config": {"bad": "1"}}),
                json!({"Type": "absent"}),
            ],
        ),
        (
            "HostConfig/Tmpfs",
            vec![
                json!({"/t": ""}),
                json!({"/t": "size=1m"}),
                json!({"/t": "bad=1"}),
            ],
        ),
        (
            "HostConfig/ShmSize",
            vec![json!(1048576), json!(-1), json!(0)],
        ),
        ("HostConfig/Init", vec![json!(null)]),
        (
            "HostConfig/OomScoreAdj",
            vec![json!(500), json!(2000), json!(-2000)],
        ),
        (
            "HostConfig/RestartPolicy",
            vec![
                json!({"Name": "no"}),
                json!({"Name": ""}),
                json!({"Name": "bad"}),
            ],
        ),
        (
            "HostConfig/IpcMode",
            vec![json!("private"), json!("none"), json!("bad")],
        ),
        (
            "HostConfig/SecurityOpt",
            vec![
                json!(["no-new-privileges"]),
                json!(["bad"]),
                json!(["label=disable"]),
            ],
        ),
        (
            "HostConfig/Sysctls",
            vec![json!({"net.ipv4.ip_forward": "1"}), json!({"bad": "1"})],
        ),
        ("HostConfig/Dns", vec![json!(["1.2.3.4"]), json!(["bad"])]),
        (
            "HostConfig/ExtraHosts",
            vec![json!(["a:1.2.3.4"]), json!(["a"]), json!(["a:b"])],
        ),
        (
            "HostConfig/GroupAdd",
            vec![json!(["1000"]), json!(["absent"])],
        ),
        ("HostConfig/Isolation", vec![json!("default"), json!("bad")]),
        ("HostConfig/Runtime", vec![json!("absent"), json!("")]),
        (
            "HostConfig/Annotations",
            vec![json!({"a": "b"}), json!({"": ""})],
        ),
        (
            "HostConfig/Mounts",
            vec![
                json!([{"Type": "tmpfs", "Target": "/m"}]),
                json!([{"Type": "bad", "Target": "/m"}]),
            ],
        ),
        (
            "HostConfig/Binds",
            vec![
                json!(["/usr:/b:ro"]),
                json!(["/usr:/b:bad"]),
                json!([":"]),
                json!(["/usr:rel"]),
            ],
        ),
        ("HostConfig", vec![json!([]), json!(null), json!("x")]),
        (
            "NetworkingConfig",
            vec![json!({}), json!({"EndpointsConfig": {}}), json!([])],
        ),
    ];
    if !long {
        all.push((
            "Cmd",
            vec![
                json!(["absent"]),
                json!(["/tmp"]),
                json!("false"),
                json!([""]),
                json!([]),
                json!(null),
                json!(["sh", "-c", "kill -9 $$"]),
                json!(5),
            ],
        ));
        all.push((
            "Entrypoint",
            vec![
                json!(["echo"]),
                json!("echo"),
                json!([""]),
                json!(["absent"]),
            ],
        ));
        // Its entrypoint makes a `sleep` without a time of a long container's command.
        all.push(("Image", vec![json!("configured")]));
        all.push(("Tty", vec![json!(true)]));
    }
    all
}

fn kill(one: &Move, name: &str) -> Vec<Step> {
    let signals = [
        "",
        "?signal=KILL",
        "?signal=9",
        "?signal=SIGKILL",
        "?signal=0",
        "?signal=BAD",
        "?signal=HUP",
        "?signal=100",
        "?signal=-1",
        "?signal=sigwinch",
    ];
    let signal = one.choose(&signals);
    let mut steps = vec![api(&format!("POST /containers/{name}/kill{signal}"))];
    // It is answered before the process is gone.
    if ["", "?signal=KILL", "?signal=9", "?signal=SIGKILL"].contains(&signal) {
        steps.push(api(&format!("POST /containers/{name}/wait")));
    }
    steps.push(state(name));
    steps
}

/// Long ones keep being long ones.
fn rename(one: &Move, name: &str) -> Step {
    let other = if one.container < CONTAINERS.len() / 2 {
        CONTAINERS[1 - one.container]
    } else {
        CONTAINERS[5 - one.container]
    };
    let new = one.choose(&[other, other, name, "", "%2F", "bad%20name", "@N-x/y", "-x"]);
    api(&format!("POST /containers/{name}/rename?name={new}"))
}

/// An exec that is created and not started.
fn exec(one: &Move, runtime: Runtime) -> Value {
    let mut body = json!({"Cmd": ["true"], "AttachStdout": true});
    let odd = [
        // Whose a function's processes are, the platform says.
        (
            "User",
            match runtime {
                Runtime::Microvm => json!("absent"),
                Runtime::Function => json!(""),
            },
        ),
        ("Cmd", json!(null)),
        ("Cmd", json!([])),
        ("Cmd", json!([""])),
        ("Cmd", json!("true")),
        ("Env", json!(["A"])),
        ("Env", json!("A")),
        ("User", json!("0")),
        ("DetachKeys", json!("nonsense")),
        ("ConsoleSize", json!([1])),
        ("WorkingDir", json!("rel")),
        ("Tty", json!("x")),
        ("Nonsense", json!(1)),
    ];
    let (field, value) = &odd[usize::from(one.first) % odd.len()];
    body[*field] = value.clone();
    body
}

fn logs(one: &Move, name: &str) -> Step {
    let streams = one.choose(&[
        "stdout=1",
        "stderr=1",
        "stdout=1&stderr=1",
        "",
        "stdout=bad",
    ]);
    let more = one.choose_second(&[
        "",
        "&tail=1",
        "&tail=0",
        "&tail=x",
        "&tail=-1",
        "&since=0",
        "&since=x",
        "&until=1",
        "&details=1",
        "&since=1.5.5",
    ]);
    api(&format!("GET /containers/{name}/logs?{streams}{more}"))
}

fn list(one: &Move, name: &str) -> Step {
    let own = json!(["@N-x"]);
    let filters = [
        json!({"name": own}),
        json!({"name": own, "status": ["running"]}),
        json!({"name": own, "status": ["exited", "created"]}),
        json!({"name": own, "exited": ["3"]}),
        json!({"name": own, "label": ["a=b"]}),
        json!({"name": own, "ancestor": ["busybox"]}),
        json!({"name": own, "before": [name]}),
        json!({"name": own, "since": [name]}),
        json!({"name": own, "status": ["bad"]}),
        json!({"name": own, "exited": ["x"]}),
        json!({"name": own, "network": ["none"]}),
        json!({"bad": ["x"]}),
        json!({"name": own, "is-task": ["true"]}),
        json!({"name": own, "health": ["none"]}),
        json!([]),
    ];
    let filter = query(&filters[usize::from(one.first) % filters.len()]);
    let all = one.choose_second(&[
        "all=1",
        "all=1",
        "all=0",
        "all=1&limit=1",
        "limit=-1",
        "limit=x",
    ]);
    api(&format!("GET /containers/json?{all}&filters={filter}"))
}

fn image(one: &Move) -> Step {
    let line = one.choose(&[
        "GET /images/absent/json",
        "GET /images/UPPER/json",
        "POST /images/busybox/tag?repo=@N&tag=x",
        "POST /images/busybox/tag?repo=@N&tag=bad%20tag",
        "POST /images/busybox/tag?repo=UPPER",
        "POST /images/absent/tag?repo=@N",
        "POST /images/busybox/tag",
        "DELETE /images/@N:x",
        "DELETE /images/absent",
        "DELETE /images/UPPER",
    ]);
    api(line)
}
