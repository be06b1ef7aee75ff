//! `DELETE /images/{name}` (Engine API, `ImageDelete`).

use serde_json::{Value, json};

use super::{Users, release_unused};
use crate::api::{ApiError, ApiResult, Context, json};
use crate::images::remove::{RemoveError, Removed};

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
    let removed = context
        .control
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
    json(200, &lines(&removed))
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
