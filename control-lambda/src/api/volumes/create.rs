//! `POST /volumes/create` (Engine API, `VolumeCreate`), and volumes that a new container names.

use std::collections::BTreeMap;

use serde_json::Value;

use super::shown;
use crate::api::containers::spec::string_map;
use crate::api::go_json::{self, Absent, Field, Kind};
use crate::api::swarm::NOT_A_MANAGER;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::store::volumes::Volume;

const FIELDS: &[Field] = &[
    Field::new("Name", Kind::String, Absent::Empty),
    Field::new("Driver", Kind::String, Absent::Empty),
    Field::new("DriverOpts", Kind::StringMap, Absent::Null),
    Field::new("Labels", Kind::StringMap, Absent::Null),
    Field::new("ClusterVolumeSpec", Kind::Any, Absent::Null),
];

/// Options that Docker's driver `local` has on Linux.
const OPTIONS: [&str; 4] = ["device", "o", "size", "type"];

/// Creates a volume; one that is there already is no error.
///
/// # Errors
/// 400 for what is not valid, 404 for a driver that is not there, 501 for what no volume here
/// can be, or where there are none at all.
pub async fn create(context: &Context<'_>) -> ApiResult {
    let body = context.json_body_or_nothing()?;
    go_json::check_object(&body, "volume.CreateOptions")?;
    let wanted = go_json::complete("CreateOptions", FIELDS, &body)?;
    if wanted["ClusterVolumeSpec"].is_object() {
        return Err(ApiError::new(503, NOT_A_MANAGER));
    }
    let text = |name: &str| wanted[name].as_str().unwrap_or("");
    let map = |name: &str| wanted[name].is_object().then(|| string_map(&wanted[name]));
    let wanted = Wanted {
        name: text("Name"),
        driver: text("Driver"),
        options: map("DriverOpts"),
        labels: map("Labels"),
    };
    json(201, &shown(&ensure(context, wanted).await?))
}

/// A volume that a client wants to be there.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct Wanted<'a> {
    /// Its name; empty for one that nobody names.
    pub(in crate::api) name: &'a str,
    /// Its driver; empty for the usual one.
    pub(in crate::api) driver: &'a str,
    /// The driver's options.
    pub(in crate::api) options: Option<BTreeMap<String, String>>,
    /// Its labels.
    pub(in crate::api) labels: Option<BTreeMap<String, String>>,
}

/// Creates a volume unless it is there.
///
/// # Errors
/// As [`create`].
pub(in crate::api) async fn ensure(
    context: &Context<'_>,
    wanted: Wanted<'_>,
) -> Result<Volume, ApiError> {
    let control = context.control;
    let Wanted {
        name,
        driver,
        options,
        mut labels,
    } = wanted;
    let random: [u8; 32] = control.environment.random();
    let name = if name.is_empty() {
        labels
            .get_or_insert_default()
            .insert(Volume::ANONYMOUS.to_owned(), String::new());
        hex::encode(random)
    } else {
        name.to_owned()
    };
    let refuse = |status, why: String| Err(ApiError::new(status, format!("create {name}: {why}")));
    if !matches!(driver, "" | "local") {
        let why = format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found");
        return refuse(404, why);
    }
    if let Some(found) = control.store.volume(context.namespace, &name).await? {
        return if found.removing {
            Err(being_removed(&name))
        } else {
            Ok(found)
        };
    }
    if let Err(why) = check_name(&name) {
        return refuse(400, why);
    }
    if let Some(options) = &options {
        if let Err(why) = check_options(options) {
            return refuse(400, why);
        }
        if let Some(kind) = options.get("type").filter(|kind| *kind != "none") {
            return Err(ApiError::not_implemented(format!(
                "a volume of the type {kind} is not implemented by sockerless: use --tmpfs for memory, a volume without options for a disk, or type=none with o=bind for a folder of this machine"
            )));
        }
    }
    let mountpoint = control.host.make_volume(context.namespace, &name).await?;
    let volume = Volume {
        name,
        created: control.environment.now(),
        labels,
        options,
        mountpoint,
        removing: false,
    };
    if control
        .store
        .create_volume(context.namespace, &volume)
        .await?
    {
        let name = &volume.name;
        control
            .say_of_volume(context.namespace, "create", name)
            .await;
        return Ok(volume);
    }
    // Somebody else was quicker.
    let found = control
        .store
        .volume(context.namespace, &volume.name)
        .await?;
    Ok(found.unwrap_or(volume))
}

/// What is said of a volume that somebody removes at the moment, or did not come to the end of
/// removing. Docker lets a client wait.
pub(in crate::api) fn being_removed(name: &str) -> ApiError {
    ApiError::new(
        409,
        format!(
            "volume {name} is being removed: repeat the request, or `docker volume rm {name}` if it stays so"
        ),
    )
}

/// Docker's rule for names, which keeps them apart from folders of the machine.
fn check_name(name: &str) -> Result<(), String> {
    if name.len() == 1 {
        return Err(
            "volume name is too short, names should be at least two alphanumeric characters"
                .to_owned(),
        );
    }
    let mut bytes = name.bytes();
    let valid = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if valid {
        return Ok(());
    }
    Err(format!(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    ))
}

/// Options of the driver `local`.
fn check_options(options: &BTreeMap<String, String>) -> Result<(), String> {
    if let Some(name) = options
        .keys()
        .find(|name| !OPTIONS.contains(&name.as_str()))
    {
        return Err(format!("invalid option: \"{name}\""));
    }
    if let Some(size) = options.get("size") {
        let number = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        return Err(if number.is_empty() || number.parse::<f64>().is_err() {
            format!("invalid size: '{size}'")
        } else {
            "quota size requested but no quota support".to_owned()
        });
    }
    // All or none of them.
    let missing = |name: &str| options.get(name).is_none_or(String::is_empty);
    if options.is_empty() {
        return Ok(());
    }
    match ["device", "type"].into_iter().find(|name| missing(name)) {
        Some(name) => Err(format!("missing required option: \"{name}\"")),
        None => Ok(()),
    }
}

/// The folder of the machine that a volume with options stands for, and whether it may only
/// be read.
pub(in crate::api) fn device(options: Option<&BTreeMap<String, String>>) -> Option<(String, bool)> {
    let options = options?;
    let device = options.get("device")?;
    let words = options.get("o").map_or("", String::as_str);
    let read_only = words.split(',').any(|word| word == "ro");
    Some((device.clone(), read_only))
}

/// What stands in a field, where it stands for a volume's options or labels.
pub(in crate::api) fn given(value: &Value) -> Option<BTreeMap<String, String>> {
    let map = string_map(value);
    (!map.is_empty()).then_some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sentences of Engine 28.5.
    #[test]
    fn names_and_options_are_checked_as_docker_does() {
        assert!(check_name("v1").is_ok());
        assert!(
            check_name("a")
                .unwrap_err()
                .starts_with("volume name is too short")
        );
        for bad in ["", "-a", "a b", "../x", "a/b", "ä1"] {
            assert!(
                check_name(bad)
                    .unwrap_err()
                    .contains("includes invalid characters")
            );
        }
        let options = |pairs: &[(&str, &str)]| -> Result<(), String> {
            let owned = pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            check_options(&owned.collect())
        };
        assert_eq!(options(&[]), Ok(()));
        assert_eq!(options(&[("a", "b")]), Err("invalid option: \"a\"".into()));
        assert_eq!(
            options(&[("type", "tmpfs")]),
            Err("missing required option: \"device\"".into())
        );
        assert_eq!(
            options(&[("device", "/x")]),
            Err("missing required option: \"type\"".into())
        );
        assert_eq!(options(&[("size", "zz")]), Err("invalid size: 'zz'".into()));
        assert_eq!(
            options(&[("size", "1m")]),
            Err("quota size requested but no quota support".into())
        );
        assert_eq!(
            options(&[("type", "none"), ("device", "/x"), ("o", "bind")]),
            Ok(())
        );
    }
}
