//! What a client says of a container's place in a network (Docker's `EndpointSettings`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::listed;
use crate::api::ApiError;
use crate::api::containers::spec::strings;
use crate::store::networks::Network;

/// Checks it; `network` is `None` for one that does not exist, which only a start finds.
/// `mac` is the address that the container as a whole is to have.
///
/// # Errors
/// 400 in Docker's words; 501 for what no network here has.
pub fn check(network: Option<&Network>, mac: &str, endpoint: &Value) -> Result<(), ApiError> {
    let faults = faults(network, endpoint);
    if !faults.is_empty() {
        let message = listed("invalid endpoint settings", &faults);
        return Err(ApiError::new(400, message));
    }
    let mac = match endpoint["MacAddress"].as_str() {
        None | Some("") => mac,
        Some(mac) => mac,
    };
    if !mac.is_empty() {
        if !is_mac(mac) {
            return Err(ApiError::new(400, format!("invalid MAC address {mac}")));
        }
        return Err(ApiError::not_implemented(
            "--mac-address is not implemented by sockerless: a container has no network card of its own; leave it out",
        ));
    }
    let ipam = &endpoint["IPAMConfig"];
    if !strings(&ipam["LinkLocalIPs"]).is_empty() {
        return Err(ApiError::not_implemented(
            "--link-local-ip is not implemented by sockerless: a container has no network card of its own; leave it out",
        ));
    }
    if given(ipam, "IPv4Address").is_some() || given(ipam, "IPv6Address").is_some() {
        return Err(ApiError::not_implemented(
            "--ip is not implemented by sockerless: a container has no address of its own in its network; leave it out",
        ));
    }
    if !strings(&endpoint["Links"]).is_empty() {
        return Err(ApiError::not_implemented(
            "--link is not implemented by sockerless: containers cannot reach each other",
        ));
    }
    Ok(())
}

fn given<'a>(ipam: &'a Value, name: &str) -> Option<&'a str> {
    ipam[name].as_str().filter(|text| !text.is_empty())
}

/// Docker's `validateEndpointSettings`, fault by fault.
fn faults(network: Option<&Network>, endpoint: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let ipam = &endpoint["IPAMConfig"];
    let (v4, v6) = (given(ipam, "IPv4Address"), given(ipam, "IPv6Address"));
    if network.is_some_and(Network::is_predefined) {
        if !strings(&endpoint["Aliases"]).is_empty() {
            faults.push(
                "network-scoped alias is supported only for containers in user defined networks"
                    .to_owned(),
            );
        }
        if v4.is_some() || v6.is_some() {
            faults.push(
                "user specified IP address is supported on user defined networks only".to_owned(),
            );
        }
    }
    if let Some(text) = v4
        && text.parse::<Ipv4Addr>().is_err()
    {
        faults.push(format!("invalid IPv4 address: {text}"));
    }
    if let Some(text) = v6
        && text.parse::<Ipv6Addr>().is_err()
    {
        faults.push(format!("invalid IPv6 address: {text}"));
    }
    for text in strings(&ipam["LinkLocalIPs"]) {
        if text.parse::<IpAddr>().is_err() {
            faults.push(format!("invalid link-local IP address: {text}"));
        }
    }
    if let Some(network) = network {
        faults.extend([v4, v6].into_iter().flatten().filter_map(|text| {
            let mut configured = network.subnets.iter().filter(|subnet| subnet.configured);
            if configured.clone().next().is_none() {
                return Some("user specified IP address is supported only when connecting to networks with user configured subnets".to_owned());
            }
            let address = text.parse::<IpAddr>().ok()?;
            let inside = configured.any(|subnet| subnet.range.contains(&address));
            (!inside)
                .then(|| format!("no configured subnet or ip-range contain the IP address {text}"))
        }));
    }
    faults
}

fn is_mac(text: &str) -> bool {
    let groups: Vec<_> = text.split([':', '-']).collect();
    matches!(groups.len(), 6 | 8 | 20)
        && groups
            .iter()
            .all(|group| group.len() == 2 && u8::from_str_radix(group, 16).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::networks::{Driver, Subnet};
    use serde_json::json;
    use sockerless_shared::ids::Namespace;

    fn refused(network: &Network, endpoint: &Value) -> (u16, String) {
        let error = check(Some(network), "", endpoint).unwrap_err();
        (error.status, error.message)
    }

    /// Sentences of Engine 28.5.
    #[test]
    fn what_is_not_valid_is_refused_in_dockers_words() {
        let namespace: Namespace = "test".parse().unwrap();
        let bridge = Network::predefined(&namespace, "bridge", Driver::Bridge);
        let mut own = bridge.clone();
        own.name = "own".to_owned();
        let bad = json!({"IPAMConfig": {"IPv4Address": "zz", "IPv6Address": "zz", "LinkLocalIPs": ["zz"]}});
        assert_eq!(
            refused(&own, &bad).1,
            "invalid endpoint settings:\n* invalid IPv4 address: zz\n* invalid IPv6 address: zz\n* invalid link-local IP address: zz\n* user specified IP address is supported only when connecting to networks with user configured subnets\n* user specified IP address is supported only when connecting to networks with user configured subnets"
        );
        assert_eq!(
            refused(&bridge, &json!({"Aliases": ["x"]})),
            (400, "invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks".into())
        );
        assert_eq!(
            refused(&own, &json!({"MacAddress": "zz"})),
            (400, "invalid MAC address zz".into())
        );
        own.subnets = vec![Subnet {
            configured: true,
            ..Subnet::chosen("10.50.0.0/24".parse().unwrap())
        }];
        let address = |text: &str| json!({"IPAMConfig": {"IPv4Address": text}});
        assert_eq!(
            refused(&own, &address("10.51.0.9")),
            (400, "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.51.0.9".into())
        );
        assert_eq!(refused(&own, &address("10.50.0.9")).0, 501);
        assert_eq!(check(Some(&own), "", &json!({"Aliases": ["x"]})), Ok(()));
    }
}
