//! `NetworkSettings.Networks` of a container, as `inspect` and the list show it.

use serde_json::{Map, Value, json};

use crate::engine::networks::{dns_names, endpoint_id};
use crate::store::containers::Container;

/// What the list shows of an endpoint; everything else is as if nothing had been said.
const LISTED: [&str; 3] = ["NetworkID", "GwPriority", "EndpointID"];

/// As `inspect` shows it.
pub(super) fn inspected(container: &Container) -> Value {
    let mut networks = container.networks.clone();
    let runs = container.lifecycle.current_run().is_some();
    for (_, endpoint) in networks.as_object_mut().into_iter().flatten() {
        let network = endpoint["NetworkID"].as_str().unwrap_or("");
        if runs && !network.is_empty() {
            endpoint["EndpointID"] = json!(endpoint_id(container, network));
        }
        // The container may have been renamed since.
        if endpoint["DNSNames"].is_array() {
            endpoint["DNSNames"] = dns_names(container, endpoint);
        }
    }
    networks
}

/// As the list shows it.
pub(super) fn listed(container: &Container) -> Value {
    let mut networks = inspected(container);
    for (_, endpoint) in networks.as_object_mut().into_iter().flatten() {
        let Some(fields) = endpoint.as_object_mut() else {
            continue;
        };
        let addresses = addresses(&fields["IPAMConfig"]);
        for (name, value) in fields.iter_mut() {
            if LISTED.contains(&name.as_str()) {
                continue;
            }
            if name == "IPAMConfig" {
                value.clone_from(&addresses);
            } else if !value.is_string() && !value.is_number() {
                *value = Value::Null;
            }
        }
    }
    networks
}

/// Of the client's own addresses the list shows two kinds.
fn addresses(ipam: &Value) -> Value {
    let Some(ipam) = ipam.as_object() else {
        return Value::Null;
    };
    let kept: Map<String, Value> = ipam
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "IPv4Address" | "IPv6Address"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::Object(kept)
}
