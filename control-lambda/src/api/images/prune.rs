//! `POST /images/prune` (Engine API, `ImagePrune`).

use serde_json::{Value, json};
use sockerless_shared::timestamp::Timestamp;

use super::list::layer_sizes;
use super::remove::{events, lines};
use super::{Users, release_unused};
use crate::api::prune::Choice;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::engine::events::of_prune;
use crate::images::catalog::{CatalogError, ImageRecord};
use crate::images::remove::{RemoveError, Removed, references};
use crate::store::events::Kind;

/// Removes the images that have no tag, or with the filter `dangling=false` all of which
/// there are no containers.
///
/// # Errors
/// 400 for a filter that is not one, 500 (as in Docker) for a time that is none.
pub async fn prune(context: &Context<'_>) -> ApiResult {
    let filters = context.query.filters()?;
    filters.only(&["dangling", "label", "label!", "until"])?;
    let untagged_only = filters.bracketed_bool("dangling")?.unwrap_or(true);
    let choice = Choice::new(context, &filters).map_err(|error| ApiError {
        status: 500,
        ..error
    })?;
    release_unused(context).await?;
    let control = context.control;
    let now = control.environment.now();
    let images = control.images.catalog.list(context.namespace, now).await?;
    let sizes = layer_sizes(context, &images).await?;
    let users = Users::of(context).await?;
    let mut removed = Vec::new();
    for image in &images {
        let created = image.created.as_deref().and_then(Timestamp::parse_rfc3339);
        let created = created.unwrap_or(Timestamp::from_secs(0));
        if !choice.takes(created, &json!(image.labels)) {
            continue;
        }
        for name in names(image, untagged_only) {
            let outcome = control
                .images
                .remove(context.namespace, &name, false, |image| {
                    users.of_image(image).cloned().collect()
                })
                .await;
            match outcome {
                Ok(mut lines) => {
                    let events = events(image, &lines, now);
                    control.say_or_log(context.namespace, &events).await;
                    removed.append(&mut lines);
                }
                // A container uses it, or it went with another of its names.
                Err(
                    RemoveError::LastName { .. }
                    | RemoveError::Running { .. }
                    | RemoveError::SeveralNames { .. }
                    | RemoveError::Stopped { .. }
                    | RemoveError::Catalog(CatalogError::NoSuchImage(_)),
                ) => {}
                Err(RemoveError::Catalog(error)) => return Err(error.into()),
            }
        }
    }
    let freed: u64 = removed
        .iter()
        .filter_map(|line| match line {
            Removed::Deleted(digest) => sizes.get(digest),
            Removed::Untagged(_) => None,
        })
        .sum();
    let event = of_prune(Kind::Image, freed, now);
    control.say_or_log(context.namespace, &[event]).await;
    let deleted = if removed.is_empty() {
        Value::Null
    } else {
        json!(lines(&removed))
    };
    json(
        200,
        &json!({ "ImagesDeleted": deleted, "SpaceReclaimed": freed }),
    )
}

/// What is to be removed of an image, one after the other: its names, or itself.
fn names(image: &ImageRecord, untagged_only: bool) -> Vec<String> {
    let names = references(image);
    if names.is_empty() {
        return vec![image.id.to_string()];
    }
    if untagged_only && names.iter().any(|name| name.tag().is_some()) {
        return Vec::new();
    }
    names.iter().map(ToString::to_string).collect()
}
