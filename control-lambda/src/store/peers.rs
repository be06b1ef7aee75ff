//! Who is on the relay, and where.

use serde::{Deserialize, Serialize};
use sockerless_shared::ids::{ConnectionId, Namespace, PeerId, RunId};
use sockerless_shared::protocol::mac::TokenHash;
use sockerless_shared::timestamp::Timestamp;

use super::{Store, StoreError, put, put_until};
use crate::ports::table::{Condition, Key};

/// A frontend. What is known of an agent stands in its run's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Whose.
    pub namespace: Namespace,
    /// Its credential.
    pub token: Option<TokenHash>,
    /// Until when the credential is good for a new connection.
    pub token_expires: Option<Timestamp>,
    /// The present connection.
    pub connection: Option<ConnectionId>,
}

/// Who a connection belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Connected {
    /// The agent of a run.
    Agent {
        /// Which run.
        run: RunId,
    },
    /// A frontend.
    Frontend {
        /// Its address.
        peer: PeerId,
    },
}

impl Store {
    /// The frontend that has this address.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn peer(&self, id: &PeerId) -> Result<Option<Peer>, StoreError> {
        Ok(self.read(&peer_key(id)).await?.map(|found| found.record))
    }

    /// Stores a frontend that is known.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_peer(&self, id: &PeerId, peer: &Peer) -> Result<(), StoreError> {
        self.write(vec![put(peer_key(id), peer, Condition::Always)?])
            .await
    }

    /// Stores a frontend, found again by [`Store::frontends`] until its credential has expired.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_frontend(&self, id: &PeerId, peer: &Peer) -> Result<(), StoreError> {
        let mark = Key::new(format!("F#{}", peer.namespace), id.as_str());
        self.write(vec![
            put(peer_key(id), peer, Condition::Always)?,
            put_until(mark, &(), Condition::Always, peer.token_expires)?,
        ])
        .await
    }

    /// The frontends of a namespace.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn frontends(&self, namespace: &Namespace) -> Result<Vec<PeerId>, StoreError> {
        let marks = self
            .list::<()>(&format!("F#{namespace}"), "", usize::MAX)
            .await?;
        Ok(marks
            .into_iter()
            .filter_map(|(sort, _)| sort.parse().ok())
            .collect())
    }

    /// Who a connection belongs to.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn connected(&self, id: &ConnectionId) -> Result<Option<Connected>, StoreError> {
        Ok(self
            .read(&connection_key(id))
            .await?
            .map(|found| found.record))
    }

    /// Notes who a connection belongs to, until it must have died of age.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_connected(
        &self,
        id: &ConnectionId,
        who: &Connected,
        expires: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(vec![put_until(
            connection_key(id),
            who,
            Condition::Always,
            Some(expires),
        )?])
        .await
    }
}

fn peer_key(id: &PeerId) -> Key {
    Key::new(format!("P#{id}"), "at")
}

fn connection_key(id: &ConnectionId) -> Key {
    Key::new(format!("K#{id}"), "who")
}
