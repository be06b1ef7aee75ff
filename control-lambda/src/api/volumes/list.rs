//! `GET /volumes` (Engine API, `VolumeList`).

use serde_json::{Value, json};

use super::{shown, users};
use crate::api::filters::Filters;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::engine::volumes::Users;

/// The volumes that satisfy the filters.
///
/// # Errors
/// 400 for a filter that is not one.
pub async fn list(context: &Context<'_>) -> ApiResult {
    let filters = context.query.filters().map_err(|error| ApiError {
        message: format!("error reading volume filters: {}", error.message),
        ..error
    })?;
    filters.only(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.bracketed_bool("dangling")?;
    let users = match dangling {
        Some(_) => users(context).await?,
        None => Users::default(),
    };
    let store = &context.control.store;
    let volumes = store.volumes(context.namespace).await?;
    let found: Vec<Value> = volumes
        .iter()
        .filter(|volume| {
            takes(&filters, &volume.name, &json!(volume.labels))
                && dangling.is_none_or(|wanted| users.of_volume(&volume.name).is_empty() == wanted)
        })
        .map(shown)
        .collect();
    json(200, &json!({ "Volumes": found, "Warnings": null }))
}

fn takes(filters: &Filters, name: &str, labels: &Value) -> bool {
    filters.any("driver", |driver| driver == "local")
        && filters.matches("name", name)
        && filters.labels("label", labels)
}
