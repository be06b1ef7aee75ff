//! Who the agent is inside, and what it may.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{self, SigHandler, SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::super::wire::Profile;
use super::{During, SetupError};

/// The one unprivileged user of the profile `function`: Lambda's `sbx_user1051`.
const FUNCTION_UID: u32 = 993;
/// Its group.
const FUNCTION_GID: u32 = 990;

/// Open files in the profile `function` (AWS Lambda quotas).
const FUNCTION_DESCRIPTORS: u64 = 1024;

/// The capabilities that Docker leaves to a container's root.
const CONTAINER_CAPABILITIES: &[Capability] = &[
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

/// Signals are neither blocked nor ignored, and files are made with the usual
/// mode, whatever the main process inherited or set for itself.
pub(super) fn forget_signal_habits() -> Result<(), SetupError> {
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default action runs no code of this process.
            unsafe { signal::signal(signal, SigHandler::SigDfl) }
                .during(|| format!("reset {signal}"))?;
        }
    }
    SigSet::empty()
        .thread_set_mask()
        .during(|| "unblock signals".to_owned())?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    Ok(())
}

/// Limits open files as Lambda does, and writes no core files: the machine's
/// handler for them, if it has one, runs outside.
pub(super) fn limit(profile: &Profile) -> Result<(), SetupError> {
    match profile {
        Profile::Microvm { .. } => Ok(()),
        Profile::Function { .. } => {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
                .during(|| "read the limit of open files".to_owned())?;
            let limit = FUNCTION_DESCRIPTORS.min(hard);
            setrlimit(Resource::RLIMIT_NOFILE, limit, limit)
                .during(|| format!("limit open files to {limit}"))?;
            setrlimit(Resource::RLIMIT_CORE, 0, 0).during(|| "limit core files".to_owned())
        }
    }
}

/// Becomes the one user of the profile `function`, without capabilities and
/// without a way to get any. `proc` is a writable `/proc` that shows this process.
pub(super) fn become_function(proc: &OwnedFd) -> Result<(), SetupError> {
    let (uid, gid) = (Uid::from_raw(FUNCTION_UID), Gid::from_raw(FUNCTION_GID));
    match setgroups(&[gid]).and_then(|()| setresgid(gid, gid, gid)) {
        Ok(()) => {
            drop_bounding(&CapsHashSet::new())?;
            setresuid(uid, uid, uid).during(|| format!("become user {FUNCTION_UID}"))?;
        }
        Err(_) if super::root::in_user_namespace() => {
            map_in_second_namespace(proc)?;
            // A new user namespace comes with a full bounding set.
            drop_bounding(&CapsHashSet::new())?;
        }
        Err(errno) => return Err(errno).during(|| format!("become group {FUNCTION_GID}")),
    }
    drop_all()?;
    set_no_new_privs().during(|| "set no_new_privs".to_owned())
}

/// Stays root, with the capabilities that Docker leaves to root, and `added` ones: bit
/// n for capability n.
pub(super) fn become_container_root(added: u64) -> Result<(), SetupError> {
    let mut keep: CapsHashSet = CONTAINER_CAPABILITIES.iter().copied().collect();
    keep.extend(
        caps::all()
            .into_iter()
            .filter(|one| added & one.bitmask() != 0),
    );
    drop_bounding(&keep)?;
    // setgroups is refused where only one id is mapped, and not needed there.
    let _ = setgroups(&[]);
    let held = caps::read(None, CapSet::Permitted)
        .map_err(std::io::Error::other)
        .during(|| "read capabilities".to_owned())?;
    let keep: CapsHashSet = keep.intersection(&held).copied().collect();
    set_capabilities(CapSet::Effective, &keep)?;
    set_capabilities(CapSet::Permitted, &keep)?;
    set_capabilities(CapSet::Inheritable, &CapsHashSet::new())
}

/// In a user namespace that maps one id only the function's user does not
/// exist. A second one inside maps it to that one id, which is this process's
/// own, so that nothing but the number is gained by it.
fn map_in_second_namespace(proc: &OwnedFd) -> Result<(), SetupError> {
    unshare(CloneFlags::CLONE_NEWUSER)
        .during(|| "make a user namespace for the function's user".to_owned())?;
    for (file, map) in [
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("{FUNCTION_GID} 0 1")),
        ("uid_map", format!("{FUNCTION_UID} 0 1")),
    ] {
        let path = format!("/proc/self/fd/{}/self/{file}", proc.as_raw_fd());
        fs::write(&path, map).during(|| format!("write {file} of the function's user"))?;
    }
    Ok(())
}

fn drop_bounding(keep: &CapsHashSet) -> Result<(), SetupError> {
    for capability in caps::runtime::thread_all_supported() {
        if !keep.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(std::io::Error::other)
                .during(|| format!("drop {capability} from the bounding set"))?;
        }
    }
    caps::clear(None, CapSet::Ambient)
        .map_err(std::io::Error::other)
        .during(|| "clear the ambient capabilities".to_owned())
}

fn drop_all() -> Result<(), SetupError> {
    let none = CapsHashSet::new();
    set_capabilities(CapSet::Effective, &none)?;
    set_capabilities(CapSet::Permitted, &none)?;
    set_capabilities(CapSet::Inheritable, &none)
}

fn set_capabilities(set: CapSet, capabilities: &CapsHashSet) -> Result<(), SetupError> {
    caps::set(None, set, capabilities)
        .map_err(std::io::Error::other)
        .during(|| format!("set the {set:?} capabilities"))
}
