//! The user namespace in which an ordinary user's warden is root.

use std::fs;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, getegid, geteuid, getpid, pipe, read, write};

use super::{During, SetupError};

/// A range of ids that the machine's administrator gave to a user in
/// `/etc/subuid` or `/etc/subgid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// Enters a user namespace as its root. With `newuidmap`, `newgidmap` and a
/// range of ids for this user, other ids exist inside as well; otherwise only root does.
pub(super) fn enter() -> Result<(), SetupError> {
    let (uid, gid) = (geteuid(), getegid());
    let ranges = delegated(uid);
    let Some((uids, gids)) = ranges else {
        unshare_user()?;
        return map_one(uid, gid);
    };
    // newuidmap must act from outside on a process that is already inside.
    let (inside_read, inside_write) = pipe().during(|| "make a pipe".to_owned())?;
    let target = getpid();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.during(|| "fork for newuidmap".to_owned())? {
        ForkResult::Child => {
            drop(inside_write);
            let mut byte = [0];
            let entered = matches!(read(&inside_read, &mut byte), Ok(1));
            let mapped = entered
                && run_map("newuidmap", target, uid.as_raw(), uids)
                && run_map("newgidmap", target, gid.as_raw(), gids);
            std::process::exit(i32::from(!mapped))
        }
        ForkResult::Parent { child } => {
            drop(inside_read);
            unshare_user()?;
            write(&inside_write, b"!").during(|| "wake the mapping process".to_owned())?;
            match waitpid(child, None).during(|| "wait for newuidmap".to_owned())? {
                WaitStatus::Exited(_, 0) => Ok(()),
                // The tools are there but refused, for example without their
                // set-user-id bit. One id is enough for most images.
                _ => map_one(uid, gid),
            }
        }
    }
}

fn unshare_user() -> Result<(), SetupError> {
    unshare(CloneFlags::CLONE_NEWUSER).during(|| {
        "make a user namespace (this machine does not allow them to ordinary users: set \
         kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0 or \
         user.max_user_namespaces above 0 with sysctl, or run as root)"
            .to_owned()
    })
}

fn map_one(uid: Uid, gid: Gid) -> Result<(), SetupError> {
    for (file, map) in [
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("0 {gid} 1")),
        ("uid_map", format!("0 {uid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), map).during(|| {
            format!("write /proc/self/{file} (user namespaces may be restricted here; run as root)")
        })?;
    }
    Ok(())
}

fn run_map(program: &str, target: Pid, own: u32, range: Range) -> bool {
    Command::new(program)
        .arg(target.to_string())
        .args(["0", &own.to_string(), "1"])
        .args(["1", &range.first.to_string(), &range.count.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn delegated(uid: Uid) -> Option<(Range, Range)> {
    let name = fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|passwd| user_name(&passwd, uid.as_raw()).map(str::to_owned));
    let find = |path| {
        let text = fs::read_to_string(path).ok()?;
        range_of(&text, name.as_deref(), uid.as_raw())
    };
    Some((find("/etc/subuid")?, find("/etc/subgid")?))
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The first range of the user, named or numbered, that has the ids images use.
fn range_of(subid: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    subid.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = Range {
            first: fields.next()?.parse().ok()?,
            count: fields.next()?.parse().ok()?,
        };
        let mine = Some(owner) == name || owner.parse() == Ok(uid);
        (mine && range.count >= 1000).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let subid = "# none\nother:1:65536\nme:100000:65536\n1000:5:20\n1000:300000:65536\n";
        let range = |first| {
            Some(Range {
                first,
                count: 65536,
            })
        };
        assert_eq!(range_of(subid, Some("me"), 7), range(100_000));
        assert_eq!(range_of(subid, None, 1000), range(300_000));
        assert_eq!(range_of(subid, Some("nobody"), 7), None);
        assert_eq!(range_of("me:x:y\nme", Some("me"), 7), None);
        assert_eq!(user_name("root:x:0:0::/:\nme:x:7:7::/:", 7), Some("me"));
    }
}
