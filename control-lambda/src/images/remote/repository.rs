//! One repository of a registry: manifests, blobs, tags.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LINK, RANGE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::super::digest::Digest;
use super::super::manifest::{MAX_MANIFEST_BYTES, media};
use super::super::reference::{DEFAULT_TAG, Reference};
use super::Host;
use super::auth::{Authorizer, Purpose};
use super::credentials::Credentials;
use super::error::{Asked, RemoteError, bounded, refusal, unreachable};
use super::resume;
use crate::ports::blobs::ByteStream;

/// Most bytes of a page of tags.
const MAX_TAGS_BYTES: usize = 8 * 1024 * 1024;
/// Most tags of a repository.
const MAX_TAGS: usize = 100_000;

/// A repository of a registry.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) host: Host,
    pub(super) path: String,
    familiar: String,
    authorizer: Arc<Authorizer>,
    scopes: BTreeSet<String>,
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

/// One request, to be sent once or twice.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    /// What errors name, where it is a manifest.
    pub(super) reference: Option<&'a str>,
    /// As what it is told of when it cannot be sent at all.
    pub(super) told_as: &'static str,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, url: &'a str) -> Self {
        let told_as = match method.as_str() {
            "GET" => "Get",
            "HEAD" => "Head",
            "POST" => "Post",
            "PATCH" => "Patch",
            "PUT" => "Put",
            _ => "Do",
        };
        Self {
            method,
            url,
            reference: None,
            told_as,
        }
    }
}

impl Repository {
    pub(super) fn new(
        host: Host,
        path: String,
        familiar: String,
        credentials: Credentials,
    ) -> Self {
        let is_encrypted = host.base.starts_with("https://");
        let scopes = BTreeSet::from([format!("repository:{path}:pull")]);
        Self {
            host,
            path,
            familiar,
            authorizer: Arc::new(Authorizer::new(credentials, is_encrypted)),
            scopes,
        }
    }

    /// The same, for one who also pushes.
    #[must_use]
    pub fn for_push(mut self) -> Self {
        self.scopes = BTreeSet::from([format!("repository:{}:pull,push", self.path)]);
        self
    }

    /// The registry, `host[:port]`.
    #[must_use]
    pub fn host(&self) -> &str {
        let base = &self.host.base;
        base.split_once("://").map_or(base, |(_, host)| host)
    }

    /// The repository's path within its registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The manifest or index of a reference, or of a digest in its repository.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn manifest(&self, reference: &Reference) -> Result<RemoteManifest, RemoteError> {
        let (name, told_as) = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => (digest.to_string(), "Get"),
            // Docker asks for a tag's digest first.
            (None, Some(tag)) => (tag.to_owned(), "Head"),
            (None, None) => (DEFAULT_TAG.to_owned(), "Head"),
        };
        let url = self.url(&format!("manifests/{name}"));
        let familiar = reference.familiar();
        let call = Call {
            reference: Some(&familiar),
            told_as,
            ..Call::new(Method::GET, &url)
        };
        let answer = self.send(call, &self.scopes, accept_manifests).await?;
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

    /// The bytes of a blob from `offset` on, not checked. A connection that breaks is
    /// made again, and the bytes go on where they stopped.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<ByteStream, RemoteError> {
        resume::stream(self.clone(), *digest, offset).await
    }

    /// A blob's bytes from `offset` on, in one answer: whole if the registry knows no ranges.
    pub(super) async fn blob_answer(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<Response, RemoteError> {
        let url = self.url(&format!("blobs/{digest}"));
        let call = Call::new(Method::GET, &url);
        self.send(call, &self.scopes, |request| match offset {
            0 => request,
            offset => request.header(RANGE, format!("bytes={offset}-")),
        })
        .await
    }

    /// A blob of at most `limit` bytes, checked.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn small_blob(&self, digest: &Digest, limit: usize) -> Result<Bytes, RemoteError> {
        let answer = self.blob_answer(digest, 0).await?;
        let bytes = bounded(answer, limit).await?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(RemoteError::Wrong(format!(
                "registry sent other bytes than those of {digest}"
            )))
        }
    }

    /// A blob's size, or `None` when it is not there.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn stat_blob(&self, digest: &Digest) -> Result<Option<u64>, RemoteError> {
        let url = self.url(&format!("blobs/{digest}"));
        let call = Call::new(Method::HEAD, &url);
        match self.send(call, &self.scopes, |request| request).await {
            Ok(answer) => {
                let length = answer.headers().get(CONTENT_LENGTH);
                Ok(Some(
                    length
                        .and_then(|value| value.to_str().ok()?.parse().ok())
                        .unwrap_or_default(),
                ))
            }
            Err(RemoteError::BlobUnknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn tags(&self) -> Result<Vec<String>, RemoteError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut next = Some(self.url("tags/list"));
        while let Some(url) = next.take() {
            let call = Call::new(Method::GET, &url);
            let answer = self.send(call, &self.scopes, |request| request).await?;
            next = answer
                .headers()
                .get(LINK)
                .and_then(|value| next_page(value.to_str().ok()?, &url));
            let bytes = bounded(answer, MAX_TAGS_BYTES).await?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|e| RemoteError::Wrong(format!("registry's list of tags is none: {e}")))?;
            let page = page.tags.unwrap_or_default();
            if page.is_empty() {
                break;
            }
            tags.extend(page);
            if tags.len() > MAX_TAGS {
                return Err(RemoteError::Wrong(format!(
                    "repository {} has more than {MAX_TAGS} tags; pull them by name",
                    self.familiar
                )));
            }
        }
        Ok(tags)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.host.base, self.path)
    }

    pub(super) const fn scopes(&self) -> &BTreeSet<String> {
        &self.scopes
    }

    pub(super) fn asked<'a>(&'a self, reference: Option<&'a str>) -> Asked<'a> {
        Asked {
            repository: &self.familiar,
            reference,
        }
    }

    /// Sends a request that can be sent again: once more with new credentials when the
    /// registry refuses those it had.
    pub(super) async fn send(
        &self,
        call: Call<'_>,
        scopes: &BTreeSet<String>,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RemoteError> {
        let mut authorization = self.authorization(&call, scopes).await?;
        let mut answer = self
            .send_once(&call, authorization.as_deref(), &complete)
            .await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let tried = authorization.as_deref();
            if self.authorizer.refused(answer.headers(), tried).await? {
                authorization = self.authorization(&call, scopes).await?;
                answer = self
                    .send_once(&call, authorization.as_deref(), &complete)
                    .await?;
            }
        }
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(refusal(answer, self.asked(call.reference)).await)
        }
    }

    /// The header for a request, if it goes to the registry itself.
    pub(super) async fn authorization(
        &self,
        call: &Call<'_>,
        scopes: &BTreeSet<String>,
    ) -> Result<Option<String>, RemoteError> {
        if !is_below(call.url, &self.host.base) {
            return Ok(None);
        }
        let purpose = Purpose {
            method: call.told_as,
            url: call.url,
        };
        self.authorizer
            .header(&self.host.client, scopes, purpose)
            .await
    }

    /// Learns from a 401 to a request that cannot be sent again.
    pub(super) async fn learn(
        &self,
        headers: &reqwest::header::HeaderMap,
        tried: Option<&str>,
    ) -> Result<(), RemoteError> {
        self.authorizer.refused(headers, tried).await.map(|_| ())
    }

    async fn send_once(
        &self,
        call: &Call<'_>,
        authorization: Option<&str>,
        complete: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RemoteError> {
        let mut request = self.host.client.request(call.method.clone(), call.url);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        complete(request)
            .send()
            .await
            .map_err(|e| unreachable(call.told_as, call.url, &e))
    }
}

pub(super) fn accept_manifests(request: RequestBuilder) -> RequestBuilder {
    let accepted = [
        media::OCI_INDEX,
        media::DOCKER_LIST,
        media::OCI_MANIFEST,
        media::DOCKER_MANIFEST,
        "*/*",
    ];
    request.header(ACCEPT, accepted.join(", "))
}

/// Whether a URL is of this registry, and not merely begins like it.
fn is_below(url: &str, base: &str) -> bool {
    url.strip_prefix(base)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The URL of the next page: `<…>; rel="next"` (RFC 8288).
fn next_page(link: &str, from: &str) -> Option<String> {
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("next") {
        return None;
    }
    let next = Url::parse(from).ok()?.join(target).ok()?;
    // A page that leads elsewhere would be asked without credentials, or with them.
    (next.origin() == Url::parse(from).ok()?.origin()).then(|| next.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_tags_stay_with_their_registry() {
        let from = "https://r.example/v2/a/tags/list";
        assert_eq!(
            next_page("</v2/a/tags/list?last=x&n=2>; rel=\"next\"", from).as_deref(),
            Some("https://r.example/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(
            next_page("<https://evil.example/>; rel=\"next\"", from),
            None
        );
        assert_eq!(next_page("</x>; rel=\"prev\"", from), None);
        assert_eq!(next_page("nonsense", from), None);
        assert!(is_below("https://r.example/v2/", "https://r.example"));
        assert!(!is_below("https://r.example.evil/v2/", "https://r.example"));
    }
}
