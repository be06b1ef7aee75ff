//! Keyed signatures (HMAC-SHA-256) for tickets and grants.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// A secret of 32 random bytes. Its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key([u8; 32]);

impl Key {
    /// The key made of these random bytes.
    #[must_use]
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key for one purpose, derived from this one; knowing it tells nothing of this one.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        Self(self.digest(purpose.as_bytes()))
    }

    /// The signature of `message`, 43 characters of base64url.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.digest(message))
    }

    /// Whether `signature` is [`Key::sign`] of `message`; takes the same time for any wrong one.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &str) -> bool {
        self.sign(message)
            .as_bytes()
            .ct_eq(signature.as_bytes())
            .into()
    }

    fn digest(&self, message: &[u8]) -> [u8; 32] {
        let mut mac = match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes keys of every length"),
        };
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl TryFrom<String> for Key {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| "a key is 32 bytes in base64url")?;
        Ok(Self(
            bytes
                .try_into()
                .map_err(|_| "a key is 32 bytes in base64url")?,
        ))
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        URL_SAFE_NO_PAD.encode(key.0)
    }
}

/// A bearer token: 32 random bytes as base64url. Only its hash is stored. Its
/// `Debug` form hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// The token made of these random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A token as somebody presented it.
    #[must_use]
    pub fn presented(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, to be sent to its owner and nowhere else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What may be stored: SHA-256 in hex.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(hex::encode(Sha256::digest(self.0.as_bytes())))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The hash of a [`Token`], which is what a store holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(String);

impl TokenHash {
    /// Whether `token` is the one that was hashed; takes the same time for any wrong one.
    #[must_use]
    pub fn matches(&self, token: &Token) -> bool {
        self.0.as_bytes().ct_eq(token.hash().0.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_hold_for_their_key_and_message_only() {
        let key = Key::from_random([7; 32]);
        let signature = key.sign(b"message");
        assert!(key.verify(b"message", &signature));
        assert!(!key.verify(b"massage", &signature));
        assert!(!key.derive("other").verify(b"message", &signature));
        assert!(!key.verify(b"message", ""));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let token = Token::from_random([9; 32]);
        assert_eq!(
            format!("{token:?} {:?}", Key::from_random([1; 32])),
            "Token(…) Key(…)"
        );
        assert!(token.hash().matches(&token));
        assert!(!token.hash().matches(&Token::from_random([8; 32])));
    }
}
