//! `DELETE /images/{name}` (Engine API, `ImageDelete`).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sockerless_shared::timestamp::Timestamp;

use super::{Users, release_unused};
use crate::api::{ApiError, ApiResult, Context, json};
use crate::engine::events::of_image;
use crate::images::catalog::ImageRecord;
use crate::images::remove::{RemoveError, Removed};
use crate::store::events::Event;

/// Removes a name, or an image with its names.
///
/// # Errors
/// 404 for an unknown image, 409 for one that is used.
pub async fn remove(context: &Context<'_>, name: &str) -> ApiResult {
    if name.trim().is_empty() {
        return Err(ApiError::new(400, "image name cannot be blank"));
    }
    release_unused(context).await?;
    let users = Users::of(context).await?;
    let control = context.control;
    let now = control.environment.now();
    let catalog = &control.images.catalog;
    let image = catalog.resolve(context.namespace, name, now).await?;
    let removed = control
        .images
        .remove(
            context.namespace,
            name,
            context.query.flag("force"),
            |image| users.of_image(image).cloned().collect(),
        )
        .await
        .map_err(|error| match error {
            RemoveError::Catalog(error) => error.into(),
            conflict => ApiError::new(409, conflict.to_string()),
        })?;
    let events = events(&image, &removed, now);
    control.say_or_log(context.namespace, &events).await;
    json(200, &lines(&removed))
}

/// What Docker says of an image of which this was removed.
pub(super) fn events(image: &ImageRecord, removed: &[Removed], now: Timestamp) -> Vec<Event> {
    let id = image.id.to_string();
    let nothing = BTreeMap::new();
    let labels = image.labels.as_ref().unwrap_or(&nothing);
    removed
        .iter()
        .filter_map(|line| match line {
            // Docker is silent about the digests by which an image was pulled.
            Removed::Untagged(name) if name.contains('@') => None,
            Removed::Untagged(_) => Some(("untag", labels)),
            Removed::Deleted(digest) => (*digest == image.id).then_some(("delete", &nothing)),
        })
        .map(|(action, labels)| of_image(action, &id, &id, labels, now))
        .collect()
}

/// What was removed, as Docker lists it.
pub(super) fn lines(removed: &[Removed]) -> Vec<Value> {
    removed
        .iter()
        .map(|line| match line {
            Removed::Untagged(name) => json!({ "Untagged": name }),
            Removed::Deleted(digest) => json!({ "Deleted": digest }),
        })
        .collect()
}
