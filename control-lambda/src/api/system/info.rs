//! `GET /info` (Engine API, `SystemInfo`).

use serde_json::json;
use sockerless_shared::lifecycle::Phase;
use sockerless_shared::spec::Runtime;

use crate::api::{ApiResult, Context, json};

/// What this control plane is and has.
///
/// # Errors
/// When the store fails.
pub async fn info(context: &Context<'_>) -> ApiResult {
    let control = context.control;
    let containers = control.store.containers(context.namespace).await?;
    let count = |phases: &[Phase]| {
        containers
            .iter()
            .filter(|container| phases.contains(&container.lifecycle.phase))
            .count()
    };
    let running = count(&[Phase::Running]);
    let paused = count(&[Phase::Paused]);
    let now = control.environment.now();
    let images = control
        .images
        .catalog
        .list(context.namespace, now)
        .await?
        .len();
    let config = &control.config;
    let place = &config.place;
    let aws = place.name == "aws";
    json(
        200,
        &json!({
            "ID": context.namespace,
            "Containers": containers.len(),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": containers.len() - running - paused,
            "Images": images,
            "Driver": if aws { "lambda" } else { "overlay2" },
            "DriverStatus": [
                ["Place", place.name],
                ["Function memory", format!("{} MiB", config.default_memory_mib)],
                ["Function time limit", format!("{} s", config.function_time_limit.as_secs())],
                ["Function /tmp", format!("{} MiB", config.tmp_mib)],
            ],
            "Plugins": {
                "Volume": [],
                "Network": ["bridge", "null"],
                "Authorization": null,
                "Log": ["json-file"],
            },
            "MemoryLimit": true,
            "SwapLimit": true,
            "CpuCfsPeriod": false,
            "CpuCfsQuota": false,
            "CPUShares": false,
            "CPUSet": false,
            "PidsLimit": true,
            "IPv4Forwarding": true,
            "Debug": false,
            "NFd": 0,
            "OomKillDisable": false,
            "NGoroutines": 0,
            "SystemTime": control.environment.now().rfc3339(),
            "LoggingDriver": "json-file",
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": place.cgroup_version,
            "NEventsListener": 0,
            "KernelVersion": place.kernel,
            "OperatingSystem": place.operating_system,
            "OSVersion": "",
            "OSType": "linux",
            "Architecture": place.architecture,
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "IndexConfigs": {
                    "docker.io": {"Mirrors": [], "Name": "docker.io", "Official": true, "Secure": true},
                },
                "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
                "Mirrors": null,
            },
            "NCPU": place.cpus,
            "MemTotal": place.memory_bytes,
            "GenericResources": null,
            "DockerRootDir": place.data_dir,
            "HttpProxy": "",
            "HttpsProxy": "",
            "NoProxy": "",
            "Name": place.host_name,
            "Labels": [],
            "ExperimentalBuild": false,
            "ServerVersion": env!("CARGO_PKG_VERSION"),
            "Runtimes": {
                Runtime::Function.name(): {"path": "sockerless"},
                Runtime::Microvm.name(): {"path": "sockerless"},
            },
            "DefaultRuntime": config.default_runtime.name(),
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": false,
                "Error": "",
                "RemoteManagers": null,
            },
            "LiveRestoreEnabled": false,
            "Isolation": "",
            "InitBinary": "sockerless-agent",
            "ContainerdCommit": {"ID": ""},
            "RuncCommit": {"ID": ""},
            "InitCommit": {"ID": ""},
            "SecurityOptions": [],
            "CDISpecDirs": [],
            "Warnings": null,
        }),
    )
}
