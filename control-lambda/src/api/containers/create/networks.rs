//! The networks that a new container is to be in.

use serde_json::{Map, Value, json};

use super::Wanted;
use crate::api::containers::config::ENDPOINT;
use crate::api::networks::endpoint;
use crate::api::version::ApiVersion;
use crate::api::{ApiError, Context, go_json};
use crate::ports::function_host::Network as Outbound;
use crate::store::networks::{Driver, FoundNetwork, Network};

/// What comes of them.
pub(super) struct Networks {
    /// `NetworkSettings.Networks` of a container that does not run.
    pub(super) endpoints: Value,
    /// What they lead to; looked at again when the container starts.
    pub(super) outbound: Outbound,
    /// What is to be said of them.
    pub(super) warnings: Vec<String>,
}

/// Looks up and checks the networks of a new container. One that does not exist is no error
/// until the container starts.
///
/// # Errors
/// 400 in Docker's words, 501 for what is not there.
pub(super) async fn networks(context: &Context<'_>, wanted: &Wanted) -> Result<Networks, ApiError> {
    let mode = wanted.network_mode();
    check_mode(mode)?;
    let mut networks = Networks {
        endpoints: json!({}),
        outbound: Outbound::None,
        warnings: Vec::new(),
    };
    let named = named(wanted);
    if context.version < ApiVersion::new(1, 44) && named.len() > 1 {
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        );
        return Err(ApiError::new(400, message));
    }
    let mac = wanted.text("MacAddress");
    for (name, given) in named {
        let at = format!(".NetworkingConfig.EndpointsConfig.{name}");
        if given.is_null() {
            let message = format!("invalid config for network {name}: EndpointsConfig is nil");
            return Err(ApiError::new(400, message));
        }
        if !given.is_object() {
            return Err(go_json::mismatch_at(
                &at,
                &given,
                "network.EndpointSettings",
            ));
        }
        let settings = Value::Object(go_json::complete(&at, ENDPOINT, &given)?);
        let store = &context.control.store;
        let network = match store.find_network(context.namespace, &name).await? {
            FoundNetwork::One(network) => Some(*network),
            FoundNetwork::None | FoundNetwork::Ambiguous(_) => None,
        };
        let name = network.as_ref().map_or(name, |found| found.name.clone());
        let mac = if name == mode || mode == "bridge" {
            &*mac
        } else {
            ""
        };
        endpoint::check(network.as_ref(), mac, &settings).map_err(|error| match error.status {
            400 => ApiError {
                message: format!("invalid config for network {name}: {}", error.message),
                ..error
            },
            _ => error,
        })?;
        networks.add(name, settings, network.as_ref())?;
    }
    if wanted.config("NetworkDisabled") == &Value::Bool(true) {
        networks.outbound = Outbound::None;
        networks.endpoints = json!({});
        networks.warnings.clear();
    }
    Ok(networks)
}

impl Networks {
    fn add(
        &mut self,
        name: String,
        settings: Value,
        network: Option<&Network>,
    ) -> Result<(), ApiError> {
        match network.map(|network| network.driver) {
            Some(Driver::Host) => return Err(not_there("host")),
            Some(Driver::Null) => {}
            Some(Driver::Bridge) | None => {
                if network.is_none_or(Network::leads_outside) {
                    self.outbound = Outbound::Outbound;
                }
            }
        }
        match network {
            Some(network) if !network.is_predefined() => {
                self.warnings.push(if network.internal {
                    format!(
                        "the network {name} is internal: containers in it reach nothing outside, and cannot reach each other yet"
                    )
                } else {
                    format!(
                        "containers in the network {name} reach the outside, and cannot reach each other by name yet"
                    )
                });
            }
            Some(_) | None => {}
        }
        self.endpoints[name] = settings;
        Ok(())
    }
}

/// The endpoints that the client names, or the one that its network mode means.
fn named(wanted: &Wanted) -> Vec<(String, Value)> {
    let mode = wanted.network_mode();
    if wanted.endpoints.is_empty() {
        return vec![(mode.to_owned(), Value::Object(Map::new()))];
    }
    let all = wanted.endpoints.iter();
    all.map(|(name, given)| {
        // Clients call the usual one so.
        let name = if name == "default" { "bridge" } else { name };
        (name.to_owned(), given.clone())
    })
    .collect()
}

fn check_mode(mode: &str) -> Result<(), ApiError> {
    match mode.split_once(':') {
        Some(("container", "")) => Err(ApiError::new(
            400,
            "invalid network mode: invalid container format container:<name|id>",
        )),
        Some(("container", _)) => Err(not_there(mode)),
        _ if mode == "host" => Err(not_there(mode)),
        _ => Ok(()),
    }
}

fn not_there(mode: &str) -> ApiError {
    ApiError::not_implemented(format!(
        "network {mode} is not implemented by sockerless: use --network bridge, none, or one made with `docker network create`"
    ))
}
