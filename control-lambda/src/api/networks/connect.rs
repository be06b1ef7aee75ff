//! `POST /networks/{id}/connect` (Engine API, `NetworkConnect`).

use serde_json::{Map, Value};

use super::{endpoint, find, say};
use crate::api::containers::config::ENDPOINT;
use crate::api::go_json::{self, Absent, Field, Kind};
use crate::api::{ApiError, ApiResult, Context, containers, empty};
use crate::engine::networks::{Reach, dns_names, reach};
use crate::store::containers::Container;
use crate::store::networks::{Driver, Network};

const FIELDS: &[Field] = &[
    Field::new("Container", Kind::String, Absent::Empty),
    Field::new("EndpointConfig", Kind::Any, Absent::Null),
];

/// Puts a container into a network. What a container that runs reaches cannot change.
///
/// # Errors
/// 400 for what is not valid, 403 when it is in the network, 404, 501 for one that runs and
/// would reach more.
pub async fn connect(context: &Context<'_>, reference: &str) -> ApiResult {
    let body = context.json_body_or_nothing()?;
    go_json::check_object(&body, "network.ConnectOptions")?;
    let wanted = go_json::complete("ConnectOptions", FIELDS, &body)?;
    let given = &wanted["EndpointConfig"];
    let place = "ConnectOptions.EndpointConfig";
    if !given.is_object() && !given.is_null() {
        return Err(go_json::mismatch_at(
            place,
            given,
            "network.EndpointSettings",
        ));
    }
    let mut settings = Value::Object(go_json::complete(place, ENDPOINT, given)?);
    let container = containers::named(context, wanted["Container"].as_str().unwrap_or("")).await?;
    let runs = container.lifecycle.current_run().is_some();
    let network = match find(context, reference).await {
        Ok(network) => network,
        // As in Docker, one that is not there is missed when the container starts.
        Err(error) if error.status == 404 && !runs => {
            endpoint::check(None, "", &settings)?;
            return put(context, &container, reference, &settings, |_| Ok(())).await;
        }
        Err(error) => return Err(error),
    };
    check(&container, &network)?;
    endpoint::check(Some(&network), "", &settings)?;
    for (name, value) in [
        ("NetworkID", ""),
        ("EndpointID", ""),
        ("Gateway", ""),
        ("IPAddress", ""),
    ] {
        settings[name] = Value::from(value);
    }
    if !network.is_predefined() {
        settings["DNSNames"] = dns_names(&container, &settings);
    }
    if runs {
        settings["NetworkID"] = Value::from(network.id.as_str());
        let now = reach(&container.shape);
        if network.leads_outside() && now == Reach::Nothing {
            return Err(ApiError::not_implemented(format!(
                "connecting a running container to its first network that leads outside is not implemented by sockerless: stop {} first, connect it to {}, and start it again",
                container.name, network.name
            )));
        }
    }
    let answer = put(context, &container, &network.name, &settings, |container| {
        check(container, &network)
    })
    .await?;
    if runs {
        say(context, "connect", &network, Some(&container.id)).await;
    }
    Ok(answer)
}

/// Notes a container's place in a network. One that it has, and that is in use by no run,
/// stays as it is.
async fn put(
    context: &Context<'_>,
    container: &Container,
    name: &str,
    settings: &Value,
    check: impl Fn(&Container) -> Result<(), ApiError>,
) -> ApiResult {
    context
        .control
        .store
        .update_container(context.namespace, &container.id, |container| {
            check(container)?;
            if let Some(networks) = container.networks.as_object_mut() {
                networks.entry(name).or_insert_with(|| settings.clone());
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(empty(200))
}

/// What Docker does not allow of this container and this network.
fn check(container: &Container, network: &Network) -> Result<(), ApiError> {
    let refuse = |status, message: String| Err(ApiError::new(status, message));
    let none = Map::new();
    let networks = container.networks.as_object().unwrap_or(&none);
    let runs = container.lifecycle.current_run().is_some();
    if network.driver == Driver::Host {
        return refuse(
            400,
            "cannot connect container to host network - container must be created in host network mode"
                .to_owned(),
        );
    }
    if runs && networks.contains_key(&network.name) {
        return refuse(
            403,
            format!(
                "endpoint with name {} already exists in network {}",
                container.name, network.name
            ),
        );
    }
    let others = networks.keys().filter(|name| **name != network.name);
    let is_private = |name: &String| name == "none";
    let alone = others.clone().count() == 0;
    if (network.driver == Driver::Null && !alone) || others.clone().any(is_private) {
        return refuse(
            400,
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                .to_owned(),
        );
    }
    Ok(())
}
