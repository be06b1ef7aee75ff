//! `GET /images/{name}/history` (Engine API, `ImageHistory`).

use serde_json::{Value, json};
use sockerless_shared::timestamp::Timestamp;

use super::platform;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::images::reference::Reference;
use crate::images::remove::references;
use crate::images::store::StoreError;

/// How an image came to be, newest step first.
///
/// # Errors
/// 404 for an unknown image or one of another platform.
pub async fn history(context: &Context<'_>, name: &str) -> ApiResult {
    let platform = platform::parameter(context)?;
    let images = &context.control.images;
    let now = context.control.environment.now();
    let image = images.catalog.resolve(context.namespace, name, now).await?;
    platform::check(context, name, &image, platform.as_ref()).await?;
    let config = images.config(&image.id).await?;
    let mut layers = image.layers.iter();
    let mut steps: Vec<Value> = Vec::with_capacity(config.history.len());
    for step in &config.history {
        let size = if step.empty_layer {
            0
        } else {
            let layer = layers.next().ok_or_else(|| {
                ApiError::new(500, "too many non-empty layers in History section")
            })?;
            let size = images.layers.stat(layer).await.map_err(StoreError::from)?;
            size.unwrap_or_default()
        };
        let created = step.created.as_deref().and_then(Timestamp::parse_rfc3339);
        steps.push(json!({
            "Comment": step.comment,
            "Created": created.map_or(0, Timestamp::secs),
            "CreatedBy": step.created_by,
            "Id": "<missing>",
            "Size": size,
            "Tags": null,
        }));
    }
    steps.reverse();
    if let Some(last) = steps.first_mut() {
        let names = references(&image);
        let tags = names.iter().filter(|name| name.tag().is_some());
        let tags: Vec<String> = tags.map(Reference::familiar).collect();
        last["Id"] = json!(image.id);
        if !tags.is_empty() {
            last["Tags"] = json!(tags);
        }
    }
    json(200, &steps)
}
