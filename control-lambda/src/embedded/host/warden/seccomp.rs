//! System calls that a sandbox has no business with.
//!
//! A list of what is refused, in the spirit of Docker's default profile: what
//! makes namespaces, mounts, loads code into the kernel or reaches into it. The
//! profile `function` also has no `ptrace` and no `chroot`, as in Lambda.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::super::wire::Profile;
use super::{During, SetupError};

/// Refused to everybody.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Refused to functions.
const REFUSED_TO_FUNCTIONS: &[i64] = &[
    libc::SYS_chroot,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
];

/// Flags of `clone` that make namespaces.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// The compiled filters of both profiles.
pub(super) struct Filters {
    function: BpfProgram,
    microvm: BpfProgram,
    clone3: BpfProgram,
}

impl Filters {
    /// Compiles them.
    pub(super) fn compile() -> Result<Self, SetupError> {
        let everybody = REFUSED.iter().copied();
        let functions = everybody
            .clone()
            .chain(REFUSED_TO_FUNCTIONS.iter().copied());
        Ok(Self {
            function: refusing(functions)?,
            microvm: refusing(everybody)?,
            // Its flags lie in memory, where a filter cannot look. As if the
            // kernel were older, so that C libraries fall back to clone.
            clone3: compile(
                BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
                libc::ENOSYS,
            )?,
        })
    }

    /// Applies those of a profile to this process for good. It must have
    /// `CAP_SYS_ADMIN` in its user namespace, or have set `no_new_privs`.
    pub(super) fn apply(&self, profile: &Profile) -> Result<(), SetupError> {
        let program = match profile {
            Profile::Function { .. } => &self.function,
            Profile::Microvm { machine, .. } if machine.filtered => &self.microvm,
            Profile::Microvm { .. } => return Ok(()),
        };
        install(&self.clone3)?;
        install(program)
    }
}

fn refusing(calls: impl Iterator<Item = i64>) -> Result<BpfProgram, SetupError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|call| (call, Vec::new())).collect();
    let mut namespaces = Vec::new();
    for bit in (0..64).map(|shift| 1u64 << shift) {
        if NEW_NAMESPACES & bit != 0 {
            let condition =
                SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)
                    .and_then(|condition| SeccompRule::new(vec![condition]));
            namespaces.push(
                condition
                    .map_err(std::io::Error::other)
                    .during(|| "make a seccomp rule".to_owned())?,
            );
        }
    }
    rules.insert(libc::SYS_clone, namespaces);
    compile(rules, libc::EPERM)
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, SetupError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(std::io::Error::other)
        .during(|| "name the architecture for seccomp".to_owned())?;
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        architecture,
    )
    .and_then(BpfProgram::try_from)
    .map_err(std::io::Error::other)
    .during(|| "compile a seccomp filter".to_owned())
}

/// `seccompiler::apply_filter` would set `no_new_privs` as well, and so break
/// `su` and `sudo` in the profile `microvm`.
fn install(program: &BpfProgram) -> Result<(), SetupError> {
    let filter = libc::sock_fprog {
        // Filters have at most 4,096 instructions; the kernel refuses more.
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies the program, which outlives the call, and
    // seccompiler's instruction has the layout of sock_filter.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            std::ptr::from_ref(&filter),
        )
    };
    Errno::result(result)
        .map(drop)
        .during(|| "install the seccomp filter".to_owned())
}
