//! The sandbox's file systems, put together in its own mount namespace.

use std::fs::{self, DirBuilder, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};
use rustix::fs::{Mode, OFlags};

use super::super::wire::{Blueprint, Profile};
use super::devices::{self, Templates};
use super::place::Root;
use super::{During, SetupError, machine};
use crate::ports::machine::Machine;

/// Files and folders of `/proc` and `/sys` that Docker hides from containers
/// (its default `MaskedPaths`): they speak of the machine, not of the container.
const MASKED: &[&str] = &[
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

/// What Docker makes read-only where `/proc` itself is not (its default `ReadonlyPaths`).
const READ_ONLY: &[&str] = &[
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];

const NOTHING_SPECIAL: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// Lets unmounts on the host reach the warden's copy of its mounts, so that the
/// warden keeps no disk busy, and keeps what the warden mounts to itself.
pub(super) fn follow_host_unmounts() -> Result<(), SetupError> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .during(|| "detach the mount namespace from the host's".to_owned())
}

/// Mounts a `/proc` of the warden's own PID namespace.
pub(super) fn mount_own_proc() -> Result<(), SetupError> {
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        NOTHING_SPECIAL,
        None::<&str>,
    )
    .during(|| {
        "mount /proc (inside another container this needs one whose /proc is not masked)".to_owned()
    })
}

/// A handle on the warden's `/proc`, good after the sandbox's root has been entered.
pub(super) fn open_proc() -> Result<OwnedFd, SetupError> {
    File::open("/proc")
        .map(OwnedFd::from)
        .during(|| "open /proc".to_owned())
}

/// Puts everything together below `root` in the mount point, which becomes
/// the working directory.
pub(super) fn assemble(blueprint: &Blueprint, templates: &Templates) -> Result<(), SetupError> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .during(|| "make mounts private".to_owned())?;
    // What is put together stands on a small tmpfs that only this namespace sees.
    mount(
        Some("tmpfs"),
        &blueprint.mount_point,
        Some("tmpfs"),
        NOTHING_SPECIAL,
        Some("size=1m,mode=0700"),
    )
    .during(|| format!("mount tmpfs on {}", blueprint.mount_point.display()))?;
    chdir(&blueprint.mount_point)
        .during(|| format!("enter {}", blueprint.mount_point.display()))?;
    make_dir(Path::new("root"))?;
    mount_overlay(blueprint)?;

    let microvm = matches!(blueprint.profile, Profile::Microvm { .. });
    let root = Path::new("root");
    mount_proc(root, microvm, blueprint)?;
    if microvm {
        let sys = checked(root, "sys")?;
        mount(
            Some("sysfs"),
            &sys,
            Some("sysfs"),
            NOTHING_SPECIAL | MsFlags::MS_RDONLY,
            None::<&str>,
        )
        .during(|| "mount /sys".to_owned())?;
    }
    hide(root, templates, blueprint)?;
    let dev = checked(root, "dev")?;
    match &blueprint.profile {
        Profile::Function { tmp_mib } => {
            devices::bind_shared(templates, &dev)?;
            let tmp = checked(root, "tmp")?;
            mount(
                Some("tmpfs"),
                &tmp,
                Some("tmpfs"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
                Some(format!("size={tmp_mib}m,mode=1777").as_str()),
            )
            .during(|| format!("mount /tmp of {tmp_mib} MiB"))?;
        }
        Profile::Microvm {
            writable,
            machine,
            files,
        } => {
            devices::mount_full(&dev, Path::new("devices"), machine.shm_bytes)?;
            let inside = Root::open(root)?;
            machine::mount_all(&inside, machine)?;
            machine::bind_devices(&inside, machine)?;
            machine::place_files(&inside, &writable.join("files"), files, machine)?;
            let (hidden, protected) = own_paths(machine, "/");
            machine::hide_paths(&inside, &hidden, &templates.null(), &templates.empty())?;
            machine::protect_paths(&inside, &protected)?;
        }
    }
    Ok(())
}

/// What the container's flags hide and protect, in the place of Docker's lists, below a
/// path.
fn own_paths(machine: &Machine, below: &str) -> (Vec<String>, Vec<String>) {
    let chosen = |list: &Option<Vec<String>>| {
        let all = list.iter().flatten();
        all.filter(|path| path.starts_with(below))
            .cloned()
            .collect()
    };
    (
        chosen(&machine.masked_paths),
        chosen(&machine.read_only_paths),
    )
}

/// Docker's own list, unless the container's flags put another in its place.
fn usual<'a>(
    blueprint: &Blueprint,
    list: &'a [&'a str],
    replaced: impl Fn(&Machine) -> bool,
) -> &'a [&'a str] {
    match &blueprint.profile {
        Profile::Microvm { machine, .. } if replaced(machine) => &[],
        Profile::Microvm { .. } | Profile::Function { .. } => list,
    }
}

/// Puts a `/proc` of the calling process's own PID namespace in the place of the
/// sandbox's, masked in the same way. Between [`assemble`] and [`pivot`], in a mount
/// namespace of its own.
pub(super) fn replace_proc(blueprint: &Blueprint, templates: &Templates) -> Result<(), SetupError> {
    // Put together beside the root: in a user namespace the kernel allows a new
    // /proc only where another can be seen.
    let beside = Path::new("inner");
    make_dir(beside)?;
    make_dir(&beside.join("proc"))?;
    mount_proc(beside, true, blueprint)?;
    hide(beside, templates, blueprint)?;
    if let Profile::Microvm { machine, .. } = &blueprint.profile {
        let inside = Root::open(beside)?;
        let (hidden, protected) = own_paths(machine, "/proc/");
        machine::hide_paths(&inside, &hidden, &templates.null(), &templates.empty())?;
        machine::protect_paths(&inside, &protected)?;
    }
    let place = checked(Path::new("root"), "proc")?;
    umount2(&place, MntFlags::MNT_DETACH).during(|| "detach the sandbox's /proc".to_owned())?;
    mount(
        Some(&beside.join("proc")),
        &place,
        None::<&str>,
        MsFlags::MS_MOVE,
        None::<&str>,
    )
    .during(|| "move the container's /proc to its place".to_owned())
}

/// Enters the assembled root and lets go of the host's.
pub(super) fn pivot() -> Result<(), SetupError> {
    chdir("root").during(|| "enter the root".to_owned())?;
    // Stacks the old root on the new one, from where it is taken away at once;
    // see pivot_root(2), "pivot_root(".", ".")".
    pivot_root(".", ".").during(|| "pivot_root".to_owned())?;
    umount2(".", MntFlags::MNT_DETACH).during(|| "detach the host's root".to_owned())?;
    chdir("/").during(|| "enter /".to_owned())
}

/// Removes a tree and exits: 0, or the error number.
pub(super) fn remove_tree_and_exit(path: &Path) -> ! {
    let code = match fs::remove_dir_all(path) {
        Ok(()) => 0,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => error.raw_os_error().unwrap_or(nix::libc::EIO),
    };
    std::process::exit(code)
}

/// The layers, highest first, as overlayfs wants them.
fn lower(blueprint: &Blueprint) -> String {
    let links: Vec<_> = (0..blueprint.layers.len())
        .rev()
        .map(|index| index.to_string())
        .collect();
    links.join(":")
}

/// Layers are named by short links in the working directory: mount options
/// have room for one page, and a path may contain what separates them.
fn mount_overlay(blueprint: &Blueprint) -> Result<(), SetupError> {
    for (index, layer) in blueprint.layers.iter().enumerate() {
        symlink(layer, index.to_string()).during(|| format!("link layer {}", layer.display()))?;
    }
    let mut options = format!("lowerdir={}", lower(blueprint));
    let flags = match &blueprint.profile {
        Profile::Function { .. } => {
            if blueprint.layers.len() < 2 {
                // Without a writable layer overlayfs wants two to merge.
                make_dir(Path::new("empty"))?;
                options.push_str(":empty");
            }
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV
        }
        Profile::Microvm { writable, .. } => {
            for part in ["upper", "work"] {
                let folder = writable.join(part);
                if !folder.is_dir() {
                    DirBuilder::new()
                        .mode(0o755)
                        .recursive(true)
                        .create(&folder)
                        .during(|| format!("make {}", folder.display()))?;
                }
                symlink(&folder, part).during(|| format!("link {}", folder.display()))?;
            }
            options.push_str(",upperdir=upper,workdir=work");
            MsFlags::MS_NODEV
        }
    };
    overlay("root", options, flags).during(|| {
        format!(
            "mount overlay of {} layers (the first is {})",
            blueprint.layers.len(),
            blueprint
                .layers
                .first()
                .map_or_else(|| "none".into(), |layer| layer.display().to_string())
        )
    })
}

fn overlay(at: &str, mut options: String, flags: MsFlags) -> Result<(), Errno> {
    if in_user_namespace() {
        options.push_str(",userxattr");
    }
    mount(
        Some("overlay"),
        at,
        Some("overlay"),
        flags,
        Some(options.as_str()),
    )
}

/// The two halves of a writable root, for the agent alone: the image's files as if nothing had
/// been written, and what was written; and both together without anything that is mounted
/// there. After [`assemble`], before [`pivot`]; the mounts are seen through their
/// descriptors only.
pub(super) struct Halves {
    image: OwnedFd,
    written: OwnedFd,
    whole: OwnedFd,
}

impl Halves {
    /// Opens both.
    pub(super) fn open(blueprint: &Blueprint, writable: &Path) -> Result<Self, SetupError> {
        make_dir(Path::new("image"))?;
        let mut options = format!("lowerdir={}", lower(blueprint));
        if blueprint.layers.len() < 2 {
            make_dir(Path::new("nothing"))?;
            options.push_str(":nothing");
        }
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        overlay("image", options, flags).during(|| "mount the image alone".to_owned())?;
        make_dir(Path::new("whole"))?;
        mount(
            Some("root"),
            "whole",
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .during(|| "mount the root alone".to_owned())?;
        let folder = |path: &Path| {
            // Not closed when the agent is executed.
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                .during(|| format!("open {}", path.display()))
        };
        Ok(Self {
            image: folder(Path::new("image"))?,
            written: folder(&writable.join("upper"))?,
            whole: folder(Path::new("whole"))?,
        })
    }

    /// What the agent's environment says of them.
    pub(super) fn variable(&self) -> String {
        let fds = [&self.image, &self.written, &self.whole].map(|fd| fd.as_raw_fd().to_string());
        format!("SOCKERLESS_LAYERS={}", fds.join(","))
    }
}

fn mount_proc(root: &Path, writable: bool, blueprint: &Blueprint) -> Result<(), SetupError> {
    let proc = checked(root, "proc")?;
    let flags = if writable {
        NOTHING_SPECIAL
    } else {
        NOTHING_SPECIAL | MsFlags::MS_RDONLY
    };
    mount(Some("proc"), &proc, Some("proc"), flags, None::<&str>)
        .during(|| "mount the sandbox's /proc".to_owned())?;
    if writable {
        open_network(root)?;
        for path in usual(blueprint, READ_ONLY, |machine| {
            machine.read_only_paths.is_some()
        }) {
            let path = root.join(path);
            if path.exists() {
                bind_read_only(&path, &path)?;
            }
        }
    }
    Ok(())
}

/// What Docker sets in a container's network: no port is reserved for root, and
/// ping works without privileges (not in a user namespace, where not all groups exist).
fn open_network(root: &Path) -> Result<(), SetupError> {
    let settings = root.join("proc/sys/net/ipv4");
    let write = |name: &str, value: &str| {
        let path = settings.join(name);
        fs::write(&path, value).during(|| format!("write {}", path.display()))
    };
    write("ip_unprivileged_port_start", "0")?;
    if in_user_namespace() {
        Ok(())
    } else {
        write("ping_group_range", "0 2147483647")
    }
}

fn hide(root: &Path, templates: &Templates, blueprint: &Blueprint) -> Result<(), SetupError> {
    let oom_counter = blueprint.oom_counter.as_deref();
    for path in usual(blueprint, MASKED, |machine| machine.masked_paths.is_some()) {
        let path = root.join(path);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => bind_read_only(&templates.empty(), &path)?,
            // Not `nodev`, so that it reads as empty instead of not at all.
            Ok(_) => bind(&templates.null(), &path)
                .and_then(|()| remount_read_only(&path, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC))?,
            Err(_) => {}
        }
    }
    let (counter, vmstat) = (templates.null(), root.join("proc/vmstat"));
    bind(oom_counter.unwrap_or(&counter), &vmstat)?;
    remount_read_only(&vmstat, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)
}

fn bind_read_only(from: &Path, to: &Path) -> Result<(), SetupError> {
    bind(from, to)?;
    remount_read_only(to, NOTHING_SPECIAL)
}

pub(super) fn bind(from: &Path, to: &Path) -> Result<(), SetupError> {
    mount(
        Some(from),
        to,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .during(|| format!("bind {} on {}", from.display(), to.display()))
}

/// Makes one mount read-only; its file system stays as it is elsewhere.
pub(super) fn remount_read_only(at: &Path, flags: MsFlags) -> Result<(), SetupError> {
    mount(
        None::<&str>,
        at,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | flags,
        None::<&str>,
    )
    .during(|| format!("make {} read-only", at.display()))
}

/// A folder in the root to mount on. The base layer, or an earlier run of the same
/// container, may have left something else there, which must not be followed.
fn checked(root: &Path, name: &str) -> Result<std::path::PathBuf, SetupError> {
    let path = root.join(name);
    let metadata = fs::symlink_metadata(&path).during(|| format!("look at /{name}"))?;
    if metadata.is_dir() {
        Ok(path)
    } else {
        Err(SetupError {
            what: format!("use /{name} of the container's file system"),
            source: std::io::ErrorKind::NotADirectory.into(),
        })
    }
}

pub(super) fn make_dir(path: &Path) -> Result<(), SetupError> {
    DirBuilder::new()
        .mode(0o755)
        .create(path)
        .during(|| format!("make {}", path.display()))
}

/// Whether this process is root in a user namespace other than the first.
pub(super) fn in_user_namespace() -> bool {
    // The first user namespace maps every id to itself.
    fs::read_to_string("/proc/self/uid_map").map_or(true, |map| {
        map.split_whitespace().ne(["0", "0", "4294967295"])
    })
}
