//! `docker login`: whether a registry takes a name and a password.

use std::collections::BTreeSet;

use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Response};
use thiserror::Error;

use super::auth::{Authorizer, Challenge, Purpose};
use super::credentials::Credentials;
use super::error::{RemoteError, shown, unreachable};
use super::{HUB_DOMAIN, HUB_HOST, Remote};

/// Why somebody is not logged in. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// Not the address of a registry.
    #[error("unable to parse server address: parse \"https://{address}\": {why}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry says no.
    #[error("login attempt to {url} failed with status: {status}")]
    Refused {
        /// Where.
        url: String,
        /// `401 Unauthorized`.
        status: String,
    },
    /// The registry could not be asked.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl LoginError {
    /// The HTTP status that Docker gives for it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Address { .. } => 400,
            Self::Refused { .. } => 500,
            Self::Remote(error) => error.status(),
        }
    }
}

/// Somebody is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// A refresh token that stands for the password from now on; may be empty.
    pub identity_token: String,
}

impl Remote {
    /// Asks the registry at `address`, or Docker Hub if that is empty.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn login(
        &self,
        address: &str,
        credentials: &Credentials,
    ) -> Result<Login, LoginError> {
        let host = server(address)?;
        let host = self.host(&host, None).await?;
        let url = format!("{}/v2/", host.base);
        let client = &host.client;
        let purpose = Purpose {
            method: "Get",
            url: &url,
        };
        let is_encrypted = host.base.starts_with("https://");
        let mut answer = ping(client, &url, None).await?;
        let authorizer = Authorizer::new(credentials.clone(), is_encrypted);
        let mut identity_token = String::new();
        match Challenge::read(answer.headers(), is_encrypted)? {
            None => {}
            Some(Challenge::Basic) => {
                answer = ping(client, &url, Some(&authorizer.basic(purpose)?)).await?;
            }
            Some(Challenge::Bearer { realm, service }) => {
                let none = BTreeSet::new();
                let given = authorizer
                    .token(client, &realm, service.as_deref(), &none, true, purpose)
                    .await?;
                identity_token = given.refresh;
                let header = format!("Bearer {}", given.token);
                answer = ping(client, &url, Some(&header)).await?;
            }
        }
        if answer.status().is_success() {
            Ok(Login { identity_token })
        } else {
            Err(LoginError::Refused {
                url: url.clone(),
                status: shown(answer.status()),
            })
        }
    }
}

async fn ping(
    client: &Client,
    url: &str,
    authorization: Option<&str>,
) -> Result<Response, RemoteError> {
    let mut request = client.get(url);
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let answer = request.send().await;
    answer.map_err(|e| unreachable("Get", url, &e))
}

/// The host of a server's address, which may be a URL.
fn server(address: &str) -> Result<String, LoginError> {
    let without_scheme = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    let host = without_scheme.split('/').next().unwrap_or_default();
    let wrong = |why: String| LoginError::Address {
        address: address.chars().take(300).collect(),
        why,
    };
    match host {
        "" if address.is_empty() => return Ok(HUB_HOST.to_owned()),
        "" => return Err(wrong("no host".to_owned())),
        HUB_DOMAIN | "index.docker.io" => return Ok(HUB_HOST.to_owned()),
        _ => {}
    }
    let bad = host
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']')));
    match bad {
        Some(c) => Err(wrong(format!("invalid character \"{c}\" in host name"))),
        None => Ok(host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_or_urls() {
        for (address, host) in [
            ("", HUB_HOST),
            ("docker.io", HUB_HOST),
            ("https://index.docker.io/v1/", HUB_HOST),
            ("localhost:5000", "localhost:5000"),
            ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000"),
            ("ghcr.io", "ghcr.io"),
        ] {
            assert_eq!(server(address).unwrap(), host, "{address}");
        }
        assert_eq!(
            server("no such/x y").unwrap_err().to_string(),
            "unable to parse server address: parse \"https://no such/x y\": invalid character \" \" in host name"
        );
        assert!(server("https:///x").is_err());
    }
}
