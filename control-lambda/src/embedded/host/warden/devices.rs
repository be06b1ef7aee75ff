//! `/dev` of the sandboxes.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};

use super::root::{bind, make_dir, remount_read_only};
use super::{During, SetupError};

/// Name, major and minor number of every device that a sandbox has.
const DEVICES: &[(&str, u64, u64)] = &[
    ("full", 1, 7),
    ("null", 1, 3),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("zero", 1, 5),
];

/// The device that only a sandbox with terminals has.
const TERMINAL: (&str, u64, u64) = ("tty", 5, 0);

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// What sandboxes have in common, mounted in the warden's namespace.
pub(super) struct Templates {
    folder: PathBuf,
}

impl Templates {
    /// Makes them on a file system of their own on this folder.
    pub(super) fn make(folder: &Path) -> Result<Self, SetupError> {
        mount_tmpfs(folder, "size=64k,mode=0755")?;
        let templates = Self {
            folder: folder.to_owned(),
        };
        make_dir(&templates.empty())?;
        make_dir(&templates.dev())?;
        fill(&templates.dev(), DEVICES)?;
        Ok(templates)
    }

    /// The `/dev` of the profile `function`: without `ptmx`, `pts` and `shm`, as in Lambda.
    fn dev(&self) -> PathBuf {
        self.folder.join("dev")
    }

    /// Covers a file that must not be seen.
    pub(super) fn null(&self) -> PathBuf {
        self.dev().join("null")
    }

    /// Covers a folder that must not be seen.
    pub(super) fn empty(&self) -> PathBuf {
        self.folder.join("empty")
    }
}

/// Binds the shared `/dev`, read-only.
pub(super) fn bind_shared(templates: &Templates, at: &Path) -> Result<(), SetupError> {
    mount(
        Some(&templates.dev()),
        at,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .during(|| "bind /dev".to_owned())?;
    remount_read_only(at, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)
}

/// Mounts a `/dev` as Docker's containers have it: terminals, shared memory of a size
/// in bytes, message queues.
///
/// The devices themselves are on a file system of their own at `beside`, which nobody
/// sees from inside, and are bound one by one. In `/dev`, as everywhere else in the
/// container, a device that root makes there cannot be opened.
pub(super) fn mount_full(
    at: &Path,
    beside: &Path,
    shm_bytes: Option<u64>,
) -> Result<(), SetupError> {
    make_dir(beside)?;
    mount_tmpfs(beside, "size=64k,mode=0755")?;
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("size=65536k,mode=0755"),
    )
    .during(|| format!("mount tmpfs on {}", at.display()))?;
    for named in DEVICES.iter().chain([&TERMINAL]) {
        device(beside, *named)?;
        let path = at.join(named.0);
        File::create(&path).during(|| format!("make {}", path.display()))?;
        bind(&beside.join(named.0), &path)?;
    }
    link(at)?;
    let nothing_special = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let size = shm_bytes.map(|bytes| format!("size={bytes},mode=1777"));
    for (name, source, kind, options, flags) in [
        (
            "pts",
            "devpts",
            "devpts",
            "newinstance,ptmxmode=0666,mode=0620",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        ),
        (
            "shm",
            "shm",
            "tmpfs",
            size.as_deref().unwrap_or(""),
            nothing_special,
        ),
        ("mqueue", "mqueue", "mqueue", "", nothing_special),
    ] {
        if name == "shm" && size.is_none() {
            continue;
        }
        let path = at.join(name);
        make_dir(&path)?;
        mount(Some(source), &path, Some(kind), flags, Some(options))
            .during(|| format!("mount /dev/{name}"))?;
    }
    symlink("pts/ptmx", at.join("ptmx")).during(|| "link /dev/ptmx".to_owned())
}

fn mount_tmpfs(at: &Path, options: &str) -> Result<(), SetupError> {
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some(options),
    )
    .during(|| format!("mount tmpfs on {}", at.display()))
}

fn fill(at: &Path, devices: &[(&'static str, u64, u64)]) -> Result<(), SetupError> {
    for named in devices {
        device(at, *named)?;
    }
    link(at)
}

fn link(at: &Path) -> Result<(), SetupError> {
    for (name, target) in LINKS {
        symlink(target, at.join(name)).during(|| format!("link {name}"))?;
    }
    Ok(())
}

/// Makes a device, or where that is not allowed binds the machine's own,
/// read-only so that its owner and mode cannot be changed from inside.
fn device(at: &Path, (name, major, minor): (&str, u64, u64)) -> Result<(), SetupError> {
    let path = at.join(name);
    let before = umask(Mode::empty());
    let made = mknod(
        &path,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        makedev(major, minor),
    );
    umask(before);
    // Inside a user namespace mknod is refused, and what it made elsewhere may
    // still not be openable (a tmpfs of a user namespace is `nodev`).
    if made.is_ok() && File::open(&path).is_ok() {
        return Ok(());
    }
    if made.is_ok() && name == TERMINAL.0 {
        // Opening /dev/tty fails for whoever has no controlling terminal, as the warden.
        return Ok(());
    }
    if made.is_ok() {
        fs::remove_file(&path).during(|| format!("remove {}", path.display()))?;
    }
    File::create(&path).during(|| format!("make {}", path.display()))?;
    let own = Path::new("/dev").join(name);
    mount(
        Some(&own),
        &path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .during(|| format!("bind {}", own.display()))?;
    remount_read_only(&path, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)
}
