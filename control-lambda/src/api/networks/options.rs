//! Options of the driver `bridge`, checked as Docker checks them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::api::ApiError;
use crate::api::query::{go_bool, go_quote};
use crate::store::networks::Network;

const PREFIX: &str = "com.docker.network.bridge.";
const MTU: &str = "com.docker.network.driver.mtu";
/// The option that names the network's interface on the machine.
const NAME: &str = "com.docker.network.bridge.name";

const BOOLS: [&str; 4] = [
    "enable_icc",
    "enable_ip_masquerade",
    "inhibit_ipv4",
    "default_bridge",
];

/// Longest name of an interface that Linux takes, in bytes.
const MAX_INTERFACE_BYTES: usize = 15;

/// Checks the options of a new network.
///
/// # Errors
/// 400, 403 and 500 in Docker's words.
pub(super) fn check(network: &Network, others: &[Network]) -> Result<(), ApiError> {
    for (name, value) in &network.options {
        let why = if name == MTU {
            mtu(value)?
        } else {
            name.strip_prefix(PREFIX)
                .and_then(|option| fault(option, value))
        };
        if let Some(why) = why {
            let message = format!("failed to parse {name} value: {value} ({why})");
            return Err(ApiError::new(400, message));
        }
    }
    match network.options.get(NAME) {
        Some(name) => interface(network, name, others),
        None => Ok(()),
    }
}

/// What in the options asks for something that no network here has, as a sentence.
pub(super) fn warning(options: &BTreeMap<String, String>) -> String {
    let known = |name: &&String| name.starts_with(PREFIX) || *name == MTU;
    let named: Vec<&str> = options.keys().filter(known).map(String::as_str).collect();
    if named.is_empty() {
        return String::new();
    }
    format!(
        "{} is shown by inspect and has no effect: a network here is no bridge of the machine",
        named.join(", ")
    )
}

fn mtu(value: &str) -> Result<Option<String>, ApiError> {
    match value.parse::<i64>() {
        Ok(number) if number < 0 => {
            let message = format!("invalid MTU number: {number}");
            Err(ApiError::new(400, message))
        }
        Ok(_) => Ok(None),
        Err(_) => Ok(Some(format!(
            "strconv.Atoi: parsing {}: invalid syntax",
            go_quote(value)
        ))),
    }
}

fn fault(option: &str, value: &str) -> Option<String> {
    if BOOLS.contains(&option) {
        let quoted = go_quote(value);
        return go_bool(value)
            .is_none()
            .then(|| format!("strconv.ParseBool: parsing {quoted}: invalid syntax"));
    }
    match option {
        "host_binding_ipv4" if value.parse::<IpAddr>().is_err() => Some("nil ip".to_owned()),
        "gateway_mode_ipv4" | "gateway_mode_ipv6"
            if !["", "nat", "nat-unprotected", "routed", "isolated"].contains(&value) =>
        {
            Some(format!("unknown gateway mode {value}"))
        }
        _ => None,
    }
}

fn interface(network: &Network, name: &str, others: &[Network]) -> Result<(), ApiError> {
    if name.len() > MAX_INTERFACE_BYTES {
        return Err(ApiError::new(500, "numerical result out of range"));
    }
    let same = |other: &&Network| other.options.get(NAME).is_some_and(|theirs| theirs == name);
    match others.iter().find(same) {
        Some(other) if !name.is_empty() => Err(ApiError::new(
            403,
            format!(
                "cannot create network {} ({name}): conflicts with network {} ({name}): networks have same bridge name",
                network.id, other.id
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sockerless_shared::ids::Namespace;

    /// Sentences of Engine 28.5.
    #[test]
    fn what_is_not_valid_is_refused_in_dockers_words() {
        let namespace: Namespace = "test".parse().unwrap();
        let all = Network::all_predefined(&namespace);
        for (name, value, end) in [
            (
                "com.docker.network.bridge.enable_icc",
                "zz",
                "(strconv.ParseBool: parsing \"zz\": invalid syntax)",
            ),
            (
                "com.docker.network.driver.mtu",
                "zz",
                "(strconv.Atoi: parsing \"zz\": invalid syntax)",
            ),
            (
                "com.docker.network.driver.mtu",
                "-1",
                "invalid MTU number: -1",
            ),
            (
                "com.docker.network.bridge.host_binding_ipv4",
                "zz",
                "(nil ip)",
            ),
            (
                "com.docker.network.bridge.gateway_mode_ipv4",
                "zz",
                "(unknown gateway mode zz)",
            ),
            (
                "com.docker.network.bridge.name",
                "docker0",
                "networks have same bridge name",
            ),
        ] {
            let mut network = all[0].clone();
            network.options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let error = check(&network, &all).unwrap_err();
            assert!(error.message.ends_with(end), "{}", error.message);
        }
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let options = |name: &str| BTreeMap::from([(name.to_owned(), "1400".to_owned())]);
        assert!(warning(&options(MTU)).contains("has no effect"));
        assert_eq!(warning(&options("anything")), "");
    }
}
