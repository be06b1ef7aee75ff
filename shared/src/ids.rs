//! Identifiers. Every kind has a type of its own, so that one cannot be
//! passed for another, and every text form is checked where it enters.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An identifier whose text does not have the form its kind requires.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind}: {text:?} is not {expected}")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

/// Declares an identifier made of `N` random bytes, written as lower-case hex.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Number of random bytes an identifier is drawn from.
            pub const BYTES: usize = $bytes;

            /// The identifier that these random bytes stand for.
            #[must_use]
            pub fn from_random(bytes: [u8; $bytes]) -> Self {
                Self(hex::encode(bytes))
            }

            /// The text form: lower-case hex.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                let valid = text.len() == 2 * $bytes
                    && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if valid {
                    Ok(Self(text))
                } else {
                    Err(InvalidId {
                        kind: stringify!($name),
                        text: text.chars().take(80).collect(),
                        expected: concat!($bytes, " bytes in lower-case hex"),
                    })
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

random_id!(
    /// A container, as Docker names it: 64 hex digits, of which the first 12 are shown.
    ContainerId, 32
);
random_id!(
    /// A network, as Docker names it: 64 hex digits.
    NetworkId, 32
);
random_id!(
    /// One `docker exec`, as Docker names it: 64 hex digits.
    ExecId, 32
);
random_id!(
    /// One execution of a container, from its start to its exit: one invocation.
    RunId, 16
);
random_id!(
    /// A large body kept in the blob store.
    BlobId, 16
);
random_id!(
    /// What an agent draws for itself so that a second delivery of the same
    /// invocation can be told from a retry of the first.
    Nonce, 16
);
random_id!(
    /// One end of the relay, stable over reconnects. It is also the end's QUIC
    /// address, see [`PeerId::to_ipv6`].
    PeerId, 14
);

impl AnswerId {
    /// How many of its digits are random: they tell it from every other.
    const DIGITS: usize = 32;

    /// An answer that waits for nothing.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes))
    }

    /// An answer that waits for something of this kind (some letters) to happen to a container.
    #[must_use]
    pub fn waiting(bytes: [u8; 16], kind: &str, container: &ContainerId) -> Self {
        Self(format!("{}.{kind}.{container}", hex::encode(bytes)))
    }

    /// The digits that tell it from every other.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0[..Self::DIGITS]
    }

    /// For what it waits, and the container's id, as [`AnswerId::waiting`] was told.
    #[must_use]
    pub fn place(&self) -> Option<(&str, &str)> {
        self.0[Self::DIGITS..].strip_prefix('.')?.split_once('.')
    }
}

impl ContainerId {
    /// The twelve digits that Docker shows.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl PeerId {
    /// The address of a run's agent: what is known of it stands in the run's record, which is
    /// found by either.
    #[must_use]
    pub fn of_run(run: &RunId) -> Self {
        Self(run.0[..2 * Self::BYTES].to_owned())
    }

    /// The address under which QUIC knows this peer: `fd00::/16` followed by
    /// the peer's 14 bytes. No packet is ever sent to it; datagrams travel as
    /// relay messages.
    #[must_use]
    pub fn to_ipv6(&self) -> Ipv6Addr {
        let mut octets = [0u8; 16];
        octets[0] = 0xfd;
        // The text form was checked when the value was made, so that decoding
        // fills all 14 bytes.
        let _ = hex::decode_to_slice(&self.0, &mut octets[2..]);
        Ipv6Addr::from(octets)
    }

    /// The peer behind an address made by [`PeerId::to_ipv6`].
    #[must_use]
    pub fn from_ipv6(address: Ipv6Addr) -> Option<Self> {
        let octets = address.octets();
        let bytes: [u8; 14] = octets[2..].try_into().ok()?;
        (octets[0] == 0xfd && octets[1] == 0).then(|| Self::from_random(bytes))
    }
}

/// Declares an identifier that somebody else names: any text of visible ASCII
/// within a length, without the characters in `$forbidden`.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:literal, $valid:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if !text.is_empty() && text.len() <= $max && valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidId {
                        kind: stringify!($name),
                        text: text.chars().take(80).collect(),
                        expected: $expected,
                    })
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

text_id!(
    /// One WebSocket connection as API Gateway names it (`connectionId`); a
    /// reconnect has another.
    ConnectionId,
    128,
    |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-')),
    "1 to 128 characters of base64 text"
);
text_id!(
    /// An answer whose parts arrive over the relay. One that waits for something to happen to
    /// a container says so in its name, by which its record is found either way.
    AnswerId,
    128,
    |text| {
        let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let Some((digits, rest)) = text.split_at_checked(32) else {
            return false;
        };
        let place = rest.strip_prefix('.').and_then(|place| place.split_once('.'));
        hex(digits)
            && (rest.is_empty()
                || place.is_some_and(|(kind, container)| {
                    !kind.is_empty()
                        && kind.bytes().all(|b| b.is_ascii_lowercase())
                        && container.len() == 64
                        && hex(container)
                }))
    },
    "16 bytes in lower-case hex, or these, a word and a container's id"
);
text_id!(
    /// Whose containers these are: names, lists, events and prune see only
    /// their own namespace.
    Namespace,
    64,
    |text| text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'+' | b'=' | b',')),
    "1 to 64 letters, digits and _-.@+=,"
);
text_id!(
    /// A Lambda function's name, `skls-…`.
    FunctionName,
    64,
    |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')),
    "1 to 64 letters, digits, _ and -"
);
text_id!(
    /// The digest of an image's config or manifest, `sha256:` and 64 hex digits.
    ImageDigest,
    71,
    |text| text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64
        && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))),
    "sha256: and 64 lower-case hex digits"
);

impl ImageDigest {
    /// The hex digits behind `sha256:`.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_and_its_address_are_the_same_thing() {
        let peer = PeerId::from_random(*b"fourteen bytes");
        assert_eq!(PeerId::from_ipv6(peer.to_ipv6()), Some(peer));
        assert_eq!(PeerId::from_ipv6(Ipv6Addr::LOCALHOST), None);
    }

    #[test]
    fn an_answer_says_where_it_waits() {
        let container = ContainerId::from_random([7; 32]);
        let waiting = AnswerId::waiting([1; 16], "exit", &container);
        let read: AnswerId = waiting.as_str().parse().unwrap();
        assert_eq!(read.place(), Some(("exit", container.as_str())));
        assert_eq!(read.digits(), "01".repeat(16));
        let plain = AnswerId::from_random([1; 16]);
        assert_eq!((plain.digits(), plain.place()), (plain.as_str(), None));
        for text in [
            "",
            "01",
            "é".repeat(16).as_str(),
            &format!("{plain}."),
            &format!("{plain}.exit.ab"),
        ] {
            assert!(text.parse::<AnswerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        assert!("ABCDEF".parse::<ContainerId>().is_err());
        assert!("../../etc".parse::<Namespace>().is_err());
        assert!("a.b".parse::<ConnectionId>().is_err());
        assert!("sha256:12".parse::<ImageDigest>().is_err());
        assert!(serde_json::from_str::<RunId>("\"zz\"").is_err());
    }
}
