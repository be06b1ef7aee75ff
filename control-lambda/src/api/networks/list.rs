//! `GET /networks` (Engine API, `NetworkList`).

use serde_json::{Map, Value};

use super::{is_active, shown};
use crate::api::filters::Filters;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::store::containers::Container;
use crate::store::networks::Network;

const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// The networks that satisfy the filters.
///
/// # Errors
/// 400 for a filter that is not one, 500 (as in Docker) for an unknown type.
pub async fn list(context: &Context<'_>) -> ApiResult {
    let filters = context.query.filters()?;
    filters.only(&FILTERS)?;
    let dangling = filters.one_bool("dangling")?;
    let kind = kind(&filters)?;
    let store = &context.control.store;
    let networks = store.networks(context.namespace).await?;
    let containers = match dangling {
        Some(_) => store.containers(context.namespace).await?,
        None => Vec::new(),
    };
    let found: Vec<Value> = networks
        .iter()
        .filter(|network| takes(&filters, network))
        .filter(|network| kind.is_none_or(|wanted| wanted(network)))
        .filter(|network| dangling.is_none_or(|wanted| is_dangling(network, &containers) == wanted))
        .map(|network| shown(network, Map::new()))
        .collect();
    json(200, &found)
}

fn takes(filters: &Filters, network: &Network) -> bool {
    filters.any("driver", |driver| driver == network.driver.name())
        && filters.any("id", |part| network.id.as_str().contains(part))
        && filters.matches("name", &network.name)
        && filters.any("scope", |scope| scope == network.scope)
        && filters.labels("label", &serde_json::json!(network.labels))
}

fn is_dangling(network: &Network, containers: &[Container]) -> bool {
    !network.is_predefined()
        && !containers
            .iter()
            .any(|container| is_active(container, network))
}

/// A kind of networks.
type Kind = fn(&Network) -> bool;

/// What the filter `type` wants, if anything; as in Docker, named without a value it
/// wants nothing at all.
fn kind(filters: &Filters) -> Result<Option<Kind>, ApiError> {
    let mut wanted: Vec<Kind> = Vec::new();
    for kind in filters.get("type") {
        wanted.push(match kind.as_str() {
            "builtin" => Network::is_predefined,
            "custom" => |network| !network.is_predefined(),
            other => {
                let message = format!("invalid filter: 'type'='{other}'");
                return Err(ApiError::new(500, message));
            }
        });
    }
    Ok(match wanted.as_slice() {
        [] if filters.names("type") => Some(|_| false),
        [] => None,
        [one] => Some(*one),
        _ => Some(|_| true),
    })
}
