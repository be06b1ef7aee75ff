//! `DELETE /networks/{id}` (Engine API, `NetworkDelete`).

use super::{find, is_active, say};
use crate::api::{ApiError, ApiResult, Context, empty};
use crate::engine::networks::endpoint_id;

/// Removes a network.
///
/// # Errors
/// 403 for one that is always there or that a container is in, 404.
pub async fn remove(context: &Context<'_>, reference: &str) -> ApiResult {
    let network = find(context, reference).await?;
    let name = &network.name;
    if network.is_predefined() {
        let message = format!("{name} is a pre-defined network and cannot be removed");
        return Err(ApiError::new(403, message));
    }
    let store = &context.control.store;
    let containers = store.containers(context.namespace).await?;
    let active: Vec<String> = containers
        .iter()
        .filter(|container| is_active(container, &network))
        .map(|container| {
            let endpoint = endpoint_id(container, network.id.as_str());
            let short = endpoint.get(..12).unwrap_or_default();
            format!("name:\"{}\" id:\"{short}\"", container.name)
        })
        .collect();
    if !active.is_empty() {
        let message = format!(
            "error while removing network: network {name} has active endpoints ({})",
            active.join(", ")
        );
        return Err(ApiError::new(403, message));
    }
    store.erase_network(context.namespace, &network).await?;
    say(context, "destroy", &network, None).await;
    Ok(empty(204))
}
