//! From Docker's configuration to the settings of a microvm.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use sockerless_shared::protocol::control::StartFailure;

use super::capabilities;
use super::confinement::{capability_mask, failure, limits, runc_failure};
use super::mounts;
use super::spec::strings;
use super::tmpfs;
use crate::ports::machine::{DiskLimit, Machine, Resources};

/// Longest host name that Linux takes, in bytes.
const MAX_HOSTNAME_BYTES: usize = 64;

/// Most shares of processor time that the kernel gives.
const MAX_CPU_SHARES: i64 = 262_144;

/// Parameters of the kernel that belong to a container alone, beside those below `net.`
/// and `fs.mqueue.` (runc's list).
const SYSCTLS: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.domainname",
];

/// The machine that a container of this configuration asks for.
///
/// # Errors
/// Docker's words for what `create` takes and `start` refuses.
pub(super) fn machine(config: &Value, host: &Value) -> Result<Machine, StartFailure> {
    let text = |name: &str| config[name].as_str().unwrap_or("").to_owned();
    let (hostname, domainname) = (text("Hostname"), text("Domainname"));
    if hostname.len() > MAX_HOSTNAME_BYTES || domainname.len() > MAX_HOSTNAME_BYTES {
        return Err(runc_failure(
            "unable to start container process: error during container init: sethostname: invalid argument",
        ));
    }
    let shares = host["CpuShares"].as_i64().unwrap_or(0);
    if shares < 0 {
        return Err(failure(format!(
            "invalid CPU shares ({shares}): value must be a positive integer"
        )));
    }
    if let Some(bound) = shares_bound(shares) {
        return Err(runc_failure(&format!(
            "unable to start container process: error during container init: error setting cgroup config for procHooks process: the {bound}"
        )));
    }
    let name_servers = strings(&host["Dns"]);
    for server in &name_servers {
        if server.parse::<IpAddr>().is_err() {
            let reason = format!(
                "bad nameserver address {server}: ParseAddr(\"{server}\"): unable to parse IP"
            );
            return Err(failure(reason));
        }
    }
    Ok(Machine {
        hostname,
        domainname,
        hosts: hosts(&host["ExtraHosts"]),
        name_servers,
        search_domains: strings(&host["DnsSearch"]),
        resolver_options: strings(&host["DnsOptions"]),
        read_only_root: host["ReadonlyRootfs"].as_bool().unwrap_or(false),
        shm_bytes: match host["IpcMode"].as_str() {
            Some("none") => None,
            _ => Some(match host["ShmSize"].as_u64() {
                None | Some(0) => Machine::SHM_BYTES,
                Some(bytes) => bytes,
            }),
        },
        sysctls: sysctls(&host["Sysctls"])?,
        added_capabilities: capability_mask(host) & !capabilities::DEFAULT,
        filtered: !is_unconfined(host),
        masked_paths: paths(&host["MaskedPaths"], &super::config::MASKED_PATHS),
        read_only_paths: paths(&host["ReadonlyPaths"], &super::config::READONLY_PATHS),
        limits: limits(&host["Ulimits"])?,
        oom_score_adj: number(&host["OomScoreAdj"]),
        resources: resources(host),
        devices: devices(&host["Devices"]),
        mounts: {
            check_file_systems(&host["Tmpfs"])?;
            mounts::mounts(host).unwrap_or_default()
        },
    })
}

/// The bound that shares of processors are beyond, in runc's words: a negative number is to the
/// kernel a large one.
pub(super) const fn shares_bound(shares: i64) -> Option<&'static str> {
    match shares {
        0 | 2..=MAX_CPU_SHARES => None,
        1 => Some("minimum allowed cpu-shares is 2"),
        _ => Some("maximum allowed cpu-shares is 262144"),
    }
}

fn number<N: TryFrom<i64> + Default>(value: &Value) -> N {
    N::try_from(value.as_i64().unwrap_or(0)).unwrap_or_default()
}

/// `name:address`; checked at `create`.
fn hosts(extra: &Value) -> Vec<(String, String)> {
    let lines = strings(extra);
    lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, address)| (address.to_owned(), name.to_owned()))
        .collect()
}

fn sysctls(given: &Value) -> Result<BTreeMap<String, String>, StartFailure> {
    let entries = given.as_object().into_iter().flatten();
    entries
        .map(|(name, value)| {
            // Both spellings of a path, as runc takes them.
            let dotted = name.replace('/', ".");
            let own = dotted.starts_with("net.")
                || dotted.starts_with("fs.mqueue.")
                || SYSCTLS.contains(&dotted.as_str());
            let plain = dotted.split('.').all(|part| !part.is_empty());
            if !own || !plain {
                let reason = format!("sysctl \"{name}\" is not in a separate kernel namespace");
                return Err(runc_failure(&reason));
            }
            Ok((name.clone(), value.as_str().unwrap_or("").to_owned()))
        })
        .collect()
}

fn is_unconfined(host: &Value) -> bool {
    let options = strings(&host["SecurityOpt"]);
    options
        .iter()
        .any(|option| matches!(option.as_str(), "seccomp=unconfined" | "seccomp:unconfined"))
}

/// Docker's own list is left to the host.
fn paths(given: &Value, dockers: &[&str]) -> Option<Vec<String>> {
    given.as_array()?;
    let given = strings(given);
    (given != dockers).then_some(given)
}

fn resources(host: &Value) -> Resources {
    let text = |name: &str| host[name].as_str().unwrap_or("").to_owned();
    let nano_cpus: i64 = number(&host["NanoCpus"]);
    // Docker's own period and quota for `--cpus`.
    let (cpu_period, cpu_quota) = if nano_cpus > 0 {
        (100_000, nano_cpus / 10_000)
    } else {
        (number(&host["CpuPeriod"]), number(&host["CpuQuota"]))
    };
    let mut disk_limits = Vec::new();
    for (limit, field) in [
        (DiskLimit::ReadBytes, "BlkioDeviceReadBps"),
        (DiskLimit::WriteBytes, "BlkioDeviceWriteBps"),
        (DiskLimit::Reads, "BlkioDeviceReadIOps"),
        (DiskLimit::Writes, "BlkioDeviceWriteIOps"),
    ] {
        for entry in host[field].as_array().into_iter().flatten() {
            let path = entry["Path"].as_str().unwrap_or("").to_owned();
            disk_limits.push((limit, path, number(&entry["Rate"])));
        }
    }
    Resources {
        cpu_shares: number(&host["CpuShares"]),
        cpu_period,
        cpu_quota,
        cpu_realtime_period: number(&host["CpuRealtimePeriod"]),
        cpu_realtime_runtime: number(&host["CpuRealtimeRuntime"]),
        cpuset_cpus: text("CpusetCpus"),
        cpuset_mems: text("CpusetMems"),
        processes: number(&host["PidsLimit"]),
        memory_reservation: number(&host["MemoryReservation"]),
        swappiness: host["MemorySwappiness"].as_u64(),
        disk_weight: number(&host["BlkioWeight"]),
        disk_weights: host["BlkioWeightDevice"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| {
                let path = entry["Path"].as_str().unwrap_or("").to_owned();
                (path, number(&entry["Weight"]))
            })
            .collect(),
        disk_limits,
    }
}

fn devices(given: &Value) -> Vec<(String, String)> {
    let entries = given.as_array().into_iter().flatten();
    entries
        .map(|device| {
            let on_host = device["PathOnHost"].as_str().unwrap_or("");
            let inside = match device["PathInContainer"].as_str() {
                None | Some("") => on_host,
                Some(path) => path,
            };
            (on_host.to_owned(), inside.to_owned())
        })
        .collect()
}

fn check_file_systems(given: &Value) -> Result<(), StartFailure> {
    for options in given
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, options)| options)
    {
        tmpfs::merge(options.as_str().unwrap_or("")).map_err(failure)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(config: Value, host: Value) -> Result<Machine, String> {
        machine(&config, &host).map_err(|failure| failure.message)
    }

    #[test]
    fn nothing_asked_for_is_the_usual_machine() {
        assert_eq!(made(json!({}), json!({})), Ok(Machine::default()));
        let shown = json!({
            "ShmSize": 67_108_864, "IpcMode": "private", "MaskedPaths": super::super::config::MASKED_PATHS,
            "ReadonlyPaths": super::super::config::READONLY_PATHS, "Binds": null, "PidsLimit": null,
        });
        assert_eq!(made(json!({}), shown), Ok(Machine::default()));
    }

    #[test]
    fn what_is_asked_for_is_there() {
        let machine = made(
            json!({"Hostname": "h", "Domainname": "d"}),
            json!({
                "ExtraHosts": ["a:1.2.3.4", "b:::1"], "NanoCpus": 500_000_000, "IpcMode": "none",
                "CapAdd": ["SYS_PTRACE"], "SecurityOpt": ["seccomp=unconfined"], "MaskedPaths": [],
                "Devices": [{"PathOnHost": "/dev/null"}], "Sysctls": {"net.ipv4.ip_forward": "1"},
            }),
        )
        .unwrap();
        assert_eq!(
            machine.hosts,
            [("1.2.3.4".into(), "a".into()), ("::1".into(), "b".into())]
        );
        assert_eq!(
            (machine.resources.cpu_period, machine.resources.cpu_quota),
            (100_000, 50_000)
        );
        assert_eq!(machine.shm_bytes, None);
        assert_eq!(machine.added_capabilities, 1 << 19);
        assert!(!machine.filtered);
        assert_eq!(machine.masked_paths, Some(Vec::new()));
        assert_eq!(machine.devices, [("/dev/null".into(), "/dev/null".into())]);
        assert_eq!(machine.sysctls.len(), 1);
    }

    #[test]
    fn what_a_start_refuses_is_refused_in_dockers_words() {
        let cases = [
            (
                json!({"Hostname": "x".repeat(65)}),
                json!({}),
                "sethostname: invalid argument",
            ),
            (
                json!({}),
                json!({"Dns": ["bad"]}),
                "ParseAddr(\"bad\"): unable to parse IP",
            ),
            (
                json!({}),
                json!({"Sysctls": {"vm.swappiness": "1"}}),
                "not in a separate kernel namespace",
            ),
            (
                json!({}),
                json!({"Sysctls": {"net./../../x": "1"}}),
                "not in a separate kernel namespace",
            ),
            (
                json!({}),
                json!({"Tmpfs": {"/x": "nosuch"}}),
                "invalid tmpfs option \"nosuch\"",
            ),
        ];
        for (config, host, end) in cases {
            let message = made(config, host).unwrap_err();
            assert!(message.ends_with(end), "{message}");
        }
    }
}
