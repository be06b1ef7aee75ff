//! What this machine is, for `info` and `version`.

use std::fs;
use std::path::Path;

use crate::engine::Place;

/// Reads what the kernel says of itself; what becomes of weights of disks the host knows.
#[must_use]
pub fn place(data_dir: &Path, discards_disk_weights: bool) -> Place {
    let kernel = |file: &str| {
        fs::read_to_string(Path::new("/proc/sys/kernel").join(file))
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    Place {
        name: "local".to_owned(),
        kernel: kernel("osrelease"),
        operating_system: os_release(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        cpus: std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: mem_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        host_name: kernel("hostname"),
        data_dir: data_dir.display().to_string(),
        architecture: std::env::consts::ARCH.to_owned(),
        cgroup_version: cgroup_version(),
        function_has_pty: false,
        discards_disk_weights,
    }
}

fn os_release(text: &str) -> String {
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(
            || "Linux".to_owned(),
            |name| name.trim_matches('"').to_owned(),
        )
}

fn mem_total(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// A pure version 2 hierarchy has its list of controllers at the top.
fn cgroup_version() -> String {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "2".to_owned()
    } else if Path::new("/sys/fs/cgroup").exists() {
        "1".to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(
            mem_total("MemTotal:       24684084 kB\nMemFree: 1 kB\n"),
            24_684_084 * 1024
        );
        assert_eq!(mem_total(""), 0);
        assert_eq!(
            os_release("NAME=x\nPRETTY_NAME=\"Debian 12\"\n"),
            "Debian 12"
        );
    }
}
