//! `GET /system/df` (Engine API, `SystemDataUsage`).

use serde_json::{Value, json};

use crate::api::containers::list::sized_summary;
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context, images, json, volumes};
use crate::engine::volumes::Users;

const TYPES: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// How much images, containers and volumes take.
///
/// # Errors
/// 400 for a type that is none.
pub async fn df(context: &Context<'_>) -> ApiResult {
    let asked: Vec<&str> = if context.version < ApiVersion::new(1, 42) {
        Vec::new()
    } else {
        context.query.all("type").collect()
    };
    if let Some(unknown) = asked.iter().find(|kind| !TYPES.contains(kind)) {
        let message = format!("unknown object type: {unknown}");
        return Err(ApiError::new(400, message));
    }
    let wants = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let (mut of_layers, mut of_images) = (0, Value::Null);
    if wants("image") {
        of_layers = layers(context).await?;
        of_images = json!(images::list::all(context).await?);
    }
    let of_containers = if wants("container") {
        containers(context).await?
    } else {
        Value::Null
    };
    let of_volumes = if wants("volume") {
        all_volumes(context).await?
    } else {
        Value::Null
    };
    // Nothing is built here, so that nothing is kept of it.
    let of_builds = if wants("build-cache") {
        json!([])
    } else {
        Value::Null
    };
    json(
        200,
        &json!({
            "LayersSize": of_layers,
            "Images": of_images,
            "Containers": of_containers,
            "Volumes": of_volumes,
            "BuildCache": of_builds,
        }),
    )
}

/// All layers, each once, in bytes.
async fn layers(context: &Context<'_>) -> Result<u64, ApiError> {
    let control = context.control;
    let now = control.environment.now();
    let images = control.images.catalog.list(context.namespace, now).await?;
    let sizes = images::list::layer_sizes(context, &images).await?;
    Ok(sizes.values().sum())
}

async fn containers(context: &Context<'_>) -> Result<Value, ApiError> {
    let control = context.control;
    let mut containers = control.store.containers(context.namespace).await?;
    containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.id.cmp(&a.id)));
    let now = control.environment.now();
    let mut summaries = Vec::with_capacity(containers.len());
    for container in &containers {
        summaries.push(sized_summary(context, container, now).await?);
    }
    Ok(json!(summaries))
}

async fn all_volumes(context: &Context<'_>) -> Result<Value, ApiError> {
    let control = context.control;
    let containers = control.store.containers(context.namespace).await?;
    let users = Users::of(&containers);
    let mut shown = Vec::new();
    for volume in control.store.volumes(context.namespace).await? {
        let name = &volume.name;
        let size = control.host.volume_size(context.namespace, name).await?;
        let mut one = volumes::shown(&volume);
        one["UsageData"] = json!({ "RefCount": users.of_volume(name).len(), "Size": size });
        shown.push(one);
    }
    Ok(json!(shown))
}
