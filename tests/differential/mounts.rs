//! Files and folders of the machine, and file systems in memory, mounted into containers.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Scenario, Step, api, docker, file, read_file};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        binds(),
        bind_errors(),
        mount_errors(),
        structured(),
        from_others(),
        in_place(),
    ]
}

fn binds() -> Scenario {
    Scenario::new(
        "mounts-binds",
        [
            file("f", b"from outside\n"),
            docker("run --rm --volume ./f:/x busybox cat /x").gives(0),
            docker("run --rm --volume ./f:/made/up/x busybox cat /made/up/x").gives(0),
            docker("run --rm --volume ./f:/etc/passwd:ro busybox cat /etc/passwd").gives(0),
            docker("run --rm --volume ./f:/x:ro busybox sh -c 'echo y > /x'").gives(1),
            docker("run --rm --volume ./f:/x busybox sh -c 'echo from inside > /x'").gives(0),
            read_file("f"),
            docker("run --rm --volume ./:/w --workdir /w busybox sh -c 'cat f; echo made > g'").gives(0),
            read_file("g"),
            docker("run --rm --volume ./:/w:ro busybox touch /w/h").gives(1),
            docker("run --rm --volume ./sub/dir:/x busybox sh -c 'ls -A /x; echo made > /x/y'").gives(0),
            read_file("sub/dir/y"),
            docker("run --rm --volume ./:/w --volume ./sub:/w/inner busybox cat /w/inner/dir/y").gives(0),
            docker("run --rm --volume ./:/w:ro,z --tmpfs /w/sub busybox sh -c 'ls -A /w/sub; touch /w/sub/x'")
                .gives(0),
            docker("run --rm --read-only --volume ./:/w busybox sh -c 'echo x > /w/z && cat /w/z'").gives(0),
        ],
    )
    .microvm_only()
}

fn create(host: &Value) -> Step {
    api("POST /containers/create?name=@N-xno")
        .json(&json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": host}))
}

fn bind_errors() -> Scenario {
    let bad = [
        "/tmp:rel",
        "/tmp:/",
        "/tmp:/x:zz",
        ":/x",
        "/a:/b:ro:x",
        "/tmp:/x:ro,ro",
        "/x:rw",
    ];
    let mut steps: Vec<Step> = bad
        .into_iter()
        .map(|raw| create(&json!({"Binds": [raw]})).gives(500))
        .collect();
    for host in [
        json!({"Binds": ["/tmp:/x", "/etc:/x"]}),
        json!({"Binds": ["/tmp:/x"], "Tmpfs": {"/x": ""}}),
        json!({"VolumesFrom": ["nosuch"]}),
        json!({"VolumesFrom": [""]}),
        json!({"VolumesFrom": ["nosuch:zz"]}),
    ] {
        steps.push(create(&host).gives(400));
    }
    Scenario::new("mounts-bind-errors", steps).microvm_only()
}

fn mount_errors() -> Scenario {
    let bad = [
        json!({"Type": "bind", "Source": "/nosuch", "Target": "/x"}),
        json!({"Type": "bind", "Source": "/tmp", "Target": ""}),
        json!({"Type": "bind", "Source": "rel", "Target": "/x"}),
        json!({"Type": "bind", "Target": "/x"}),
        json!({"Type": "bind", "Source": "/tmp", "Target": "rel"}),
        json!({"Type": "bind", "Source": "/tmp", "Target": "/"}),
        json!({"Type": "nosuch", "Source": "/tmp", "Target": "/x"}),
        json!({"Type": "npipe", "Source": "/tmp", "Target": "/x"}),
        json!({"Type": "bind", "Source": "/tmp", "Target": "/x", "VolumeOptions": {}}),
        json!({"Type": "bind", "Source": "/tmp", "Target": "/x", "TmpfsOptions": {}}),
        json!({"Type": "bind", "Source": "/tmp", "Target": "/x", "BindOptions": {"Propagation": "zz"}}),
        json!({"Type": "tmpfs", "Source": "/tmp", "Target": "/x"}),
        json!({"Type": "tmpfs", "Target": "/x", "BindOptions": {}}),
        json!({"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["zz"]]}}),
    ];
    let steps = bad
        .iter()
        .map(|mount| create(&json!({ "Mounts": [mount] })).gives(400));
    Scenario::new("mounts-mount-errors", steps).microvm_only()
}

fn structured() -> Scenario {
    Scenario::new(
        "mounts-structured",
        [
            file("f", b"from outside\n"),
            docker("run --rm --mount type=bind,source=./f,target=/x busybox cat /x").gives(0),
            docker("run --rm --mount type=bind,source=./f,target=/x,readonly busybox sh -c 'echo y > /x'")
                .gives(1),
            docker("run --rm --mount type=bind,source=/no/such,target=/x busybox true").gives(125),
            docker("run --rm --mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700 busybox sh -c 'stat -c %a /t; df /t | tail -n 1'")
                .gives(0),
            docker("run --rm --mount type=tmpfs,target=/t,readonly busybox touch /t/x").gives(1),
            docker("create --name @N --mount type=tmpfs,target=/t busybox").gives(0),
            docker("inspect @N --format '{{json .Mounts}} {{json .HostConfig.Mounts}}'").gives(0),
            docker("rm @N").gives(0),
            docker("create --name @N --volume /etc:/e:ro,z busybox").gives(0),
            docker("inspect @N --format '{{json .Mounts}} {{json .HostConfig.Binds}}'").gives(0),
            docker("rm @N").gives(0),
            docker("create --name @N --tmpfs /t:size=1m busybox").gives(0),
            docker("inspect @N --format '{{json .Mounts}} {{json .HostConfig.Tmpfs}}'").gives(0),
            docker("rm @N").gives(0),
        ],
    )
    .microvm_only()
}

fn from_others() -> Scenario {
    Scenario::new(
        "mounts-from-others",
        [
            file("f", b"from outside\n"),
            docker("create --name @N --volume ./f:/x busybox").gives(0),
            docker("run --rm --volumes-from @N busybox cat /x").gives(0),
            docker("run --rm --volumes-from @N:ro busybox sh -c 'echo y > /x'").gives(1),
            docker("create --name @N-xsecond --volumes-from @N:ro busybox").gives(0),
            docker("inspect @N-xsecond --format '{{(index .Mounts 0).RW}} {{(index .Mounts 0).Destination}} {{json .HostConfig.VolumesFrom}}'")
                .gives(0),
            docker("run --rm --volumes-from @N-xsecond busybox sh -c 'cat /x; echo y > /x'").gives(1),
            docker("run --rm --volumes-from @N-xnone busybox true").gives(125),
            docker("rm @N @N-xsecond").gives(0),
        ],
    )
    .microvm_only()
}

/// What the container had, and what it wrote, is as it was when it starts again.
fn in_place() -> Scenario {
    Scenario::new(
        "mounts-in-place",
        [
            file("f", b"first\n"),
            docker("run --name @N --volume ./f:/x --tmpfs /t busybox sh -c 'cat /x; ls -A /t; touch /t/y'")
                .gives(0),
            file("f", b"second\n"),
            docker("start --attach @N").gives(0),
            docker("rm @N").gives(0),
            docker("run --rm --volume ./f:/etc/hosts busybox cat /etc/hosts").gives(0),
            docker("run --rm --tmpfs /etc busybox sh -c 'ls /etc; grep -c localhost /etc/hosts'").gives(0),
            docker("run --detach --name @N --volume ./f:/x busybox sleep 1000").gives(0),
            docker("exec @N sh -c 'cat /x; echo third > /x'").gives(0),
            read_file("f"),
            docker("rm --force @N").gives(0),
        ],
    )
    .microvm_only()
}
