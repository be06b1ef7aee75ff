//! Registries of others, asked anonymously over the distribution API.
//!
//! Source: OCI distribution specification; Docker's token authentication. A
//! registry on a loopback address may be without TLS, or with a certificate
//! that nobody signed, as Docker allows there; everywhere else TLS is needed.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Mutex;

use super::digest::Digest;
use super::manifest::{MAX_MANIFEST_BYTES, media};
use super::reference::Reference;
use crate::ports::blobs::{BlobError, ByteStream};

const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// For how long nothing at all may arrive.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Most bytes of an error or a token.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
const DOCKER_HUB: &str = "registry-1.docker.io";

/// Why a registry gave nothing. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RemoteError {
    /// It has no such manifest.
    #[error("manifest for {reference} not found: {cause}")]
    ManifestUnknown {
        /// What was asked for.
        reference: String,
        /// The registry's words.
        cause: String,
    },
    /// It has no such repository.
    #[error("repository {repository} not found: {cause}")]
    NameUnknown {
        /// What was asked for.
        repository: String,
        /// The registry's words.
        cause: String,
    },
    /// It gives it to nobody, or not to everybody.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {cause}"
    )]
    Denied {
        /// What was asked for.
        repository: String,
        /// The registry's words.
        cause: String,
    },
    /// It has no such blob.
    #[error("unknown blob")]
    BlobUnknown,
    /// It answered with an error of another kind.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached, or broke off.
    #[error("{0}")]
    Unreachable(String),
    /// It sent something else than was asked for.
    #[error("{0}")]
    Wrong(String),
    /// No TLS on this machine.
    #[error("certificates of this machine cannot be read: {0}; install ca-certificates")]
    Certificates(String),
}

impl RemoteError {
    /// The HTTP status that Docker gives for it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::ManifestUnknown { .. } | Self::NameUnknown { .. } | Self::Denied { .. } => 404,
            _ => 500,
        }
    }

    /// Whether it may go better the next time.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Speaks to registries.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    /// For loopback addresses: takes any certificate.
    trusting: Client,
}

impl Remote {
    /// With the certificate authorities of this machine.
    ///
    /// # Errors
    /// [`RemoteError::Certificates`].
    pub fn new() -> Result<Self, RemoteError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|e| RemoteError::Certificates(e.to_string()))
        };
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        let strict = builder()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let trusting = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        Ok(Self {
            client: client(strict)?,
            trusting: client(trusting)?,
        })
    }

    /// The repository of a reference.
    ///
    /// # Errors
    /// [`RemoteError::Unreachable`].
    pub async fn repository(&self, reference: &Reference) -> Result<Repository, RemoteError> {
        let host = match reference.domain() {
            "docker.io" => DOCKER_HUB,
            other => other,
        };
        let mut repository = Repository {
            client: self.client.clone(),
            base: format!("https://{host}"),
            path: reference.path().to_owned(),
            familiar: reference.familiar_name(),
            token: Arc::default(),
        };
        if is_loopback(host) {
            repository.client = self.trusting.clone();
            let probe = format!("https://{host}/v2/");
            if self.trusting.get(probe).send().await.is_err() {
                repository.base = format!("http://{host}");
            }
        }
        let probe = format!("{}/v2/", repository.base);
        repository
            .client
            .get(&probe)
            .send()
            .await
            .map_err(|e| unreachable(&probe, &e))?;
        Ok(repository)
    }

    /// What is at a URL, for `import`.
    ///
    /// # Errors
    /// [`RemoteError::ManifestUnknown`] is none of them: any status but success is
    /// [`RemoteError::Refused`], and its code comes with it.
    pub async fn download(&self, url: &str) -> Result<ByteStream, (u16, RemoteError)> {
        let answer = self.client.get(url).send().await;
        let answer = answer.map_err(|e| (500, unreachable(url, &e)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(stream(answer));
        }
        let body = bounded(answer, MAX_ANSWER_BYTES).await.unwrap_or_default();
        let text = format!(
            "failed to GET {url} with status {} {}: {}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            String::from_utf8_lossy(&body).trim_end()
        );
        let code = if status.is_client_error() {
            status.as_u16()
        } else {
            500
        };
        Err((code, RemoteError::Refused(text)))
    }
}

/// A repository of a registry.
#[derive(Debug, Clone)]
pub struct Repository {
    client: Client,
    base: String,
    path: String,
    familiar: String,
    token: Arc<Mutex<Option<String>>>,
}

/// A manifest as a registry gave it.
#[derive(Debug, Clone)]
pub struct RemoteManifest {
    /// What it says it is.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// Their digest.
    pub digest: Digest,
}

impl Repository {
    /// The manifest or index of a reference, or of a digest in its repository.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn manifest(&self, reference: &Reference) -> Result<RemoteManifest, RemoteError> {
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_owned(),
            (None, None) => super::reference::DEFAULT_TAG.to_owned(),
        };
        let url = format!("{}/v2/{}/manifests/{name}", self.base, self.path);
        let answer = self.get(&url, Some(&reference.familiar())).await?;
        let media_type = answer
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let bytes = bounded(answer, MAX_MANIFEST_BYTES).await?;
        let digest = Digest::of(&bytes);
        match reference.digest() {
            Some(wanted) if wanted != digest => Err(RemoteError::Wrong(format!(
                "manifest verification failed for digest {wanted}"
            ))),
            _ => Ok(RemoteManifest {
                media_type,
                bytes,
                digest,
            }),
        }
    }

    /// The bytes of a blob, not checked.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn blob(&self, digest: &Digest) -> Result<ByteStream, RemoteError> {
        let url = format!("{}/v2/{}/blobs/{digest}", self.base, self.path);
        Ok(stream(self.get(&url, None).await?))
    }

    /// Asks, with a token when one is wanted. `reference` is what errors name.
    async fn get(&self, url: &str, reference: Option<&str>) -> Result<Response, RemoteError> {
        let token = self.token.lock().await.clone();
        let answer = self.send(url, token.as_deref()).await?;
        let answer = if answer.status() == StatusCode::UNAUTHORIZED {
            match self.new_token(url, answer.headers()).await? {
                Some(token) => {
                    let again = self.send(url, Some(&token)).await?;
                    *self.token.lock().await = Some(token);
                    again
                }
                None => answer,
            }
        } else {
            answer
        };
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(self.refusal(answer, reference).await)
        }
    }

    async fn send(&self, url: &str, token: Option<&str>) -> Result<Response, RemoteError> {
        let accepted = [
            media::OCI_INDEX,
            media::DOCKER_LIST,
            media::OCI_MANIFEST,
            media::DOCKER_MANIFEST,
            "*/*",
        ]
        .join(", ");
        let mut request = self.client.get(url).header(ACCEPT, accepted);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request.send().await.map_err(|e| unreachable(url, &e))
    }

    /// An anonymous token as the registry's challenge asks for it; `None` when it
    /// wants none, or what cannot be had without credentials.
    async fn new_token(
        &self,
        url: &str,
        headers: &HeaderMap,
    ) -> Result<Option<String>, RemoteError> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let mut wants_password = false;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let text = value.to_str().unwrap_or_default();
            for challenge in http_auth::parse_challenges(text).unwrap_or_default() {
                wants_password |= challenge.scheme.eq_ignore_ascii_case("basic");
                if !challenge.scheme.eq_ignore_ascii_case("bearer") {
                    continue;
                }
                let parameter = |name: &str| {
                    let found = challenge.params.iter();
                    let mut found = found.filter(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.next().map(|(_, value)| value.to_unescaped())
                };
                let Some(realm) = parameter("realm") else {
                    continue;
                };
                let mut realm = reqwest::Url::parse(&realm)
                    .map_err(|e| RemoteError::Wrong(format!("registry names no realm: {e}")))?;
                if realm.scheme() != "https" && !self.base.starts_with("http://") {
                    return Err(RemoteError::Wrong(format!(
                        "registry wants a token from {realm}, which is not encrypted"
                    )));
                }
                let scope =
                    parameter("scope").unwrap_or_else(|| format!("repository:{}:pull", self.path));
                if let Some(service) = parameter("service") {
                    realm.query_pairs_mut().append_pair("service", &service);
                }
                realm.query_pairs_mut().append_pair("scope", &scope);
                let answer = self.client.get(realm.clone()).send().await;
                let answer = answer.map_err(|e| unreachable(realm.as_str(), &e))?;
                if !answer.status().is_success() {
                    return Err(self.refusal(answer, None).await);
                }
                let bytes = bounded(answer, MAX_ANSWER_BYTES).await?;
                let token: Token = serde_json::from_slice(&bytes)
                    .map_err(|e| RemoteError::Wrong(format!("registry gave no token: {e}")))?;
                return Ok(Some(if token.token.is_empty() {
                    token.access_token
                } else {
                    token.token
                }));
            }
        }
        if wants_password {
            Err(RemoteError::Refused(format!(
                "Get \"{url}\": no basic auth credentials"
            )))
        } else {
            Ok(None)
        }
    }

    /// What an error of the registry means.
    async fn refusal(&self, answer: Response, reference: Option<&str>) -> RemoteError {
        #[derive(Deserialize, Default)]
        struct Errors {
            #[serde(default)]
            errors: Vec<OneError>,
        }
        #[derive(Deserialize, Default)]
        struct OneError {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let status = answer.status();
        let lacks_scope = answer
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains("insufficient_scope"));
        let url = answer.url().clone();
        let body = bounded(answer, MAX_ANSWER_BYTES).await.unwrap_or_default();
        let errors: Errors = serde_json::from_slice(&body).unwrap_or_default();
        let first = errors.errors.into_iter().next().unwrap_or_default();
        let words = first.code.to_lowercase().replace('_', " ");
        let cause = if first.message.is_empty() {
            words.clone()
        } else {
            format!("{words}: {}", clip(&first.message))
        };
        let repository = self.familiar.clone();
        match (first.code.as_str(), reference) {
            _ if lacks_scope => RemoteError::Denied {
                repository,
                cause: "denied: requested access to the resource is denied".to_owned(),
            },
            ("DENIED", _) => RemoteError::Denied { repository, cause },
            ("NAME_UNKNOWN", _) => RemoteError::NameUnknown { repository, cause },
            ("MANIFEST_UNKNOWN", Some(reference)) => RemoteError::ManifestUnknown {
                reference: reference.to_owned(),
                cause,
            },
            ("BLOB_UNKNOWN", _) => RemoteError::BlobUnknown,
            ("", Some(reference)) if status == StatusCode::NOT_FOUND => {
                RemoteError::ManifestUnknown {
                    reference: reference.to_owned(),
                    cause: "manifest unknown: manifest unknown".to_owned(),
                }
            }
            ("", None) if status == StatusCode::NOT_FOUND => RemoteError::BlobUnknown,
            ("", _) if status.is_server_error() => RemoteError::Unreachable(format!(
                "received unexpected HTTP status: {} {}",
                status.as_u16(),
                status.canonical_reason().unwrap_or_default()
            )),
            ("", _) => RemoteError::Refused(format!(
                "error parsing HTTP {} response body of {url}",
                status.as_u16()
            )),
            _ => RemoteError::Refused(cause),
        }
    }
}

fn client(tls: rustls::ClientConfig) -> Result<Client, RemoteError> {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(SILENCE_LIMIT)
        .user_agent(concat!("sockerless/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::custom(|attempt| {
            let downgrade = attempt.url().scheme() != "https"
                && attempt.previous().iter().any(|url| url.scheme() == "https");
            if downgrade {
                attempt.error("redirected from an encrypted to an unencrypted address")
            } else if attempt.previous().len() > 10 {
                attempt.error("redirected more than ten times")
            } else {
                attempt.follow()
            }
        }))
        .build()
        .map_err(|e| RemoteError::Certificates(e.to_string()))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An answer of at most `limit` bytes.
async fn bounded(mut answer: Response, limit: usize) -> Result<Bytes, RemoteError> {
    let url = answer.url().clone();
    let mut bytes = BytesMut::new();
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(piece)) if bytes.len() + piece.len() > limit => {
                return Err(RemoteError::Wrong(format!(
                    "registry's answer has more than {limit} bytes: {url}"
                )));
            }
            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
            Err(e) => return Err(unreachable(url.as_str(), &e)),
        }
    }
}

fn stream(answer: Response) -> ByteStream {
    Box::pin(
        answer
            .bytes_stream()
            .map(|piece| piece.map_err(|e| BlobError::Interrupted(innermost(&e)))),
    )
}

/// A failure to reach something, in the words of Go's HTTP client where it has
/// well-known ones.
fn unreachable(url: &str, error: &reqwest::Error) -> RemoteError {
    let parsed = reqwest::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|u| u.host_str()).unwrap_or(url);
    let port = parsed
        .as_ref()
        .and_then(reqwest::Url::port_or_known_default);
    let address = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let why = innermost(error);
    let why = if why.contains("onnection refused") {
        format!("dial tcp {address}: connect: connection refused")
    } else if why.contains("failed to lookup") || why.contains("not known") {
        format!("dial tcp: lookup {host}: no such host")
    } else {
        why
    };
    RemoteError::Unreachable(format!("Get \"{url}\": {why}"))
}

fn innermost(error: &reqwest::Error) -> String {
    let mut source = error.source();
    let mut text = error.to_string();
    while let Some(inner) = source {
        text = match inner.downcast_ref::<io::Error>() {
            Some(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                "connection refused".to_owned()
            }
            _ => inner.to_string(),
        };
        source = inner.source();
    }
    clip(&text)
}

fn clip(text: &str) -> String {
    text.chars().take(1000).collect()
}

/// Takes any certificate, but checks that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn loopback_is_told() {
        for yes in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.8.9.1",
            "[::1]:5000",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "localhost.example.com",
            "10.0.0.1:5000",
            "[::2]",
            "example.com:443",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
