//! Blobs and manifests on their way to a registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::time::{Duration, sleep};

use super::super::digest::Digest;
use super::error::{RemoteError, refusal, unreachable};
use super::repository::{Call, Repository};
use crate::ports::blobs::{BlobError, ByteStream};

/// How often an upload is begun.
const ATTEMPTS: u32 = 5;
/// How long to wait before another attempt, times the number of those that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Blobs up to this size go in one request, in bytes.
const MONOLITHIC_BYTES: u64 = 64 * 1024;
/// For how long a registry may take nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// A blob that can be read more than once.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// Its bytes, from the beginning.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn open(&self) -> Result<ByteStream, BlobError>;
}

/// What became of the wish to mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// The blob is there.
    Yes,
    /// The registry wants it uploaded.
    No,
}

impl Repository {
    /// Takes a blob from another repository of the same registry.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Mounted, RemoteError> {
        let url = self.url(&format!("blobs/uploads/?mount={digest}&from={from}"));
        let mut scopes = self.scopes().clone();
        scopes.insert(format!("repository:{from}:pull"));
        let call = Call::new(Method::POST, &url);
        let answer = self.send(call, &scopes, empty).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(Mounted::Yes);
        }
        // The registry has begun an upload instead, which nobody will finish.
        if let Ok(location) = location(&answer, &url) {
            let call = Call::new(Method::DELETE, &location);
            if let Err(error) = self.send(call, self.scopes(), |request| request).await {
                tracing::debug!(%error, "an upload that is not needed was not cancelled");
            }
        }
        Ok(Mounted::No)
    }

    /// Uploads a blob, again from its beginning when that breaks off.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn upload(
        &self,
        digest: &Digest,
        size: u64,
        source: &dyn BlobSource,
    ) -> Result<(), RemoteError> {
        let mut failed = 0;
        loop {
            let outcome = self.upload_once(digest, size, source).await;
            match outcome {
                Err(error) if may_be_tried_again(&error) && failed + 1 < ATTEMPTS => {
                    failed += 1;
                    tracing::info!(%error, blob = %digest, "an upload is tried again");
                    sleep(RETRY_AFTER * failed).await;
                }
                other => return other,
            }
        }
    }

    async fn upload_once(
        &self,
        digest: &Digest,
        size: u64,
        source: &dyn BlobSource,
    ) -> Result<(), RemoteError> {
        let url = self.url("blobs/uploads/");
        let call = Call::new(Method::POST, &url);
        let begun = self.send(call, self.scopes(), empty).await?;
        let mut target = location(&begun, &url)?;
        let broken = |error: BlobError| RemoteError::Wrong(error.to_string());
        let mut last = Body::from("");
        let mut last_bytes = 0;
        if size <= MONOLITHIC_BYTES {
            let body = source.open().await.map_err(broken)?;
            let body: Vec<Bytes> = body.try_collect().await.map_err(broken)?;
            let body = body.concat();
            last_bytes = body.len();
            last = Body::from(body);
        } else {
            let body = source.open().await.map_err(broken)?;
            let answer = self.patch(&target, size, body).await?;
            target = location(&answer, &target)?;
        }
        let mut finish = Url::parse(&target)
            .map_err(|e| RemoteError::Wrong(format!("registry leads to no URL: {e}")))?;
        finish
            .query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let finish = String::from(finish);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, last_bytes.into());
        self.send_body(Method::PUT, &finish, headers, last).await?;
        Ok(())
    }

    /// All of a large blob in one request, as the bytes come.
    async fn patch(
        &self,
        target: &str,
        size: u64,
        body: ByteStream,
    ) -> Result<Response, RemoteError> {
        let taken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&taken);
        let body = body.inspect(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, size.into());
        let sending = self.send_body(Method::PATCH, target, headers, Body::wrap_stream(body));
        tokio::select! {
            answer = sending => answer,
            () = silence(&taken) => Err(RemoteError::Unreachable(format!(
                "Patch \"{target}\": registry took nothing for {} seconds",
                SILENCE_LIMIT.as_secs()
            ))),
        }
    }

    /// Sends a body that cannot be sent twice.
    async fn send_body(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, RemoteError> {
        let call = Call::new(method, url);
        let authorization = self.authorization(&call, self.scopes()).await?;
        let mut request = self
            .host
            .uploading
            .request(call.method.clone(), url)
            .headers(headers)
            .header(CONTENT_TYPE, "application/octet-stream");
        if let Some(authorization) = &authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = request
            .body(body)
            .send()
            .await
            .map_err(|e| unreachable(call.told_as, url, &e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            // A token that ended on the way: the next attempt has another.
            self.learn(answer.headers(), authorization.as_deref())
                .await?;
        }
        Err(refusal(answer, self.asked(None)).await)
    }

    /// Stores a manifest under a tag or a digest.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), RemoteError> {
        let url = self.url(&format!("manifests/{name}"));
        let call = Call::new(Method::PUT, &url);
        self.send(call, self.scopes(), |request| {
            request.header(CONTENT_TYPE, media_type).body(bytes.clone())
        })
        .await?;
        Ok(())
    }
}

fn may_be_tried_again(error: &RemoteError) -> bool {
    error.is_passing() || matches!(error, RemoteError::Refused { status: 401, .. })
}

fn empty(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request.header(CONTENT_LENGTH, 0)
}

/// Ready once nothing more has been taken for a while.
async fn silence(taken: &AtomicU64) {
    let mut before = taken.load(Ordering::Relaxed);
    loop {
        sleep(SILENCE_LIMIT).await;
        let now = taken.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// Where a registry says to go on.
fn location(answer: &Response, from: &str) -> Result<String, RemoteError> {
    let text = answer
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let joined = text.and_then(|text| Url::parse(from).ok()?.join(text).ok());
    joined.map(String::from).ok_or_else(|| {
        RemoteError::Wrong("registry does not say where an upload goes on".to_owned())
    })
}
