//! The volumes that a new container is to have.

use serde_json::Value;

use crate::api::containers::mounts;
pub(super) use crate::api::volumes::create::being_removed;
use crate::api::volumes::create::{Wanted, device, ensure, given};
use crate::api::{ApiError, Context};
use crate::ports::machine::{Machine, MountSource, VolumeMount};

/// Makes the volumes that are not there, of the container's flags and of its configuration's
/// `Volumes`, and says of the mounts where they are. Gives the names of those that nobody
/// named.
///
/// # Errors
/// As for `docker volume create`; those that nobody named are removed again then.
pub(super) async fn make(
    context: &Context<'_>,
    machine: &mut Machine,
    config: &Value,
    host: &Value,
) -> Result<Vec<String>, ApiError> {
    for (target, _) in config["Volumes"].as_object().into_iter().flatten() {
        if !mounts::is_mounted(&machine.mounts, target) {
            machine.mounts.push(mounts::unnamed(target));
        }
    }
    let mut made = Vec::new();
    for mount in &mut machine.mounts {
        let MountSource::Volume(volume) = &mut mount.source else {
            continue;
        };
        if !volume.path.is_empty() {
            // Another container's.
            continue;
        }
        let spec = specification(host, &mount.target);
        match fill(context, volume, spec, host).await {
            Ok(read_only) => mount.read_only |= read_only,
            Err(error) => {
                undo(context, &made).await;
                return Err(error);
            }
        }
        if volume.anonymous {
            made.push(volume.name.clone());
        }
    }
    Ok(made)
}

/// Removes volumes of a container that was not made after all.
pub(super) async fn undo(context: &Context<'_>, made: &[String]) {
    for name in made {
        if let Err(error) = context.control.remove_volume(context.namespace, name).await {
            tracing::warn!(%error, "a volume of a container that was not made is left");
        }
    }
}

/// The element of `Mounts` for this place.
fn specification<'a>(host: &'a Value, target: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    let mut all = host["Mounts"].as_array().into_iter().flatten();
    all.find(|spec| spec["Target"] == target).unwrap_or(&NONE)
}

/// Makes one volume; whether it may only be read.
async fn fill(
    context: &Context<'_>,
    volume: &mut VolumeMount,
    spec: &Value,
    host: &Value,
) -> Result<bool, ApiError> {
    let options = &spec["VolumeOptions"];
    let of_driver = &options["DriverConfig"];
    let driver = if spec.is_null() {
        &host["VolumeDriver"]
    } else {
        &of_driver["Name"]
    };
    let wanted = Wanted {
        name: &volume.name.clone(),
        driver: driver.as_str().unwrap_or(""),
        options: given(&of_driver["Options"]),
        labels: given(&options["Labels"]),
    };
    let found = ensure(context, wanted).await?;
    let (device, read_only) = match device(found.options.as_ref()) {
        Some((device, read_only)) => (Some(device), read_only),
        None => (None, false),
    };
    volume.name = found.name;
    volume.path = found.mountpoint;
    volume.device = device;
    Ok(read_only)
}
