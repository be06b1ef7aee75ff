//! Digests of content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sockerless_shared::ids::ImageDigest;
use thiserror::Error;

/// A text that is not a digest this program can check.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a sha256 digest (sha256: and 64 lower-case hex digits)")]
pub struct InvalidDigest(String);

/// The SHA-256 digest of a blob as it is stored and transferred: a config, a
/// manifest, or a layer, compressed or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// What a finished hash says.
    #[must_use]
    pub fn from_hash(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// The hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first twelve hex digits, which Docker shows.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.chars().take(80).collect());
        let digits = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| invalid())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl From<&ImageDigest> for Digest {
    fn from(id: &ImageDigest) -> Self {
        let mut bytes = [0; 32];
        // The text form was checked when the id was made.
        let _ = hex::decode_to_slice(id.hex(), &mut bytes);
        Self(bytes)
    }
}

impl From<Digest> for ImageDigest {
    fn from(digest: Digest) -> Self {
        match Self::try_from(digest.to_string()) {
            Ok(id) => id,
            Err(_) => unreachable!("a digest's text form is sha256: and 64 hex digits"),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digest of a layer's uncompressed tar stream, by which a config names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The chain ids of a stack of layers, lowest first: what Docker calls the
/// layers that an image's removal deleted.
/// Source: OCI image specification, "Layer ChainID".
#[must_use]
pub fn chain_ids(layers: &[DiffId]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(layers.len());
    for layer in layers {
        let id = match chain.last() {
            None => layer.0,
            Some(parent) => Digest::of(format!("{parent} {layer}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from(&ImageDigest::from(digest)), digest);
        for bad in [
            "",
            "sha256:",
            "sha256:E3",
            "sha512:00",
            &digest.hex(),
            "sha256:zz",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        let upper = format!("sha256:{}", digest.hex().to_uppercase());
        assert!(upper.parse::<Digest>().is_err());
    }

    #[test]
    fn a_chain_begins_with_the_layer_itself() {
        let layers = [DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b"))];
        let chain = chain_ids(&layers);
        assert_eq!(chain[0], layers[0].0);
        assert_ne!(chain[1], layers[1].0);
    }
}
