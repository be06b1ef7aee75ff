//! The networks of a container that starts: whether they are there, and where they lead.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sockerless_shared::ids::{Namespace, NetworkId};
use thiserror::Error;

use super::{Control, EngineError};
use crate::ports::function_host::{FunctionShape, Network as Outbound};
use crate::store::containers::Container;
use crate::store::networks::{Driver, FoundNetwork, Network};

/// Why a container cannot be started in its networks; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// One does not exist.
    #[error("failed to set up container networking: network {0} not found")]
    NotFound(String),
    /// More than one id begins as the client wrote it.
    #[error(
        "failed to set up container networking: {1} matches found based on ID prefix: network {0} is ambiguous"
    )]
    Ambiguous(String, usize),
    /// `none` goes with no other.
    #[error(
        "failed to set up container networking: container cannot be connected to multiple networks with one of the networks in private (none) mode"
    )]
    PrivateAmongOthers,
}

/// The networks of a container, as they are at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Ids by name.
    ids: BTreeMap<String, NetworkId>,
    /// The names of those that somebody made.
    own: Vec<String>,
    outbound: Outbound,
}

impl Joined {
    /// Whether they lead elsewhere than those that a function of this shape was made for.
    pub(crate) fn changes(&self, shape: &FunctionShape) -> bool {
        self.outbound != shape.network
    }

    /// Notes them in the container's record.
    pub(crate) fn note(&self, container: &mut Container) {
        container.shape.network = self.outbound;
        let mut networks = container.networks.take();
        for (name, endpoint) in networks.as_object_mut().into_iter().flatten() {
            if let Some(id) = self.ids.get(name) {
                endpoint["NetworkID"] = json!(id);
            }
            if self.own.contains(name) {
                endpoint["DNSNames"] = dns_names(container, endpoint);
            }
        }
        container.networks = networks;
    }
}

impl Control {
    /// Looks up the networks of a container that is to start.
    ///
    /// # Errors
    /// [`EngineError::Network`], or when the store fails.
    pub(crate) async fn join(&self, container: &Container) -> Result<Joined, EngineError> {
        let mut joined = Joined {
            ids: BTreeMap::new(),
            own: Vec::new(),
            outbound: Outbound::None,
        };
        let none = serde_json::Map::new();
        let wanted = container.networks.as_object().unwrap_or(&none);
        for (name, endpoint) in wanted {
            let id = endpoint["NetworkID"].as_str().unwrap_or("");
            let reference = if id.is_empty() { name } else { id };
            let network = self.network(&container.namespace, reference).await?;
            if network.driver == Driver::Null && wanted.len() > 1 {
                return Err(NetworkError::PrivateAmongOthers.into());
            }
            if network.leads_outside() {
                joined.outbound = Outbound::Outbound;
            }
            if !network.is_predefined() {
                joined.own.push(name.clone());
            }
            joined.ids.insert(name.clone(), network.id);
        }
        Ok(joined)
    }

    async fn network(
        &self,
        namespace: &Namespace,
        reference: &str,
    ) -> Result<Network, EngineError> {
        match self.store.find_network(namespace, reference).await? {
            FoundNetwork::One(network) => Ok(*network),
            FoundNetwork::None => Err(NetworkError::NotFound(reference.to_owned()).into()),
            FoundNetwork::Ambiguous(count) => {
                Err(NetworkError::Ambiguous(reference.to_owned(), count).into())
            }
        }
    }
}

/// What a container reaches while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Itself alone.
    Nothing,
    /// The outside.
    Outside,
}

/// What a container of this shape reaches.
pub(crate) const fn reach(shape: &FunctionShape) -> Reach {
    match shape.network {
        Outbound::None => Reach::Nothing,
        Outbound::Outbound => Reach::Outside,
    }
}

/// The id of a container's place in a network; always the same.
#[must_use]
pub(crate) fn endpoint_id(container: &Container, network: &str) -> String {
    let text = format!("endpoint of {} in {network}", container.id);
    hex::encode(Sha256::digest(text))
}

/// The names under which Docker would make a container known in a network that somebody made.
#[must_use]
pub(crate) fn dns_names(container: &Container, endpoint: &Value) -> Value {
    let short = container.id.short();
    let mut names: Vec<&str> = vec![&container.name];
    let aliases = endpoint["Aliases"].as_array().into_iter().flatten();
    for name in aliases.filter_map(Value::as_str).chain([short]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    json!(names)
}
