//! Shares of the machine's processors, memory and disks: [`Resources`] as what is
//! written into files of control groups, for both versions.

use std::io;
use std::path::Path;

use nix::sys::stat::{major, minor, stat};

use crate::ports::machine::{DiskLimit, Resources};

/// Files beside the container's own processes that a limit of processes counts: what
/// forks those of execs; in version 2 the agent's threads too, at most so many.
const HELPERS_V1: u64 = 1;
const HELPERS_V2: u64 = 16;

/// Docker's own scheduler period in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// One value in one file of one controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The controller.
    pub(super) controller: &'static str,
    /// The file's name.
    pub(super) file: &'static str,
    /// What is written.
    pub(super) value: String,
}

/// What version 1 is told. Disks are looked up on this machine.
///
/// Weights of disks are told where the machine `weighs` them at all.
pub(super) fn version_1(resources: &Resources, weighs: bool) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let mut set = |controller, file, value: String| {
        settings.push(Setting {
            controller,
            file,
            value,
        });
    };
    let some = |number: u64| (number > 0).then(|| number.to_string());
    if let Some(value) = some(resources.cpu_shares) {
        set("cpu", "cpu.shares", value);
    }
    if let Some(value) = some(resources.cpu_period) {
        set("cpu", "cpu.cfs_period_us", value);
    }
    if resources.cpu_quota != 0 {
        set("cpu", "cpu.cfs_quota_us", resources.cpu_quota.to_string());
    }
    if let Some(value) = some(resources.cpu_realtime_period) {
        set("cpu", "cpu.rt_period_us", value);
    }
    if let Some(value) = some(resources.cpu_realtime_runtime) {
        set("cpu", "cpu.rt_runtime_us", value);
    }
    for (file, value) in [
        ("cpuset.cpus", &resources.cpuset_cpus),
        ("cpuset.mems", &resources.cpuset_mems),
    ] {
        if !value.is_empty() {
            set("cpuset", file, value.clone());
        }
    }
    if let Some(value) = some(resources.memory_reservation) {
        set("memory", "memory.soft_limit_in_bytes", value);
    }
    if let Some(swappiness) = resources.swappiness {
        set("memory", "memory.swappiness", swappiness.to_string());
    }
    if resources.processes > 0 {
        let value = (resources.processes + HELPERS_V1).to_string();
        set("pids", "pids.max", value);
    }
    if resources.disk_weight > 0 && weighs {
        set("blkio", "blkio.weight", resources.disk_weight.to_string());
    }
    for (path, weight) in resources.disk_weights.iter().filter(|_| weighs) {
        let value = format!("{} {weight}", device(path)?);
        set("blkio", "blkio.weight_device", value);
    }
    for (limit, path, rate) in &resources.disk_limits {
        let file = match limit {
            DiskLimit::ReadBytes => "blkio.throttle.read_bps_device",
            DiskLimit::WriteBytes => "blkio.throttle.write_bps_device",
            DiskLimit::Reads => "blkio.throttle.read_iops_device",
            DiskLimit::Writes => "blkio.throttle.write_iops_device",
        };
        set("blkio", file, format!("{} {rate}", device(path)?));
    }
    Ok(settings)
}

/// What version 2 is told.
pub(super) fn version_2(resources: &Resources, weighs: bool) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let mut set = |controller, file, value: String| {
        settings.push(Setting {
            controller,
            file,
            value,
        });
    };
    if resources.cpu_shares > 0 {
        set(
            "cpu",
            "cpu.weight",
            weight(resources.cpu_shares).to_string(),
        );
    }
    if resources.cpu_quota != 0 || resources.cpu_period != 0 {
        let quota = match resources.cpu_quota {
            quota if quota > 0 => quota.to_string(),
            _ => "max".to_owned(),
        };
        let period = match resources.cpu_period {
            0 => CPU_PERIOD,
            period => period,
        };
        set("cpu", "cpu.max", format!("{quota} {period}"));
    }
    for (file, value) in [
        ("cpuset.cpus", &resources.cpuset_cpus),
        ("cpuset.mems", &resources.cpuset_mems),
    ] {
        if !value.is_empty() {
            set("cpuset", file, value.clone());
        }
    }
    if resources.memory_reservation > 0 {
        set(
            "memory",
            "memory.low",
            resources.memory_reservation.to_string(),
        );
    }
    if resources.processes > 0 {
        set(
            "pids",
            "pids.max",
            (resources.processes + HELPERS_V2).to_string(),
        );
    }
    if resources.disk_weight > 0 && weighs {
        set(
            "io",
            "io.weight",
            format!("default {}", resources.disk_weight),
        );
    }
    for (path, weight) in resources.disk_weights.iter().filter(|_| weighs) {
        set("io", "io.weight", format!("{} {weight}", device(path)?));
    }
    for (limit, path, rate) in &resources.disk_limits {
        let what = match limit {
            DiskLimit::ReadBytes => "rbps",
            DiskLimit::WriteBytes => "wbps",
            DiskLimit::Reads => "riops",
            DiskLimit::Writes => "wiops",
        };
        set("io", "io.max", format!("{} {what}={rate}", device(path)?));
    }
    Ok(settings)
}

/// Version 1's shares as version 2's weight (runc's conversion).
const fn weight(shares: u64) -> u64 {
    let shares = if shares < 2 { 2 } else { shares };
    let weight = 1 + ((shares - 2) * 9999) / 262_142;
    if weight > 10_000 { 10_000 } else { weight }
}

/// The numbers of a device of this machine.
fn device(path: &str) -> io::Result<String> {
    let found = stat(Path::new(path))
        .map_err(|errno| io::Error::other(format!("stat {path}: {}", errno.desc())))?;
    Ok(format!("{}:{}", major(found.st_rdev), minor(found.st_rdev)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(settings: Vec<Setting>) -> Vec<String> {
        settings
            .into_iter()
            .map(|s| format!("{}={}", s.file, s.value))
            .collect()
    }

    fn some() -> Resources {
        Resources {
            cpu_shares: 1024,
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpuset_cpus: "0".into(),
            processes: 10,
            memory_reservation: 7,
            disk_weight: 500,
            disk_limits: vec![(DiskLimit::Reads, "/dev/null".into(), 5)],
            ..Resources::default()
        }
    }

    #[test]
    fn nothing_asked_for_is_nothing_written() {
        assert_eq!(version_1(&Resources::default(), true).unwrap(), []);
        assert_eq!(version_2(&Resources::default(), true).unwrap(), []);
    }

    #[test]
    fn each_version_is_told_in_its_own_words() {
        assert_eq!(
            written(version_1(&some(), true).unwrap()),
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpuset.cpus=0",
                "memory.soft_limit_in_bytes=7",
                "pids.max=11",
                "blkio.weight=500",
                "blkio.throttle.read_iops_device=1:3 5",
            ]
        );
        assert_eq!(
            written(version_2(&some(), true).unwrap()),
            [
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "cpuset.cpus=0",
                "memory.low=7",
                "pids.max=26",
                "io.weight=default 500",
                "io.max=1:3 riops=5",
            ]
        );
    }
}
