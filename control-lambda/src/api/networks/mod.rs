//! Operations on networks, one a file.
//!
//! A network is a record: its name, its labels, its address ranges, and the containers that
//! name it. What it does to a container is to lead outside, or not; between containers it
//! carries nothing yet, which `create` of a container says.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod endpoint;
pub mod inspect;
mod ipam;
pub mod list;
mod options;
pub mod prune;
pub mod remove;

use serde_json::{Map, Value, json};
use sockerless_shared::ids::ContainerId;
use sockerless_shared::lifecycle::Phase;

use super::{ApiError, Context};
use crate::engine::events::of_network;
use crate::engine::networks::endpoint_id;
use crate::store::containers::Container;
use crate::store::networks::{FoundNetwork, Network, Subnet};

/// The network that a client names.
///
/// # Errors
/// 404 when there is none, 400 when more than one id begins so.
pub async fn find(context: &Context<'_>, reference: &str) -> Result<Network, ApiError> {
    let store = &context.control.store;
    match store.find_network(context.namespace, reference).await? {
        FoundNetwork::One(network) => Ok(*network),
        FoundNetwork::None => Err(ApiError::new(404, format!("network {reference} not found"))),
        FoundNetwork::Ambiguous(count) => Err(ApiError::new(
            400,
            format!("{count} matches found based on ID prefix: network {reference} is ambiguous"),
        )),
    }
}

/// Says what happened to a network, and to a container that runs in it.
async fn say(context: &Context<'_>, action: &str, network: &Network, of: Option<&ContainerId>) {
    let control = context.control;
    let (id, driver) = (network.id.as_str(), network.driver.name());
    let event = of_network(
        action,
        id,
        &network.name,
        driver,
        of,
        control.environment.now(),
    );
    control.say_or_log(context.namespace, &[event]).await;
}

/// A network as Docker shows it, with these containers.
fn shown(network: &Network, containers: Map<String, Value>) -> Value {
    let ranges: Vec<Value> = network.subnets.iter().map(range).collect();
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created.rfc3339(),
        "Scope": network.scope,
        "Driver": network.driver.name(),
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Options": network.ipam_options,
            "Config": if ranges.is_empty() { Value::Null } else { json!(ranges) },
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    })
}

fn range(subnet: &Subnet) -> Value {
    let mut shown = json!({ "Subnet": subnet.range });
    if let Some(part) = subnet.part {
        shown["IPRange"] = json!(part);
    }
    if let Some(gateway) = subnet.gateway {
        shown["Gateway"] = json!(gateway);
    }
    if !subnet.reserved.is_empty() {
        shown["AuxiliaryAddresses"] = json!(subnet.reserved);
    }
    shown
}

/// Whether a container is in a network at this moment: Docker counts those that run.
fn is_active(container: &Container, network: &Network) -> bool {
    let runs = match container.lifecycle.phase {
        Phase::Starting | Phase::Running | Phase::Paused | Phase::Restarting => true,
        Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => false,
    };
    let mut ids = container.networks.as_object().into_iter().flatten();
    runs && ids.any(|(_, endpoint)| endpoint["NetworkID"] == network.id.as_str())
}

/// The containers that are in a network, as `inspect` lists them.
fn members(containers: &[Container], network: &Network) -> Map<String, Value> {
    containers
        .iter()
        .filter(|container| is_active(container, network))
        .map(|container| {
            let member = json!({
                "Name": container.name,
                "EndpointID": endpoint_id(container, network.id.as_str()),
                "MacAddress": "",
                "IPv4Address": "",
                "IPv6Address": "",
            });
            (container.id.to_string(), member)
        })
        .collect()
}

/// Several faults as Docker lists them below a heading.
fn listed(heading: &str, faults: &[String]) -> String {
    match faults {
        [one] => format!("{heading}:\n{one}"),
        several => format!("{heading}:\n* {}", several.join("\n* ")),
    }
}
