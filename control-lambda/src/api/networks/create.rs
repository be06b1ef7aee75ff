//! `POST /networks/create` (Engine API, `NetworkCreate`).

use serde_json::{Value, json};
use sockerless_shared::ids::NetworkId;

use super::{ipam, options, say};
use crate::api::containers::spec::string_map;
use crate::api::go_json::{self, Absent, Field, Kind, member};
use crate::api::swarm::NOT_A_MANAGER;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::store::networks::{Driver, Network, PREDEFINED, Subnet, Taken, fits};

/// How often another address range is chosen when somebody else took the last one.
const RANGE_ATTEMPTS: usize = 8;

const FIELDS: &[Field] = &[
    Field::new("Name", Kind::String, Absent::Empty),
    Field::new("Driver", Kind::String, Absent::Empty),
    Field::new("Scope", Kind::String, Absent::Empty),
    Field::new("EnableIPv4", Kind::Bool, Absent::Null),
    Field::new("EnableIPv6", Kind::Bool, Absent::Null),
    Field::new("IPAM", Kind::Any, Absent::Null),
    Field::new("Internal", Kind::Bool, Absent::False),
    Field::new("Attachable", Kind::Bool, Absent::False),
    Field::new("Ingress", Kind::Bool, Absent::False),
    Field::new("ConfigOnly", Kind::Bool, Absent::False),
    Field::new("ConfigFrom", Kind::Any, Absent::Null),
    Field::new("Options", Kind::StringMap, Absent::Map),
    Field::new("Labels", Kind::StringMap, Absent::Map),
    Field::new("CheckDuplicate", Kind::Bool, Absent::Null),
];

const IPAM: &[Field] = &[
    Field::new("Driver", Kind::String, Absent::Empty),
    Field::new("Options", Kind::StringMap, Absent::Null),
    Field::new("Config", Kind::Any, Absent::Null),
];

/// Creates a network.
///
/// # Errors
/// 400 for what is not valid, 403 for what may not be, 404 for a driver that is not there,
/// 409 for a name that is taken, 501 for what no network here has.
pub async fn create(context: &Context<'_>) -> ApiResult {
    let body = context.json_body_or_nothing()?;
    go_json::check_object(&body, "network.CreateRequest")?;
    let wanted = Value::Object(go_json::complete("CreateRequest", FIELDS, &body)?);
    let given_ipam = &wanted["IPAM"];
    if !given_ipam.is_object() && !given_ipam.is_null() {
        let place = "CreateRequest.IPAM";
        return Err(go_json::mismatch_at(place, given_ipam, "network.IPAM"));
    }
    let ipam = Value::Object(go_json::complete("CreateRequest.IPAM", IPAM, given_ipam)?);
    check_name(context, &wanted)?;
    let control = context.control;
    let mut others = control.store.networks(context.namespace).await?;
    let name = text(&wanted, "Name");
    let conflict = || ApiError::new(409, format!("network with name {name} already exists"));
    if others.iter().any(|other| other.name == name) {
        return Err(conflict());
    }
    check_kind(&wanted, &ipam)?;
    let configured = ipam::configured(&ipam["Config"])?;
    let mut network = Network {
        id: NetworkId::from_random(control.environment.random()),
        name: name.to_owned(),
        created: control.environment.now(),
        driver: Driver::Bridge,
        scope: match text(&wanted, "Scope") {
            "" => "local".to_owned(),
            scope => scope.to_owned(),
        },
        internal: wanted["Internal"] == true,
        attachable: wanted["Attachable"] == true,
        ipam_options: ipam["Options"]
            .is_object()
            .then(|| string_map(&ipam["Options"])),
        subnets: Vec::new(),
        options: string_map(&wanted["Options"]),
        labels: string_map(&wanted["Labels"]),
    };
    options::check(&network, &others)?;
    for _ in 0..RANGE_ATTEMPTS {
        network.subnets = subnets(&configured, &others)?;
        match control
            .store
            .create_network(context.namespace, &network)
            .await?
        {
            Ok(()) => {
                say(context, "create", &network, None).await;
                let warning = options::warning(&network.options);
                return json(201, &json!({ "Id": network.id, "Warning": warning }));
            }
            Err(Taken::Name) => return Err(conflict()),
            // Somebody else was quicker.
            Err(Taken::Range) => others = control.store.networks(context.namespace).await?,
        }
    }
    Err(no_range_left())
}

fn text<'a>(wanted: &'a Value, name: &str) -> &'a str {
    wanted[name].as_str().unwrap_or("")
}

fn check_name(context: &Context<'_>, wanted: &Value) -> Result<(), ApiError> {
    let name = text(wanted, "Name");
    if name.trim().is_empty() {
        return Err(ApiError::new(400, "invalid name: name is empty"));
    }
    if name == "default" || PREDEFINED.iter().any(|(one, _)| *one == name) {
        let message = format!("operation is not permitted on predefined {name} network ");
        return Err(ApiError::new(403, message));
    }
    if !fits(context.namespace, name) {
        return Err(ApiError::new(
            400,
            "invalid name: a network's name may have at most 1,024 bytes",
        ));
    }
    Ok(())
}

/// Kinds of networks that Docker refuses, and those that are not there.
fn check_kind(wanted: &Value, ipam: &Value) -> Result<(), ApiError> {
    let refuse = |status, message: &str| Err(ApiError::new(status, message));
    let driver = text(wanted, "Driver");
    match driver {
        "" | "default" | "bridge" => {}
        "host" | "null" => {
            let message = format!("only one instance of \"{driver}\" network is allowed");
            return refuse(403, &message);
        }
        "overlay" => return refuse(403, NOT_A_MANAGER),
        "macvlan" | "ipvlan" => {
            return Err(ApiError::not_implemented(format!(
                "the network driver {driver} is not implemented by sockerless: a container has no network card of its own; use the driver bridge"
            )));
        }
        other => return refuse(404, &format!("plugin \"{other}\" not found")),
    }
    if text(wanted, "Scope") == "swarm" {
        return refuse(
            403,
            "cannot create a swarm scoped network when swarm is not active",
        );
    }
    if wanted["Ingress"] == true {
        return refuse(403, "Ingress network can only be global scope network");
    }
    // Networks that only configure others cannot be made, so that none is there to be named.
    if let Some(name) = member(&wanted["ConfigFrom"], "Network")
        .as_str()
        .filter(|name| !name.is_empty())
    {
        let message = format!("configuration network \"{name}\" does not exist");
        return refuse(404, &message);
    }
    if wanted["ConfigOnly"] == true {
        return Err(ApiError::not_implemented(
            "--config-only is not implemented by sockerless: give the configuration to each network itself",
        ));
    }
    if wanted["EnableIPv6"] == true {
        return Err(ApiError::not_implemented(
            "--ipv6 is not implemented by sockerless: containers have no addresses of version 6; leave it out",
        ));
    }
    if wanted["EnableIPv4"] == false {
        return refuse(400, "IPv4 or IPv6 must be enabled");
    }
    match text(ipam, "Driver") {
        "" | "default" => Ok(()),
        "null" => refuse(400, "ipv4 pool is empty"),
        other => refuse(404, &format!("plugin \"{other}\" not found")),
    }
}

/// The ranges of a new network: the client's, and one from the pool where it names none of
/// version 4.
fn subnets(configured: &[Subnet], others: &[Network]) -> Result<Vec<Subnet>, ApiError> {
    for (index, subnet) in configured.iter().enumerate() {
        let own = &configured[..index];
        if ipam::is_taken(subnet.range, others)
            || own
                .iter()
                .any(|other| ipam::overlap(other.range, subnet.range))
        {
            return Err(ApiError::new(
                403,
                "invalid pool request: Pool overlaps with other one on this address space",
            ));
        }
    }
    let mut subnets = configured.to_vec();
    let has_any = subnets
        .iter()
        .any(|subnet| matches!(subnet.range, ipnet::IpNet::V4(_)));
    if !has_any {
        let range = ipam::free(others).ok_or_else(no_range_left)?;
        subnets.push(Subnet::chosen(range));
    }
    Ok(subnets)
}

/// Docker's words (libnetwork's `ErrNoMoreSubnets`).
fn no_range_left() -> ApiError {
    ApiError::new(
        400,
        "all predefined address pools have been fully subnetted",
    )
}
