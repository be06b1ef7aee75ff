//! Whether the kernel killed a process of the container for memory.

use std::fs;
use std::path::{Path, PathBuf};

/// The whole machine's count, for sandboxes that hide their control group. On
/// Lambda the machine is the environment's own.
const MACHINE: &str = "/proc/vmstat";

/// Where the count of such kills is read.
#[derive(Debug)]
pub(crate) struct OomWatch {
    counter: Option<PathBuf>,
    before: u64,
}

impl OomWatch {
    /// Notes the count as it is now.
    pub(crate) fn begin() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let counter = candidates(&own, Path::new("/sys/fs/cgroup"))
            .into_iter()
            .chain([PathBuf::from(MACHINE)])
            .find(|path| count(path).is_some());
        let before = counter.as_deref().and_then(count).unwrap_or(0);
        Self { counter, before }
    }

    /// Whether there was one since, of any process of the container, as Docker
    /// counts them. `main_killed`: whether the main process died of a SIGKILL
    /// that was not ours; where only the machine's count is known, which others
    /// may share, nothing less is believed.
    pub(crate) fn seen(&self, main_killed: bool) -> bool {
        let Some(counter) = &self.counter else {
            return false;
        };
        let more = count(counter).unwrap_or(0) > self.before;
        more && (main_killed || counter != Path::new(MACHINE))
    }
}

/// The files that may hold the count, by the text of `/proc/self/cgroup`. Inside
/// a cgroup namespace the path is `/`; without one, the mounted folder may be
/// the process's own already.
fn candidates(own: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            for mount in ["", "unified"] {
                files.push(root.join(mount).join(path).join("memory.events"));
                files.push(root.join(mount).join("memory.events"));
            }
        } else if controllers.split(',').any(|name| name == "memory") {
            files.push(root.join("memory").join(path).join("memory.oom_control"));
            files.push(root.join("memory").join("memory.oom_control"));
        }
    }
    files
}

fn count(path: &Path) -> Option<u64> {
    parse(&fs::read_to_string(path).ok()?)
}

/// `oom_kill N`, a line of `memory.events` (v2), of `memory.oom_control` (v1) and
/// of `/proc/vmstat`.
fn parse(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_the_count() {
        assert_eq!(
            parse("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n"),
            Some(2)
        );
        assert_eq!(
            parse("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
            Some(7)
        );
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn the_own_group_is_asked_before_its_root() {
        let paths = candidates("4:memory:/a/b\n0::/c\n", Path::new("/cg"));
        let expected = [
            "/cg/memory/a/b/memory.oom_control",
            "/cg/memory/memory.oom_control",
            "/cg/c/memory.events",
            "/cg/memory.events",
            "/cg/unified/c/memory.events",
            "/cg/unified/memory.events",
        ];
        assert_eq!(paths, expected.map(PathBuf::from));
        assert!(candidates("nonsense", Path::new("/cg")).is_empty());
    }
}
