//! Control groups: memory and process limits of a sandbox, and how often the
//! kernel killed in it for memory. Version 2, version 1, or both side by side.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::shares;
use super::wire::EnvironmentId;
use crate::ports::machine::Resources;

/// Where Linux shows which cgroup file systems are mounted, and where.
const MOUNTS: &str = "/proc/self/mountinfo";
/// In which groups this process is.
const OWN: &str = "/proc/self/cgroup";

/// The group below which each host has one of its own.
const PARENT: &str = "sockerless";

/// The group into which processes are moved that stand in the way.
const LEAF: &str = "sockerless-main";

/// Processes and threads in a sandbox of the profile `function` (AWS Lambda quotas).
pub(super) const FUNCTION_PROCESSES: u64 = 1024;

/// Controllers of version 1 that a container may ask for.
const OTHERS: [&str; 4] = ["blkio", "cpu", "cpuset", "freezer"];

/// Version 2: the group of the container's processes below that of their sandbox.
const CONTAINER: &str = "container";

/// How long stopping all processes may take; only one that hangs in the kernel takes longer.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait before looking again whether all are stopped; version 1 does not tell.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What a sandbox is limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) memory_mib: u32,
    pub(super) processes: Option<u64>,
}

/// The control groups of one host.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// Holds one folder for each environment.
    memory: Hierarchy,
    /// `None` where version 1 has no `pids` controller, and where it is that of `memory`.
    pids: Option<PathBuf>,
    /// Version 1: where the groups of other controllers are, or are to be.
    others: BTreeMap<&'static str, PathBuf>,
}

#[derive(Debug)]
enum Hierarchy {
    V2(PathBuf),
    V1(PathBuf),
}

/// The control groups of one environment.
#[derive(Debug)]
pub(super) struct EnvironmentCgroup {
    /// Files into which a process writes `0` to join.
    pub(super) procs: Vec<PathBuf>,
    /// Files for the container's own processes, and not for the agent.
    pub(super) container_procs: Vec<PathBuf>,
    /// What stops the container's processes, where there is one.
    pub(super) freezer: Option<Freezer>,
    /// The file with the line `oom_kill N`.
    pub(super) oom_counter: PathBuf,
    folders: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds a place where this process may make groups that limit memory, and
    /// removes what an earlier process with the same `instance` left there.
    /// `instance` names the host among others on the machine.
    ///
    /// # Errors
    /// A sentence for people: why memory cannot be limited here.
    pub(super) fn find(instance: &str) -> Result<Self, String> {
        let mounts = fs::read_to_string(MOUNTS).map_err(|e| format!("read {MOUNTS}: {e}"))?;
        let own = fs::read_to_string(OWN).map_err(|e| format!("read {OWN}: {e}"))?;
        let found = Mounted::parse(&mounts);
        let below = Path::new(PARENT).join(instance);
        if let Some(mount) = found.v1("memory") {
            let memory = prepare_v1(mount, &own, "memory", &below)?;
            let pids = found
                .v1("pids")
                .and_then(|mount| prepare_v1(mount, &own, "pids", &below).ok());
            let others = OTHERS
                .into_iter()
                .filter_map(|controller| {
                    let mount = found.v1(controller)?;
                    Some((
                        controller,
                        prepare_v1(mount, &own, controller, &below).ok()?,
                    ))
                })
                .collect();
            return Ok(Self {
                memory: Hierarchy::V1(memory),
                pids,
                others,
            });
        }
        let mount = found
            .v2
            .ok_or("no cgroup file system with a memory controller is mounted")?;
        let folder = prepare_v2(&mount, &own, &below)?;
        Ok(Self {
            memory: Hierarchy::V2(folder),
            pids: None,
            others: BTreeMap::new(),
        })
    }

    /// Makes the groups of one environment.
    pub(super) fn create(
        &self,
        environment: EnvironmentId,
        limits: Limits,
        resources: Option<&Resources>,
    ) -> io::Result<EnvironmentCgroup> {
        // What an earlier process left may take its time to vanish: not in this one's way.
        let name = format!("{}-{}", std::process::id(), environment.0);
        let bytes = (u64::from(limits.memory_mib) * 1024 * 1024).to_string();
        let mut group = match &self.memory {
            Hierarchy::V2(parent) => {
                let folder = parent.join(name.as_str());
                fs::create_dir(&folder)?;
                let group = EnvironmentCgroup {
                    procs: vec![folder.join("cgroup.procs")],
                    container_procs: Vec::new(),
                    freezer: None,
                    oom_counter: folder.join("memory.events"),
                    folders: vec![folder.clone()],
                };
                write(&folder.join("memory.max"), &bytes)?;
                // Absent where the kernel does not account for swap.
                write_if_there(&folder.join("memory.swap.max"), "0")?;
                if let Some(processes) = limits.processes {
                    write_if_there(&folder.join("pids.max"), &processes.to_string())?;
                }
                group
            }
            Hierarchy::V1(parent) => {
                let folder = parent.join(name.as_str());
                fs::create_dir(&folder)?;
                let group = EnvironmentCgroup {
                    procs: vec![folder.join("cgroup.procs")],
                    container_procs: Vec::new(),
                    freezer: None,
                    oom_counter: folder.join("memory.oom_control"),
                    folders: vec![folder.clone()],
                };
                write(&folder.join("memory.limit_in_bytes"), &bytes)?;
                write_if_there(&folder.join("memory.memsw.limit_in_bytes"), &bytes)?;
                group
            }
        };
        if let (Some(parent), Some(processes)) = (&self.pids, limits.processes) {
            let folder = parent.join(name.as_str());
            fs::create_dir(&folder)?;
            group.procs.push(folder.join("cgroup.procs"));
            group.folders.push(folder.clone());
            write(&folder.join("pids.max"), &processes.to_string())?;
        }
        if let Some(resources) = resources {
            self.share(&name, resources, &mut group)?;
        }
        Ok(group)
    }

    /// Gives the container its shares.
    fn share(
        &self,
        name: &str,
        resources: &Resources,
        group: &mut EnvironmentCgroup,
    ) -> io::Result<()> {
        let memory = match &self.memory {
            Hierarchy::V2(parent) => {
                let folder = parent.join(name).join(CONTAINER);
                fs::create_dir(&folder)?;
                group.freezer = Some(Freezer::V2(folder.clone()));
                group.container_procs.push(folder.join("cgroup.procs"));
                // Before the one it is in, which can be removed only after it.
                group.folders.insert(0, folder);
                for setting in shares::version_2(resources, self.weighs_disks())? {
                    write(&parent.join(name).join(setting.file), &setting.value)?;
                }
                return Ok(());
            }
            Hierarchy::V1(parent) => parent,
        };
        if let Some(parent) = self.others.get("freezer") {
            let folder = parent.join(name);
            fs::create_dir(&folder)?;
            group.freezer = Some(Freezer::V1(folder.join("freezer.state")));
            group.container_procs.push(folder.join("cgroup.procs"));
            group.folders.push(folder);
        }
        for setting in shares::version_1(resources, self.weighs_disks())? {
            let folder = self.parent_of(&setting, memory)?.join(name);
            // Those of the memory controller are the agent's too, and are there.
            if setting.controller != "memory" && !group.folders.contains(&folder) {
                fs::create_dir(&folder)?;
                group.folders.push(folder.clone());
                group.container_procs.push(folder.join("cgroup.procs"));
                if setting.controller == "cpuset" {
                    inherit_cpuset(&folder)?;
                }
            }
            write(&folder.join(setting.file), &setting.value)?;
        }
        Ok(())
    }

    /// Gives an environment with a container of its own other limits while it runs.
    pub(super) fn update(
        &self,
        environment: EnvironmentId,
        memory_mib: u32,
        resources: &Resources,
        group: &mut EnvironmentCgroup,
    ) -> io::Result<()> {
        let name = format!("{}-{}", std::process::id(), environment.0);
        let bytes = (u64::from(memory_mib) * 1024 * 1024).to_string();
        match &self.memory {
            Hierarchy::V2(parent) => {
                let folder = parent.join(&name);
                write(&folder.join("memory.max"), &bytes)?;
                if resources.processes == 0 {
                    write_if_there(&folder.join("pids.max"), "max")?;
                }
                for setting in shares::version_2(resources, self.weighs_disks())? {
                    write(&folder.join(setting.file), &setting.value)?;
                }
                Ok(())
            }
            Hierarchy::V1(parent) => {
                let folder = parent.join(&name);
                let limit = folder.join("memory.limit_in_bytes");
                let with_swap = folder.join("memory.memsw.limit_in_bytes");
                // Neither may exceed the other on the way, up or down.
                if write(&limit, &bytes).is_ok() {
                    write_if_there(&with_swap, &bytes)?;
                } else {
                    write_if_there(&with_swap, &bytes)?;
                    write(&limit, &bytes)?;
                }
                if let (0, Some(pids)) = (resources.processes, &self.pids) {
                    write_if_there(&pids.join(&name).join("pids.max"), "max")?;
                }
                self.share_later(&name, parent, resources, group)
            }
        }
    }

    /// Version 1: the container's shares, for which there may be no groups yet; its
    /// processes are moved into those.
    fn share_later(
        &self,
        name: &str,
        memory: &Path,
        resources: &Resources,
        group: &mut EnvironmentCgroup,
    ) -> io::Result<()> {
        for setting in shares::version_1(resources, self.weighs_disks())? {
            let folder = self.parent_of(&setting, memory)?.join(name);
            if setting.controller != "memory" && !group.folders.contains(&folder) {
                let Some(Freezer::V1(state)) = &group.freezer else {
                    let why = "this machine has no cgroup controller freezer, by which a container's processes are found";
                    return Err(io::Error::other(why));
                };
                fs::create_dir(&folder)?;
                group.folders.push(folder.clone());
                if setting.controller == "cpuset" {
                    inherit_cpuset(&folder)?;
                }
                move_all(
                    &state.with_file_name("cgroup.procs"),
                    &folder.join("cgroup.procs"),
                )?;
            }
            write(&folder.join(setting.file), &setting.value)?;
        }
        Ok(())
    }

    /// Version 1: where the groups of a setting's controller are.
    fn parent_of<'a>(
        &'a self,
        setting: &shares::Setting,
        memory: &'a Path,
    ) -> io::Result<&'a Path> {
        let parent = match setting.controller {
            "memory" => Some(memory),
            "pids" => self.pids.as_deref(),
            other => self.others.get(other).map(PathBuf::as_path),
        };
        parent.ok_or_else(|| {
            io::Error::other(format!(
                "this machine has no cgroup controller {}",
                setting.controller
            ))
        })
    }

    /// Whether disk access can be weighted: only some schedulers of Linux do.
    pub(super) fn weighs_disks(&self) -> bool {
        match &self.memory {
            Hierarchy::V2(parent) => parent.join("io.weight").exists(),
            Hierarchy::V1(_) => self
                .others
                .get("blkio")
                .is_some_and(|parent| parent.join("blkio.weight").exists()),
        }
    }
}

/// Moves all processes of one group into another, also those that are forked meanwhile.
fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    loop {
        let there = fs::read_to_string(to)?;
        let all = fs::read_to_string(from)?;
        let mut left = all
            .lines()
            .filter(|pid| !there.lines().any(|other| other == *pid))
            .peekable();
        if left.peek().is_none() {
            return Ok(());
        }
        for pid in left {
            match fs::write(to, pid) {
                Ok(()) => {}
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A group of version 1's `cpuset` has no processors, and takes no process, until it is
/// given some; so have those above it.
fn inherit_cpuset(folder: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut missing = Vec::new();
        let mut value = String::new();
        for group in folder.ancestors() {
            value = fs::read_to_string(group.join(file))?;
            if !value.trim().is_empty() {
                break;
            }
            missing.push(group.join(file));
        }
        for path in missing.iter().rev() {
            write(path, value.trim())?;
        }
    }
    Ok(())
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let memory = match &self.memory {
            Hierarchy::V2(folder) | Hierarchy::V1(folder) => folder,
        };
        let others = self.others.values();
        for folder in [Some(memory), self.pids.as_ref()]
            .into_iter()
            .flatten()
            .chain(others)
        {
            // Fails where an environment, or another host, still has a group in it.
            let removed = fs::remove_dir(folder);
            if let (Ok(()), Some(parent)) = (removed, folder.parent()) {
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

/// Stops all processes of a container, and lets them go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Freezer {
    /// The file `freezer.state`.
    V1(PathBuf),
    /// The group.
    V2(PathBuf),
}

impl Freezer {
    /// Stops them. Returns when all are stopped.
    pub(super) async fn freeze(&self) -> io::Result<()> {
        let (file, word) = match self {
            Self::V1(state) => (state.clone(), "FROZEN"),
            Self::V2(group) => (group.join("cgroup.freeze"), "1"),
        };
        write(&file, word)?;
        let deadline = Instant::now() + FREEZE_LIMIT;
        while !self.is_frozen()? {
            if Instant::now() > deadline {
                self.thaw()?;
                let why = "a process hangs in the kernel and cannot be paused";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Lets them go on. No harm where they do.
    pub(super) fn thaw(&self) -> io::Result<()> {
        let (file, word) = self.thawing();
        write(&file, word)
    }

    /// Which file has to say what for them to go on.
    pub(super) fn thawing(&self) -> (PathBuf, &'static str) {
        match self {
            Self::V1(state) => (state.clone(), "THAWED"),
            Self::V2(group) => (group.join("cgroup.freeze"), "0"),
        }
    }

    fn is_frozen(&self) -> io::Result<bool> {
        match self {
            Self::V1(state) => Ok(fs::read_to_string(state)?.trim() == "FROZEN"),
            Self::V2(group) => {
                let events = fs::read_to_string(group.join("cgroup.events"))?;
                Ok(events.lines().any(|line| line == "frozen 1"))
            }
        }
    }
}

impl EnvironmentCgroup {
    /// How often the kernel killed a process in it for memory.
    pub(super) fn oom_kills(&self) -> u64 {
        fs::read_to_string(&self.oom_counter).map_or(0, |text| parse_oom_kills(&text))
    }
}

impl Drop for EnvironmentCgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Its processes are gone by now. What cannot be removed is at the next start.
            if let Err(error) = fs::remove_dir(folder) {
                tracing::debug!(folder = %folder.display(), %error, "control group stays for now");
            }
        }
    }
}

fn parse_oom_kills(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        .unwrap_or(0)
}

/// Where cgroup file systems are mounted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mounted {
    v1: Vec<(Vec<String>, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Mounted {
    /// Reads `/proc/self/mountinfo`; see proc_pid_mountinfo(5).
    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = mount.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut filesystem = filesystem.split(' ');
            match (filesystem.next(), filesystem.nth(1)) {
                (Some("cgroup2"), _) => {
                    found.v2.get_or_insert(point);
                }
                (Some("cgroup"), Some(options)) => found
                    .v1
                    .push((options.split(',').map(str::to_owned).collect(), point)),
                _ => {}
            }
        }
        found
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|(options, _)| options.iter().any(|o| o == controller))
            .map(|(_, point)| point.as_path())
    }
}

/// The path of this process's group, from `/proc/self/cgroup`; for version 2 the
/// controller is empty.
fn own_group<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let controllers = fields.nth(1)?;
        let path = fields.next()?;
        controllers
            .split(',')
            .any(|c| c == controller)
            .then(|| path.trim_start_matches('/'))
    })
}

/// Makes the host's group at the top of the hierarchy, as Docker does, or where
/// that is not allowed below this process's own group.
fn prepare_v1(mount: &Path, own: &str, controller: &str, below: &Path) -> Result<PathBuf, String> {
    let own = own_group(own, controller).unwrap_or_default();
    let mut why = String::new();
    for parent in [mount.to_owned(), mount.join(own)] {
        let folder = parent.join(below);
        match fs::create_dir_all(&folder) {
            Ok(()) => {
                remove_stale(&folder);
                return Ok(folder);
            }
            Err(error) => why = format!("make {}: {error}", folder.display()),
        }
    }
    Err(why)
}

/// As [`prepare_v1`]; here every group on the way must hand the controllers down.
fn prepare_v2(mount: &Path, own: &str, below: &Path) -> Result<PathBuf, String> {
    let own = own_group(own, "").unwrap_or_default();
    // An earlier start may have moved this process's session there.
    let own = own.strip_suffix(LEAF).unwrap_or(own).trim_end_matches('/');
    let mut why = String::new();
    for parent in [mount.to_owned(), mount.join(own)] {
        match hand_down(&parent, below) {
            Ok(folder) => {
                remove_stale(&folder);
                return Ok(folder);
            }
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn hand_down(parent: &Path, below: &Path) -> Result<PathBuf, String> {
    let mut folder = parent.to_owned();
    if let Err(error) = enable(&folder) {
        // A group other than the first that has processes cannot hand anything
        // down ("no internal processes", cgroups(7)). They go one level deeper.
        make_way(&folder).map_err(|_| error)?;
        enable(&folder)?;
    }
    for part in below {
        folder.push(part);
        fs::create_dir_all(&folder).map_err(|e| format!("make {}: {e}", folder.display()))?;
        enable(&folder)?;
    }
    Ok(folder)
}

/// Moves the processes of a group into a group below it.
fn make_way(folder: &Path) -> io::Result<()> {
    let leaf = folder.join(LEAF);
    fs::create_dir_all(&leaf)?;
    for pid in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
        match fs::write(leaf.join("cgroup.procs"), pid) {
            Ok(()) => {}
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn enable(folder: &Path) -> Result<(), String> {
    let control = folder.join("cgroup.subtree_control");
    let read = |name| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))
    };
    let enabled = read("cgroup.subtree_control")?;
    let available = read("cgroup.controllers")?;
    let has = |list: &str, controller: &str| list.split_whitespace().any(|c| c == controller);
    if !has(&available, "memory") {
        return Err(format!(
            "{} has no memory controller (a service manager must delegate it, for example \
             systemd with Delegate=yes)",
            folder.display()
        ));
    }
    for controller in ["memory", "pids", "cpu", "cpuset", "io"] {
        if has(&available, controller) && !has(&enabled, controller) {
            write(&control, &format!("+{controller}"))
                .map_err(|e| format!("enable {controller} in {}: {e}", control.display()))?;
        }
    }
    Ok(())
}

/// An earlier process that was killed could not remove its groups. Their
/// processes died with it.
fn remove_stale(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        // Else what is left in there could not even be killed.
        let _ = write_if_there(&entry.path().join("freezer.state"), "THAWED");
        let _ = fs::remove_dir(entry.path().join(CONTAINER));
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Err(error) = fs::remove_dir(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), %error, "stale control group stays");
        }
    }
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", path.display())))
}

fn write_if_there(path: &Path, value: &str) -> io::Result<()> {
    match write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 20 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
30 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn both_versions_are_found_side_by_side() {
        let found = Mounted::parse(HYBRID);
        assert_eq!(found.v2, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(found.v1("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(
            found.v1("cpuacct"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct"))
        );
        assert_eq!(found.v1("pids"), None);
        assert_eq!(Mounted::parse("nonsense\n - \n"), Mounted::default());
    }

    #[test]
    fn the_own_group_is_found_for_each_version() {
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/user.slice/x:y\n";
        assert_eq!(own_group(own, "memory"), Some("a/b"));
        assert_eq!(own_group(own, "cpuacct"), Some("c"));
        assert_eq!(own_group(own, ""), Some("user.slice/x:y"));
        assert_eq!(own_group(own, "pids"), None);
    }

    #[test]
    fn kills_are_counted_in_both_versions_files() {
        assert_eq!(
            parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            3
        );
        assert_eq!(
            parse_oom_kills("low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\noom_group_kill 0\n"),
            1
        );
        assert_eq!(parse_oom_kills(""), 0);
    }
}
