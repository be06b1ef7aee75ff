//! Volumes as objects, and in containers.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Gone, Scenario, Step, api, docker, gone, query};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        create(),
        create_errors(),
        list(),
        in_use(),
        prune(),
        client(),
        gone_half_way(),
        mounts(),
        shown(),
        filled(),
        parts(),
        taken(),
        anonymous(),
        container_errors(),
        folders(),
        image_volumes(),
    ]
}

fn post(body: &Value) -> Step {
    api("POST /volumes/create").json(body)
}

fn remove(names: &[&str]) -> Vec<Step> {
    let one = |name: &&str| api(&format!("DELETE /volumes/{name}")).gives(204);
    names.iter().map(one).collect()
}

fn create() -> Scenario {
    let mut steps = vec![
        post(&json!({"Name": "@N"})).gives(201),
        post(&json!({"Name": "@N"})).gives(201),
        post(&json!({"Name": "@N", "Labels": {"a": "b"}})).gives(201),
        post(&json!({"Name": "@N", "Driver": "zz"})).gives(404),
        api("GET /volumes/@N").gives(200),
        api("GET /volumes/@N-xnone").gives(404),
        api("GET /volumes/a%20b").gives(404),
        post(&json!({"Name": "@N-xlabels", "Labels": {"x": "y", "z": ""}, "DriverOpts": {}}))
            .gives(201),
        api("GET /volumes/@N-xlabels").gives(200),
        post(&json!({
            "name": "@N-xbind", "driver": "local",
            "DriverOpts": {"type": "none", "device": "/tmp", "o": "bind"},
        }))
        .gives(201),
        api("GET /volumes/@N-xbind").gives(200),
        post(&json!({"Labels": null}))
            .gives(201)
            .save("unnamed", "/Name"),
        api("GET /volumes/@{unnamed}").gives(200),
        api("POST /volumes/create")
            .gives(201)
            .save("other", "/Name"),
    ];
    steps.extend(remove(&[
        "@N",
        "@N-xlabels",
        "@N-xbind",
        "@{unnamed}",
        "@{other}",
    ]));
    steps.extend([
        api("DELETE /volumes/@N").gives(404),
        api("DELETE /volumes/@N?force=1").gives(204),
        api("DELETE /volumes/a/b").gives(404),
    ]);
    Scenario::new("volume-create", steps)
}

fn create_errors() -> Scenario {
    let bad = [
        (json!({"Name": "a"}), 400),
        (json!({"Name": "-a"}), 400),
        (json!({"Name": "a b"}), 400),
        (json!({"Name": "../up"}), 400),
        (json!({"Name": "@N", "Driver": "zz"}), 404),
        (json!({"Name": "@N", "DriverOpts": {"a": "b"}}), 400),
        (json!({"Name": "@N", "DriverOpts": {"type": "tmpfs"}}), 400),
        (json!({"Name": "@N", "DriverOpts": {"o": "bind"}}), 400),
        (json!({"Name": "@N", "DriverOpts": {"device": "/tmp"}}), 400),
        (json!({"Name": "@N", "DriverOpts": {"type": ""}}), 400),
        (json!({"Name": "@N", "DriverOpts": {"size": "1m"}}), 400),
        (json!({"Name": "@N", "DriverOpts": {"size": "zz"}}), 400),
        (json!({"Name": "@N", "DriverOpts": {"a": 1}}), 400),
        (json!({"Name": "@N", "Labels": []}), 400),
        (json!({"Name": 1}), 400),
        (json!([]), 400),
        (json!({"Name": "@N", "ClusterVolumeSpec": {}}), 503),
    ];
    let mut steps: Vec<Step> = bad
        .iter()
        .map(|(body, status)| post(body).gives(*status))
        .collect();
    steps.push(api("PUT /volumes/@N").json(&json!({})).gives(503));
    Scenario::new("volume-create-errors", steps)
}

fn list() -> Scenario {
    let mut steps = vec![
        post(&json!({"Name": "@N", "Labels": {"of": "@N"}})).gives(201),
        post(&json!({"Name": "@N-xsecond"})).gives(201),
    ];
    for (filters, status) in [
        (json!({"name": ["^@N$"]}), 200),
        (json!({"name": ["@N-xs"]}), 200),
        (json!({"name": ["["]}), 200),
        (json!({"label": ["of=@N"]}), 200),
        (json!({"label": ["of=zz"]}), 200),
        (json!({"driver": ["local"], "label": ["of=@N"]}), 200),
        (json!({"driver": ["loc"]}), 200),
        (json!({"dangling": ["true"], "label": ["of=@N"]}), 200),
        (json!({"dangling": ["0"], "label": ["of=@N"]}), 200),
        (json!({"dangling": ["zz"]}), 400),
        (json!({"zz": ["a"]}), 400),
        (json!([]), 400),
    ] {
        let target = format!("GET /volumes?filters={}", query(&filters));
        steps.push(api(&target).gives(status));
    }
    steps.extend([
        docker("volume ls --filter label=of=@N").table().gives(0),
        docker("volume ls --quiet --filter name=^@N")
            .sorted()
            .gives(0),
        docker("volume ls --filter zz=1").gives(1),
    ]);
    steps.extend(remove(&["@N", "@N-xsecond"]));
    Scenario::new("volume-list", steps)
}

fn in_use() -> Scenario {
    Scenario::new(
        "volume-in-use",
        [
            docker("create --name @N --volume @N:/x busybox sleep 1000").gives(0),
            api("GET /volumes/@N").gives(200),
            api("DELETE /volumes/@N").gives(409),
            api("DELETE /volumes/@N?force=1").gives(409),
            api(&format!(
                "GET /volumes?filters={}",
                query(&json!({"dangling": ["false"], "name": ["^@N$"]}))
            ))
            .gives(200),
            docker("ps --all --filter volume=@N --format '{{.Names}} {{.Mounts}}'").gives(0),
            docker("ps --all --filter volume=/x --filter name=@N --format {{.Names}}").gives(0),
            docker("start @N").gives(0),
            api("DELETE /volumes/@N").gives(409),
            docker("volume prune --all --force --filter label=of=@N").gives(0),
            docker("rm --force --volumes @N").gives(0),
            // One that has a name stays.
            api("DELETE /volumes/@N").gives(204),
        ],
    )
    .microvm_only()
}

fn prune() -> Scenario {
    let prune = |filters: Value| api(&format!("POST /volumes/prune?filters={}", query(&filters)));
    Scenario::new(
        "volume-prune",
        [
            post(&json!({"Name": "@N", "Labels": {"of": "@N"}})).gives(201),
            post(&json!({"Labels": {"of": "@N"}})).gives(201),
            prune(json!({"until": ["1h"]})).gives(400),
            prune(json!({"all": ["zz"]})).gives(400),
            prune(json!([])).gives(400),
            prune(json!({"label": ["of=@N"], "label!": ["of"]})).gives(200),
            prune(json!({"label": ["of=@N"]})).gives(200),
            prune(json!({"label": ["of=@N"]})).gives(200),
            prune(json!({"label": ["of=@N"], "all": ["true"]})).gives(200),
            api("GET /volumes/@N").gives(404),
            post(&json!({"Name": "@N", "Labels": {"of": "@N"}})).gives(201),
            docker("volume prune --force --filter label=of=@N").gives(0),
            docker("volume prune --all --force --filter label=of=@N").gives(0),
            docker("volume prune --force --filter zz=1").gives(1),
        ],
    )
}

fn client() -> Scenario {
    Scenario::new(
        "volume-client",
        [
            docker("volume create --label l=m @N").gives(0),
            docker("volume create @N").gives(0),
            docker("volume create --driver zz @N-xother").gives(1),
            docker(
                "volume inspect @N --format '{{.Name}} {{.Driver}} {{json .Labels}} {{.Scope}}'",
            )
            .gives(0),
            docker("volume inspect @N-xnone").gives(1),
            docker("volume rm @N").gives(0),
            docker("volume rm @N").gives(1),
            docker("volume rm --force @N").gives(0),
        ],
    )
}

fn gone_half_way() -> Scenario {
    Scenario::new(
        "volume-gone",
        [
            post(&json!({"Name": "@N"})).gives(201),
            gone(Gone::BeforeAnswer, "GET /volumes"),
            gone(Gone::InHead, "POST /volumes/create"),
            gone(Gone::InHead, "POST /volumes/prune"),
            gone(Gone::AfterHead, "GET /volumes/@N"),
            gone(Gone::InHead, "PUT /volumes/@N"),
            gone(Gone::InHead, "DELETE /volumes/@N"),
            api("DELETE /volumes/@N").gives(204),
        ],
    )
}

/// What one container writes, the next one reads.
fn mounts() -> Scenario {
    Scenario::new(
        "volume-mounts",
        [
            docker("run --rm --volume @N:/x busybox sh -c 'echo written > /x/f; id -u > /x/u'").gives(0),
            docker("run --rm --volume @N:/y busybox cat /y/f /y/u").gives(0),
            docker("run --rm --volume @N:/y:ro busybox sh -c 'cat /y/f; echo more > /y/f'").gives(1),
            docker("run --rm --mount type=volume,source=@N,target=/z busybox cat /z/f").gives(0),
            docker("run --rm --mount type=volume,source=@N,target=/z,readonly busybox touch /z/g").gives(1),
            docker("run --rm --volume @N:/a --volume @N:/b busybox sh -c 'echo same > /a/g; cat /b/g'").gives(0),
            docker("run --rm --volume @N:/a --volume @N-xinner:/a/inner busybox sh -c 'touch /a/inner/h; ls /a'")
                .gives(0),
            docker("run --rm --volume @N-xinner:/x busybox ls /x").gives(0),
            docker("run --rm --read-only --volume @N:/x busybox sh -c 'echo x > /x/z && cat /x/z'").gives(0),
            docker("run --detach --name @N-xlong --volume @N:/x busybox sleep 1000").gives(0),
            docker("run --rm --volume @N:/x busybox sh -c 'echo seen > /x/live'").gives(0),
            docker("exec @N-xlong cat /x/live").gives(0),
            docker("rm --force @N-xlong").gives(0),
            docker("volume rm @N @N-xinner").gives(0),
        ],
    )
    .microvm_only()
}

/// What `inspect` and the list say of them.
fn shown() -> Scenario {
    let mut steps = Vec::new();
    for flags in [
        "--volume @N:/x",
        "--volume @N:/x:ro,nocopy",
        "--volume /x",
        "--mount type=volume,source=@N,target=/x,volume-nocopy",
        "--mount type=volume,source=@N,target=/x,readonly,volume-label=a=b",
        "--mount type=volume,target=/x",
    ] {
        steps.extend([
            docker(&format!("create --name @N {flags} busybox")).gives(0),
            api("GET /containers/@N/json").gives(200),
            api(&format!(
                "GET /containers/json?all=1&filters={}",
                query(&json!({"name": ["^/@N$"]}))
            ))
            .gives(200),
            docker("create --name @N-xfrom --volumes-from @N:ro busybox").gives(0),
            docker("inspect @N-xfrom --format '{{with index .Mounts 0}}{{.Type}} {{.Name}} {{.Destination}} {{.Mode}} {{.RW}}{{end}}'")
                .gives(0),
            docker("rm --volumes @N-xfrom @N").gives(0),
            docker("volume rm --force @N").gives(0),
        ]);
    }
    Scenario::new("volume-shown", steps).microvm_only()
}

/// An empty volume gets what the image has in its place.
fn filled() -> Scenario {
    Scenario::new(
        "volume-filled",
        [
            docker("run --rm --volume @N:/etc busybox sh -c 'cat /etc/passwd | head -n 1'").gives(0),
            docker("run --rm --volume @N:/x busybox sh -c 'ls -l /x/passwd | cut -c 1-10; rm /x/passwd'").gives(0),
            // It is not empty any more.
            docker("run --rm --volume @N:/etc busybox test -e /etc/passwd").gives(1),
            docker("run --rm --volume @N-xtmp:/tmp busybox stat -c '%a %u %g' /tmp").gives(0),
            docker("run --rm --volume @N-xno:/bin2 --volume @N-xbin:/bin busybox sh -c 'ls /bin2; ls /bin | wc -l'").gives(0),
            docker("run --rm --volume @N-xnocopy:/home:nocopy busybox ls -A /home").gives(0),
            docker("run --rm --mount type=volume,source=@N-xthird,target=/etc,volume-nocopy busybox test -e /etc/passwd")
                .gives(1),
            docker("volume rm @N @N-xtmp @N-xno @N-xbin @N-xnocopy @N-xthird").gives(0),
        ],
    )
    .microvm_only()
}

/// A part of a volume.
fn parts() -> Scenario {
    Scenario::new(
        "volume-parts",
        [
            docker("run --rm --volume @N:/x busybox sh -c 'mkdir -p /x/a/b; echo part > /x/a/b/f; ln -s / /x/out'").gives(0),
            docker("run --rm --mount type=volume,source=@N,target=/y,volume-subpath=a/b busybox cat /y/f").gives(0),
            docker("run --rm --mount type=volume,source=@N,target=/y,volume-subpath=a/b/f busybox cat /y").gives(0),
            docker("run --rm --mount type=volume,source=@N,target=/y,volume-subpath=../x busybox true").gives(125),
            docker("volume rm @N").gives(0),
        ],
    )
    .microvm_only()
}

/// `--volumes-from`.
fn taken() -> Scenario {
    Scenario::new(
        "volume-taken",
        [
            docker("create --name @N --volume @N:/x --volume /y busybox").gives(0),
            docker("run --rm --volumes-from @N busybox sh -c 'echo one > /x/f; echo two > /y/f'").gives(0),
            docker("run --rm --volumes-from @N:ro busybox sh -c 'cat /x/f /y/f; touch /y/g'").gives(1),
            docker("run --rm --volumes-from @N --volume @N-xother:/x busybox sh -c 'ls -A /x; cat /y/f'").gives(0),
            docker("rm --volumes @N").gives(0),
            docker("run --rm --volume @N:/z busybox cat /z/f").gives(0),
            docker("volume rm @N @N-xother").gives(0),
        ],
    )
    .microvm_only()
}

fn count() -> Step {
    docker("volume ls --quiet --filter dangling=true --filter label=com.docker.volume.anonymous")
        .gives(0)
}

/// Volumes that nobody names go with `--rm` and `rm --volumes`, and only then.
fn anonymous() -> Scenario {
    Scenario::new(
        "volume-anonymous",
        [
            docker("volume prune --force").head_only().gives(0),
            docker("run --rm --volume /x busybox sh -c 'echo y > /x/f; cat /x/f'").gives(0),
            count(),
            docker("run --name @N --volume /x busybox sh -c 'test ! -e /x/f && touch /x/f'")
                .gives(0),
            docker("start --attach @N").gives(1),
            docker("rm --volumes @N").gives(0),
            count(),
            docker("create --name @N --mount type=volume,target=/x busybox").gives(0),
            docker("rm @N").gives(0),
            count(),
            docker("volume prune --force --filter label=zz").gives(0),
            docker("volume prune --force").gives(0),
            count(),
            docker("run --detach --name @N --volume /x busybox sleep 1000").gives(0),
            docker("rm --force --volumes @N").gives(0),
            count(),
        ],
    )
    .microvm_only()
    .alone()
}

fn container_errors() -> Scenario {
    let create = |host: &Value| {
        api("POST /containers/create?name=@N")
            .json(&json!({"Image": "busybox", "HostConfig": host}))
    };
    let mount = |spec: Value| json!({"Mounts": [spec]});
    let steps = [
        (json!({"Binds": ["-bad:/x"]}), 400),
        (json!({"Binds": ["a:/x"]}), 400),
        (json!({"Binds": ["abc:/x:nocopy,zz"]}), 500),
        (json!({"Binds": ["abc:/"]}), 500),
        (json!({"Binds": ["abc:rel"]}), 500),
        (json!({"Binds": ["rel"]}), 500),
        (json!({"Binds": ["abc:/x"], "VolumeDriver": "zz"}), 404),
        (mount(json!({"Type": "volume", "Source": "-b", "Target": "/x"})), 400),
        (mount(json!({"Type": "volume", "Source": "rel/x", "Target": "/x"})), 400),
        (mount(json!({"Type": "volume", "Source": "abc", "Target": "/x", "VolumeOptions": {"Subpath": "/abs"}})), 400),
        (mount(json!({"Type": "volume", "Source": "abc", "Target": "/x", "VolumeOptions": {"Subpath": "../up"}})), 400),
        (mount(json!({"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "sub"}})), 400),
        (mount(json!({"Type": "volume", "Source": "@N-xnew", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Name": "zz"}}})), 404),
        (mount(json!({"Type": "volume", "Source": "@N-xnew", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Options": {"a": "b"}}}})), 400),
    ]
    .iter()
    .map(|(host, status)| create(host).gives(*status))
    .collect::<Vec<_>>();
    Scenario::new("volume-container-errors", steps).microvm_only()
}

/// A volume that stands for a folder of the machine.
fn folders() -> Scenario {
    Scenario::new(
        "volume-folders",
        [
            docker("volume create @N --opt type=none --opt device=/etc --opt o=bind,ro").gives(0),
            docker("run --rm --volume @N:/x busybox sh -c 'head -n 1 /x/passwd; touch /x/y'")
                .gives(1),
            docker("volume rm @N").gives(0),
        ],
    )
    .microvm_only()
}

/// Volumes that an image or a configuration declares.
fn image_volumes() -> Scenario {
    Scenario::new(
        "volume-of-configuration",
        [
            api("POST /containers/create?name=@N")
                .json(&json!({
                    "Image": "busybox", "Cmd": ["sh", "-c", "ls -A /x | wc -l; grep -c root /etc/passwd; mount | grep -c ' /x '"],
                    "Volumes": {"/x": {}, "/etc": {}},
                    "HostConfig": {"Binds": ["@N:/x"]},
                }))
                .gives(201),
            docker("inspect @N --format '{{len .Mounts}} {{json .Config.Volumes}}'").gives(0),
            docker("start --attach @N").gives(0),
            docker("rm --volumes @N").gives(0),
            docker("volume rm @N").gives(0),
        ],
    )
    .microvm_only()
}
