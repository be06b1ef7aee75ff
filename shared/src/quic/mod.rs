//! Reliable, encrypted streams between two peers of the relay: QUIC, whose
//! datagrams are relay messages ([`crate::protocol::relay`]).
//!
//! An endpoint knows no socket. It has an inbox ([`RelayEndpoint::deliver`])
//! and an outbox ([`Outbox`]); whoever owns the WebSocket carries texts between
//! them and the gateway. A peer's QUIC address is its [`PeerId`], so that a
//! reconnect of either side is invisible to QUIC: only the *route* changes, which
//! is the ticket to the peer's present connection. Datagrams wait in the outbox
//! without a ticket and get the newest one as they leave.
//!
//! Frontends are clients and agents are servers. The frontend learns the hash of
//! the agent's self-signed certificate from the control plane and accepts no
//! other ([`Identity`]).

mod congestion;
mod identity;
mod routes;
mod socket;
mod transport;

use std::fmt;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

pub use quinn;

pub use self::identity::{Identity, IdentityError};
pub use self::socket::Outbox;
pub use self::transport::Pace;

use self::congestion::Wakeups;
use self::routes::{Change, Routes};
use self::socket::RelaySocket;
use crate::ids::PeerId;
use crate::protocol::relay::{self, RelayError, Ticket};
use crate::timestamp::Timestamp;

/// The stream was given up because its client is gone (`RESET_STREAM`, `STOP_SENDING`).
pub const CLIENT_GONE: quinn::VarInt = quinn::VarInt::from_u32(1);
/// The connection was closed because nobody needs it at present.
pub const IDLE: quinn::VarInt = quinn::VarInt::from_u32(2);
/// The connection was closed because its peer will not be back.
pub const PEER_GONE: quinn::VarInt = quinn::VarInt::from_u32(3);

/// What stands where TLS wants the name of a server. Agents are told apart by
/// their certificate's hash alone.
const SERVER_NAME: &str = "sockerless";

/// UDP has ports, the relay has not.
const PORT: u16 = 1;

/// Why an endpoint or a connection could not be made.
#[derive(Debug, Error)]
pub enum QuicError {
    /// TLS did not accept its configuration.
    #[error("relay stream: TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    /// The configured certificate could not be used.
    #[error("relay stream: certificate: {0}")]
    Identity(#[from] IdentityError),
    /// The endpoint could not be set up.
    #[error("relay stream: endpoint: {0}")]
    Endpoint(#[from] std::io::Error),
    /// A setting lies outside what QUIC allows.
    #[error("relay stream: a transport setting is out of range")]
    Setting,
    /// The certificate hash is not 64 hex digits.
    #[error("relay stream: {0:?} is not the SHA-256 of a certificate in hex")]
    BadPin(String),
    /// The connection could not be begun.
    #[error("relay stream: connecting to {peer}: {source}")]
    Connect {
        /// To whom.
        peer: PeerId,
        /// Why not.
        source: quinn::ConnectError,
    },
    /// The connection was lost or refused.
    #[error("relay stream: connection to {peer}: {source}")]
    Connection {
        /// To whom.
        peer: PeerId,
        /// Why.
        source: quinn::ConnectionError,
    },
}

/// One end of the relay that speaks QUIC. Cloning gives another handle to it.
#[derive(Clone)]
pub struct RelayEndpoint {
    me: PeerId,
    endpoint: quinn::Endpoint,
    socket: Arc<RelaySocket>,
    routes: Arc<Routes>,
    pace: Pace,
    wakeups: Arc<Wakeups>,
    heard: Arc<AtomicU64>,
}

impl fmt::Debug for RelayEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayEndpoint")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl RelayEndpoint {
    /// An endpoint that opens connections: a frontend's. Returns its outbox too,
    /// which the caller carries to the gateway.
    ///
    /// # Errors
    /// Only if TLS or QUIC refuse their fixed configuration.
    pub fn client(
        runtime: Arc<dyn quinn::Runtime>,
        me: PeerId,
        pace: Pace,
    ) -> Result<(Self, Outbox), QuicError> {
        Self::new(runtime, me, pace, None)
    }

    /// An endpoint that accepts connections under an identity: an agent's.
    ///
    /// # Errors
    /// Only if TLS or QUIC refuse their fixed configuration.
    pub fn server(
        runtime: Arc<dyn quinn::Runtime>,
        me: PeerId,
        pace: Pace,
        identity: &Identity,
    ) -> Result<(Self, Outbox), QuicError> {
        Self::new(runtime, me, pace, Some(identity))
    }

    fn new(
        runtime: Arc<dyn quinn::Runtime>,
        me: PeerId,
        pace: Pace,
        identity: Option<&Identity>,
    ) -> Result<(Self, Outbox), QuicError> {
        let wakeups = Arc::new(Wakeups::default());
        let routes = Arc::new(Routes::default());
        let server = identity
            .map(|identity| transport::server_config(identity, pace, &wakeups))
            .transpose()?;
        let (socket, outbox) = RelaySocket::new(address(&me), pace, Arc::clone(&routes));
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            transport::endpoint_config()?,
            server,
            Arc::clone(&socket) as Arc<dyn quinn::AsyncUdpSocket>,
            runtime,
        )?;
        let this = Self {
            me,
            endpoint,
            socket,
            routes,
            pace,
            wakeups,
            heard: Arc::default(),
        };
        Ok((this, outbox))
    }

    /// This end's own address.
    #[must_use]
    pub fn peer(&self) -> &PeerId {
        &self.me
    }

    /// Takes in one text that began with `d`, with one datagram or several. The ticket that came with it
    /// becomes the route back to its sender. Like UDP, a full inbox loses it.
    ///
    /// # Errors
    /// When the text is not a relayed datagram for this peer. Nothing is changed then.
    pub fn deliver(&self, text: &str) -> Result<(), RelayError> {
        let (ticket, datagrams) = relay::decode(text)?;
        let claims = ticket.read()?;
        if claims.from != self.me {
            return Err(RelayError::MalformedTicket);
        }
        let change = self.routes.set(&claims.to, ticket)?;
        for datagram in datagrams {
            self.heard.fetch_add(1, Ordering::Relaxed);
            self.socket.receive(address(&claims.to), datagram);
        }
        self.after(change);
        Ok(())
    }

    /// How many datagrams have come in, from whomever.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Sets the way to a peer, as the control plane says it. A new way is tried
    /// at once: what was lost on the old one is sent again after one round trip
    /// rather than when its timer fires.
    ///
    /// # Errors
    /// When the ticket is malformed or leads to somebody else.
    pub fn set_route(&self, peer: &PeerId, ticket: Ticket) -> Result<(), RelayError> {
        let change = self.routes.set(peer, ticket)?;
        self.after(change);
        Ok(())
    }

    fn after(&self, change: Change) {
        match change {
            Change::Moved => self.wake(),
            // Nothing can have been sent to a peer that had no route.
            Change::None | Change::First => {}
        }
    }

    /// Forgets the way to a peer that is not needed any more.
    pub fn forget_route(&self, peer: &PeerId) {
        self.routes.forget(peer);
    }

    /// Until when the known way to this peer is good; `None` when none is known.
    /// Whoever keeps a connection asks for a new ticket in time.
    #[must_use]
    pub fn route_expires(&self, peer: &PeerId) -> Option<Timestamp> {
        self.routes.expires(peer)
    }

    /// Says that texts flow again after an interruption (this end has
    /// reconnected): every connection probes its peer at once instead of waiting
    /// for a timer that has backed off, at worst for as long as the interruption
    /// lasted.
    pub fn wake(&self) {
        self.wakeups.announce();
        // To QUIC it looks as if the local address had changed, which it answers
        // with a probe on every connection.
        let socket = Arc::clone(&self.socket) as Arc<dyn quinn::AsyncUdpSocket>;
        if let Err(error) = self.endpoint.rebind_abstract(socket) {
            tracing::debug!(%error, "relay stream: probes could not be requested");
        }
    }

    /// Opens a connection to a peer whose certificate has this SHA-256 (of its
    /// DER form, in hex). A route must have been set, or nothing gets out until
    /// one is.
    ///
    /// # Errors
    /// When the hash is malformed, the peer has another certificate, or it does not answer.
    pub async fn connect(
        &self,
        peer: &PeerId,
        certificate_sha256: &str,
    ) -> Result<quinn::Connection, QuicError> {
        let config = transport::client_config(certificate_sha256, self.pace, &self.wakeups)?;
        let connecting = self
            .endpoint
            .connect_with(config, address(peer), SERVER_NAME)
            .map_err(|source| QuicError::Connect {
                peer: peer.clone(),
                source,
            })?;
        connecting.await.map_err(|source| QuicError::Connection {
            peer: peer.clone(),
            source,
        })
    }

    /// The next client that wants a connection; `None` once the endpoint is closed.
    /// Await what is returned in a task of its own, to let others in meanwhile.
    pub async fn accept(&self) -> Option<quinn::Incoming> {
        self.endpoint.accept().await
    }

    /// Closes every connection. Wait for [`RelayEndpoint::wait_idle`] to let the
    /// peers hear of it.
    pub fn close(&self, code: quinn::VarInt, reason: &str) {
        self.endpoint.close(code, reason.as_bytes());
    }

    /// Waits until no connection is left.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// The peer at the other end of a connection.
#[must_use]
pub fn peer_of(connection: &quinn::Connection) -> Option<PeerId> {
    peer_at(connection.remote_address())
}

fn address(peer: &PeerId) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(peer.to_ipv6(), PORT, 0, 0))
}

fn peer_at(address: SocketAddr) -> Option<PeerId> {
    match address {
        SocketAddr::V6(v6) => PeerId::from_ipv6(*v6.ip()),
        SocketAddr::V4(_) => None,
    }
}
