//! `docker update`.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Gone, Scenario, Step, api, docker, gone};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![policies(), resources(), conflicts(), leaves()]
}

fn update(body: &Value) -> Step {
    api("POST /containers/@N/update").json(body)
}

fn policies() -> Scenario {
    let policy = || docker("inspect @N --format '{{json .HostConfig.RestartPolicy}}'").gives(0);
    Scenario::new(
        "update-policies",
        [
            docker("create --name @N busybox true").gives(0),
            docker("update --restart always @N").gives(0),
            policy(),
            docker("update --restart on-failure:3 @N").gives(0),
            policy(),
            update(&json!({})).gives(200),
            api("POST /containers/@N/update").gives(200),
            policy(),
            update(&json!({"RestartPolicy": {"Name": "nonsense"}})).gives(400),
            update(&json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}))
                .gives(400),
            update(&json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -3}}))
                .gives(400),
            update(&json!([])).gives(400),
            update(&json!({"Memory": "x"})).gives(400),
            update(&json!({"Memory": 1000})).gives(400),
            update(&json!({"CpusetCpus": "900"})).head_only().gives(400),
            policy(),
            docker("update @N").gives(1),
            docker("update --restart no @N-none").gives(1),
            api("POST /containers/@N-none/update")
                .json(&json!({}))
                .gives(404),
            docker("rm @N").gives(0),
            docker("create --rm --name @N busybox true").gives(0),
            update(&json!({"RestartPolicy": {"Name": "always"}})).gives(409),
            update(&json!({"RestartPolicy": {"Name": "no"}})).gives(200),
            docker("rm @N").gives(0),
        ],
    )
}

/// What a container may use of its machine, while it runs.
fn resources() -> Scenario {
    let shown = || {
        docker("inspect @N --format '{{with .HostConfig}}{{.CpuShares}} {{.NanoCpus}} {{.Memory}} {{.MemorySwap}} {{.MemoryReservation}} {{.PidsLimit}} {{.CpusetCpus}}{{end}}'")
            .gives(0)
    };
    Scenario::new(
        "update-resources",
        [
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            update(&json!({"CpuShares": 512, "NanoCpus": 500_000_000, "CpusetCpus": "0"}))
                .gives(200),
            shown(),
            update(&json!({"Memory": 268_435_456, "MemorySwap": 536_870_912})).gives(200),
            update(&json!({"MemoryReservation": 10_000_000})).gives(200),
            update(&json!({"PidsLimit": 3})).gives(200),
            shown(),
            // The limit is in force: of these there can be no more.
            docker("exec @N sh -c 'sleep 5 & sleep 5 & sleep 5 & sleep 5 & wait'").head_only(),
            update(&json!({"PidsLimit": -1})).gives(200),
            docker("exec @N sh -c 'sleep 0 & sleep 0 & sleep 0 & sleep 0 & wait'").gives(0),
            shown(),
            update(&json!({"CpuShares": -1})).gives(500),
            update(&json!({"CpuShares": 1})).gives(500),
            update(&json!({"CpuShares": 300_000})).gives(500),
            update(&json!({"BlkioWeight": 300})).gives(200),
            docker("inspect @N --format '{{.HostConfig.BlkioWeight}}'").gives(0),
            shown(),
            docker("stop --time 0 @N").gives(0),
            // What a machine does not take is found when there is one.
            update(&json!({"CpuShares": -1})).gives(200),
            api("POST /containers/@N/start").gives(500),
            update(&json!({"CpuShares": 300_000})).gives(200),
            api("POST /containers/@N/start").gives(500),
            update(&json!({"CpuShares": 256})).gives(200),
            docker("start @N").gives(0),
            shown(),
            docker("rm --force @N").gives(0),
        ],
    )
    .microvm_only()
}

fn conflicts() -> Scenario {
    Scenario::new(
        "update-conflicts",
        [
            docker("create --name @N --memory 256m --memory-swap 512m --cpus 0.5 busybox true")
                .gives(0),
            update(&json!({"Memory": 1_073_741_824})).gives(409),
            update(&json!({"CpuPeriod": 100_000})).gives(409),
            update(&json!({"CpuQuota": 50_000})).gives(409),
            docker("rm @N").gives(0),
            docker("create --name @N --cpu-period 100000 --cpu-quota 50000 busybox true").gives(0),
            update(&json!({"NanoCpus": 500_000_000})).gives(409),
            docker("rm @N").gives(0),
        ],
    )
    .microvm_only()
}

fn leaves() -> Scenario {
    Scenario::new(
        "update-gone",
        [
            docker("create --name @N busybox true").gives(0),
            gone(Gone::InBody, "POST /containers/@N/update")
                .json(&json!({"RestartPolicy": {"Name": "always"}})),
            gone(Gone::BeforeAnswer, "POST /containers/@N/update").json(&json!({})),
            docker("rm @N").gives(0),
        ],
    )
}
