//! `POST /volumes/prune` (Engine API, `VolumePrune`).

use serde_json::json;

use super::users;
use crate::api::filters::Filters;
use crate::api::prune::Choice;
use crate::api::query::{go_bool, go_quote};
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::engine::events::of_prune;
use crate::store::events::Kind;

/// Removes the volumes that no container uses: those that nobody named, or with the filter
/// `all` every one.
///
/// # Errors
/// 400 for a filter that is not one.
pub async fn prune(context: &Context<'_>) -> ApiResult {
    let filters = context.query.filters()?;
    filters.only(&["all", "label", "label!"])?;
    let choice = Choice::new(context, &filters)?;
    let all = context.version < ApiVersion::new(1, 42) || wants_all(&filters)?;
    let control = context.control;
    let users = users(context).await?;
    let mut sizes = Vec::new();
    for volume in control.store.volumes(context.namespace).await? {
        if !(all || volume.is_anonymous())
            || !choice.takes(volume.created, &json!(volume.labels))
            || !users.of_volume(&volume.name).is_empty()
        {
            continue;
        }
        let size = control
            .host
            .volume_size(context.namespace, &volume.name)
            .await?;
        sizes.push((volume.name, size));
    }
    let names: Vec<&str> = sizes.iter().map(|(name, _)| name.as_str()).collect();
    let used = control
        .remove_unused_volumes(context.namespace, &names, None)
        .await?;
    sizes.retain(|(name, _)| !used.iter().any(|(used, _)| used == name));
    let freed: u64 = sizes.iter().map(|(_, size)| size).sum();
    let removed: Vec<String> = sizes.into_iter().map(|(name, _)| name).collect();
    let event = of_prune(Kind::Volume, freed, control.environment.now());
    control.say_or_log(context.namespace, &[event]).await;
    json(
        200,
        &json!({ "VolumesDeleted": removed, "SpaceReclaimed": freed }),
    )
}

fn wants_all(filters: &Filters) -> Result<bool, ApiError> {
    let refuse = |why: String| ApiError::new(400, format!("invalid filter 'all': {why}"));
    match filters.get("all") {
        [] => Ok(false),
        [one] => go_bool(one).ok_or_else(|| {
            let quoted = go_quote(one);
            refuse(format!(
                "strconv.ParseBool: parsing {quoted}: invalid syntax"
            ))
        }),
        _ => Err(refuse("only one value is expected".to_owned())),
    }
}
