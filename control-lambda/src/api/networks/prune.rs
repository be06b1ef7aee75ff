//! `POST /networks/prune` (Engine API, `NetworkPrune`).

use serde_json::json;

use super::{is_active, say};
use crate::api::prune::Choice;
use crate::api::{ApiResult, Context, json};
use crate::engine::events::of_prune;
use crate::store::events::Kind;

/// Removes the networks that no running container is in, but for those that are always there.
///
/// # Errors
/// 400 for a filter that is not one.
pub async fn prune(context: &Context<'_>) -> ApiResult {
    let filters = context.query.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let choice = Choice::new(context, &filters)?;
    let store = &context.control.store;
    let containers = store.containers(context.namespace).await?;
    let mut removed = Vec::new();
    for network in store.networks(context.namespace).await? {
        let used = || containers.iter().any(|one| is_active(one, &network));
        if network.is_predefined()
            || !choice.takes(network.created, &json!(network.labels))
            || used()
        {
            continue;
        }
        store.erase_network(context.namespace, &network).await?;
        say(context, "destroy", &network, None).await;
        removed.push(network.name);
    }
    let event = of_prune(Kind::Network, 0, context.control.environment.now());
    context
        .control
        .say_or_log(context.namespace, &[event])
        .await;
    let removed = (!removed.is_empty()).then_some(removed);
    json(200, &json!({ "NetworksDeleted": removed }))
}
