//! The fields of Docker's `Config`, `HostConfig` and `EndpointSettings`, and
//! what each shows when nothing was said (as `inspect` of Engine 28.5 has them).

use crate::api::go_json::{Absent, Field, Kind};

const fn field(name: &'static str, kind: Kind, absent: Absent) -> Field {
    Field { name, kind, absent }
}

/// `HealthConfig` (Engine API).
const HEALTHCHECK: &[Field] = &[
    field("Test", Kind::Strings, Absent::Omitted),
    field("Interval", Kind::Duration, Absent::Omitted),
    field("Timeout", Kind::Duration, Absent::Omitted),
    field("StartPeriod", Kind::Duration, Absent::Omitted),
    field("StartInterval", Kind::Duration, Absent::Omitted),
    field("Retries", Kind::Int, Absent::Omitted),
];

/// `Config` (Engine API, `ContainerConfig`).
pub const CONFIG: &[Field] = &[
    field("Hostname", Kind::String, Absent::Empty),
    field("Domainname", Kind::String, Absent::Empty),
    field("User", Kind::String, Absent::Empty),
    field("AttachStdin", Kind::Bool, Absent::False),
    field("AttachStdout", Kind::Bool, Absent::False),
    field("AttachStderr", Kind::Bool, Absent::False),
    field("ExposedPorts", Kind::PortSet, Absent::Omitted),
    field("Tty", Kind::Bool, Absent::False),
    field("OpenStdin", Kind::Bool, Absent::False),
    field("StdinOnce", Kind::Bool, Absent::False),
    field("Env", Kind::Strings, Absent::Null),
    field("Cmd", Kind::StrSlice, Absent::Null),
    field("Healthcheck", Kind::Object(HEALTHCHECK), Absent::Omitted),
    field("ArgsEscaped", Kind::Bool, Absent::Omitted),
    field("Image", Kind::String, Absent::Empty),
    field("Volumes", Kind::Set, Absent::Null),
    field("WorkingDir", Kind::String, Absent::Empty),
    field("Entrypoint", Kind::StrSlice, Absent::Null),
    field("NetworkDisabled", Kind::Bool, Absent::Omitted),
    field("MacAddress", Kind::String, Absent::Omitted),
    field("OnBuild", Kind::Strings, Absent::Null),
    field("Labels", Kind::StringMap, Absent::Map),
    field("StopSignal", Kind::String, Absent::Omitted),
    field("StopTimeout", Kind::MachineInt, Absent::Unset),
    field("Shell", Kind::StrSlice, Absent::Omitted),
];

const LOG_CONFIG: &[Field] = &[
    field("Type", Kind::String, Absent::Empty),
    field("Config", Kind::StringMap, Absent::Map),
];

const RESTART_POLICY: &[Field] = &[
    field("Name", Kind::String, Absent::Empty),
    field("MaximumRetryCount", Kind::MachineInt, Absent::Number(0)),
];

/// `HostConfig` (Engine API, `HostConfig`).
pub const HOST_CONFIG: &[Field] = &[
    field("Binds", Kind::Strings, Absent::Null),
    field("ContainerIDFile", Kind::String, Absent::Empty),
    field("LogConfig", Kind::Object(LOG_CONFIG), Absent::Defaults),
    field("NetworkMode", Kind::String, Absent::Empty),
    field("PortBindings", Kind::Any, Absent::Null),
    field(
        "RestartPolicy",
        Kind::Object(RESTART_POLICY),
        Absent::Defaults,
    ),
    field("AutoRemove", Kind::Bool, Absent::False),
    field("VolumeDriver", Kind::String, Absent::Empty),
    field("VolumesFrom", Kind::Strings, Absent::Null),
    field("ConsoleSize", Kind::Any, Absent::Null),
    field("Annotations", Kind::StringMap, Absent::Omitted),
    field("CapAdd", Kind::StrSlice, Absent::Null),
    field("CapDrop", Kind::StrSlice, Absent::Null),
    field("CgroupnsMode", Kind::String, Absent::Empty),
    field("Dns", Kind::Strings, Absent::Null),
    field("DnsOptions", Kind::Strings, Absent::Null),
    field("DnsSearch", Kind::Strings, Absent::Null),
    field("ExtraHosts", Kind::Strings, Absent::Null),
    field("GroupAdd", Kind::Strings, Absent::Null),
    field("IpcMode", Kind::String, Absent::Empty),
    field("Cgroup", Kind::String, Absent::Empty),
    field("Links", Kind::Strings, Absent::Null),
    field("OomScoreAdj", Kind::MachineInt, Absent::Number(0)),
    field("PidMode", Kind::String, Absent::Empty),
    field("Privileged", Kind::Bool, Absent::False),
    field("PublishAllPorts", Kind::Bool, Absent::False),
    field("ReadonlyRootfs", Kind::Bool, Absent::False),
    field("SecurityOpt", Kind::Strings, Absent::Null),
    field("StorageOpt", Kind::StringMap, Absent::Omitted),
    field("Tmpfs", Kind::StringMap, Absent::Omitted),
    field("UTSMode", Kind::String, Absent::Empty),
    field("UsernsMode", Kind::String, Absent::Empty),
    field("ShmSize", Kind::Int, Absent::Number(0)),
    field("Sysctls", Kind::StringMap, Absent::Omitted),
    field("Runtime", Kind::String, Absent::Empty),
    field("Isolation", Kind::String, Absent::Empty),
    field("CpuShares", Kind::Int, Absent::Number(0)),
    field("Memory", Kind::Int, Absent::Number(0)),
    field("NanoCpus", Kind::Int, Absent::Number(0)),
    field("CgroupParent", Kind::String, Absent::Empty),
    field("BlkioWeight", Kind::Int, Absent::Number(0)),
    field("BlkioWeightDevice", Kind::Any, Absent::Null),
    field("BlkioDeviceReadBps", Kind::Any, Absent::Null),
    field("BlkioDeviceWriteBps", Kind::Any, Absent::Null),
    field("BlkioDeviceReadIOps", Kind::Any, Absent::Null),
    field("BlkioDeviceWriteIOps", Kind::Any, Absent::Null),
    field("CpuPeriod", Kind::Int, Absent::Number(0)),
    field("CpuQuota", Kind::Int, Absent::Number(0)),
    field("CpuRealtimePeriod", Kind::Int, Absent::Number(0)),
    field("CpuRealtimeRuntime", Kind::Int, Absent::Number(0)),
    field("CpusetCpus", Kind::String, Absent::Empty),
    field("CpusetMems", Kind::String, Absent::Empty),
    field("Devices", Kind::Any, Absent::Null),
    field("DeviceCgroupRules", Kind::Strings, Absent::Null),
    field("DeviceRequests", Kind::Any, Absent::Null),
    field("MemoryReservation", Kind::Int, Absent::Number(0)),
    field("MemorySwap", Kind::Int, Absent::Number(0)),
    field("MemorySwappiness", Kind::Int, Absent::Null),
    field("OomKillDisable", Kind::Bool, Absent::False),
    field("PidsLimit", Kind::Int, Absent::Null),
    field("Ulimits", Kind::Any, Absent::Null),
    field("Mounts", Kind::Any, Absent::Omitted),
    field("Init", Kind::Bool, Absent::Omitted),
    field("CpuCount", Kind::Int, Absent::Number(0)),
    field("CpuPercent", Kind::Int, Absent::Number(0)),
    field("IOMaximumIOps", Kind::Int, Absent::Number(0)),
    field("IOMaximumBandwidth", Kind::Int, Absent::Number(0)),
    field("MaskedPaths", Kind::Strings, Absent::Null),
    field("ReadonlyPaths", Kind::Strings, Absent::Null),
];

/// `EndpointSettings` (Engine API), the part that a client sets.
pub const ENDPOINT: &[Field] = &[
    field("IPAMConfig", Kind::Any, Absent::Null),
    field("Links", Kind::Strings, Absent::Null),
    field("Aliases", Kind::Strings, Absent::Null),
    field("MacAddress", Kind::String, Absent::Empty),
    field("DriverOpts", Kind::StringMap, Absent::Null),
    field("GwPriority", Kind::Int, Absent::Number(0)),
    field("NetworkID", Kind::String, Absent::Empty),
    field("EndpointID", Kind::String, Absent::Empty),
    field("Gateway", Kind::String, Absent::Empty),
    field("IPAddress", Kind::String, Absent::Empty),
    field("IPPrefixLen", Kind::Int, Absent::Number(0)),
    field("IPv6Gateway", Kind::String, Absent::Empty),
    field("GlobalIPv6Address", Kind::String, Absent::Empty),
    field("GlobalIPv6PrefixLen", Kind::Int, Absent::Number(0)),
    field("DNSNames", Kind::Strings, Absent::Null),
];

/// What Docker masks in a container's `/proc` and `/sys`.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What Docker makes read-only in a container's `/proc`.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
