//! Registries of others, over the distribution API.
//!
//! Source: OCI distribution specification. A registry on a loopback address may be
//! without TLS, or with a certificate that nobody signed, as Docker allows there; everywhere
//! else TLS is needed unless the settings name the registry.

mod auth;
pub mod certificates;
mod credentials;
mod error;
mod login;
mod own;
mod repository;
mod resume;
mod search;
mod settings;
mod tls;
mod upload;

use std::sync::Arc;

use reqwest::{Client, StatusCode};

use self::error::{MAX_ANSWER_BYTES, bounded, unreachable};
use self::tls::Trust;
use super::reference::Reference;
use crate::ports::blobs::ByteStream;

pub use credentials::Credentials;
pub use error::RemoteError;
pub use login::{Login, LoginError};
pub use own::OwnImages;
pub use repository::{RemoteManifest, Repository};
pub use search::{Found, SearchError};
pub use settings::{
    HUB_FALLBACK, HostCertificates, Insecure, Mirror, RegistrySettings, SettingsError, TlsMaterial,
};
pub use upload::{BlobSource, Mounted};

/// Docker Hub, as names have it.
const HUB_DOMAIN: &str = "docker.io";
/// Docker Hub, as it is reached.
const HUB_HOST: &str = "registry-1.docker.io";

/// Speaks to registries.
#[derive(Debug, Clone)]
pub struct Remote {
    settings: Arc<RegistrySettings>,
    trust: Trust,
    /// For everybody whose certificate is known to be good.
    usual: Clients,
    /// Takes any certificate.
    trusting: Clients,
    own: Option<Arc<dyn OwnImages>>,
}

/// For requests that are answered at once, and for large bodies.
#[derive(Debug, Clone)]
struct Clients {
    asking: Client,
    uploading: Client,
}

/// A registry as it is reached.
#[derive(Debug, Clone)]
struct Host {
    client: Client,
    /// The same for large bodies, after which the answer may be long in coming.
    uploading: Client,
    /// `https://host[:port]`.
    base: String,
}

/// Where an image may be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host[:port]`.
    host: String,
    /// What is before the repository's path: fallbacks have one.
    prefix: String,
    /// A scheme that the settings say.
    scheme: Option<&'static str>,
    /// Whether the client's credentials are for this one.
    is_original: bool,
    /// Whether it is asked only when the one before it throttles.
    only_when_throttled: bool,
}

impl Endpoint {
    /// Whether it is the registry that the image's name says.
    #[must_use]
    pub const fn is_original(&self) -> bool {
        self.is_original
    }

    /// Whether it is asked after a failure of the one before it, which was that of too many
    /// requests, or another.
    #[must_use]
    pub const fn follows(&self, throttled: bool) -> bool {
        !self.only_when_throttled || throttled
    }
}

impl Remote {
    /// With the certificate authorities of this machine. May block.
    ///
    /// # Errors
    /// [`RemoteError::Certificates`].
    pub fn new(settings: Arc<RegistrySettings>) -> Result<Self, RemoteError> {
        let trust = Trust::of_this_machine();
        let none = TlsMaterial::default();
        Ok(Self {
            usual: trust.clients(&none, false)?,
            trusting: trust.clients(&none, true)?,
            settings,
            trust,
            own: None,
        })
    }

    /// The same, which may read these images for everybody.
    #[must_use]
    pub fn with_own(mut self, own: Option<Arc<dyn OwnImages>>) -> Self {
        self.own = own;
        self
    }

    /// Where an image may be had, in the order in which to ask.
    #[must_use]
    pub fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        let original = Endpoint {
            host: self.reached(reference.domain()).to_owned(),
            prefix: String::new(),
            scheme: None,
            is_original: true,
            only_when_throttled: false,
        };
        if reference.domain() != HUB_DOMAIN {
            return vec![original];
        }
        let mut endpoints: Vec<Endpoint> = self
            .settings
            .mirrors
            .iter()
            .map(|mirror| Endpoint {
                host: mirror.host.clone(),
                scheme: Some(mirror.scheme),
                is_original: false,
                ..original.clone()
            })
            .collect();
        endpoints.push(original.clone());
        let is_official = reference.path().starts_with("library/");
        if let Some(fallback) = self
            .settings
            .hub_fallback
            .as_deref()
            .filter(|_| is_official)
        {
            let (host, path) = fallback.split_once('/').unwrap_or((fallback, ""));
            endpoints.push(Endpoint {
                host: host.to_owned(),
                prefix: match path {
                    "" => String::new(),
                    path => format!("{path}/"),
                },
                is_original: false,
                only_when_throttled: true,
                ..original
            });
        }
        endpoints
    }

    /// The repository of a reference, at one of its endpoints.
    ///
    /// # Errors
    /// [`RemoteError::Unreachable`] and [`RemoteError::Certificates`].
    pub async fn repository_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Repository, RemoteError> {
        let host = self.host(&endpoint.host, endpoint.scheme).await?;
        let credentials = if !endpoint.is_original {
            Credentials::default()
        } else if *credentials == Credentials::default() {
            self.own_credentials(&endpoint.host, reference.path()).await
        } else {
            credentials.clone()
        };
        Ok(Repository::new(
            host,
            format!("{}{}", endpoint.prefix, reference.path()),
            reference.familiar_name(),
            credentials,
        ))
    }

    /// What is had for a repository without a client's credentials. Without any, the registry
    /// says whether it wants some.
    async fn own_credentials(&self, host: &str, path: &str) -> Credentials {
        let Some(own) = &self.own else {
            return Credentials::default();
        };
        match own.credentials(host, path).await {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(
                    host,
                    path,
                    error,
                    "there are no credentials of the control plane's own"
                );
                Credentials::default()
            }
        }
    }

    /// The repository of a reference in its own registry.
    ///
    /// # Errors
    /// As [`Remote::repository_at`].
    pub async fn repository(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Repository, RemoteError> {
        let host = self.host(self.reached(reference.domain()), None).await?;
        Ok(Repository::new(
            host,
            reference.path().to_owned(),
            reference.familiar_name(),
            credentials.clone(),
        ))
    }

    /// The host behind a domain.
    fn reached<'a>(&'a self, domain: &'a str) -> &'a str {
        match domain {
            HUB_DOMAIN => self.settings.hub.as_deref().unwrap_or(HUB_HOST),
            other => other,
        }
    }

    /// How a registry is reached, and that it is.
    async fn host(&self, host: &str, scheme: Option<&'static str>) -> Result<Host, RemoteError> {
        let Clients {
            asking: client,
            uploading,
        } = self.clients_for(host).await?;
        let is_insecure = self.settings.is_insecure(host);
        let mut base = format!("{}://{host}", scheme.unwrap_or("https"));
        if is_insecure && scheme.is_none() {
            let probe = format!("{base}/v2/");
            if client.get(&probe).send().await.is_err() {
                base = format!("http://{host}");
            }
        }
        let probe = format!("{base}/v2/");
        client
            .get(&probe)
            .send()
            .await
            .map_err(|e| unreachable("Get", &probe, &e))?;
        Ok(Host {
            client,
            uploading,
            base,
        })
    }

    /// The clients that trust whom this registry's settings say.
    async fn clients_for(&self, host: &str) -> Result<Clients, RemoteError> {
        if self.settings.is_insecure(host) {
            return Ok(self.trusting.clone());
        }
        let Some(certificates) = self.settings.certificates.clone() else {
            return Ok(self.usual.clone());
        };
        let (trust, host) = (self.trust.clone(), host.to_owned());
        let none = self.usual.clone();
        let make = move || {
            let material = certificates.of(&host).map_err(RemoteError::Certificates)?;
            if material == TlsMaterial::default() {
                Ok(none)
            } else {
                trust.clients(&material, false)
            }
        };
        tokio::task::spawn_blocking(make)
            .await
            .unwrap_or_else(|e| Err(RemoteError::Certificates(e.to_string())))
    }

    /// What is at a URL, for `import`, and how many bytes that is; 0 where nobody says.
    ///
    /// # Errors
    /// [`RemoteError::ManifestUnknown`] is none of them: any status but success is
    /// [`RemoteError::Refused`], and its code comes with it.
    pub async fn download(&self, url: &str) -> Result<(ByteStream, u64), (u16, RemoteError)> {
        let answer = self.usual.asking.get(url).send().await;
        let answer = answer.map_err(|e| (500, unreachable("Get", url, &e)))?;
        let status = answer.status();
        if status.is_success() {
            let size = answer.content_length().unwrap_or_default();
            return Ok((resume::plain(answer), size));
        }
        let body = bounded(answer, MAX_ANSWER_BYTES).await.unwrap_or_default();
        let cause = format!(
            "failed to GET {url} with status {}: {}",
            error::shown(status),
            String::from_utf8_lossy(&body).trim_end()
        );
        let code = if status.is_client_error() {
            status.as_u16()
        } else {
            StatusCode::INTERNAL_SERVER_ERROR.as_u16()
        };
        Err((
            code,
            RemoteError::Refused {
                status: code,
                cause,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(settings: RegistrySettings) -> Remote {
        Remote::new(Arc::new(settings)).unwrap()
    }

    fn hosts(remote: &Remote, name: &str) -> Vec<String> {
        let reference = Reference::parse(name).unwrap();
        let endpoints = remote.endpoints(&reference);
        endpoints
            .iter()
            .map(|e| format!("{}/{}", e.host, e.prefix))
            .collect()
    }

    #[test]
    fn mirrors_come_first_and_the_fallback_last() {
        let settings = RegistrySettings {
            mirrors: vec!["http://mirror:5000".parse().unwrap()],
            ..RegistrySettings::usual()
        };
        let remote = remote(settings);
        assert_eq!(
            hosts(&remote, "busybox"),
            [
                "mirror:5000/",
                "registry-1.docker.io/",
                "public.ecr.aws/docker/"
            ]
        );
        assert_eq!(
            hosts(&remote, "somebody/busybox"),
            ["mirror:5000/", "registry-1.docker.io/"]
        );
        assert_eq!(hosts(&remote, "ghcr.io/a/b"), ["ghcr.io/"]);
        let endpoints = remote.endpoints(&Reference::parse("busybox").unwrap());
        assert!(endpoints[1].follows(false));
        assert!(endpoints[2].follows(true) && !endpoints[2].follows(false));
        assert!(endpoints[1].is_original && !endpoints[0].is_original);
    }
}
