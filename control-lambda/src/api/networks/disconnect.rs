//! `POST /networks/{id}/disconnect` (Engine API, `NetworkDisconnect`).

use super::{find, say};
use crate::api::go_json::{self, Absent, Field, Kind};
use crate::api::{ApiError, ApiResult, Context, containers, empty};
use crate::engine::networks::{Reach, reach};
use crate::store::containers::Container;

const FIELDS: &[Field] = &[
    Field::new("Container", Kind::String, Absent::Empty),
    Field::new("Force", Kind::Bool, Absent::False),
];

/// Takes a container out of a network. What a container that runs reaches cannot change.
///
/// # Errors
/// 404, 500 (as in Docker) when it is not in the network, 501 for one that runs and would
/// reach less.
pub async fn disconnect(context: &Context<'_>, reference: &str) -> ApiResult {
    let body = context.json_body_or_nothing()?;
    go_json::check_object(&body, "network.DisconnectOptions")?;
    let wanted = go_json::complete("DisconnectOptions", FIELDS, &body)?;
    let named = wanted["Container"].as_str().unwrap_or("");
    let found = containers::named(context, named).await;
    let container = match found {
        Err(error) if error.status == 404 && wanted["Force"] == true => {
            // What is left of a container in a network is taken out by its name.
            find(context, reference).await?;
            let message = format!("endpoint {named} not found");
            return Err(ApiError::new(404, message));
        }
        other => other?,
    };
    let runs = container.lifecycle.current_run().is_some();
    let network = match find(context, reference).await {
        Ok(network) => network,
        // As in Docker, a container that does not run may name one that is not there.
        Err(error) if error.status == 404 && !runs => {
            return take(context, &container, reference).await;
        }
        Err(error) => return Err(error),
    };
    check(&container, &network.name)?;
    if runs && reach(&container.shape) == Reach::Outside {
        let store = &context.control.store;
        let all = store.networks(context.namespace).await?;
        let still = all.iter().any(|other| {
            other.id != network.id
                && other.leads_outside()
                && container.networks.get(&other.name).is_some()
        });
        if !still {
            return Err(ApiError::not_implemented(format!(
                "disconnecting a running container from its last network that leads outside is not implemented by sockerless: stop {} first",
                container.name
            )));
        }
    }
    let answer = take(context, &container, &network.name).await?;
    if runs {
        say(context, "disconnect", &network, Some(&container.id)).await;
    }
    Ok(answer)
}

async fn take(context: &Context<'_>, container: &Container, name: &str) -> ApiResult {
    context
        .control
        .store
        .update_container(context.namespace, &container.id, |container| {
            check(container, name)?;
            if let Some(networks) = container.networks.as_object_mut() {
                networks.remove(name);
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(empty(200))
}

fn check(container: &Container, name: &str) -> Result<(), ApiError> {
    if container.networks.get(name).is_some() {
        return Ok(());
    }
    let which = if container.lifecycle.current_run().is_some() {
        "network"
    } else {
        "the network"
    };
    let id = &container.id;
    let message = format!("container {id} is not connected to {which} {name}");
    Err(ApiError::new(500, message))
}
