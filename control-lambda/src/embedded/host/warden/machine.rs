//! What one microvm asks for beside what all have; see [`Machine`].

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};

use super::copy;
use super::place::{Kind, Place, Root};
use super::root::{bind, remount_read_only};
use super::{During, SetupError};
use crate::ports::machine::{Machine, Mount, MountSource, VolumeMount};

/// Puts the container's own files of `/etc` into its root. They are mounts, as in
/// Docker, kept in `folder`, and give way to what the client itself mounts there.
pub(super) fn place_files(
    root: &Root,
    folder: &Path,
    files: &[(String, String)],
    machine: &Machine,
) -> Result<(), SetupError> {
    fs::create_dir_all(folder).during(|| format!("make {}", folder.display()))?;
    for (path, text) in files {
        let mut mounts = machine.mounts.iter();
        if mounts.any(|mount| Path::new(&mount.target) == Path::new(path)) {
            continue;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        let file = folder.join(name);
        fs::write(&file, text).during(|| format!("write {}", file.display()))?;
        let place = root.make(path, Kind::File)?;
        bind(&file, &place.path())?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        remount(&root.make(path, Kind::File)?, flags)?;
    }
    Ok(())
}

/// Changes the flags of what is mounted at a place.
fn remount(place: &Place, flags: MsFlags) -> Result<(), SetupError> {
    mount(
        None::<&str>,
        &place.path(),
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags,
        None::<&str>,
    )
    .during(|| "set the flags of a mount".to_owned())
}

/// Mounts what the container asks for, outer ones before those within.
pub(super) fn mount_all(root: &Root, machine: &Machine) -> Result<(), SetupError> {
    let mut all: Vec<_> = machine.mounts.iter().collect();
    all.sort_by_key(|mount| {
        let parts = mount.target.split('/');
        parts.filter(|part| !matches!(*part, "" | ".")).count()
    });
    // Out of the image alone, before anything is mounted over it.
    for one in &all {
        if let MountSource::Volume(volume) = &one.source {
            fill(root, &one.target, volume)?;
        }
    }
    for one in all {
        match &one.source {
            MountSource::Volume(volume) => mount_volume(root, one, volume)?,
            MountSource::Host {
                path,
                make,
                recursive,
            } => bind_host(root, one, Path::new(path), *make, *recursive)?,
            MountSource::Memory { options } => mount_memory(root, &one.target, options)?,
        }
    }
    Ok(())
}

/// The folder that is a volume's data.
fn data(volume: &VolumeMount) -> &Path {
    Path::new(volume.device.as_ref().unwrap_or(&volume.path))
}

/// Fills an empty volume with what the image has in its place.
fn fill(root: &Root, target: &str, volume: &VolumeMount) -> Result<(), SetupError> {
    if !volume.copy {
        return Ok(());
    }
    // Kept, since its path is good for as long as it is.
    let place = match root.find(target)? {
        Some(place) if place.is_folder()? => place,
        Some(_) | None => return Ok(()),
    };
    fill_from(
        &place.path(),
        data(volume),
        &Path::new(&volume.path).with_file_name("filling"),
    )
    .during(|| format!("fill the volume {} from the image", volume.name))
}

/// Copies a folder into another, unless something is in that; `mark` is there meanwhile, so
/// that a copy which was cut off is not taken for the whole.
fn fill_from(from: &Path, to: &Path, mark: &Path) -> io::Result<()> {
    // Two containers may start at once.
    let folder = fs::File::open(to)?;
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
    if mark.exists() {
        for entry in fs::read_dir(to)? {
            let path = entry?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
    } else if !is_empty(to)? {
        return Ok(());
    }
    fs::File::create(mark)?;
    copy::tree(from, to)?;
    fs::remove_file(mark)
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}

/// Binds a volume, or a part of one.
fn mount_volume(root: &Root, one: &Mount, volume: &VolumeMount) -> Result<(), SetupError> {
    let data = data(volume);
    if volume.subpath.is_empty() {
        return bind_host(root, one, data, false, true);
    }
    // No link in the volume leads out of it.
    let Some(part) = Root::open(data)?.find(&volume.subpath)? else {
        let whole = data.join(&volume.subpath);
        return Err(SetupError {
            what: format!("cannot access path {0}: lstat {0}", whole.display()),
            source: io::ErrorKind::NotFound.into(),
        });
    };
    bind_host(root, one, &part.path(), false, true)
}

/// Binds a file or folder of the machine.
fn bind_host(
    root: &Root,
    one: &Mount,
    path: &Path,
    make: bool,
    recursive: bool,
) -> Result<(), SetupError> {
    if make && !path.exists() {
        fs::create_dir_all(path).during(|| {
            format!(
                "error while creating mount source path '{}'",
                path.display()
            )
        })?;
    }
    let found = fs::metadata(path).during(|| format!("find {}", path.display()))?;
    let kind = if found.is_dir() {
        Kind::Folder
    } else {
        Kind::File
    };
    let place = root.make(&one.target, kind)?;
    let during = || format!("mount {} on {}", path.display(), one.target);
    let depth = if recursive {
        MsFlags::MS_REC
    } else {
        MsFlags::empty()
    };
    mount(
        Some(path),
        &place.path(),
        None::<&str>,
        MsFlags::MS_BIND | depth,
        None::<&str>,
    )
    .during(during)?;
    // What is there now, on top of what was.
    let place = root.make(&one.target, kind)?;
    restrict(&place, one.read_only, recursive).during(during)
}

/// Makes a mount, and what is mounted below it, unfit for devices, and read-only if so
/// wanted (mount_setattr(2), Linux 5.12).
fn restrict(place: &Place, read_only: bool, recursive: bool) -> Result<(), Errno> {
    let path = CString::new(place.path().into_os_string().into_vec()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: an all-zero mount_attr changes nothing.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes.attr_set |= libc::MOUNT_ATTR_RDONLY;
    }
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes outlive the call, whose last argument is their size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Mounts a file system in memory.
fn mount_memory(root: &Root, path: &str, options: &str) -> Result<(), SetupError> {
    let existing = root.find(path)?;
    let (flags, mut data) = split_options(options);
    // An existing folder keeps its permissions, whatever is asked for, as under runc.
    if let Some(place) = &existing {
        let mode = format!("mode={:04o}", place.mode()? & 0o7777);
        data = if data.is_empty() {
            mode
        } else {
            format!("{data},{mode}")
        };
    }
    let place = root.make(path, Kind::Folder)?;
    mount(
        Some("tmpfs"),
        &place.path(),
        Some("tmpfs"),
        flags,
        Some(data.as_str()),
    )
    .during(|| format!("mount a tmpfs on {path} with the options {options}"))
}

/// Flags of mount(2), and what the file system itself is told.
fn split_options(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',') {
        match option {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            option if option.contains('=') => data.push(option),
            _ => {}
        }
    }
    // What no container may do is make devices; `dev` is not heard.
    (flags | MsFlags::MS_NODEV, data.join(","))
}

/// Binds devices of the machine into the container.
pub(super) fn bind_devices(root: &Root, machine: &Machine) -> Result<(), SetupError> {
    for (on_host, inside) in &machine.devices {
        let place = root.make(inside, Kind::File)?;
        bind(Path::new(on_host), &place.path())?;
    }
    Ok(())
}

/// Hides what the container's flags hide beside, or in the place of, Docker's list.
pub(super) fn hide_paths(
    root: &Root,
    paths: &[String],
    null: &Path,
    empty: &Path,
) -> Result<(), SetupError> {
    for path in paths {
        let Some(place) = root.find(path)? else {
            continue;
        };
        if place.is_folder()? {
            bind(empty, &place.path())?;
        } else {
            bind(null, &place.path())?;
        }
    }
    Ok(())
}

/// Makes paths read-only that the container's flags name.
pub(super) fn protect_paths(root: &Root, paths: &[String]) -> Result<(), SetupError> {
    for path in paths {
        if let Some(place) = root.find(path)? {
            bind(&place.path(), &place.path())?;
            if let Some(place) = root.find(path)? {
                remount_read_only(&place.path(), MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
            }
        }
    }
    Ok(())
}

/// Sets parameters of the calling process's own namespaces.
pub(super) fn set_parameters(machine: &Machine) -> Result<(), SetupError> {
    for (name, value) in &machine.sysctls {
        let path = parameter(name);
        fs::write(&path, value).during(|| format!("open {}", path.display()))?;
    }
    Ok(())
}

/// The file of a parameter of the kernel.
pub(in super::super) fn parameter(name: &str) -> PathBuf {
    let relative = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    Path::new("/proc/sys").join(relative.trim_start_matches('/'))
}

/// Names the calling process's UTS namespace's domain.
pub(super) fn set_domain_name(name: &str) -> Result<(), SetupError> {
    if name.is_empty() {
        return Ok(());
    }
    // SAFETY: the length is the name's.
    let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    Errno::result(result)
        .map(drop)
        .during(|| "set the domain name".to_owned())
}

/// Lets the container's processes be given the limits they are to have; they set
/// them themselves, as their last act before they are the container's.
pub(super) fn make_room_for_limits(machine: &Machine) {
    for limit in &machine.limits {
        // SAFETY: an all-zero limit is a valid value, filled by the call below.
        let mut now: libc::rlimit64 = unsafe { std::mem::zeroed() };
        let resource = libc::c_long::from(limit.resource);
        // SAFETY: both structures outlive the calls. A refusal shows when the limit is set.
        unsafe {
            let none = std::ptr::null::<libc::rlimit64>();
            if libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut now) == 0
                && now.rlim_max < limit.hard
            {
                now.rlim_max = limit.hard;
                let nowhere = std::ptr::null_mut::<libc::rlimit64>();
                libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const now, nowhere);
            }
        }
    }
}

/// How likely the kernel is to end this process, and those it makes, for memory.
pub(super) fn set_oom_score(machine: &Machine) -> Result<(), SetupError> {
    if machine.oom_score_adj == 0 {
        return Ok(());
    }
    let path = "/proc/self/oom_score_adj";
    fs::write(path, machine.oom_score_adj.to_string()).during(|| format!("write {path}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;

    #[test]
    fn options_are_flags_or_the_file_systems_own() {
        let (flags, data) = split_options("rw,nosuid,exec,ro,size=1m,dev");
        assert_eq!(
            flags,
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV
        );
        assert_eq!(data, "size=1m");
    }

    #[test]
    fn a_volume_is_filled_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["from", "to"] {
            fs::create_dir(path(folder)).unwrap();
        }
        fs::write(path("from/a"), b"a").unwrap();
        fs::write(path("from/b"), b"b").unwrap();
        let fill = || fill_from(&path("from"), &path("to"), &path("mark")).unwrap();
        fill();
        assert!(path("to/a").exists() && path("to/b").exists() && !path("mark").exists());
        // What is there stays as it is.
        fs::remove_file(path("to/b")).unwrap();
        fill();
        assert!(!path("to/b").exists());
        // What was cut off is begun again.
        fs::write(path("mark"), b"").unwrap();
        fs::write(path("to/a"), b"ha").unwrap();
        fill();
        assert_eq!(fs::read(path("to/a")).unwrap(), b"a");
        assert!(path("to/b").exists() && !path("mark").exists());
    }

    #[test]
    fn parameters_are_files_in_both_spellings() {
        for name in ["net.ipv4.ip_forward", "net/ipv4/ip_forward"] {
            assert_eq!(parameter(name), Path::new("/proc/sys/net/ipv4/ip_forward"));
        }
    }
}
