//! `docker search`: the first version of the registry API, which Docker Hub alone
//! still has, and whoever imitates it.

use reqwest::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Remote;
use super::credentials::Credentials;
use super::error::{RemoteError, bounded, reason, unreachable};

/// Most bytes of an answer.
const MAX_RESULTS_BYTES: usize = 4 * 1024 * 1024;
/// Where Docker Hub is searched.
const HUB_INDEX: &str = "https://index.docker.io";

/// Why nothing was found out. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SearchError {
    /// Not a registry that can be searched.
    #[error("invalid registry endpoint \"http://{host}/v1/\". {attempts}")]
    Endpoint {
        /// Which.
        host: String,
        /// What was tried.
        attempts: String,
    },
    /// The answer's status.
    #[error("Unexpected status code {0}")]
    Status(u16),
    /// Anything else.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl SearchError {
    /// The HTTP status that Docker gives for it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Endpoint { .. } => 400,
            Self::Status(_) | Self::Remote(_) => 500,
        }
    }
}

/// An image that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// How many like it.
    pub star_count: i64,
    /// Whether it is one of Docker's own.
    pub is_official: bool,
    /// By which it is pulled.
    pub name: String,
    /// Always false by now.
    pub is_automated: bool,
    /// What it is for.
    pub description: String,
}

impl Remote {
    /// Asks Docker Hub, or the registry that the term begins with.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn search(
        &self,
        term: &str,
        limit: u8,
        credentials: &Credentials,
    ) -> Result<Vec<Found>, SearchError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            results: Option<Vec<Found>>,
        }
        let (base, term) = match registry_of(term) {
            Some((host, rest)) => (self.first_version(host).await?, rest),
            None => (HUB_INDEX.to_owned(), term),
        };
        let query: String = form_urlencoded::byte_serialize(term.as_bytes()).collect();
        let url = format!("{base}/v1/search?q={query}&n={limit}");
        let host = base.split("://").nth(1).unwrap_or_default();
        let client = self.clients_for(host).await?.asking;
        let mut request = client.get(&url).header("X-Docker-Token", "true");
        if credentials.has_password() {
            request = request.header(AUTHORIZATION, credentials.basic());
        }
        let answer = request.send().await;
        let answer = answer.map_err(|e| unreachable("Get", &url, &e))?;
        if !answer.status().is_success() {
            return Err(SearchError::Status(answer.status().as_u16()));
        }
        let bytes = bounded(answer, MAX_RESULTS_BYTES).await?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| {
            RemoteError::Wrong(format!("error decoding registry search results: {e}"))
        })?;
        Ok(answer.results.unwrap_or_default())
    }

    /// Where a registry has the first version of the API.
    async fn first_version(&self, host: &str) -> Result<String, SearchError> {
        let client = self.clients_for(host).await?.asking;
        let mut attempts = String::new();
        for scheme in ["https", "http"] {
            if scheme == "http" && !self.settings.is_insecure(host) {
                break;
            }
            let url = format!("{scheme}://{host}/v1/_ping");
            match client.get(&url).send().await {
                Ok(_) => return Ok(format!("{scheme}://{host}")),
                Err(e) => {
                    let why = reason(&url, &e);
                    let name = scheme.to_uppercase();
                    attempts.push_str(&format!("{name} attempt: Get \"{url}\": {why}. "));
                }
            }
        }
        Err(SearchError::Endpoint {
            host: host.to_owned(),
            attempts: attempts.trim_end_matches(". ").to_owned(),
        })
    }
}

/// The registry that a term begins with, and the rest.
fn registry_of(term: &str) -> Option<(&str, &str)> {
    let (host, rest) = term.split_once('/')?;
    let is_registry = host.contains(['.', ':']) || host == "localhost";
    let is_hub = matches!(host, "docker.io" | "index.docker.io");
    (is_registry && !is_hub).then_some((host, rest))
}
