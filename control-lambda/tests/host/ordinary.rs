//! The same for an ordinary user, in user namespaces.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libtest_mimic::Trial;
use sockerless_control::ports::FunctionHost;

use crate::fixture::{AGENT_VARIABLE, Fixture, agent, answer, function_shape, microvm_shape};
use crate::{contract, images, microvm, trial};

/// The first argument of a process that an ordinary user runs.
pub(crate) const ORDINARY: &str = "__ordinary";

/// Debian's `nobody`.
const NOBODY: u32 = 65_534;

pub(crate) fn trials() -> Vec<Trial> {
    if nix::unistd::geteuid().is_root() {
        vec![Trial::test("an_ordinary_user_has_sandboxes_too", || {
            run_as_nobody();
            Ok(())
        })]
    } else {
        // Then everything else is that test already.
        Vec::new()
    }
}

/// Those that need no control group.
pub(crate) fn ordinary_trials() -> Vec<Trial> {
    let needs_limits = [
        "the_memory_limit_ends_an_invocation",
        "a_child_killed_for_memory_is_told_too",
    ];
    contract::trials()
        .into_iter()
        .chain(images::trials())
        .chain(microvm::trials())
        .filter(|trial| !needs_limits.contains(&trial.name()))
        .chain([trial("what_cannot_be_limited_is_said", said)])
        .collect()
}

fn run_as_nobody() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Copies, since the target folder may not be reachable for others.
    let (program, agent_copy) = (folder.path().join("host"), folder.path().join("agent"));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::copy(agent(), &agent_copy).unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    let output = Command::new(&program)
        .arg(ORDINARY)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TMPDIR", &own)
        .env(AGENT_VARIABLE, &agent_copy)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn said() {
    let fixture = Fixture::new().await;
    let ensured = fixture.host.ensure(&function_shape()).await.unwrap();
    let [warning] = &ensured.warnings[..] else {
        panic!("{:?}", ensured.warnings);
    };
    assert!(
        warning.starts_with("Memory is not limited to 128 MiB on this machine: "),
        "{warning}"
    );
    let function = fixture.ensure(&microvm_shape(1)).await;
    let report = fixture.ask(&function, "read /proc/self/uid_map").await;
    let map = answer(&report, "read /proc/self/uid_map");
    assert!(map.contains("65534"), "{map}");
}
