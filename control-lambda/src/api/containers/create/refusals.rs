//! What `docker run` can ask for and does not get here: refused by name, with
//! what to do instead, never ignored.

use serde_json::Value;
use sockerless_shared::spec::Runtime;

use super::Wanted;
use crate::api::ApiError;

/// Refuses what cannot be had.
///
/// # Errors
/// 501 with a sentence.
pub(super) fn check(wanted: &Wanted, runtime: Runtime) -> Result<(), ApiError> {
    for (name, flag, instead) in HOST_FIELDS {
        if is_set(wanted.host(name)) {
            return refuse(flag, instead);
        }
    }
    for (name, neutral, flag, instead) in MODES {
        let mode = wanted.host(name).as_str().unwrap_or("");
        if !neutral.contains(&mode) {
            return refuse(flag, instead);
        }
    }
    let restart = wanted.host("RestartPolicy")["Name"].as_str().unwrap_or("");
    match restart {
        "" | "no" => {}
        "always" | "unless-stopped" | "on-failure" => {
            return refuse("--restart", "start the container again with `docker start`");
        }
        other => {
            return Err(ApiError::new(
                400,
                format!(
                    "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
                ),
            ));
        }
    }
    match wanted.host("LogConfig")["Type"].as_str().unwrap_or("") {
        "" | "json-file" | "local" => {}
        _ => {
            return refuse(
                "--log-driver",
                "logs are kept by sockerless and read with `docker logs`",
            );
        }
    }
    if is_set(wanted.config("Volumes")) {
        return refuse("--volume", VOLUMES);
    }
    if is_set(wanted.config("Healthcheck")) && !disables_healthcheck(wanted.config("Healthcheck")) {
        return refuse("--health-cmd", "check from outside with `docker exec`");
    }
    let user = wanted.config("User").as_str().unwrap_or("");
    if runtime == Runtime::Function && !user.is_empty() {
        return Err(ApiError::not_implemented(
            "--user is not possible under the runtime function, which runs everything as one fixed unprivileged user: use --runtime microvm",
        ));
    }
    Ok(())
}

const VOLUMES: &str = "bring data in with the image or on stdin, and out on stdout";

const HOST_FIELDS: [(&str, &str, &str); 29] = [
    ("Binds", "--volume", VOLUMES),
    ("Mounts", "--mount", VOLUMES),
    ("VolumesFrom", "--volumes-from", VOLUMES),
    ("Tmpfs", "--tmpfs", "write to /tmp"),
    (
        "PortBindings",
        "--publish",
        "reach the container with `docker exec`, or let it connect outwards",
    ),
    (
        "PublishAllPorts",
        "--publish-all",
        "reach the container with `docker exec`, or let it connect outwards",
    ),
    ("Links", "--link", "containers cannot reach each other"),
    (
        "Privileged",
        "--privileged",
        "there are no privileges to give",
    ),
    ("CapAdd", "--cap-add", "there are no capabilities to give"),
    ("CapDrop", "--cap-drop", "leave it out"),
    ("SecurityOpt", "--security-opt", "leave it out"),
    ("GroupAdd", "--group-add", "leave it out"),
    ("Devices", "--device", "there are no devices"),
    ("DeviceRequests", "--gpus", "there are no devices"),
    (
        "DeviceCgroupRules",
        "--device-cgroup-rule",
        "there are no devices",
    ),
    (
        "Ulimits",
        "--ulimit",
        "set limits inside the container with ulimit",
    ),
    ("Sysctls", "--sysctl", "the kernel's parameters are fixed"),
    ("Dns", "--dns", "the platform's name servers are used"),
    (
        "DnsOptions",
        "--dns-option",
        "the platform's name servers are used",
    ),
    (
        "DnsSearch",
        "--dns-search",
        "the platform's name servers are used",
    ),
    (
        "ExtraHosts",
        "--add-host",
        "put the names into the image's /etc/hosts",
    ),
    (
        "Init",
        "--init",
        "leave it out: the agent reaps processes as an init does",
    ),
    (
        "ReadonlyRootfs",
        "--read-only",
        "leave it out: under the runtime function the root is read-only anyway",
    ),
    ("StorageOpt", "--storage-opt", "leave it out"),
    ("CgroupParent", "--cgroup-parent", "leave it out"),
    (
        "CpusetCpus",
        "--cpuset-cpus",
        "choose processors with --cpus",
    ),
    ("CpusetMems", "--cpuset-mems", "leave it out"),
    ("OomKillDisable", "--oom-kill-disable", "leave it out"),
    ("VolumeDriver", "--volume-driver", VOLUMES),
];

/// Fields that name a mode, the modes that are what happens anyway, the flag, and what to do instead.
const MODES: [(&str, &[&str], &str, &str); 5] = [
    ("IpcMode", &["", "private", "none"], "--ipc", "leave it out"),
    ("PidMode", &[""], "--pid", "leave it out"),
    ("UTSMode", &[""], "--uts", "leave it out"),
    ("UsernsMode", &[""], "--userns", "leave it out"),
    ("Isolation", &["", "default"], "--isolation", "leave it out"),
];

fn refuse(flag: &str, instead: &str) -> Result<(), ApiError> {
    Err(ApiError::not_implemented(format!(
        "{flag} is not implemented by sockerless: {instead}"
    )))
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn disables_healthcheck(value: &Value) -> bool {
    value["Test"]
        .as_array()
        .is_none_or(|test| test.is_empty() || test[0] == "NONE" || test[0] == "")
}
