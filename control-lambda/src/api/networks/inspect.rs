//! `GET /networks/{id}` (Engine API, `NetworkInspect`).

use super::{find, members, shown};
use crate::api::query::{go_bool, go_quote};
use crate::api::{ApiError, ApiResult, Context, json};

/// Everything that is known of a network, with the containers in it that run.
///
/// # Errors
/// 400 for a `verbose` that is neither yes nor no, 404.
pub async fn inspect(context: &Context<'_>, reference: &str) -> ApiResult {
    // What it adds are the tasks of a swarm, of which there are none.
    let verbose = context.query.text("verbose");
    if !verbose.is_empty() && go_bool(verbose).is_none() {
        let quoted = go_quote(verbose);
        let message = format!(
            "invalid value for verbose: {verbose}: strconv.ParseBool: parsing {quoted}: invalid syntax"
        );
        return Err(ApiError::new(400, message));
    }
    let network = find(context, reference).await?;
    let scope = context.query.text("scope");
    if !scope.is_empty() && scope != network.scope {
        let message = format!("network {reference} not found");
        return Err(ApiError::new(404, message));
    }
    let containers = context.control.store.containers(context.namespace).await?;
    json(200, &shown(&network, members(&containers, &network)))
}
