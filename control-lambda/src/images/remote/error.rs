//! What goes wrong with registries, in Docker's words.

use std::error::Error as _;
use std::io;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::WWW_AUTHENTICATE;
use serde::Deserialize;
use thiserror::Error;

/// Most bytes of an error or a token.
pub(super) const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Why a registry gave nothing, or took nothing. The texts are Docker's.
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
    #[error("{cause}")]
    Refused {
        /// Its HTTP status.
        status: u16,
        /// Its words.
        cause: String,
    },
    /// It wants a name and a password, and there are none.
    #[error("{method} \"{url}\": no basic auth credentials")]
    NoCredentials {
        /// What was to be done, as Go's client writes it.
        method: &'static str,
        /// With what.
        url: String,
    },
    /// Whoever gives tokens gave none.
    #[error("{method} \"{url}\": {cause}")]
    NoToken {
        /// What was to be done, as Go's client writes it.
        method: &'static str,
        /// With what.
        url: String,
        /// The words of whoever gives tokens.
        cause: String,
        /// Whether they want fewer requests.
        throttled: bool,
    },
    /// It could not be reached, or broke off.
    #[error("{0}")]
    Unreachable(String),
    /// It sent something else than was asked for.
    #[error("{0}")]
    Wrong(String),
    /// No TLS on this machine, or none for this registry.
    #[error(
        "certificates cannot be read: {0}; install ca-certificates, or look into the folder of the registry's certificates"
    )]
    Certificates(String),
}

impl RemoteError {
    /// The HTTP status that Docker gives for it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::ManifestUnknown { .. } | Self::NameUnknown { .. } | Self::Denied { .. } => 404,
            Self::Refused { status, .. } if (400..600).contains(status) => *status,
            Self::NoToken { cause, .. } if cause.starts_with("unauthorized") => 401,
            Self::Refused { .. }
            | Self::BlobUnknown
            | Self::NoCredentials { .. }
            | Self::NoToken { .. }
            | Self::Unreachable(_)
            | Self::Wrong(_)
            | Self::Certificates(_) => 500,
        }
    }

    /// Whether it may go better the next time.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// Whether the registry wants fewer requests.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        matches!(
            self,
            Self::Refused { status: 429, .. }
                | Self::NoToken {
                    throttled: true,
                    ..
                }
        )
    }

    /// The registry's own words, without what a pull says around them: what a push and
    /// an inspection of a repository show.
    #[must_use]
    pub fn bare(&self) -> String {
        match self {
            Self::ManifestUnknown { cause, .. }
            | Self::NameUnknown { cause, .. }
            | Self::Denied { cause, .. }
            | Self::Refused { cause, .. } => cause.clone(),
            Self::BlobUnknown
            | Self::NoCredentials { .. }
            | Self::NoToken { .. }
            | Self::Unreachable(_)
            | Self::Wrong(_)
            | Self::Certificates(_) => self.to_string(),
        }
    }
}

/// What was asked for, as errors name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The repository in its familiar form.
    pub(super) repository: &'a str,
    /// The reference, where a manifest was asked for.
    pub(super) reference: Option<&'a str>,
}

/// What an error of a registry means.
pub(super) async fn refusal(answer: Response, asked: Asked<'_>) -> RemoteError {
    #[derive(Deserialize, Default)]
    struct Errors {
        #[serde(default)]
        errors: Vec<OneError>,
        /// Docker's token server has this beside or instead of a list.
        #[serde(default)]
        details: String,
    }
    #[derive(Deserialize, Default)]
    struct OneError {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        detail: serde_json::Value,
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
    let words = clip(&first.code).to_lowercase().replace('_', " ");
    // Of what says nothing of its own, Docker shows the code, and nothing around it.
    let is_bare = first.detail.is_null() && Some(first.message.as_str()) == message_of(&first.code);
    let cause = match first.message.as_str() {
        _ if is_bare => words,
        "" => words,
        message => format!("{words}: {}", clip(message)),
    };
    let repository = asked.repository.to_owned();
    match (first.code.as_str(), asked.reference) {
        _ if lacks_scope => RemoteError::Denied {
            repository,
            cause: "denied: requested access to the resource is denied".to_owned(),
        },
        ("BLOB_UNKNOWN", _) => RemoteError::BlobUnknown,
        _ if is_bare => RemoteError::Refused {
            status: status.as_u16(),
            cause,
        },
        ("DENIED", _) => RemoteError::Denied { repository, cause },
        ("NAME_UNKNOWN", _) => RemoteError::NameUnknown { repository, cause },
        ("MANIFEST_UNKNOWN", Some(reference)) => RemoteError::ManifestUnknown {
            reference: reference.to_owned(),
            cause,
        },
        ("", Some(reference)) if status == StatusCode::NOT_FOUND => RemoteError::ManifestUnknown {
            reference: reference.to_owned(),
            cause: "manifest unknown: manifest unknown".to_owned(),
        },
        ("", None) if status == StatusCode::NOT_FOUND => RemoteError::BlobUnknown,
        ("", _) if status == StatusCode::UNAUTHORIZED && !errors.details.is_empty() => {
            RemoteError::Refused {
                status: status.as_u16(),
                cause: format!("unauthorized: {}", clip(&errors.details)),
            }
        }
        // An answer to HEAD has no words.
        ("", _) if status == StatusCode::FORBIDDEN => RemoteError::Denied {
            repository,
            cause: "denied: requested access to the resource is denied".to_owned(),
        },
        ("", _) if status == StatusCode::UNAUTHORIZED => RemoteError::Refused {
            status: status.as_u16(),
            cause: "unauthorized: authentication required".to_owned(),
        },
        ("", _) if status == StatusCode::TOO_MANY_REQUESTS => RemoteError::Refused {
            status: status.as_u16(),
            cause: "toomanyrequests: too many requests".to_owned(),
        },
        ("", _) if status.is_server_error() => RemoteError::Unreachable(format!(
            "received unexpected HTTP status: {}",
            shown(status)
        )),
        ("", _) => RemoteError::Refused {
            status: 500,
            cause: format!(
                "error parsing HTTP {} response body of {url}",
                status.as_u16()
            ),
        },
        _ => RemoteError::Refused {
            status: status.as_u16(),
            cause,
        },
    }
}

/// What an error's code stands for (the distribution specification's table, in the words of
/// `distribution`'s `errcode`).
fn message_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "UNKNOWN" => "unknown error",
        "UNSUPPORTED" => "The operation is unsupported.",
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "UNAVAILABLE" => "service unavailable",
        "TOOMANYREQUESTS" => "too many requests",
        "NAME_INVALID" => "invalid repository name",
        "NAME_UNKNOWN" => "repository name not known to registry",
        "TAG_INVALID" => "manifest tag did not match URI",
        "MANIFEST_UNKNOWN" => "manifest unknown",
        "MANIFEST_INVALID" => "manifest invalid",
        "MANIFEST_UNVERIFIED" => "manifest failed signature verification",
        "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" => "blob unknown to registry",
        "BLOB_UPLOAD_UNKNOWN" => "blob upload unknown to registry",
        "BLOB_UPLOAD_INVALID" => "blob upload invalid",
        "DIGEST_INVALID" => "provided digest did not match uploaded content",
        "SIZE_INVALID" => "provided length did not match content length",
        "RANGE_INVALID" => "invalid content range",
        _ => return None,
    })
}

/// `401 Unauthorized`.
pub(super) fn shown(status: StatusCode) -> String {
    let words = status.canonical_reason().unwrap_or_default();
    format!("{} {words}", status.as_u16()).trim_end().to_owned()
}

/// An answer of at most `limit` bytes.
pub(super) async fn bounded(mut answer: Response, limit: usize) -> Result<Bytes, RemoteError> {
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
            Err(e) => return Err(unreachable("Get", url.as_str(), &e)),
        }
    }
}

/// A failure to reach something, in the words of Go's HTTP client where it has
/// well-known ones.
pub(super) fn unreachable(method: &str, url: &str, error: &reqwest::Error) -> RemoteError {
    RemoteError::Unreachable(format!("{method} \"{url}\": {}", reason(url, error)))
}

/// Why nothing was reached.
pub(super) fn reason(url: &str, error: &reqwest::Error) -> String {
    let parsed = reqwest::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|u| u.host_str()).unwrap_or(url);
    let port = parsed
        .as_ref()
        .and_then(reqwest::Url::port_or_known_default);
    let address = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let why = innermost(error);
    if why.contains("onnection refused") {
        format!("dial tcp {address}: connect: connection refused")
    } else if why.contains("failed to lookup") || why.contains("not known") {
        format!("dial tcp: lookup {host}: no such host")
    } else if why.contains("UnknownIssuer") {
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            .to_owned()
    } else {
        why
    }
}

pub(super) fn innermost(error: &reqwest::Error) -> String {
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

pub(super) fn clip(text: &str) -> String {
    text.chars().take(1000).collect()
}
