//! What takes room, and how it is given back.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Gone, Scenario, Step, api, docker, gone, query};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        container_filters(),
        containers(),
        image_filters(),
        images(),
        disk_usage(),
        written(),
        builds(),
        system(),
        gone_half_way(),
    ]
}

fn prune(what: &str, filters: &Value) -> Step {
    api(&format!("POST /{what}/prune?filters={}", query(filters)))
}

fn container_filters() -> Scenario {
    let steps = [
        (json!({"zz": ["a"]}), 400),
        (json!({"until": ["zz"]}), 400),
        (json!({"until": ["1h", "2h"]}), 400),
        (json!([]), 400),
    ]
    .iter()
    .map(|(filters, status)| prune("containers", filters).gives(*status))
    .collect::<Vec<_>>();
    Scenario::new("prune-container-filters", steps)
}

fn containers() -> Scenario {
    let of = |more: Value| {
        let mut filters = json!({"label": ["of=@N"]});
        for (name, value) in more.as_object().into_iter().flatten() {
            filters[name] = value.clone();
        }
        prune("containers", &filters)
    };
    Scenario::new(
        "prune-containers",
        [
            docker("run --label of=@N --name @N busybox true").gives(0),
            docker("run --label of=@N --name @N-xup --detach busybox sleep 1000").gives(0),
            of(json!({"until": ["24h"]})).gives(200),
            of(json!({"label!": ["of=@N"]})).gives(200),
            prune("containers", &json!({"label": ["of=zz"]})).gives(200),
            of(json!({})).gives(200),
            api("GET /containers/@N/json").gives(404),
            docker("container prune --force --filter label=of=@N").gives(0),
            docker("inspect @N-xup --format {{.State.Status}}").gives(0),
            docker("create --label of=@N --name @N busybox true").gives(0),
            docker("container prune --force --filter label=of=@N").gives(0),
            docker("container prune --force --filter zz=1").gives(1),
            docker("rm --force @N-xup").gives(0),
        ],
    )
}

fn image_filters() -> Scenario {
    let steps = [
        (json!({"zz": ["a"]}), 400),
        (json!({"dangling": ["zz"]}), 400),
        (json!({"until": ["zz"]}), 500),
        (json!([]), 400),
        (json!({"label": ["zz"]}), 200),
        (json!({"dangling": ["false"], "label": ["zz"]}), 200),
    ]
    .iter()
    .map(|(filters, status)| prune("images", filters).gives(*status))
    .collect::<Vec<_>>();
    Scenario::new("prune-image-filters", steps)
}

/// Of all images only one that is loaded for this is left without a container.
fn images() -> Scenario {
    Scenario::new(
        "prune-images",
        [
            docker("create --name @N-xbusybox busybox").gives(0),
            docker("create --name @N-xconfigured configured").gives(0),
            docker("create --name @N-xuser user").head_only().gives(0),
            api("POST /images/create?fromSrc=-&repo=prune-images&tag=1&changes=LABEL%20a%3Db")
                .fixture("rootfs.tar")
                .gives(200),
            docker("tag prune-images:1 prune-images:2").gives(0),
            docker("image prune --force").gives(0),
            docker("image prune --all --force --filter label=a=c").gives(0),
            docker("image prune --all --force --filter label=a=b --filter until=24h").gives(0),
            docker("image prune --all --force --filter label=a=b").gives(0),
            docker("image prune --all --force --filter label=a=b").gives(0),
            docker("image prune --force --filter zz=1").gives(1),
            docker("images --quiet prune-images").gives(0),
            docker("rm @N-xbusybox @N-xconfigured @N-xuser").gives(0),
        ],
    )
    .alone()
}

fn disk_usage() -> Scenario {
    Scenario::new(
        "system-df",
        [
            docker("system df").table().gives(0),
            docker("volume create @N").gives(0),
            docker("create --name @N --label l busybox true").gives(0),
            api("GET /system/df").head_only().gives(200),
            api("GET /system/df?type=build-cache&type=volume").gives(200),
            // Images of the same age come in any order.
            docker("system df --verbose --format '{{range .Images}}{{println .Repository .Tag .Size .SharedSize .UniqueSize .Containers}}{{end}}'")
                .sorted()
                .gives(0),
            api("GET /system/df?type=container").gives(200),
            api("GET /system/df?type=build-cache").gives(200),
            api("GET /system/df?type=zz").gives(400),
            api("GET /system/df").version("1.41").head_only().gives(200),
            docker("system df").table().gives(0),
            docker("rm @N").gives(0),
            docker("volume rm @N").gives(0),
        ],
    )
    .alone()
}

/// What a container writes to its root is seen and given back.
fn written() -> Scenario {
    Scenario::new(
        "system-df-written",
        [
            docker("run --name @N --label of=@N --volume @N:/x --volume /y busybox sh -c 'echo hello > /x/f; echo rootfs > /r'")
                .gives(0),
            docker("inspect --size @N --format '{{.SizeRw}} {{.SizeRootFs}}'").gives(0),
            docker("ps --all --size --filter name=@N --format '{{.Size}}'").gives(0),
            docker("system df --verbose --format '{{range .Containers}}{{println .Size .LocalVolumes}}{{end}}{{range .Volumes}}{{println .Size .Links}}{{end}}'")
                .sorted()
                .gives(0),
            docker("container prune --force --filter label=of=@N").table().gives(0),
            docker("volume prune --all --force").head_only().gives(0),
            api("GET /volumes/@N").gives(404),
        ],
    )
    .microvm_only()
    .alone()
}

fn builds() -> Scenario {
    Scenario::new(
        "prune-builds",
        [
            api("POST /build/prune").gives(200),
            api("POST /build/prune?all=1&reserved-space=1").gives(200),
            api("POST /build/prune?keep-storage=zz").gives(400),
            prune("build", &json!({"zz": ["a"]})).gives(400),
            prune("build", &json!({"until": ["zz"]})).gives(400),
            prune("build", &json!({"until": ["1h"], "unused-for": ["2h"]})).gives(400),
            prune("build", &json!([])).gives(400),
            docker("builder prune --force").gives(0),
        ],
    )
}

fn system() -> Scenario {
    Scenario::new(
        "system-prune",
        [
            docker("network create --label of=@N @N").gives(0),
            docker("volume create --label of=@N @N").gives(0),
            docker("create --name @N --label of=@N busybox true").gives(0),
            docker("system prune --force --filter label=of=zz").gives(0),
            docker("system prune --force --filter label=of=@N")
                .table()
                .gives(0),
            docker("create --name @N --label of=@N busybox true").gives(0),
            docker("system prune --force --all --volumes --filter label=of=@N")
                .table()
                .gives(0),
            docker("volume inspect @N --format {{.Name}}").gives(0),
            docker("volume rm @N").gives(0),
        ],
    )
    .alone()
}

fn gone_half_way() -> Scenario {
    Scenario::new(
        "prune-gone",
        [
            gone(Gone::InHead, "POST /containers/prune"),
            gone(Gone::InHead, "POST /images/prune"),
            gone(Gone::InHead, "POST /build/prune"),
            gone(Gone::AfterHead, "GET /system/df"),
        ],
    )
}
