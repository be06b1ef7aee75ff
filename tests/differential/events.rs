//! What `docker events` tells of the past and of the present.

use serde_json::{Value, json};
use sockerless_tests::scenario::{
    Gone, Scenario, Step, api, await_text, docker, finish, gone, hang_up, query, until_status,
};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        history(),
        stops(),
        execs(),
        pauses(),
        files(),
        live(),
        end(),
        filters(),
        images(),
        networks(),
        volumes(),
        invalid(),
        leaves(),
    ]
}

/// All that is known of events with this filter, of the last ten minutes. The client counts
/// whole seconds, so that the end has to be a little ahead.
fn past(filter: &str, format: &str) -> Step {
    docker(&format!(
        "events --since 10m --until=-1s {filter} --format '{format}'"
    ))
    .gives(0)
}

/// Actions with their attributes, without how long a run lasted.
fn of_container() -> Step {
    past(
        "--filter container=@N",
        "{{.Type}} {{.Action}} {{.Actor.ID}} {{.From}} {{.Status}} {{.Scope}} {{range $k, $v := .Actor.Attributes}}{{if ne $k \"execDuration\"}}{{$k}}={{$v}} {{end}}{{end}}",
    )
}

fn history() -> Scenario {
    Scenario::new(
        "events-history",
        [
            docker("run --rm --name @N --label a=b --label c= busybox sh -c 'exit 3'").gives(3),
            of_container(),
            docker("create --name @N busybox nonexistent").gives(0),
            docker("start @N").gives(1),
            docker("rename @N @N-2").gives(0),
            docker("rm @N-2").gives(0),
            of_container(),
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            api("POST /containers/@N/resize?h=10&w=20").gives(200),
            docker("kill --signal WINCH @N").gives(0),
            docker("rm --force @N").gives(0),
            of_container(),
        ],
    )
}

fn stops() -> Scenario {
    let said = || {
        past(
            "--filter container=@N --filter type=container",
            "{{.Action}} {{.Actor.Attributes.signal}} {{.Actor.Attributes.exitCode}}",
        )
    };
    Scenario::new(
        "events-stops",
        [
            docker("run --detach --name @N busybox sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.1; done'").gives(0),
            docker("stop --time 20 @N").gives(0),
            docker("start @N").gives(0),
            docker("restart --time 20 @N").gives(0),
            docker("kill @N").gives(0),
            docker("rm @N").gives(0),
            // The end of a run and of the stop that brought it race in Docker.
            said().sorted(),
            docker("run --detach --name @N-2 busybox sleep 1000").gives(0),
            docker("stop --time 1 @N-2").gives(0),
            docker("rm @N-2").gives(0),
            said().sorted(),
        ],
    )
}

fn execs() -> Scenario {
    Scenario::new(
        "events-execs",
        [
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            docker("exec @N sh -c 'exit 4'").gives(4),
            docker("exec @N nonexistent").gives(127),
            docker("exec --detach @N true").gives(0),
            past(
                "--filter container=@N --filter event=exec_create --filter event=exec_start",
                "{{.Action}} {{.Actor.Attributes.execID}} {{.Actor.Attributes.name}}",
            ),
            past(
                "--filter container=@N --filter event=exec_die --filter event=start",
                "{{.Action}} {{.Actor.Attributes.exitCode}}",
            )
            .sorted(),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn pauses() -> Scenario {
    Scenario::new(
        "events-pauses",
        [
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            docker("pause @N").gives(0),
            docker("unpause @N").gives(0),
            docker("update --cpu-shares 512 @N").gives(0),
            docker("rm --force @N").gives(0),
            of_container(),
        ],
    )
    .microvm_only()
}

/// What is told only when it was done: Docker says nothing of what it refused.
fn files() -> Scenario {
    Scenario::new(
        "events-files",
        [
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            docker("events --since 10m --filter container=@N --format '{{.Action}}'")
                .background("live"),
            docker("cp @N:/etc/passwd -").gives(0).head_only(),
            await_text("live", "archive-path"),
            docker("cp @N:/none -").gives(1),
            docker("cp fixtures/plain.tar @N:/tmp/x").gives(0),
            await_text("live", "extract-to-dir"),
            api("GET /containers/@N/top").gives(200).head_only(),
            await_text("live", "top"),
            api("GET /containers/@N/export").gives(200).head_only(),
            await_text("live", "export"),
            hang_up("live"),
            docker("rm --force @N").gives(0),
        ],
    )
}

fn live() -> Scenario {
    let path = format!(
        "GET /events?filters={}",
        query(&json!({"container": ["@N"], "type": ["container"]}))
    );
    Scenario::new(
        "events-live",
        [
            docker("create --name @N-first busybox true").gives(0),
            api(&path).gives(200).background("live"),
            docker("run --rm --name @N busybox true").gives(0),
            await_text("live", "\"Action\":\"create\""),
            await_text("live", "\"Action\":\"attach\""),
            await_text("live", "\"Action\":\"start\""),
            await_text("live", "\"Action\":\"die\""),
            await_text("live", "\"Action\":\"destroy\""),
            hang_up("live"),
            docker("rm @N-first").gives(0),
        ],
    )
}

/// History and present in one answer, which ends by itself; each event once.
fn end() -> Scenario {
    Scenario::new(
        "events-end",
        [
            docker("run --name @N busybox true").gives(0),
            docker("events --since 10m --until=-8s --filter container=@N --filter type=container --format '{{.Action}}'")
                .background("live"),
            await_text("live", "die"),
            docker("start @N").gives(0),
            until_status("@N", "exited"),
            docker("rm @N").gives(0),
            await_text("live", "destroy"),
            finish("live").gives(0),
        ],
    )
}

fn filters() -> Scenario {
    let count = |filters: &Value| {
        docker(&format!(
            "events --since 10m --until=-1s {} --format '{{{{.Action}}}} {{{{.Actor.Attributes.name}}}}'",
            filters
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(|filter| format!("--filter {filter}"))
                .collect::<Vec<_>>()
                .join(" ")
        ))
        .gives(0)
    };
    Scenario::new(
        "events-filters",
        [
            docker("create --name @N-1 --label scenario=@N --label n=1 busybox true").gives(0),
            docker("create --name @N-2 --label scenario=@N --label n=2 busybox true")
                .gives(0)
                .save("id", ""),
            docker("rm @N-1").gives(0),
            docker("rm @N-2").gives(0),
            count(&json!(["container=@N-1"])),
            count(&json!(["container=@N-1", "container=@N-2"])),
            count(&json!(["label=scenario=@N", "event=create"])),
            count(&json!(["label=scenario=@N", "label=n=2"])),
            count(&json!(["label=scenario=@N", "label=n"])),
            count(&json!(["label=scenario=@N", "type=image"])),
            count(&json!([
                "label=scenario=@N",
                "type=container",
                "image=busybox"
            ])),
            count(&json!(["label=scenario=@N", "image=busybox:none"])),
            count(&json!(["label=scenario=@N", "event=destr"])),
            count(&json!(["label=scenario=@N", "scope=local"])),
            count(&json!(["label=scenario=@N", "scope=swarm"])),
            count(&json!(["label=scenario=@N", "node=x"])),
            count(&json!(["label=scenario=@N", "service=x"])),
            count(&json!(["label=scenario=@N", "network=x"])),
            count(&json!(["label=scenario=@N", "volume=x"])),
            count(&json!(["label=scenario=@N", "daemon=x"])),
            count(&json!(["label=scenario=@N", "plugin=x"])),
            count(&json!(["label=scenario=@N", "nonsense=x"])),
        ],
    )
}

/// What happens to a network, and to the containers in it.
fn networks() -> Scenario {
    let said = || {
        past(
            "--filter network=@N-net",
            "{{.Type}} {{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}} {{.Status}} {{.Scope}}",
        )
    };
    Scenario::new(
        "events-networks",
        [
            docker("network create @N-net").gives(0),
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            docker("network connect @N-net @N").gives(0),
            said(),
            docker("network disconnect @N-net @N").gives(0),
            docker("network connect @N-net @N").gives(0),
            docker("kill @N").gives(0),
            docker("rm @N").gives(0),
            docker("network rm @N-net").gives(0),
            said(),
        ],
    )
}

/// What happens to a volume, and to the containers that have it.
fn volumes() -> Scenario {
    let said = || {
        past(
            "--filter volume=@N-data",
            "{{.Type}} {{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}} {{.Status}} {{.Scope}}",
        )
    };
    Scenario::new(
        "events-volumes",
        [
            docker("volume create @N-data").gives(0),
            docker("run --name @N --volume @N-data:/x:ro busybox true").gives(0),
            docker("rm @N").gives(0),
            docker("run --name @N --volume @N-data:/y busybox true").gives(0),
            docker("rm @N").gives(0),
            docker("volume rm @N-data").gives(0),
            said(),
        ],
    )
    .microvm_only()
}

fn images() -> Scenario {
    let past = |filter: &str| {
        past(
            &format!("--filter type=image {filter}"),
            "{{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}}",
        )
    };
    Scenario::new(
        "events-images",
        [
            docker("tag configured:latest event/@N:1").gives(0),
            past("--filter image=event/@N"),
            docker("rmi event/@N:1").gives(0),
            docker("import --message x fixtures/plain.tar event/@N:2")
                .gives(0)
                .head_only(),
            past("--filter image=event/@N"),
            docker("rmi event/@N:2").gives(0).head_only(),
            docker("pull --quiet @R/test/single:v1")
                .gives(0)
                .head_only(),
            past("--filter image=@R/test/single --filter event=pull"),
            docker("rmi @R/test/single:v1").gives(0).head_only(),
        ],
    )
    .alone()
}

fn invalid() -> Scenario {
    Scenario::new(
        "events-invalid",
        [
            api("GET /events?since=0&until=1").gives(200),
            api("GET /events?since=x").gives(500),
            api("GET /events?until=1.x").gives(500),
            api("GET /events?since=2026-01-01T00:00:00Z").gives(500),
            api("GET /events?since=10&until=5").gives(400),
            api("GET /events?since=1&until=5&filters=x").gives(400),
            api("GET /events?since=1&until=5&filters=%7B%22a%22%3A1%7D").gives(400),
            api("GET /events?since=1&until=5&filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D")
                .gives(200),
            docker("events --since x --until 5s").gives(1),
        ],
    )
}

fn leaves() -> Scenario {
    Scenario::new(
        "events-gone",
        [
            gone(Gone::BeforeAnswer, "GET /events"),
            gone(Gone::AfterHead, "GET /events"),
            docker("events --since 10m").background("client"),
            docker("run --rm --name @N busybox true").gives(0),
            await_text("client", "@N"),
            hang_up("client"),
            docker("run --rm --name @N busybox true").gives(0),
        ],
    )
}
