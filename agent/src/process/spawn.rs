//! Starting a process.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;

use nix::unistd::{ForkResult, Pid, fchown, fork, geteuid};
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::spec::{Confinement, ProcessSpec};

use super::child::{Bounds, Order, Pointers, Prepared, STEP_BYTES, Step, become_program};
use super::failure::{relative_folder, start_failure};
use super::launch::Role;
use super::namespace::Namespace;
use super::program::quote;
use super::stdio::{ProcessEnds, pipe};
use super::user::{Accounts, Identity};
use super::{environment, errno, init};

/// What a [`ProcessSpec`] becomes before it runs.
#[derive(Debug)]
pub(crate) struct Plan {
    order: Order,
    owner: Option<Identity>,
}

impl Plan {
    /// Resolves everything that can be resolved before the fork.
    ///
    /// # Errors
    /// What runc or Docker would say.
    pub(crate) fn new(
        spec: &ProcessSpec,
        confinement: &Confinement,
        role: Role,
    ) -> Result<Self, StartFailure> {
        let fail = |error: &dyn std::fmt::Display| start_failure(error.to_string());
        // Only root can become somebody else. Elsewhere the platform has one
        // user for everything, and the control plane says so at `create`.
        let switches = geteuid().is_root();
        let accounts = Accounts::load();
        let identity = match accounts.resolve(&spec.user) {
            Ok(identity) => Some(identity),
            Err(error) if switches => return Err(fail(&error)),
            Err(_) => None,
        };
        let home = identity.as_ref().map_or("/", |identity| &identity.home);
        let variables = environment::complete(&spec.env, home).map_err(|e| fail(&e))?;
        let mut name = spec.args.first().cloned().unwrap_or_default();
        let path = environment::get(&variables, "PATH").unwrap_or_default();
        let nul = || start_failure(format!("exec: {}: invalid argument", quote(&name)));
        let has_nul = |text: &String| text.contains('\0');
        if spec.args.iter().any(has_nul) || path.contains('\0') || has_nul(&spec.working_dir) {
            return Err(nul());
        }
        let cwd = if spec.working_dir.is_empty() {
            "/".to_owned()
        } else {
            spec.working_dir.clone()
        };
        if role == Role::Exec && !cwd.starts_with('/') {
            return Err(relative_folder());
        }
        let owner = identity.filter(|_| switches);
        let mut added = Vec::new();
        for group in confinement.groups.iter().filter(|_| switches) {
            added.push(accounts.added_group(group).map_err(|e| fail(&e))?);
        }
        let mut args = spec.args.clone();
        if confinement.init && role == Role::Main {
            args = init::arguments(args);
            name = init::program().map_err(|e| fail(&e))?;
        }
        Ok(Self {
            order: Order {
                path: path.to_owned(),
                args,
                env: variables
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
                cwd,
                identity: owner.as_ref().map(|identity| {
                    let mut groups = vec![identity.gid];
                    for &gid in identity.groups.iter().chain(&added) {
                        if !groups.contains(&gid) {
                            groups.push(gid);
                        }
                    }
                    (identity.uid, identity.gid, groups)
                }),
                terminal: false,
                bounds: Bounds {
                    capabilities: confinement.capabilities,
                    no_new_privileges: confinement.no_new_privileges,
                    limits: confinement
                        .limits
                        .iter()
                        .map(|limit| (limit.resource, limit.soft, limit.hard))
                        .collect(),
                },
                name,
            },
            owner,
        })
    }

    /// Makes the working directory when it is missing, as Docker does for a
    /// container (and does not for an exec).
    ///
    /// # Errors
    /// When something that is no folder stands there. A root that cannot be
    /// written shows when the process changes into it.
    pub(crate) fn make_working_dir(&self) -> Result<(), StartFailure> {
        match std::fs::metadata(&self.order.cwd) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(StartFailure {
                code: 128,
                message: format!("Cannot mkdir: {} is not a directory", self.order.cwd),
            }),
            Err(_) => {
                let made = DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(&self.order.cwd);
                if made.is_ok()
                    && let Some(owner) = &self.owner
                {
                    let _ =
                        std::os::unix::fs::chown(&self.order.cwd, Some(owner.uid), Some(owner.gid));
                }
                Ok(())
            }
        }
    }

    /// Starts the process. Returns when it is executed, or failed to be.
    ///
    /// The caller must register the process with the reaper before anything
    /// else is polled, see [`super::reaper::Reaper::spawn`].
    ///
    /// In the container's `namespace`, where it has one.
    ///
    /// # Errors
    /// What runc would say.
    pub(crate) fn start(
        mut self,
        role: Role,
        ends: ProcessEnds,
        namespace: Option<&Namespace>,
    ) -> Result<Pid, StartFailure> {
        self.order.terminal = ends.terminal;
        if let Some(owner) = &self.owner {
            // Else the process could not open /dev/stdout and its kin again.
            let (uid, gid) = (owner.uid.into(), owner.gid.into());
            for fd in [&ends.stdin, &ends.stdout, &ends.stderr] {
                let is_pipe_or_terminal = nix::sys::stat::fstat(fd).is_ok_and(|stat| {
                    stat.st_mode & libc::S_IFMT == libc::S_IFIFO || ends.terminal
                });
                if is_pipe_or_terminal {
                    let _ = fchown(fd, Some(uid), (!ends.terminal).then_some(gid));
                }
            }
        }
        let failed = |error: io::Error| {
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            start_failure(format!(
                "fork/exec {}: {}",
                self.order.name,
                errno::text(number)
            ))
        };
        let (from_child, to_parent) = pipe().map_err(failed)?;
        let child = match namespace {
            Some(namespace) => {
                let [stdin, stdout, stderr] = ends.raw();
                let descriptors = [stdin, stdout, stderr, to_parent.as_raw_fd()];
                namespace.start(role, &self.order, descriptors)
            }
            None => forked(&self.order, &ends, &to_parent),
        }
        .map_err(failed)?;
        drop(to_parent);
        let mut bytes = [0; STEP_BYTES];
        match File::from(from_child).read_exact(&mut bytes) {
            // Closed by execve, or by the end of a process that said why itself.
            Err(_) => Ok(child),
            Ok(()) => Err(self.explain(Step::from_bytes(bytes))),
        }
    }

    fn explain(&self, step: Step) -> StartFailure {
        let text = match step {
            Step::Program(missing) => missing.message(&self.order.name),
            Step::WorkingDir(number) => format!(
                "chdir to cwd ({}) set in config.json failed: {}",
                quote(&self.order.cwd),
                errno::text(number)
            ),
            Step::Identity(number) => format!("setup user: {}", errno::text(number)),
            Step::Setup(number) => format!("setup of the process: {}", errno::text(number)),
            Step::Limit(which, number) => format!(
                "error during container init: error setting rlimits for ready process: \
                 error setting rlimit type {which}: {}",
                errno::text(number.into())
            ),
            Step::Privileges(number) => {
                format!(
                    "error during container init: unable to apply caps: {}",
                    errno::text(number)
                )
            }
        };
        start_failure(text)
    }
}

/// Forks a process of the agent's own namespace.
fn forked(order: &Order, ends: &ProcessEnds, report: &OwnedFd) -> io::Result<Pid> {
    let prepared = Prepared::new(order, ends.raw())?;
    let pointers = Pointers::of(&prepared);
    // SAFETY: the child calls only `become_program`, which is async-signal-safe.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            // SAFETY: we are the forked child, and the pointers are `prepared`'s.
            unsafe { become_program(&prepared, &pointers, report.as_raw_fd()) }
        }
    }
}
