//! QUIC tuned for messages that cost money each, take a long way, and overtake
//! one another.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, EndpointConfig, ServerConfig, TransportConfig,
    ValidationTokenConfig, VarInt,
};
use rustls::crypto::CryptoProvider;

use super::congestion::{RelayCongestion, Wakeups};
use super::identity::{Identity, PinnedCertificate};
use super::{QuicError, SERVER_NAME};
use crate::protocol::relay::MAX_DATAGRAM_BYTES;

/// Size of every full datagram. There is nothing to discover: the relay carries
/// this much or is broken.
#[allow(clippy::cast_possible_truncation)]
const MTU: u16 = MAX_DATAGRAM_BYTES as u16;
const _: () = assert!(MAX_DATAGRAM_BYTES < 16_384);

/// How the relay is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long a datagram waits for others to travel with. Messages are billed.
    pub(super) linger: Duration,
    /// The round trip, supposed until it is measured; too small a value sends the handshake
    /// twice.
    pub(super) initial_rtt: Duration,
}

impl Pace {
    /// A relay in the same machine: nothing costs but time.
    pub const NEAR: Self = Self {
        linger: Duration::ZERO,
        initial_rtt: Duration::from_millis(250),
    };

    /// API Gateway and the control function, whose instances may have to be started first: it
    /// loses next to nothing, but each message costs, and many that come at once wait.
    pub const FAR: Self = Self {
        linger: Duration::from_millis(10),
        initial_rtt: Duration::from_millis(1000),
    };
}

/// A connection ends when nothing is heard for this long. Longer than a
/// reconnect takes, keep-alives included.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// How often a client that has heard nothing asks.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Acknowledge after this many datagrams or this long.
const ACK_AFTER_DATAGRAMS: u32 = 20;
const ACK_DELAY: Duration = Duration::from_millis(100);

/// A datagram counts as lost once this many later ones have been acknowledged,
/// or twice the round trip after one of them; less would take the relay's
/// reordering for loss. The receiver reports a gap at once when it is half as wide.
const REORDERED_DATAGRAMS: u32 = 64;
const REORDERED_ROUND_TRIPS: f32 = 2.0;

/// What one stream may send ahead of its reader, and all streams of a
/// connection together. The sum bounds memory; that it is many times the former
/// lets a few readers stop without stopping the rest.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 32 * 1024 * 1024;
/// What is kept until it is acknowledged.
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// Streams of one frontend to one agent at a time: attaches, execs, logs.
const STREAMS: u32 = 1024;

/// Connections that have begun and are not accepted yet.
const INCOMING: usize = 256;

pub(super) fn endpoint_config() -> Result<EndpointConfig, QuicError> {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(MTU)
        .map_err(|_| QuicError::Setting)?;
    Ok(config)
}

pub(super) fn server_config(
    identity: &Identity,
    pace: Pace,
    wakeups: &Arc<Wakeups>,
) -> Result<ServerConfig, QuicError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.private_key())?;
    tls.alpn_protocols = vec![SERVER_NAME.as_bytes().to_vec()];
    // An agent lives for one run, so that nobody would resume a session.
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| QuicError::Setting)?;

    let mut transport = transport(pace, wakeups)?;
    transport.max_concurrent_bidi_streams(STREAMS.into());
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport))
        .validation_token_config(tokens)
        .max_incoming(INCOMING)
        // Addresses are peers here; one that moved is another peer.
        .migration(false);
    Ok(config)
}

pub(super) fn client_config(
    certificate_sha256: &str,
    pace: Pace,
    wakeups: &Arc<Wakeups>,
) -> Result<ClientConfig, QuicError> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(certificate_sha256, &mut sha256)
        .map_err(|_| QuicError::BadPin(certificate_sha256.chars().take(80).collect()))?;
    let provider = provider();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCertificate { sha256, provider }))
        .with_no_client_auth();
    tls.alpn_protocols = vec![SERVER_NAME.as_bytes().to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| QuicError::Setting)?;

    let mut transport = transport(pace, wakeups)?;
    transport
        .max_concurrent_bidi_streams(0u32.into())
        .keep_alive_interval(Some(KEEP_ALIVE));
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn transport(pace: Pace, wakeups: &Arc<Wakeups>) -> Result<TransportConfig, QuicError> {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(ACK_AFTER_DATAGRAMS.into())
        .max_ack_delay(Some(ACK_DELAY))
        .reordering_threshold((REORDERED_DATAGRAMS / 2).into());

    let mut config = TransportConfig::default();
    config
        .initial_mtu(MTU)
        // Were it less, losing a few large datagrams in a row around a reconnect
        // would look like a path that carries only small ones.
        .min_mtu(MTU)
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .initial_rtt(pace.initial_rtt)
        .packet_threshold(REORDERED_DATAGRAMS)
        .time_threshold(REORDERED_ROUND_TRIPS)
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(RelayCongestion::new(Arc::clone(wakeups))))
        .max_idle_timeout(Some(
            IDLE_TIMEOUT.try_into().map_err(|_| QuicError::Setting)?,
        ))
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
