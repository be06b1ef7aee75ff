//! What a client proves itself with to a registry.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

/// Most bytes of an `X-Registry-Auth` header that are looked at.
const MAX_HEADER_BYTES: usize = 64 * 1024;

const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials for one registry (`registry.AuthConfig`). They travel with the work
/// that they were sent for, are stored nowhere, and are never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// Name of the account.
    pub username: String,
    /// Its password or access token.
    pub password: String,
    /// A refresh token instead of a password.
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
    /// A bearer token, sent as it is.
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
    /// Name and password in one, `base64(name:password)`, from clients that send no others.
    pub auth: String,
}

impl Credentials {
    /// Reads `X-Registry-Auth`. As in Docker, what cannot be read is nobody's: the
    /// registry then says whether it wants more.
    #[must_use]
    pub fn from_header(header: Option<&str>) -> Self {
        let Some(text) = header.filter(|text| text.len() <= MAX_HEADER_BYTES) else {
            return Self::default();
        };
        let decoded = URL_SAFE.decode(text.trim()).ok();
        let read = decoded.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        read.unwrap_or_default().complete()
    }

    /// With name and password from [`Credentials::auth`] where they are missing.
    #[must_use]
    pub fn complete(mut self) -> Self {
        if self.username.is_empty()
            && self.password.is_empty()
            && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(&self.auth)
            && let Ok(text) = String::from_utf8(bytes)
            && let Some((name, password)) = text.split_once(':')
        {
            self.username = name.to_owned();
            self.password = password.trim_end_matches('\0').to_owned();
        }
        self
    }

    /// Whether there is a name or a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }

    /// The value of an `Authorization` header.
    #[must_use]
    pub(super) fn basic(&self) -> String {
        let text = format!("{}:{}", self.username, self.password);
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        format!("Basic {text}")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_docker_reads_them() {
        let read = |text: &str| Credentials::from_header(Some(text));
        let bob = Credentials {
            username: "bob".into(),
            password: "s?>~".into(),
            ..Credentials::default()
        };
        let json = r#"{"username":"bob","password":"s?>~"}"#;
        let padded = base64::engine::general_purpose::URL_SAFE.encode(json);
        assert_eq!(read(&padded), bob);
        assert_eq!(read(padded.trim_end_matches('=')), bob);
        for nothing in ["", "e30=", "!!!", "bm90IEpTT04=", "bnVsbA=="] {
            assert_eq!(read(nothing), Credentials::default(), "{nothing}");
        }
        assert_eq!(Credentials::from_header(None), Credentials::default());
        let auth = base64::engine::general_purpose::STANDARD.encode("bob:s?>~");
        let json = format!(r#"{{"auth":"{auth}"}}"#);
        let both = read(&base64::engine::general_purpose::URL_SAFE.encode(json));
        assert_eq!(
            (both.username.as_str(), both.password.as_str()),
            ("bob", "s?>~")
        );
        assert_eq!(format!("{both:?}"), "Credentials(…)");
    }
}
