//! `--volume`, `--mount`, `--volumes-from` and `--tmpfs` of a microvm (Docker's
//! `volumes/mounts` package): folders and files of the machine, and file systems in memory.

use serde_json::{Value, json};

use super::spec::strings;
use super::tmpfs;
use crate::api::ApiError;
use crate::ports::machine::{Mount, MountSource, VolumeMount};

/// What Docker calls a bind mount that nobody says more of.
const PROPAGATION: &str = "rprivate";

/// How mounts may spread between machine and container; only the first two can.
const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// Options of the type that a mount is not of.
const OPTIONS: [(&str, &str); 4] = [
    ("BindOptions", "bind"),
    ("VolumeOptions", "volume"),
    ("ImageOptions", "image"),
    ("TmpfsOptions", "tmpfs"),
];

/// All that is mounted into a container of this `HostConfig`, but for what it takes
/// from others; gives Docker's warnings as well.
///
/// # Errors
/// Docker's; 501 for images.
pub(super) fn mounts(host: &Value) -> Result<Vec<Mount>, ApiError> {
    let mut all: Vec<Mount> = Vec::new();
    let mut push = |mount: Mount| {
        let clean = clean(&mount.target);
        if all.iter().any(|other| self::clean(&other.target) == clean) {
            let message = format!("Duplicate mount point: {}", mount.target);
            return Err(ApiError::new(400, message));
        }
        all.push(mount);
        Ok(())
    };
    for spec in host["Mounts"].as_array().into_iter().flatten() {
        push(structured(spec)?)?;
    }
    for raw in strings(&host["Binds"]) {
        push(bind(&raw)?)?;
    }
    for (path, options) in host["Tmpfs"].as_object().into_iter().flatten() {
        push(Mount {
            target: path.clone(),
            source: MountSource::Memory {
                // What is none is refused by `start`; see `machine`.
                options: tmpfs::merge(options.as_str().unwrap_or("")).unwrap_or_default(),
            },
            read_only: false,
            mode: String::new(),
            shown: false,
        })?;
    }
    Ok(all)
}

/// `CONTAINER[:MODE]`.
///
/// # Errors
/// 400 in Docker's words.
pub(super) fn volumes_from(text: &str) -> Result<(&str, bool), ApiError> {
    if text.is_empty() {
        let message = "volumes-from specification cannot be an empty string";
        return Err(ApiError::new(400, message));
    }
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    if !is_mode(mode) {
        return Err(ApiError::new(400, format!("invalid mode: {mode}")));
    }
    Ok((container, mode.split(',').any(|one| one == "ro")))
}

/// What `inspect` shows of a container's mounts.
pub(super) fn shown(mounts: &[Mount]) -> Value {
    mounts
        .iter()
        .filter(|mount| mount.shown)
        .map(|mount| {
            let (kind, source, propagation) = match &mount.source {
                MountSource::Host { path, .. } => ("bind", path.as_str(), PROPAGATION),
                MountSource::Volume(volume) => ("volume", volume.path.as_str(), ""),
                MountSource::Memory { .. } => ("tmpfs", "", ""),
            };
            let mut shown = json!({
                "Type": kind, "Source": source, "Destination": mount.target,
                "Mode": mount.mode, "RW": !mount.read_only, "Propagation": propagation,
            });
            if let MountSource::Volume(volume) = &mount.source {
                shown["Name"] = json!(volume.name);
                shown["Driver"] = json!("local");
            }
            shown
        })
        .collect()
}

/// What Docker calls the mode of a volume that nobody says more of.
const VOLUME_MODE: &str = "z";

/// A volume that is to be made, should it not be there; nobody names it where `name` is empty.
fn volume(name: &str, copy: bool, subpath: &str) -> MountSource {
    MountSource::Volume(VolumeMount {
        name: name.to_owned(),
        anonymous: name.is_empty(),
        copy,
        subpath: subpath.to_owned(),
        ..VolumeMount::default()
    })
}

/// A mount of a volume that nobody names, as an image or `--volume /path` wants it.
pub(super) fn unnamed(target: &str) -> Mount {
    Mount {
        target: target.to_owned(),
        source: volume("", true, ""),
        read_only: false,
        mode: String::new(),
        shown: true,
    }
}

/// Whether something is mounted at this place already.
pub(super) fn is_mounted(mounts: &[Mount], target: &str) -> bool {
    let target = clean(target);
    mounts.iter().any(|mount| clean(&mount.target) == target)
}

/// An element of `Binds` (`ParseMountRaw`).
fn bind(raw: &str) -> Result<Mount, ApiError> {
    let invalid = || ApiError::new(500, format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    let (source, target, mode) = match parts.as_slice() {
        ["", ..] => return Err(invalid()),
        [target] => {
            check_bind(raw, "volume", target)?;
            return Ok(unnamed(target));
        }
        [_, mode] if !mode.is_empty() && is_mode(mode) => return Err(invalid()),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(invalid()),
    };
    if !is_mode(mode) {
        return Err(ApiError::new(500, format!("invalid mode: {mode}")));
    }
    let is_volume = !source.starts_with('/');
    check_bind(raw, if is_volume { "volume" } else { "bind" }, target)?;
    let has = |wanted: &str| mode.split(',').any(|one| one == wanted);
    if let Some(spread) = mode.split(',').find(|one| PROPAGATIONS.contains(one)) {
        check_propagation(spread)?;
    }
    Ok(Mount {
        target: target.to_owned(),
        source: if is_volume {
            volume(source, !has("nocopy"), "")
        } else {
            MountSource::Host {
                path: clean(source),
                make: true,
                recursive: true,
            }
        },
        read_only: has("ro"),
        mode: match mode {
            "" if is_volume => VOLUME_MODE.to_owned(),
            mode => mode.to_owned(),
        },
        shown: true,
    })
}

/// Checks where an element of `Binds` is to be mounted.
fn check_bind(raw: &str, kind: &str, target: &str) -> Result<(), ApiError> {
    check_target(target).map_err(|why| {
        let message = format!(
            "invalid volume specification: '{raw}': invalid mount config for type \"{kind}\": {why}"
        );
        ApiError::new(500, message)
    })
}

/// An element of `Mounts` (`ParseMountSpec`).
fn structured(spec: &Value) -> Result<Mount, ApiError> {
    let text = |name: &str| spec[name].as_str().unwrap_or("");
    let kind = text("Type");
    let invalid = |why: String| {
        let message = format!("invalid mount config for type \"{kind}\": {why}");
        ApiError::new(400, message)
    };
    let (source, target) = (text("Source"), text("Target"));
    if target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    if !matches!(kind, "bind" | "volume" | "tmpfs" | "image") {
        return Err(invalid("mount type unknown".to_owned()));
    }
    for (options, of) in OPTIONS {
        if of != kind && spec[options].is_object() {
            let message = format!("{options} must not be specified on mount type \"{kind}\"");
            return Err(ApiError::new(400, message));
        }
    }
    check_target(target).map_err(invalid)?;
    let read_only = spec["ReadOnly"].as_bool().unwrap_or(false);
    let source = match kind {
        "bind" => bound(spec, source).map_err(|refused| match refused {
            Bad::Mount(why) => invalid(why),
            Bad::Other(error) => error,
        })?,
        "tmpfs" if !source.is_empty() => {
            return Err(invalid("field Source must not be specified".to_owned()));
        }
        "tmpfs" => MountSource::Memory {
            options: memory(&spec["TmpfsOptions"], read_only).map_err(invalid)?,
        },
        "image" => {
            return Err(ApiError::not_implemented(
                "--mount of type image is not implemented by sockerless: run the image itself, or bind a folder of this machine",
            ));
        }
        _ => {
            let options = &spec["VolumeOptions"];
            let subpath = options["Subpath"].as_str().unwrap_or("");
            check_subpath(source, subpath).map_err(invalid)?;
            volume(source, options["NoCopy"] != true, subpath)
        }
    };
    let mode = match source {
        MountSource::Volume(_) => VOLUME_MODE.to_owned(),
        MountSource::Host { .. } | MountSource::Memory { .. } => String::new(),
    };
    Ok(Mount {
        target: target.to_owned(),
        source,
        read_only,
        mode,
        shown: true,
    })
}

/// A part of a volume is named by a path that stays within it.
fn check_subpath(volume: &str, subpath: &str) -> Result<(), String> {
    if subpath.is_empty() {
        return Ok(());
    }
    if volume.is_empty() {
        return Err("must not set Subpath when using anonymous volumes".to_owned());
    }
    let mut depth = 0i64;
    let stays = subpath.split('/').all(|part| {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth >= 0
    });
    if subpath.starts_with('/') || !stays {
        return Err("subpath must be a relative path within the volume".to_owned());
    }
    Ok(())
}

/// Why a bind mount cannot be had.
enum Bad {
    Mount(String),
    Other(ApiError),
}

fn bound(spec: &Value, source: &str) -> Result<MountSource, Bad> {
    if source.is_empty() {
        return Err(Bad::Mount("field Source must not be empty".to_owned()));
    }
    let options = &spec["BindOptions"];
    let flag = |name: &str| options[name].as_bool().unwrap_or(false);
    let spread = options["Propagation"].as_str().unwrap_or("");
    if !spread.is_empty() && !PROPAGATIONS.contains(&spread) {
        return Err(Bad::Mount(format!("invalid propagation mode: {spread}")));
    }
    if !source.starts_with('/') {
        let why = format!("invalid mount path: '{source}' mount path must be absolute");
        return Err(Bad::Mount(why));
    }
    check_propagation(spread).map_err(Bad::Other)?;
    Ok(MountSource::Host {
        path: clean(source),
        make: flag("CreateMountpoint"),
        recursive: !flag("NonRecursive"),
    })
}

/// Docker's `ConvertTmpfsOptions`.
fn memory(options: &Value, read_only: bool) -> Result<String, String> {
    let mut text = Vec::new();
    if read_only {
        text.push("ro".to_owned());
    }
    if let Some(mode @ 1..) = options["Mode"].as_u64() {
        text.push(format!("mode={mode:o}"));
    }
    match options["SizeBytes"].as_i64() {
        None | Some(0) => {}
        Some(bytes) => text.push(format!("size={bytes}")),
    }
    for option in options["Options"].as_array().into_iter().flatten() {
        let parts = strings(option);
        match parts.as_slice() {
            [one] if matches!(one.as_str(), "exec" | "noexec") => text.push(one.clone()),
            [name, ..] => return Err(format!("invalid option: {name}")),
            [] => {}
        }
    }
    tmpfs::merge(&text.join(","))
}

fn check_target(target: &str) -> Result<(), String> {
    if !target.starts_with('/') {
        return Err(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        ));
    }
    if clean(target) == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    Ok(())
}

fn check_propagation(spread: &str) -> Result<(), ApiError> {
    if matches!(spread, "" | "private" | "rprivate") {
        return Ok(());
    }
    Err(ApiError::not_implemented(format!(
        "bind propagation {spread} is not implemented by sockerless: a container's mounts are its own; leave it out"
    )))
}

/// Docker's `linuxValidMountMode`: at most one word of each kind.
fn is_mode(mode: &str) -> bool {
    const KINDS: [&[&str]; 5] = [
        &["rw", "ro"],
        &["z", "Z"],
        &PROPAGATIONS,
        &["nocopy"],
        &["consistent", "cached", "delegated"],
    ];
    let words: Vec<&str> = mode.split(',').collect();
    let known = |word: &&str| KINDS.iter().any(|kind| kind.contains(word));
    let once = |kind: &&[&str]| words.iter().filter(|word| kind.contains(word)).count() <= 1;
    mode.is_empty() || (words.iter().all(known) && KINDS.iter().all(once))
}

/// Go's `filepath.Clean` of an absolute path, by text alone.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(host: &Value) -> (u16, String) {
        let error = mounts(host).unwrap_err();
        (error.status, error.message)
    }

    #[test]
    fn binds_and_mounts_are_read_as_docker_reads_them() {
        let all = mounts(&json!({
            "Binds": ["/a/../b:/x:ro,z"],
            "Mounts": [
                {"Type": "bind", "Source": "/a", "Target": "/y", "BindOptions": {"NonRecursive": true}},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 448}},
            ],
            "Tmpfs": {"/u": "size=1m"},
        }))
        .unwrap();
        let host = |path: &str, make, recursive| MountSource::Host {
            path: path.to_owned(),
            make,
            recursive,
        };
        let sources: Vec<_> = all.iter().map(|mount| mount.source.clone()).collect();
        let memory = |options: &str| MountSource::Memory {
            options: options.to_owned(),
        };
        assert_eq!(
            sources,
            [
                host("/a", false, false),
                memory("rw,nosuid,nodev,noexec,mode=700,size=1024"),
                host("/b", true, true),
                memory("rw,nosuid,nodev,noexec,size=1m"),
            ]
        );
        assert!(all[2].read_only);
        assert_eq!(shown(&all).as_array().map(Vec::len), Some(3));
    }

    /// Sentences of Engine 28.5.
    #[test]
    fn what_is_not_valid_is_refused_in_dockers_words() {
        let binds = |raw: &str| refused(&json!({ "Binds": [raw] }));
        let mount = |spec: Value| refused(&json!({ "Mounts": [spec] }));
        assert_eq!(binds("/a:/x:zz"), (500, "invalid mode: zz".into()));
        assert_eq!(binds("/a:/x:ro,ro"), (500, "invalid mode: ro,ro".into()));
        for raw in [":/x", "/a:/b:ro:x", "/x:rw"] {
            let message = format!("invalid volume specification: '{raw}'");
            assert_eq!(binds(raw), (500, message));
        }
        assert_eq!(
            binds("/a:/x/.."),
            (500, "invalid volume specification: '/a:/x/..': invalid mount config for type \"bind\": invalid specification: destination can't be '/'".into())
        );
        assert_eq!(
            mount(json!({"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "a"}})),
            (400, "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes".into())
        );
        for subpath in ["/a", "..", "a/../../b"] {
            let spec = json!({"Type": "volume", "Source": "v", "Target": "/x", "VolumeOptions": {"Subpath": subpath}});
            assert_eq!(
                mount(spec),
                (400, "invalid mount config for type \"volume\": subpath must be a relative path within the volume".into())
            );
        }
        assert_eq!(binds("/a:/x:rshared").0, 501);
        assert_eq!(
            mount(json!({"Type": "bind", "Source": "rel", "Target": "/x"})),
            (400, "invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute".into())
        );
        assert_eq!(
            mount(json!({"Type": "tmpfs", "Target": "/x", "BindOptions": {}})),
            (
                400,
                "BindOptions must not be specified on mount type \"tmpfs\"".into()
            )
        );
        assert_eq!(
            refused(&json!({"Binds": ["/a:/x"], "Tmpfs": {"/x": ""}})),
            (400, "Duplicate mount point: /x".into())
        );
    }

    #[test]
    fn volumes_are_named_or_not_and_filled_or_not() {
        let all = mounts(&json!({
            "Binds": ["named:/n", "other:/o:ro,nocopy", "/unnamed"],
            "Mounts": [{"Type": "volume", "Source": "third", "Target": "/t", "VolumeOptions": {"NoCopy": true, "Subpath": "a/b"}}],
        }))
        .unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|mount| match &mount.source {
                MountSource::Volume(volume) => (
                    volume.name.as_str(),
                    volume.anonymous,
                    volume.copy,
                    volume.subpath.as_str(),
                    mount.mode.as_str(),
                ),
                MountSource::Host { .. } | MountSource::Memory { .. } => unreachable!(),
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("third", false, false, "a/b", "z"),
                ("named", false, true, "", "z"),
                ("other", false, false, "", "ro,nocopy"),
                ("", true, true, "", ""),
            ]
        );
        assert!(is_mounted(&all, "/n/.") && !is_mounted(&all, "/x"));
    }

    #[test]
    fn volumes_are_taken_from_a_container_and_a_mode() {
        assert_eq!(volumes_from("a"), Ok(("a", false)));
        assert_eq!(volumes_from("a:ro"), Ok(("a", true)));
        assert_eq!(
            volumes_from("a:zz").unwrap_err().message,
            "invalid mode: zz"
        );
    }
}
