//! What `docker run` can ask for and does not get here: refused by name, with
//! what to do instead, never ignored.

use serde_json::Value;
use sockerless_shared::spec::Runtime;

use super::Wanted;
use crate::api::ApiError;
use crate::api::containers::capabilities;
use crate::api::containers::confinement::{capability_mask, no_new_privileges};
use crate::api::containers::spec::strings;
use crate::api::containers::validate::HOST_GATEWAY;

/// Refuses what cannot be had.
///
/// # Errors
/// 501 with a sentence.
pub(super) fn check(wanted: &Wanted, runtime: Runtime) -> Result<(), ApiError> {
    for (name, flag, instead) in NOWHERE {
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
    security_options(wanted)?;
    match runtime {
        Runtime::Function => function(wanted),
        Runtime::Microvm => microvm(wanted),
    }
}

/// Security options that neither runtime has.
fn security_options(wanted: &Wanted) -> Result<(), ApiError> {
    for option in strings(wanted.host("SecurityOpt")) {
        let cut = option.split_once('=').or_else(|| option.split_once(':'));
        match cut {
            Some(("seccomp", "unconfined" | "builtin" | "")) => {}
            Some(("seccomp", _)) => {
                return refuse(
                    "--security-opt seccomp with a profile of one's own",
                    "leave it out for the built-in filter, or use seccomp=unconfined",
                );
            }
            Some(("apparmor", "unconfined" | "docker-default" | "")) => {}
            Some(("apparmor", _)) => {
                return refuse(
                    "--security-opt apparmor with a profile",
                    "no AppArmor profile is applied; leave it out",
                );
            }
            Some(("label", "disable")) => {}
            Some(("label", _)) => {
                return refuse(
                    "--security-opt label",
                    "no SELinux label is applied; leave it out",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a function cannot be given, and a microvm can.
fn function(wanted: &Wanted) -> Result<(), ApiError> {
    let impossible = |flag: &str, why: &str| {
        Err(ApiError::not_implemented(format!(
            "{flag} is not possible under the runtime function, {why}: use --runtime microvm"
        )))
    };
    let user = wanted.config("User").as_str().unwrap_or("");
    if !user.is_empty() {
        return impossible(
            "--user",
            "which runs everything as one fixed unprivileged user",
        );
    }
    if is_set(wanted.config("Volumes")) {
        return impossible("--volume", NO_MOUNTS);
    }
    for (name, flag, why) in NOT_IN_FUNCTIONS {
        if is_set(wanted.host(name)) {
            return impossible(flag, why);
        }
    }
    if !matches!(
        wanted.host("ShmSize").as_i64(),
        None | Some(0 | DOCKERS_SHM_BYTES)
    ) {
        return impossible("--shm-size", "which has no /dev/shm");
    }
    for name in ["MaskedPaths", "ReadonlyPaths"] {
        // Docker's own lists, as another container's `inspect` shows them, change nothing.
        let dockers = match name {
            "MaskedPaths" => &super::MASKED_PATHS[..],
            _ => &super::READONLY_PATHS,
        };
        if wanted.host(name).is_array() && strings(wanted.host(name)) != dockers {
            return impossible(
                "--security-opt systempaths",
                "whose /proc is the platform's",
            );
        }
    }
    for option in strings(wanted.host("SecurityOpt")) {
        if option.starts_with("seccomp") && option.ends_with("unconfined") {
            return impossible(
                "--security-opt seccomp=unconfined",
                "whose system calls the platform filters",
            );
        }
        if option.starts_with("no-new-privileges") && !no_new_privileges(&wanted.host_value()) {
            return impossible(
                "--security-opt no-new-privileges=false",
                "which never gives new privileges",
            );
        }
    }
    for path in wanted
        .host("Tmpfs")
        .as_object()
        .into_iter()
        .flatten()
        .map(|(path, _)| path)
    {
        if path.trim_end_matches('/') != "/tmp" {
            return impossible("--tmpfs", "where /tmp is the only place to write to");
        }
    }
    Ok(())
}

/// What a microvm on this machine cannot be given.
fn microvm(wanted: &Wanted) -> Result<(), ApiError> {
    let beyond = capability_mask(&wanted.host_value()) & !capabilities::WITHIN;
    if beyond != 0 {
        return Err(ApiError::not_implemented(format!(
            "--cap-add of {} is not implemented by sockerless: a microvm shares this machine's kernel, over which it would give power; add {} or less",
            capabilities::names(beyond),
            capabilities::names(capabilities::WITHIN & !capabilities::DEFAULT),
        )));
    }
    let is_gateway = |line: &String| line.ends_with(&format!(":{HOST_GATEWAY}"));
    if strings(wanted.host("ExtraHosts")).iter().any(is_gateway) {
        return refuse(
            "--add-host with host-gateway",
            "containers reach no loopback port of this machine; give the address of a network that it has",
        );
    }
    for device in wanted.host("Devices").as_array().into_iter().flatten() {
        let access = device["CgroupPermissions"].as_str().unwrap_or("");
        if !access.is_empty() && !["r", "w", "m"].iter().all(|one| access.contains(one)) {
            return refuse(
                "--device with less than all permissions",
                "a device is given with all of them; leave the permissions out",
            );
        }
    }
    Ok(())
}

const NO_MOUNTS: &str = "into which nothing can be mounted";

/// Size of `/dev/shm` that Docker's `inspect` shows where nothing was asked for.
const DOCKERS_SHM_BYTES: i64 = 64 * 1024 * 1024;

/// Fields that neither runtime has: field, flag, what to do instead.
const NOWHERE: [(&str, &str, &str); 9] = [
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
        "neither runtime gives power over the machine that it shares; under --runtime microvm, add what is needed with --cap-add or --device",
    ),
    ("DeviceRequests", "--gpus", "there are no such devices"),
    (
        "DeviceCgroupRules",
        "--device-cgroup-rule",
        "under --runtime microvm, give the device itself with --device",
    ),
    (
        "StorageOpt",
        "--storage-opt",
        "a container's root is as large as the disk that keeps it; leave it out",
    ),
    (
        "CgroupParent",
        "--cgroup-parent",
        "every container has control groups of its own; leave it out",
    ),
    (
        "OomKillDisable",
        "--oom-kill-disable",
        "a container that is out of memory would hang for ever; give it more with -m",
    ),
];

/// Fields that a function cannot have: field, flag, why.
const NOT_IN_FUNCTIONS: [(&str, &str, &str); 28] = [
    ("VolumeDriver", "--volume-driver", NO_MOUNTS),
    ("Binds", "--volume", NO_MOUNTS),
    ("Mounts", "--mount", NO_MOUNTS),
    ("VolumesFrom", "--volumes-from", NO_MOUNTS),
    ("CapAdd", "--cap-add", "which has no capabilities"),
    (
        "GroupAdd",
        "--group-add",
        "which runs everything as one fixed unprivileged user",
    ),
    ("Devices", "--device", "which has no devices of its own"),
    ("Dns", "--dns", "where the platform's name servers are used"),
    (
        "DnsOptions",
        "--dns-option",
        "where the platform's name servers are used",
    ),
    (
        "DnsSearch",
        "--dns-search",
        "where the platform's name servers are used",
    ),
    ("ExtraHosts", "--add-host", "whose /etc/hosts is read-only"),
    (
        "Sysctls",
        "--sysctl",
        "where the kernel's parameters are fixed",
    ),
    (
        "OomScoreAdj",
        "--oom-score-adj",
        "which is alone on its machine",
    ),
    (
        "PidsLimit",
        "--pids-limit",
        "which always has 1,024 processes and threads",
    ),
    (
        "CpuShares",
        "--cpu-shares",
        "which gets processors by its memory (see --cpus)",
    ),
    (
        "CpuPeriod",
        "--cpu-period",
        "which gets processors by its memory (see --cpus)",
    ),
    (
        "CpuQuota",
        "--cpu-quota",
        "which gets processors by its memory (see --cpus)",
    ),
    (
        "CpuRealtimePeriod",
        "--cpu-rt-period",
        "which has no real-time scheduling",
    ),
    (
        "CpuRealtimeRuntime",
        "--cpu-rt-runtime",
        "which has no real-time scheduling",
    ),
    (
        "CpusetCpus",
        "--cpuset-cpus",
        "which gets processors by its memory (see --cpus)",
    ),
    (
        "CpusetMems",
        "--cpuset-mems",
        "whose memory is the platform's to place",
    ),
    (
        "MemoryReservation",
        "--memory-reservation",
        "whose memory is all its own (see -m)",
    ),
    (
        "BlkioWeight",
        "--blkio-weight",
        "which has no disk but /tmp",
    ),
    (
        "BlkioWeightDevice",
        "--blkio-weight-device",
        "which has no disk but /tmp",
    ),
    (
        "BlkioDeviceReadBps",
        "--device-read-bps",
        "which has no disk but /tmp",
    ),
    (
        "BlkioDeviceWriteBps",
        "--device-write-bps",
        "which has no disk but /tmp",
    ),
    (
        "BlkioDeviceReadIOps",
        "--device-read-iops",
        "which has no disk but /tmp",
    ),
    (
        "BlkioDeviceWriteIOps",
        "--device-write-iops",
        "which has no disk but /tmp",
    ),
];

/// Fields that name a mode, the modes that are what happens anyway, the flag, and what to do instead.
const MODES: [(&str, &[&str], &str, &str); 3] = [
    (
        "IpcMode",
        &["", "private", "shareable", "none"],
        "--ipc of the host or of another container",
        "every container has an IPC namespace of its own; leave it out",
    ),
    (
        "PidMode",
        &[""],
        "--pid of the host or of another container",
        "every container has processes of its own; leave it out",
    ),
    (
        "UTSMode",
        &[""],
        "--uts host",
        "a container under --runtime microvm has a host name of its own; leave it out",
    ),
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
