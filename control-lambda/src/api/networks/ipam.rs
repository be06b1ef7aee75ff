//! A network's address ranges: what a client says of them, checked as Docker checks it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::listed;
use crate::api::ApiError;
use crate::api::containers::spec::string_map;
use crate::api::go_json::member;
use crate::store::networks::{Network, Subnet};

/// Most ranges of one network: so many are claimed in one transaction.
const MOST_SUBNETS: usize = 32;

/// The ranges that a client names in `IPAM.Config`.
///
/// # Errors
/// 400 and 403 in Docker's words, 500 where Docker answers so.
pub(super) fn configured(config: &Value) -> Result<Vec<Subnet>, ApiError> {
    let mut faults = Vec::new();
    let mut subnets = Vec::new();
    if config
        .as_array()
        .is_some_and(|all| all.len() > MOST_SUBNETS)
    {
        return Err(ApiError::new(
            400,
            format!("invalid network config:\na network has at most {MOST_SUBNETS} subnets"),
        ));
    }
    for given in config.as_array().into_iter().flatten() {
        match subnet(given, &mut faults) {
            Some(subnet) if faults.is_empty() => subnets.push(subnet),
            _ => {}
        }
    }
    if !faults.is_empty() {
        return Err(ApiError::new(
            400,
            listed("invalid network config", &faults),
        ));
    }
    let of_version_4 = |subnet: &&Subnet| matches!(subnet.range, IpNet::V4(_));
    if subnets.iter().filter(of_version_4).count() > 1 {
        return Err(ApiError::new(
            403,
            "bridge driver doesn't support multiple subnets",
        ));
    }
    for subnet in &subnets {
        check_reserved(subnet)?;
    }
    Ok(subnets)
}

/// One element; its faults are added to the others'.
fn subnet(given: &Value, faults: &mut Vec<String>) -> Option<Subnet> {
    let text = |name: &str| member(given, name).as_str().unwrap_or("");
    let raw = text("Subnet");
    let Ok(range) = raw.parse::<IpNet>() else {
        faults.push(format!("invalid subnet {raw}: invalid CIDR block notation"));
        return None;
    };
    let reserved = string_map(member(given, "AuxiliaryAddresses"));
    if matches!(range, IpNet::V4(_)) {
        check_subnet(
            range,
            raw,
            text("IPRange"),
            text("Gateway"),
            &reserved,
            faults,
        );
    }
    Some(Subnet {
        range,
        part: text("IPRange").parse().ok(),
        gateway: text("Gateway").parse().ok(),
        reserved,
        configured: true,
    })
}

fn check_subnet(
    range: IpNet,
    raw: &str,
    part: &str,
    gateway: &str,
    reserved: &BTreeMap<String, String>,
    faults: &mut Vec<String>,
) {
    let whole = range.trunc();
    if whole != range {
        faults.push(format!("invalid subnet {raw}: it should be {whole}"));
    }
    if !part.is_empty()
        && let Err(why) = check_part(range, part)
    {
        faults.push(format!("invalid ip-range {part}: {why}"));
    }
    if !gateway.is_empty()
        && let Err(why) = check_address(range, gateway)
    {
        faults.push(format!("invalid gateway {gateway}: {why}"));
    }
    for (name, address) in reserved {
        if let Err(why) = check_address(range, address) {
            faults.push(format!("invalid auxiliary address {name}: {why}"));
        }
    }
}

fn check_part(range: IpNet, part: &str) -> Result<(), String> {
    let Ok(part) = part.parse::<IpNet>() else {
        return Err("invalid CIDR block notation".to_owned());
    };
    if matches!(part, IpNet::V6(_)) {
        return Err("parent subnet is an IPv4 block".to_owned());
    }
    if part.prefix_len() < range.prefix_len() {
        return Err(format!(
            "CIDR block is bigger than its parent subnet {range}"
        ));
    }
    if part.trunc() != part {
        return Err(format!("it should be {}", part.trunc()));
    }
    if !range.contains(&part) {
        return Err(format!("parent subnet {range} doesn't contain ip-range"));
    }
    Ok(())
}

fn check_address(range: IpNet, address: &str) -> Result<(), String> {
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err("invalid address".to_owned());
    };
    if range.contains(&address) {
        Ok(())
    } else {
        Err(format!(
            "parent subnet {range} doesn't contain this address"
        ))
    }
}

/// Nobody can have the first and the last address of a range, and no two the same.
fn check_reserved(subnet: &Subnet) -> Result<(), ApiError> {
    let range = subnet.range;
    let taken = |what: String| {
        let message = format!("failed to allocate {what}: Address already in use");
        Err(ApiError::new(500, message))
    };
    let ends = [range.network(), range.broadcast()];
    let small = range.prefix_len() + 1 >= range.max_prefix_len();
    if let Some(gateway) = subnet.gateway
        && !small
        && matches!(range, IpNet::V4(_))
        && ends.contains(&gateway)
    {
        return taken(format!("gateway ({gateway})"));
    }
    let mut seen: Vec<IpAddr> = subnet.gateway.into_iter().collect();
    for (name, address) in &subnet.reserved {
        let Ok(parsed) = address.parse::<IpAddr>() else {
            continue;
        };
        if seen.contains(&parsed) {
            return taken(format!("secondary ip address ({name}:{address})"));
        }
        seen.push(parsed);
    }
    Ok(())
}

/// Whether a range overlaps one of those that networks have.
pub(super) fn is_taken(range: IpNet, networks: &[Network]) -> bool {
    let mut theirs = networks.iter().flat_map(|network| &network.subnets);
    theirs.any(|other| overlap(other.range, range))
}

/// Whether two ranges have an address in common.
pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// The next of Docker's default address pools of which no network has any part.
pub(super) fn free(networks: &[Network]) -> Option<IpNet> {
    let large = (17..32u8).map(|second| format!("172.{second}.0.0/16"));
    let small = (0..16u8).map(|third| format!("192.168.{}.0/20", u16::from(third) * 16));
    large
        .chain(small)
        .filter_map(|text| text.parse().ok())
        .find(|range| !is_taken(*range, networks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sockerless_shared::ids::Namespace;

    fn refused(config: Value) -> (u16, String) {
        let error = configured(&json!([config])).unwrap_err();
        (error.status, error.message)
    }

    /// Sentences of Engine 28.5.
    #[test]
    fn what_is_not_valid_is_refused_in_dockers_words() {
        let heading = "invalid network config:\n";
        for (config, fault) in [
            (json!({}), "invalid subnet : invalid CIDR block notation"),
            (
                json!({"Subnet": "10.3.0.5/24"}),
                "invalid subnet 10.3.0.5/24: it should be 10.3.0.0/24",
            ),
            (
                json!({"Subnet": "10.4.0.0/24", "Gateway": "10.5.0.1"}),
                "invalid gateway 10.5.0.1: parent subnet 10.4.0.0/24 doesn't contain this address",
            ),
            (
                json!({"Subnet": "10.4.0.0/24", "IPRange": "10.4.0.0/16"}),
                "invalid ip-range 10.4.0.0/16: CIDR block is bigger than its parent subnet 10.4.0.0/24",
            ),
            (
                json!({"Subnet": "10.4.0.0/24", "AuxiliaryAddresses": {"a": "zz"}}),
                "invalid auxiliary address a: invalid address",
            ),
        ] {
            assert_eq!(refused(config), (400, format!("{heading}{fault}")));
        }
        assert_eq!(
            refused(json!({"Subnet": "10.11.0.0/24", "Gateway": "10.11.0.255"})),
            (
                500,
                "failed to allocate gateway (10.11.0.255): Address already in use".into()
            )
        );
    }

    #[test]
    fn the_next_free_range_is_chosen_and_none_overlaps() {
        let namespace: Namespace = "test".parse().unwrap();
        let mut networks = Network::all_predefined(&namespace).to_vec();
        assert_eq!(free(&networks), "172.18.0.0/16".parse().ok());
        let mut count = 0;
        while let Some(range) = free(&networks) {
            let mut network = networks[0].clone();
            network.subnets = vec![Subnet::chosen(range)];
            networks.push(network);
            count += 1;
        }
        assert_eq!(count, 14 + 16);
        assert!(is_taken("172.20.3.0/24".parse().unwrap(), &networks));
        assert!(!is_taken("10.0.0.0/8".parse().unwrap(), &networks));
    }
}
