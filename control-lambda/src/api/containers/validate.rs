//! What Docker itself does not take (its `verifyContainerSettings`), in its words.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::capabilities;
use super::log_options;
use super::spec::strings;
use crate::api::ApiError;
use crate::api::query::go_bool;
use crate::engine::Place;

const MIB: i64 = 1024 * 1024;

/// The file name that stands for the machine's own address in `--add-host`.
pub(super) const HOST_GATEWAY: &str = "host-gateway";

/// Checks `HostConfig`; gives Docker's warnings.
///
/// # Errors
/// 400, or where Docker answers so 500.
pub(super) fn check(host: &Value, place: &Place) -> Result<Vec<String>, ApiError> {
    let invalid = |message: String| Err(ApiError::new(400, message));
    for extra in strings(&host["ExtraHosts"]) {
        extra_host(&extra)?;
    }
    capabilities::parse("CapAdd", &strings(&host["CapAdd"]))?;
    capabilities::parse("CapDrop", &strings(&host["CapDrop"]))?;
    let isolation = host["Isolation"].as_str().unwrap_or("");
    if !isolation.is_empty() && !isolation.eq_ignore_ascii_case("default") {
        return invalid(format!(
            "invalid isolation ({isolation}): linux only supports 'default'"
        ));
    }
    if host["Annotations"].get("").is_some() {
        return invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key"
                .to_owned(),
        );
    }
    let mut warnings = memory(host)?;
    cpu(host, place)?;
    if number(host, "CpuPercent") > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
    }
    for (field, what) in [
        ("IOMaximumBandwidth", "maximum bandwidth"),
        ("IOMaximumIOps", "maximum IOPs"),
    ] {
        if number(host, field) != 0 {
            return invalid(format!(
                "invalid option: QoS {what} configuration is not supported on linux"
            ));
        }
    }
    if place.discards_disk_weights {
        let devices = host["BlkioWeightDevice"].as_array();
        for (given, what, discarded) in [
            (number(host, "BlkioWeight") > 0, "weight", "Weight"),
            (
                devices.is_some_and(|devices| !devices.is_empty()),
                "weight_device",
                "Weight-device",
            ),
        ] {
            if given {
                warnings.push(format!(
                    "Your kernel does not support Block I/O {what} or the cgroup is not mounted. {discarded} discarded."
                ));
            }
        }
    }
    modes(host)?;
    if number(host, "ShmSize") < 0 {
        return invalid("SHM size can not be less than 0".to_owned());
    }
    let score = number(host, "OomScoreAdj");
    if !(-1000..=1000).contains(&score) {
        return invalid(format!(
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        ));
    }
    for path in host["Tmpfs"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(path, _)| path)
    {
        if !path.starts_with('/') {
            return invalid(format!(
                "invalid mount path: '{path}' mount path must be absolute"
            ));
        }
        if path.split('/').all(|part| matches!(part, "" | ".")) {
            return invalid("invalid specification: destination can't be '/'".to_owned());
        }
    }
    security_options(host)?;
    log_options::check(&host["LogConfig"])?;
    Ok(warnings)
}

/// Takes out of `HostConfig` what this place discards, as `inspect` shows it then.
pub(super) fn discard(host: &mut Map<String, Value>, place: &Place) {
    if !place.discards_disk_weights {
        return;
    }
    if let Some(weight) = host.get_mut("BlkioWeight") {
        *weight = json!(0);
    }
    if let Some(Value::Array(devices)) = host.get_mut("BlkioWeightDevice") {
        devices.clear();
    }
}

/// Of a new container the shares of processors are checked at once; of one that exists, where
/// they are set.
///
/// # Errors
/// 400.
pub(super) fn positive_shares(host: &Value) -> Result<(), ApiError> {
    let shares = number(host, "CpuShares");
    if shares < 0 {
        return Err(ApiError::new(
            400,
            format!("invalid CPU shares ({shares}): value must be a positive integer"),
        ));
    }
    Ok(())
}

fn number(host: &Value, name: &str) -> i64 {
    host[name].as_i64().unwrap_or(0)
}

fn extra_host(extra: &str) -> Result<(), ApiError> {
    match extra.split_once(':') {
        Some(("", _)) => {}
        Some((_, address)) => {
            return if address == HOST_GATEWAY || address.trim().parse::<IpAddr>().is_ok() {
                Ok(())
            } else {
                let message = format!("invalid IP address in add-host: \"{address}\"");
                Err(ApiError::new(400, message))
            };
        }
        None => {}
    }
    let message = format!("bad format for add-host: \"{extra}\"");
    Err(ApiError::new(400, message))
}

fn memory(host: &Value) -> Result<Vec<String>, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(400, message));
    let (memory, swap) = (number(host, "Memory"), number(host, "MemorySwap"));
    if memory != 0 && memory < 6 * MIB {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && swap > 0 {
        return invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(swappiness) = host["MemorySwappiness"].as_i64()
        && !(-1..=100).contains(&swappiness)
    {
        return Err(ApiError::new(
            400,
            format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"),
        ));
    }
    let reservation = number(host, "MemoryReservation");
    if reservation > 0 && reservation < 6 * MIB {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && reservation > 0 && memory < reservation {
        return invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    Ok(Vec::new())
}

fn cpu(host: &Value, place: &Place) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(400, message));
    let (nano, period, quota) = (
        number(host, "NanoCpus"),
        number(host, "CpuPeriod"),
        number(host, "CpuQuota"),
    );
    if nano > 0 && period > 0 {
        return invalid(
            "Conflicting options: Nano CPUs and CPU Period cannot both be set".to_owned(),
        );
    }
    if nano > 0 && quota > 0 {
        return invalid(
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set".to_owned(),
        );
    }
    if nano < 0 {
        return invalid(format!(
            "range of CPUs is from 0.01 to {}.00, as there are only {} CPUs available",
            place.cpus, place.cpus
        ));
    }
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .to_owned(),
        );
    }
    if quota > 0 && quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    let (period, runtime) = (
        number(host, "CpuRealtimePeriod"),
        number(host, "CpuRealtimeRuntime"),
    );
    if period != 0 && runtime > period {
        return invalid(
            "cpu real-time runtime cannot be higher than cpu real-time period".to_owned(),
        );
    }
    available(host, "CpusetCpus", "cpus", "CPUs", place.cpus)?;
    // Machines with several memory nodes are left to the kernel's own word.
    available(host, "CpusetMems", "mems", "memory nodes", 1)
}

/// Docker's check of a list such as `0-2,7`.
fn available(host: &Value, field: &str, set: &str, what: &str, count: u32) -> Result<(), ApiError> {
    let list = host[field].as_str().unwrap_or("");
    let bad = |part: &str| {
        let message = format!("Invalid value {list} for cpuset {set}: invalid format: {part}");
        ApiError::new(400, message)
    };
    let mut largest = None;
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) else {
            return Err(bad(part));
        };
        if from > to {
            return Err(bad(part));
        }
        largest = largest.max(Some(to));
    }
    if largest.is_none_or(|largest| largest < count) {
        return Ok(());
    }
    let all = if count == 1 {
        "0".to_owned()
    } else {
        format!("0-{}", count - 1)
    };
    let message =
        format!("Requested {what} are not available - requested {list}, available: {all}");
    Err(ApiError::new(400, message))
}

/// Namespaces that can be shared.
fn modes(host: &Value) -> Result<(), ApiError> {
    let container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|id| !id.is_empty())
    };
    for (field, what, known) in [
        (
            "IpcMode",
            "IPC mode",
            &["", "none", "private", "shareable", "host"][..],
        ),
        ("PidMode", "PID mode", &["", "host"]),
        ("UTSMode", "UTS mode", &["", "host"]),
        (
            "CgroupnsMode",
            "cgroup namespace mode",
            &["", "private", "host"],
        ),
    ] {
        let mode = host[field].as_str().unwrap_or("");
        let shares = matches!(field, "IpcMode" | "PidMode") && container(mode);
        if !known.contains(&mode) && !shares {
            return Err(ApiError::new(400, format!("invalid {what}: {mode}")));
        }
    }
    Ok(())
}

fn security_options(host: &Value) -> Result<(), ApiError> {
    for option in strings(&host["SecurityOpt"]) {
        let invalid =
            |which: u8| ApiError::new(500, format!("invalid --security-opt {which}: \"{option}\""));
        if matches!(option.as_str(), "no-new-privileges" | "disable") {
            continue;
        }
        let cut = option.split_once('=').or_else(|| option.split_once(':'));
        match cut.ok_or_else(|| invalid(1))? {
            ("label" | "apparmor" | "seccomp", _) => {}
            ("no-new-privileges", value) if go_bool(value).is_some() => {}
            _ => return Err(invalid(2)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(host: Value) -> Result<Vec<String>, (u16, String)> {
        let place = Place {
            name: "local".to_owned(),
            kernel: String::new(),
            operating_system: String::new(),
            cpus: 2,
            memory_bytes: 0,
            host_name: String::new(),
            data_dir: String::new(),
            architecture: String::new(),
            cgroup_version: "1".to_owned(),
            function_has_pty: false,
            discards_disk_weights: false,
        };
        check(&host, &place).map_err(|error| (error.status, error.message))
    }

    /// Statuses and sentences of Engine 28.5.
    #[test]
    fn what_is_not_valid_is_refused_in_dockers_words() {
        let cases = [
            (
                json!({"ShmSize": -1}),
                400,
                "SHM size can not be less than 0",
            ),
            (json!({"UTSMode": "x"}), 400, "invalid UTS mode: x"),
            (
                json!({"PidMode": "container:"}),
                400,
                "invalid PID mode: container:",
            ),
            (json!({"IpcMode": "x"}), 400, "invalid IPC mode: x"),
            (
                json!({"CgroupnsMode": "x"}),
                400,
                "invalid cgroup namespace mode: x",
            ),
            (
                json!({"MemorySwappiness": 101}),
                400,
                "Invalid value: 101, valid memory swappiness range is 0-100",
            ),
            (
                json!({"ExtraHosts": ["foo"]}),
                400,
                "bad format for add-host: \"foo\"",
            ),
            (
                json!({"ExtraHosts": ["b=::1"]}),
                400,
                "invalid IP address in add-host: \":1\"",
            ),
            (
                json!({"CpusetCpus": "9"}),
                400,
                "Requested CPUs are not available - requested 9, available: 0-1",
            ),
            (
                json!({"CpusetCpus": "a"}),
                400,
                "Invalid value a for cpuset cpus: invalid format: a",
            ),
            (
                json!({"CpusetMems": "9"}),
                400,
                "Requested memory nodes are not available - requested 9, available: 0",
            ),
            (
                json!({"NanoCpus": 1, "CpuQuota": 1000}),
                400,
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
            (
                json!({"SecurityOpt": ["x"]}),
                500,
                "invalid --security-opt 1: \"x\"",
            ),
            (
                json!({"SecurityOpt": ["x=y"]}),
                500,
                "invalid --security-opt 2: \"x=y\"",
            ),
            (
                json!({"Tmpfs": {"rel": ""}}),
                400,
                "invalid mount path: 'rel' mount path must be absolute",
            ),
            (
                json!({"Tmpfs": {"/": ""}}),
                400,
                "invalid specification: destination can't be '/'",
            ),
            (
                json!({"Annotations": {"": "x"}}),
                400,
                "invalid Annotations: the empty string is not permitted as an annotation key",
            ),
            (
                json!({"Isolation": "x"}),
                400,
                "invalid isolation (x): linux only supports 'default'",
            ),
        ];
        for (host, status, message) in cases {
            assert_eq!(checked(host), Err((status, message.to_owned())));
        }
    }

    #[test]
    fn what_is_valid_passes() {
        let good = json!({
            "ExtraHosts": ["a:1.2.3.4", "b:::1", "c:host-gateway"], "CpusetCpus": "0-1,1", "IpcMode": "container:x",
            "SecurityOpt": ["no-new-privileges", "no-new-privileges:true", "label=disable", "seccomp={}"],
            "Isolation": "Default", "MemorySwappiness": -1, "Tmpfs": {"/x": ""},
        });
        assert_eq!(checked(good), Ok(Vec::new()));
        let warned = checked(json!({"CpuPercent": 5})).unwrap();
        assert_eq!(
            warned,
            ["linux does not support CPU percent. Percent discarded."]
        );
    }
}
