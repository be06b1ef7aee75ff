//! Datagrams between two peers, relayed by a control plane that keeps no
//! state: the ticket names everything it has to know.
//!
//! On the wire, sender → relay: `d<ticket> <base64>[,<base64>…]`: datagrams that leave
//! together are one message, since messages are billed. Relay → receiver: the
//! same, with the ticket turned round, so that the receiver learns who sent it
//! and holds a ticket to the sender's present connection, whatever happened to
//! earlier ones.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::mac::Key;
use crate::ids::{ConnectionId, PeerId};
use crate::timestamp::Timestamp;

/// The largest datagram, in bytes. QUIC's long headers carry a length of two
/// bytes in quinn's encoding, which ends at 16,383; as base64 with its ticket it
/// fits one 32 KB frame of API Gateway.
pub const MAX_DATAGRAM_BYTES: usize = 16_000;

/// The most text of datagrams in one message, in bytes: with its ticket it fits one frame of
/// 32 KB, which is billed as one.
const MAX_PAYLOAD_BYTES: usize = 32_000;

/// Leave to send datagrams from one peer to one connection of another until a
/// point in time. Text of `to.from.connection.expiry.signature`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(String);

impl Ticket {
    /// Signs a ticket with the relay's key.
    #[must_use]
    pub fn issue(
        key: &Key,
        from: &PeerId,
        to: &PeerId,
        connection: &ConnectionId,
        expires: Timestamp,
    ) -> Self {
        let body = format!("{to}.{from}.{connection}.{}", expires.secs());
        let signature = key.sign(body.as_bytes());
        Self(format!("{body}.{signature}"))
    }

    /// A ticket as somebody presented it; nothing is known of it yet.
    #[must_use]
    pub fn presented(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text form, free of spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the ticket says, unverified: enough for its holder, who got it from
    /// the control plane.
    ///
    /// # Errors
    /// [`RelayError::MalformedTicket`].
    pub fn read(&self) -> Result<TicketClaims, RelayError> {
        self.split().map(|(claims, _, _)| claims)
    }

    /// What the ticket says, if it was signed with `key` and has not expired.
    ///
    /// # Errors
    /// Malformed, forged or expired.
    pub fn verify(&self, key: &Key, now: Timestamp) -> Result<TicketClaims, RelayError> {
        let (claims, body, signature) = self.split()?;
        if !key.verify(body.as_bytes(), signature) {
            return Err(RelayError::ForgedTicket);
        }
        if claims.expires < now {
            return Err(RelayError::ExpiredTicket);
        }
        Ok(claims)
    }

    fn split(&self) -> Result<(TicketClaims, &str, &str), RelayError> {
        let malformed = RelayError::MalformedTicket;
        let (body, signature) = self.0.rsplit_once('.').ok_or(malformed)?;
        let mut fields = body.split('.');
        let mut next = || fields.next().ok_or(RelayError::MalformedTicket);
        let claims = TicketClaims {
            to: next()?.parse().map_err(|_| RelayError::MalformedTicket)?,
            from: next()?.parse().map_err(|_| RelayError::MalformedTicket)?,
            connection: next()?.parse().map_err(|_| RelayError::MalformedTicket)?,
            expires: Timestamp::from_secs(
                next()?.parse().map_err(|_| RelayError::MalformedTicket)?,
            ),
        };
        match fields.next() {
            None => Ok((claims, body, signature)),
            Some(_) => Err(RelayError::MalformedTicket),
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

/// What a [`Ticket`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketClaims {
    /// Who is to receive.
    pub to: PeerId,
    /// Who may send.
    pub from: PeerId,
    /// The receiver's connection.
    pub connection: ConnectionId,
    /// Until when, whole seconds.
    pub expires: Timestamp,
}

/// A message that cannot be relayed or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RelayError {
    /// Not of the form `d<ticket> <base64>[,<base64>…]`.
    #[error("relay message is malformed: expected d<ticket> <base64>[,<base64>…]")]
    MalformedMessage,
    /// The ticket cannot be read.
    #[error("relay ticket is malformed; ask the control plane for a new one")]
    MalformedTicket,
    /// The ticket was not signed by this control plane.
    #[error("relay ticket was not signed by this control plane; ask it for a new one")]
    ForgedTicket,
    /// The ticket is too old.
    #[error("relay ticket has expired; ask the control plane for a new one")]
    ExpiredTicket,
    /// The datagram is larger than [`MAX_DATAGRAM_BYTES`].
    #[error("relayed datagram is larger than {MAX_DATAGRAM_BYTES} bytes")]
    TooLarge,
}

/// How much of a message a datagram takes, in bytes.
#[must_use]
pub const fn text_bytes(datagram: usize) -> usize {
    1 + datagram.div_ceil(3) * 4
}

/// Whether datagrams that take so much together (see [`text_bytes`]) fit one message.
#[must_use]
pub const fn fits(text_bytes: usize) -> bool {
    text_bytes <= MAX_PAYLOAD_BYTES
}

/// Sender's side: the text that carries datagrams to where `ticket` leads.
#[must_use]
pub fn encode<D: AsRef<[u8]>>(ticket: &Ticket, datagrams: &[D]) -> String {
    let bytes: usize = datagrams
        .iter()
        .map(|datagram| text_bytes(datagram.as_ref().len()))
        .sum();
    let mut text = String::with_capacity(2 + ticket.0.len() + bytes);
    text.push('d');
    text.push_str(&ticket.0);
    let mut separator = ' ';
    for datagram in datagrams {
        text.push(separator);
        STANDARD_NO_PAD.encode_string(datagram, &mut text);
        separator = ',';
    }
    text
}

/// Receiver's side: who sent it (by the ticket back to them) and the datagrams.
///
/// # Errors
/// When the text is not a relayed datagram.
pub fn decode(text: &str) -> Result<(Ticket, Vec<Vec<u8>>), RelayError> {
    let (ticket, payload) = split(text)?;
    let mut datagrams = Vec::new();
    for text in payload.split(',') {
        let datagram = STANDARD_NO_PAD
            .decode(text)
            .map_err(|_| RelayError::MalformedMessage)?;
        if datagram.len() > MAX_DATAGRAM_BYTES {
            return Err(RelayError::TooLarge);
        }
        datagrams.push(datagram);
    }
    Ok((Ticket::presented(ticket), datagrams))
}

/// A message on its way: which connection to post it to, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Whom the ticket names, should the connection be gone.
    pub to: PeerId,
    /// Where to post.
    pub connection: ConnectionId,
    /// What to post.
    pub text: String,
}

/// The relay's whole work: checks the ticket, turns it round, says where the
/// message goes. The payload is not decoded.
///
/// # Errors
/// When the message or its ticket is not acceptable.
pub fn forward(
    key: &Key,
    now: Timestamp,
    sender: &ConnectionId,
    text: &str,
) -> Result<Forward, RelayError> {
    let (ticket, payload) = split(text)?;
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(RelayError::TooLarge);
    }
    let claims = Ticket::presented(ticket).verify(key, now)?;
    let back = Ticket::issue(key, &claims.to, &claims.from, sender, claims.expires);
    let mut out = String::with_capacity(2 + back.0.len() + payload.len());
    out.push('d');
    out.push_str(&back.0);
    out.push(' ');
    out.push_str(payload);
    Ok(Forward {
        to: claims.to,
        connection: claims.connection,
        text: out,
    })
}

fn split(text: &str) -> Result<(&str, &str), RelayError> {
    text.strip_prefix('d')
        .and_then(|rest| rest.split_once(' '))
        .ok_or(RelayError::MalformedMessage)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connection(text: &str) -> ConnectionId {
        text.parse().unwrap()
    }

    #[test]
    fn a_relayed_datagram_arrives_with_a_ticket_back() {
        let key = Key::from_random([1; 32]);
        let (alice, bob) = (PeerId::from_random([1; 14]), PeerId::from_random([2; 14]));
        let now = Timestamp::from_secs(100);
        let ticket = Ticket::issue(
            &key,
            &alice,
            &bob,
            &connection("bobs="),
            Timestamp::from_secs(200),
        );

        let sent = encode(&ticket, &[b"hello", b"again"]);
        let forward = forward(&key, now, &connection("alices"), &sent).unwrap();
        assert_eq!(forward.connection, connection("bobs="));

        let (back, datagrams) = decode(&forward.text).unwrap();
        assert_eq!(datagrams, [b"hello", b"again"]);
        let claims = back.verify(&key, now).unwrap();
        assert_eq!(
            (claims.from, claims.to, claims.connection),
            (bob, alice, connection("alices"))
        );
    }

    #[test]
    fn forged_and_expired_tickets_are_refused() {
        let key = Key::from_random([1; 32]);
        let (alice, bob) = (PeerId::from_random([1; 14]), PeerId::from_random([2; 14]));
        let ticket = Ticket::issue(
            &key,
            &alice,
            &bob,
            &connection("c"),
            Timestamp::from_secs(200),
        );
        let late = Timestamp::from_secs(201);
        assert_eq!(ticket.verify(&key, late), Err(RelayError::ExpiredTicket));
        let other = Key::from_random([2; 32]);
        assert_eq!(
            ticket.verify(&other, Timestamp::from_secs(1)),
            Err(RelayError::ForgedTicket)
        );
        let altered = Ticket::presented(&ticket.as_str().replacen(".c.", ".d.", 1));
        assert_eq!(
            altered.verify(&key, Timestamp::from_secs(1)),
            Err(RelayError::ForgedTicket)
        );
    }

    #[test]
    fn the_largest_datagram_fits_one_frame() {
        let key = Key::from_random([1; 32]);
        let peer = PeerId::from_random([1; 14]);
        let long = connection(&"x".repeat(64));
        let ticket = Ticket::issue(&key, &peer, &peer, &long, Timestamp::from_secs(1 << 40));
        assert!(encode(&ticket, &[[0; MAX_DATAGRAM_BYTES]]).len() <= 32 * 1024);
        assert!(fits(text_bytes(MAX_DATAGRAM_BYTES)));
        let full = [&[0; MAX_DATAGRAM_BYTES][..], &[0; 7_900]];
        assert!(fits(
            full.map(|datagram| text_bytes(datagram.len())).iter().sum()
        ));
        let text = encode(&ticket, &full);
        assert!(text.len() <= 32 * 1024, "{}", text.len());
        let now = Timestamp::from_secs(1);
        assert!(forward(&key, now, &connection("c"), &text).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_relay_panic(text in ".{0,300}") {
            let _ = decode(&text);
            let _ = forward(&Key::from_random([0; 32]), Timestamp::default(), &connection("c"), &text);
        }
    }
}
