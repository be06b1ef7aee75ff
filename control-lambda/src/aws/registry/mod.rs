//! Images in a repository of ECR, over the OCI Distribution API.
//!
//! Every image's manifest is tagged `image-<digits of its config's digest>`, so
//! that it is found by Docker's image id; see [`runnable`] for what Lambda is
//! given. ECR itself removes blobs that no manifest names.

mod agent_layer;
mod cached;
mod client;
mod credentials;
mod parts;
pub mod runnable;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecr::Client as Ecr;
use aws_sdk_ecr::error::SdkError;
use aws_sdk_ecr::types::ImageIdentifier;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, StatusCode};

use self::client::Client;
use self::credentials::Credentials;
use self::parts::UploadRecords;
use super::sdk::{Sdk, describe};
use crate::images::digest::Digest;
use crate::images::manifest::{MAX_MANIFEST_BYTES, ManifestOrIndex, media};
use crate::ports::blobs::ByteStream;
use crate::ports::registry::{Expected, RegistryError, SHARED_BYTES, Stored};
use crate::ports::{Environment, Registry, Table};

pub use agent_layer::AgentLayer;
pub use cached::CachedImages;
pub use client::InvalidRepository;

/// What kinds of manifests are understood.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// [`Registry`] in one repository of ECR.
pub struct EcrRegistry {
    client: Client,
    ecr: Ecr,
    uploads: Arc<UploadRecords>,
}

impl EcrRegistry {
    /// The repository `<host>/<name>`, which must exist. As with Docker, a
    /// registry on loopback is spoken to without TLS. The table says how far uploads are.
    ///
    /// # Errors
    /// When that is not the name of a repository.
    pub fn new(
        sdk: &Sdk,
        repository: &str,
        table: Arc<dyn Table>,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, InvalidRepository> {
        let ecr = Ecr::new(sdk.config());
        let credentials = Arc::new(Credentials::new(ecr.clone()));
        Ok(Self {
            client: Client::new(repository, credentials)?,
            ecr,
            uploads: Arc::new(UploadRecords::new(table, environment)),
        })
    }

    /// Those that ECR fetches for this deployment.
    #[must_use]
    pub fn cached(&self) -> CachedImages {
        CachedImages::new(
            self.ecr.clone(),
            Arc::clone(self.client.credentials()),
            self.client.host(),
            self.client.repository(),
        )
    }

    /// Stores a manifest under a digest or tag.
    async fn put_manifest_as(
        &self,
        reference: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), RegistryError> {
        let request = self
            .client
            .request(Method::PUT, &format!("manifests/{reference}"))
            .header(CONTENT_TYPE, media_type);
        let response = self.client.send(request, bytes).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK => Ok(()),
            _ => Err(client::unexpected("store a manifest", response).await),
        }
    }

    /// A manifest by digest or tag; `None` when it is not there.
    async fn manifest(&self, reference: &str) -> Result<Option<(String, Bytes)>, RegistryError> {
        let request = self
            .client
            .request(Method::GET, &format!("manifests/{reference}"))
            .header(http::header::ACCEPT, MANIFESTS);
        let response = self.client.send(request, Bytes::new()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(client::unexpected("read a manifest", response).await),
        }
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let bytes = client::collect(response, MAX_MANIFEST_BYTES).await?;
        Ok(Some((media_type, bytes)))
    }

    async fn has_manifest(&self, reference: &str) -> Result<bool, RegistryError> {
        let request = self
            .client
            .request(Method::HEAD, &format!("manifests/{reference}"))
            .header(http::header::ACCEPT, MANIFESTS);
        let response = self.client.send(request, Bytes::new()).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(client::unexpected("look for a manifest", response).await),
        }
    }
}

/// What the tags of images' own manifests begin with.
const IMAGE: &str = "image-";

/// The tag of an image's own manifest.
fn image_tag(config: &Digest) -> String {
    format!("{IMAGE}{}", config.hex())
}

#[async_trait]
impl Registry for EcrRegistry {
    async fn stat_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let request = self
            .client
            .request(Method::HEAD, &format!("blobs/{digest}"));
        let response = self.client.send(request, Bytes::new()).await?;
        match response.status() {
            StatusCode::OK => response
                .headers()
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok())
                .map(Some)
                .ok_or_else(|| {
                    RegistryError::Unavailable(format!("the size of {digest} is not told"))
                }),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(client::unexpected("look for a blob", response).await),
        }
    }

    async fn get_blob(&self, digest: &Digest) -> Result<ByteStream, RegistryError> {
        let response = self
            .client
            .get_following(&format!("blobs/{digest}"))
            .await?;
        match response.status() {
            StatusCode::OK => Ok(client::stream(response)),
            StatusCode::NOT_FOUND => Err(RegistryError::NotFound(*digest)),
            _ => Err(client::unexpected("read a blob", response).await),
        }
    }

    async fn put_blob(
        &self,
        body: ByteStream,
        expected: Expected,
    ) -> Result<Stored, RegistryError> {
        let pending = upload::Upload::begin(&self.client).await?;
        let (pending, stored) = pending.fill(body, expected).await?;
        let is_there = self.stat_blob(&stored.digest).await?.is_some();
        pending.finish(&stored.digest, is_there).await?;
        Ok(stored)
    }

    async fn mount_blob(
        &self,
        digest: &Digest,
        host: &str,
        repository: &str,
    ) -> Result<bool, RegistryError> {
        if host != self.client.host() || repository == self.client.repository() {
            return Ok(false);
        }
        let path = format!("blobs/uploads/?mount={digest}&from={repository}");
        let request = self.client.request(Method::POST, &path);
        let response = self.client.send(request, Bytes::new()).await?;
        match response.status() {
            StatusCode::CREATED => Ok(true),
            // The account has not enabled it, the repository is a cache's, or it is not there
            // (Amazon ECR User Guide, "Blob mounting"): an upload has been begun instead, which
            // ECR forgets.
            StatusCode::ACCEPTED => Ok(false),
            // Its bytes are fetched then, as from any other registry.
            _ => {
                let what = "take a blob from another repository";
                let why = client::unexpected(what, response).await;
                tracing::info!(repository, %why, "fetched instead");
                Ok(false)
            }
        }
    }

    async fn kept_bytes(&self, digest: &Digest) -> Result<u64, RegistryError> {
        self.uploads.sent(digest).await
    }

    async fn put_blob_from(
        &self,
        kept: u64,
        body: ByteStream,
        expected: Expected,
    ) -> Result<Stored, RegistryError> {
        let digest = match expected.digest {
            Some(digest) if kept > 0 || expected.size.is_none_or(|size| size >= SHARED_BYTES) => {
                digest
            }
            _ => return self.put_blob(body, expected).await,
        };
        let (claim, begun) = self.uploads.claim(&digest, kept).await?;
        let pending = upload::Upload::claimed(&self.client, claim, begun).await?;
        let filled = pending.fill(body, expected).await;
        let (pending, stored) = filled.map_err(|error| match error {
            // ECR may have forgotten what it had; then it is begun anew.
            RegistryError::Unavailable(why) if kept > 0 => {
                RegistryError::Interrupted(format!("its upload does not go on: {why}"))
            }
            other => other,
        })?;
        let is_there = self.stat_blob(&digest).await?.is_some();
        pending.finish(&digest, is_there).await?;
        Ok(stored)
    }

    async fn delete_blob(&self, _: &Digest) -> Result<(), RegistryError> {
        // ECR removes what no manifest names, and nobody else can.
        Ok(())
    }

    async fn list_blobs(&self) -> Result<Vec<Digest>, RegistryError> {
        Ok(Vec::new())
    }

    async fn put_manifest(&self, media_type: &str, bytes: Bytes) -> Result<Digest, RegistryError> {
        let digest = Digest::of(&bytes);
        let parsed = ManifestOrIndex::parse(&bytes, media_type)
            .map_err(|error| RegistryError::Unavailable(error.to_string()))?;
        let reference = match parsed {
            ManifestOrIndex::Manifest(manifest) => image_tag(&manifest.config.digest),
            ManifestOrIndex::Index(_) => digest.to_string(),
        };
        self.put_manifest_as(&reference, media_type, bytes).await?;
        Ok(digest)
    }

    async fn get_manifest(&self, digest: &Digest) -> Result<(String, Bytes), RegistryError> {
        let found = self.manifest(&digest.to_string()).await?;
        let (media_type, bytes) = found.ok_or(RegistryError::NotFound(*digest))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(RegistryError::WrongDigest {
                expected: *digest,
                actual,
            });
        }
        Ok((media_type, bytes))
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<(), RegistryError> {
        let image = ImageIdentifier::builder()
            .image_digest(digest.to_string())
            .build();
        // What is not there is one of the failures that the answer lists.
        self.ecr
            .batch_delete_image()
            .repository_name(self.client.repository())
            .image_ids(image)
            .send()
            .await
            .map_err(|error| failed("delete a manifest", &error))?;
        Ok(())
    }

    async fn list_manifests(&self) -> Result<Vec<Digest>, RegistryError> {
        let mut pages = self
            .ecr
            .list_images()
            .repository_name(self.client.repository())
            .into_paginator()
            .send();
        let (mut listed, mut images) = (Vec::new(), Vec::new());
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("list manifests", &error))?;
            for entry in page.image_ids.unwrap_or_default() {
                let Some(digest) = entry.image_digest().and_then(|text| text.parse().ok()) else {
                    continue;
                };
                let tag = entry.image_tag().unwrap_or_default();
                images.extend(tag.strip_prefix(IMAGE).map(ToOwned::to_owned));
                listed.push((digest, tag.to_owned()));
            }
        }
        // What was made of an image is a manifest of that image's, and goes after it.
        let is_own = |tag: &str| !runnable::is_made_of(tag, images.iter().map(String::as_str));
        let mut found: Vec<Digest> = listed
            .into_iter()
            .filter(|(_, tag)| is_own(tag))
            .map(|(digest, _)| digest)
            .collect();
        // An image is listed once for each of its tags.
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// The media type of a manifest that this program writes.
const OWN_MANIFEST: &str = media::OCI_MANIFEST;

fn failed<E, R>(what: &str, error: &SdkError<E, R>) -> RegistryError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    RegistryError::Unavailable(format!("cannot {what}: {}", describe(error)))
}
