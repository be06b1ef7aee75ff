//! Which ticket leads to which peer at present.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::{ConnectionId, PeerId};
use crate::protocol::relay::{RelayError, Ticket};
use crate::timestamp::Timestamp;

/// More peers than one end talks to at a time; beyond it the route that was
/// used longest ago is forgotten, and asked for again when it is needed.
const MAX_ROUTES: usize = 4096;

/// The routes of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    routes: HashMap<PeerId, Route>,
    /// Counts uses, so that the oldest can be found.
    uses: u64,
}

#[derive(Debug)]
struct Route {
    ticket: Ticket,
    connection: ConnectionId,
    expires: Timestamp,
    /// The connection before this one. A message that was overtaken may still
    /// bring a ticket to it, which must not win.
    previous: Option<ConnectionId>,
    last_use: u64,
}

/// What a ticket changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that matters: the same connection as before, or an overtaken message.
    None,
    /// The first route to this peer.
    First,
    /// The peer has another connection than before; what was sent to the old
    /// one is probably lost.
    Moved,
}

impl Routes {
    /// Takes note of a ticket to `peer`.
    ///
    /// # Errors
    /// When it is malformed or leads to somebody else.
    pub(super) fn set(&self, peer: &PeerId, ticket: Ticket) -> Result<Change, RelayError> {
        let claims = ticket.read()?;
        if claims.to != *peer {
            return Err(RelayError::MalformedTicket);
        }
        let mut state = self.lock();
        state.uses += 1;
        let last_use = state.uses;
        if let Some(route) = state.routes.get_mut(peer) {
            route.last_use = last_use;
            if route.connection == claims.connection {
                if claims.expires > route.expires {
                    route.ticket = ticket;
                    route.expires = claims.expires;
                }
                return Ok(Change::None);
            }
            if route.previous.as_ref() == Some(&claims.connection) {
                return Ok(Change::None);
            }
            route.previous = Some(std::mem::replace(&mut route.connection, claims.connection));
            route.ticket = ticket;
            route.expires = claims.expires;
            return Ok(Change::Moved);
        }
        state.make_room();
        let route = Route {
            ticket,
            connection: claims.connection,
            expires: claims.expires,
            previous: None,
            last_use,
        };
        state.routes.insert(peer.clone(), route);
        Ok(Change::First)
    }

    /// The ticket to a peer.
    pub(super) fn get(&self, peer: &PeerId) -> Option<Ticket> {
        let mut state = self.lock();
        state.uses += 1;
        let last_use = state.uses;
        let route = state.routes.get_mut(peer)?;
        route.last_use = last_use;
        Some(route.ticket.clone())
    }

    /// Until when the ticket to a peer is good.
    pub(super) fn expires(&self, peer: &PeerId) -> Option<Timestamp> {
        self.lock().routes.get(peer).map(|route| route.expires)
    }

    pub(super) fn forget(&self, peer: &PeerId) {
        self.lock().routes.remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn make_room(&mut self) {
        if self.routes.len() < MAX_ROUTES {
            return;
        }
        let oldest = self
            .routes
            .iter()
            .min_by_key(|(_, route)| route.last_use)
            .map(|(peer, _)| peer.clone());
        if let Some(oldest) = oldest {
            self.routes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mac::Key;

    fn peer(n: usize) -> PeerId {
        let mut bytes = [0; 14];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        PeerId::from_random(bytes)
    }

    fn ticket(to: usize, connection: &str, expires: i64) -> Ticket {
        Ticket::issue(
            &Key::from_random([0; 32]),
            &peer(usize::MAX),
            &peer(to),
            &connection.parse().unwrap(),
            Timestamp::from_secs(expires),
        )
    }

    #[test]
    fn the_route_used_longest_ago_makes_room() {
        let routes = Routes::default();
        for n in 0..MAX_ROUTES {
            assert_eq!(routes.set(&peer(n), ticket(n, "c", 1)), Ok(Change::First));
        }
        assert!(routes.get(&peer(0)).is_some());
        routes
            .set(&peer(MAX_ROUTES), ticket(MAX_ROUTES, "c", 1))
            .unwrap();
        assert!(routes.get(&peer(1)).is_none());
        assert!(routes.get(&peer(0)).is_some());
    }

    #[test]
    fn a_message_that_was_overtaken_does_not_bring_the_old_route_back() {
        let routes = Routes::default();
        routes.set(&peer(1), ticket(1, "old", 10)).unwrap();
        assert_eq!(
            routes.set(&peer(1), ticket(1, "new", 10)),
            Ok(Change::Moved)
        );
        assert_eq!(routes.set(&peer(1), ticket(1, "old", 10)), Ok(Change::None));
        assert_eq!(routes.get(&peer(1)), Some(ticket(1, "new", 10)));
        assert_eq!(routes.set(&peer(1), ticket(1, "new", 20)), Ok(Change::None));
        assert_eq!(routes.expires(&peer(1)), Some(Timestamp::from_secs(20)));
        assert_eq!(
            routes.set(&peer(1), ticket(2, "c", 10)),
            Err(RelayError::MalformedTicket)
        );
    }
}
