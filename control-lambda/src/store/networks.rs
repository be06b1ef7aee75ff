//! Networks, their names, and the address ranges that are taken.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sockerless_shared::ids::{Namespace, NetworkId};
use sockerless_shared::timestamp::Timestamp;

use super::{Store, StoreError, put};
use crate::ports::table::{Condition, Key, TableError, Write};

/// A network as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// What kind it is.
    pub driver: Driver,
    /// Docker's scope, as the client wrote it; `local` where it said nothing.
    pub scope: String,
    /// Whether it leads nowhere outside.
    pub internal: bool,
    /// Docker's `Attachable`, for `inspect`.
    pub attachable: bool,
    /// Options of the address manager; `None` where the client gave none.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Its address ranges.
    pub subnets: Vec<Subnet>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What kind a network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// One that leads outside, unless it is internal.
    Bridge,
    /// The machine's own.
    Host,
    /// None.
    Null,
}

impl Driver {
    /// Docker's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// An address range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The whole range.
    pub range: IpNet,
    /// The part of it from which containers' addresses are taken.
    pub part: Option<IpNet>,
    /// The gateway's address.
    pub gateway: Option<IpAddr>,
    /// Addresses that are kept for others.
    pub reserved: BTreeMap<String, String>,
    /// Whether the client named it, and Docker did not choose it.
    pub configured: bool,
}

/// The networks that are always there.
pub const PREDEFINED: [(&str, Driver); 3] = [
    ("none", Driver::Null),
    ("host", Driver::Host),
    ("bridge", Driver::Bridge),
];

/// The address range of the network `bridge`, which no other may have.
const BRIDGE: &str = "172.17.0.0/16";

impl Network {
    /// A network that every namespace has, though it is stored nowhere: its id is derived
    /// from the namespace, and it was there from the beginning.
    #[must_use]
    pub fn predefined(namespace: &Namespace, name: &str, driver: Driver) -> Self {
        let bytes = Sha256::digest(format!("network {name} of {namespace}"));
        let mut subnets = Vec::new();
        let mut options = BTreeMap::new();
        if driver == Driver::Bridge {
            subnets.extend(BRIDGE.parse().ok().map(Subnet::chosen));
            options.extend(
                [
                    ("default_bridge", "true"),
                    ("enable_icc", "true"),
                    ("enable_ip_masquerade", "true"),
                    ("host_binding_ipv4", "0.0.0.0"),
                    ("name", "docker0"),
                ]
                .map(|(name, value)| {
                    let name = format!("com.docker.network.bridge.{name}");
                    (name, value.to_owned())
                }),
            );
            options.insert(
                "com.docker.network.driver.mtu".to_owned(),
                "1500".to_owned(),
            );
        }
        Self {
            id: NetworkId::from_random(bytes.into()),
            name: name.to_owned(),
            created: Timestamp::from_secs(0),
            driver,
            scope: "local".to_owned(),
            internal: false,
            attachable: false,
            ipam_options: None,
            subnets,
            options,
            labels: BTreeMap::new(),
        }
    }

    /// Those that every namespace has.
    #[must_use]
    pub fn all_predefined(namespace: &Namespace) -> [Self; 3] {
        PREDEFINED.map(|(name, driver)| Self::predefined(namespace, name, driver))
    }

    /// Whether it is one of those that are always there.
    #[must_use]
    pub fn is_predefined(&self) -> bool {
        PREDEFINED.iter().any(|(name, _)| *name == self.name)
    }

    /// Whether it leads outside.
    #[must_use]
    pub fn leads_outside(&self) -> bool {
        match self.driver {
            Driver::Bridge => !self.internal,
            Driver::Host | Driver::Null => false,
        }
    }
}

impl Subnet {
    /// A range that nobody asked for by name; its first address is the gateway's.
    #[must_use]
    pub fn chosen(range: IpNet) -> Self {
        Self {
            range,
            part: None,
            gateway: range.hosts().next(),
            reserved: BTreeMap::new(),
            configured: false,
        }
    }
}

/// What came of a lookup by id, name or beginning of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundNetwork {
    /// One network.
    One(Box<Network>),
    /// None.
    None,
    /// So many ids begin so.
    Ambiguous(usize),
}

/// Why a network was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Its name is another's.
    Name,
    /// An address range is another's.
    Range,
}

/// So many networks whose ids begin alike are told apart.
const MOST_ALIKE: usize = 1_000;

impl Store {
    /// Stores a new network, and claims its name and its address ranges; says what is taken.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_network(
        &self,
        namespace: &Namespace,
        network: &Network,
    ) -> Result<Result<(), Taken>, StoreError> {
        let mut writes = vec![
            put(
                name_key(namespace, &network.name),
                &network.id,
                Condition::Absent,
            )?,
            put(
                network_key(namespace, &network.id),
                network,
                Condition::Absent,
            )?,
        ];
        for subnet in &network.subnets {
            let key = range_key(namespace, subnet.range);
            writes.push(put(key, &network.id, Condition::Absent)?);
        }
        match self.write(writes).await {
            Ok(()) => Ok(Ok(())),
            Err(StoreError::Table(TableError::Conflict { index: 0 | 1 })) => Ok(Err(Taken::Name)),
            Err(StoreError::Table(TableError::Conflict { .. })) => Ok(Err(Taken::Range)),
            Err(error) => Err(error),
        }
    }

    /// All networks of a namespace: those that are always there, then the others in the
    /// order of their creation.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn networks(&self, namespace: &Namespace) -> Result<Vec<Network>, StoreError> {
        let found = self
            .list::<Network>(&partition(namespace), "", usize::MAX)
            .await?;
        let mut others: Vec<_> = found.into_iter().map(|(_, found)| found.record).collect();
        others.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.id.cmp(&b.id)));
        let mut all = Network::all_predefined(namespace).to_vec();
        all.append(&mut others);
        Ok(all)
    }

    /// As Docker looks networks up: by full id, by name, by the beginning of an id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_network(
        &self,
        namespace: &Namespace,
        reference: &str,
    ) -> Result<FoundNetwork, StoreError> {
        // No key is empty, and no longer one can be stored.
        if !name_key(namespace, reference).is_valid() {
            return Ok(FoundNetwork::None);
        }
        let predefined = Network::all_predefined(namespace);
        let mut all = predefined.iter();
        if let Some(found) =
            all.find(|network| network.id.as_str() == reference || network.name == reference)
        {
            return Ok(FoundNetwork::One(Box::new(found.clone())));
        }
        let id = match reference.parse::<NetworkId>() {
            Ok(id) => Some(id),
            Err(_) => self
                .read::<NetworkId>(&name_key(namespace, reference))
                .await?
                .map(|found| found.record),
        };
        if let Some(id) = id
            && let Some(found) = self.read(&network_key(namespace, &id)).await?
        {
            return Ok(FoundNetwork::One(Box::new(found.record)));
        }
        let hex = reference.len() <= 64
            && reference
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return Ok(FoundNetwork::None);
        }
        let listed = self
            .list::<Network>(&partition(namespace), reference, MOST_ALIKE)
            .await?;
        let mut alike: Vec<Network> = listed.into_iter().map(|(_, found)| found.record).collect();
        let begins = |network: &Network| network.id.as_str().starts_with(reference);
        alike.extend(predefined.into_iter().filter(begins));
        Ok(match alike.len() {
            0 => FoundNetwork::None,
            1 => alike
                .pop()
                .map_or(FoundNetwork::None, |one| FoundNetwork::One(Box::new(one))),
            several => FoundNetwork::Ambiguous(several),
        })
    }

    /// Removes a network, and gives its name and address ranges back. Idempotent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_network(
        &self,
        namespace: &Namespace,
        network: &Network,
    ) -> Result<(), StoreError> {
        let delete = |key| Write::Delete {
            key,
            condition: Condition::Always,
        };
        let mut writes = vec![
            delete(network_key(namespace, &network.id)),
            delete(name_key(namespace, &network.name)),
        ];
        let ranges = network.subnets.iter();
        writes.extend(ranges.map(|subnet| delete(range_key(namespace, subnet.range))));
        self.write(writes).await
    }
}

/// Whether a network can be stored under this name.
#[must_use]
pub fn fits(namespace: &Namespace, name: &str) -> bool {
    name_key(namespace, name).is_valid()
}

fn partition(namespace: &Namespace) -> String {
    format!("NET#{namespace}")
}

fn network_key(namespace: &Namespace, id: &NetworkId) -> Key {
    Key::new(partition(namespace), id.as_str())
}

fn name_key(namespace: &Namespace, name: &str) -> Key {
    Key::new(format!("NETN#{namespace}"), name)
}

fn range_key(namespace: &Namespace, range: IpNet) -> Key {
    Key::new(format!("NETR#{namespace}"), range.to_string())
}
