//! Operations on volumes, one a file.
//!
//! A volume is a record; its data is the function host's, which may have no place for any.

pub mod create;
pub mod inspect;
pub mod list;
pub mod prune;
pub mod remove;

use serde_json::{Value, json};

use super::{ApiError, Context};
use crate::engine::volumes::Users;
use crate::store::volumes::Volume;

/// The volume that a client names.
///
/// # Errors
/// 404.
async fn find(context: &Context<'_>, name: &str) -> Result<Volume, ApiError> {
    let store = &context.control.store;
    let found = store.volume(context.namespace, name).await?;
    found.ok_or_else(|| ApiError::new(404, format!("get {name}: no such volume")))
}

/// Which containers use which volumes.
async fn users(context: &Context<'_>) -> Result<Users, ApiError> {
    let store = &context.control.store;
    let containers = store.containers(context.namespace).await?;
    Ok(Users::of(&containers))
}

/// A volume as Docker shows it.
pub(super) fn shown(volume: &Volume) -> Value {
    json!({
        "CreatedAt": volume.created.rfc3339_seconds(),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": volume.options,
        "Scope": "local",
    })
}
