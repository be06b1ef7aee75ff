//! The ports that a container exposes, as `inspect` and the list show them while it runs.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sockerless_shared::lifecycle::Phase;

use crate::engine::networks::{Reach, reach};
use crate::store::containers::Container;

/// `NetworkSettings.Ports`: each with the places where it is published, of which there are none.
pub(super) fn inspected(container: &Container) -> Value {
    let ports = exposed(container);
    let all: Map<String, Value> = ports
        .into_iter()
        .map(|(number, protocol)| (format!("{number}/{protocol}"), Value::Null))
        .collect();
    Value::Object(all)
}

/// `Ports` of the list.
pub(super) fn listed(container: &Container) -> Value {
    exposed(container)
        .into_iter()
        .map(|(number, protocol)| json!({"PrivatePort": number, "Type": protocol}))
        .collect()
}

/// Docker shows them while the container has a place in a network that leads outside.
fn exposed(container: &Container) -> BTreeSet<(u16, &'static str)> {
    let runs = matches!(container.lifecycle.phase, Phase::Running | Phase::Paused);
    match reach(&container.shape) {
        Reach::Outside if runs => {}
        Reach::Outside | Reach::Nothing => return BTreeSet::new(),
    }
    let ports = container.config["ExposedPorts"].as_object();
    ports.into_iter().flatten().map(|(p, _)| parse(p)).collect()
}

/// Number and protocol as Docker reads them (`nat.SplitProtoPort`, libnetwork's
/// `types.ParseProtocol`): what it cannot read is a zero, a range of ports with it.
fn parse(port: &str) -> (u16, &'static str) {
    let mut parts = port.split('/');
    let (number, protocol) = match (parts.next().unwrap_or(""), parts.next()) {
        ("", _) => ("", ""),
        (number, None | Some("")) => (number, "tcp"),
        (number, Some(protocol)) => (number, protocol),
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { number.parse() } else { Ok(0) };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "icmp" => "icmp",
        "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => "0",
    };
    (number.unwrap_or(0), protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker Engine 28 shows them.
    #[test]
    fn ports_are_read_as_docker_reads_them() {
        for (port, shown) in [
            ("80/tcp", (80, "tcp")),
            ("80", (80, "tcp")),
            ("80/", (80, "tcp")),
            ("80-82/udp", (0, "udp")),
            ("tcp", (0, "tcp")),
            ("", (0, "0")),
            ("/tcp", (0, "0")),
            ("80/x", (80, "0")),
            ("70000/tcp", (0, "tcp")),
            ("+80/tcp", (0, "tcp")),
            ("080/tcp", (80, "tcp")),
            ("80/TCP", (80, "tcp")),
        ] {
            assert_eq!(parse(port), shown, "{port}");
        }
    }
}
