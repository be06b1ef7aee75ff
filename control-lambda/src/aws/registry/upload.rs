//! Uploading one blob in parts.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{Method, StatusCode};
use sha2_resumable::{Digest as _, Sha256};

use super::client::{self, Client};
use super::parts::{Claim, Progress, finished};
use crate::images::digest::Digest;
use crate::ports::blobs::ByteStream;
use crate::ports::registry::{Expected, RegistryError, Stored};

/// Size of a part in bytes. ECR takes at most 20,971,520 (Amazon ECR service quotas).
const PART_BYTES: usize = 16 * 1024 * 1024;

/// An upload that has begun. The registry forgets it unless it is finished.
pub(super) struct Upload<'a> {
    client: &'a Client,
    progress: Progress,
    /// The right to it, where others may want it, too.
    claim: Option<Claim>,
}

impl<'a> Upload<'a> {
    pub(super) async fn begin(client: &'a Client) -> Result<Self, RegistryError> {
        let request = client.request(Method::POST, "blobs/uploads/");
        let response = client.send(request, Bytes::new()).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(client::unexpected("begin an upload", response).await);
        }
        let progress = Progress {
            location: client::location(&response)?.to_owned(),
            sent: 0,
            hash: Sha256::new(),
        };
        Ok(Self {
            client,
            progress,
            claim: None,
        })
    }

    /// An upload that nobody else begins meanwhile, or the rest of one.
    pub(super) async fn claimed(
        client: &'a Client,
        claim: Claim,
        begun: Option<Progress>,
    ) -> Result<Self, RegistryError> {
        let upload = match begun {
            Some(progress) => Self {
                client,
                progress,
                claim: None,
            },
            None => Self::begin(client).await?,
        };
        Ok(Self {
            claim: Some(claim),
            ..upload
        })
    }

    /// Sends a body, and checks it against what was announced. When it breaks off, the next
    /// may go on with what was sent; when it is wrong, nobody may.
    pub(super) async fn fill(
        mut self,
        body: ByteStream,
        expected: Expected,
    ) -> Result<(Self, Stored), RegistryError> {
        match self.send_all(body, expected).await {
            Ok(stored) => Ok((self, stored)),
            Err(error) => {
                if let Some(claim) = self.claim.take() {
                    match error {
                        RegistryError::Interrupted(_) => claim.leave().await?,
                        // The claim was another's already.
                        RegistryError::Busy(_) => claim.lose(),
                        _ => claim.end().await?,
                    }
                }
                Err(error)
            }
        }
    }

    async fn send_all(
        &mut self,
        mut body: ByteStream,
        expected: Expected,
    ) -> Result<Stored, RegistryError> {
        let mut hash = self.progress.hash.clone();
        let mut size = self.progress.sent;
        let mut part = BytesMut::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| RegistryError::Interrupted(error.to_string()))?;
            size = size.saturating_add(piece.len() as u64);
            check_size(size, false, expected)?;
            part.extend_from_slice(&piece);
            while part.len() >= PART_BYTES {
                let part = part.split_to(PART_BYTES).freeze();
                hash.update(&part);
                self.send(part).await?;
                self.progress.hash = hash.clone();
                if let Some(claim) = &mut self.claim {
                    claim.note(self.progress.clone()).await?;
                }
            }
            if let Some(claim) = &mut self.claim {
                claim.renew().await?;
            }
        }
        hash.update(&part);
        check_size(size, true, expected)?;
        let actual = finished(hash)?;
        if let Some(expected) = expected.digest
            && expected != actual
        {
            return Err(RegistryError::WrongDigest { expected, actual });
        }
        if !part.is_empty() {
            self.send(part.freeze()).await?;
        }
        Ok(Stored {
            digest: actual,
            size,
        })
    }

    async fn send(&mut self, part: Bytes) -> Result<(), RegistryError> {
        let progress = &mut self.progress;
        let end = progress.sent + part.len() as u64;
        let request = self
            .client
            .request_to(Method::PATCH, &progress.location)?
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, format!("{}-{}", progress.sent, end - 1));
        let response = self.client.send(request, part).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(client::unexpected("store a part of a blob", response).await);
        }
        client::location(&response)?.clone_into(&mut progress.location);
        progress.sent = end;
        Ok(())
    }

    /// Makes a blob of what was sent, unless it is there already.
    pub(super) async fn finish(
        mut self,
        digest: &Digest,
        is_there: bool,
    ) -> Result<(), RegistryError> {
        let claim = self.claim.take();
        let finished = if is_there {
            Ok(())
        } else {
            self.make(digest).await
        };
        if let Some(claim) = claim {
            claim.end().await?;
        }
        finished
    }

    async fn make(&self, digest: &Digest) -> Result<(), RegistryError> {
        let location = &self.progress.location;
        let separator = if location.contains('?') { '&' } else { '?' };
        let location = format!("{location}{separator}digest={digest}");
        let request = self.client.request_to(Method::PUT, &location)?;
        let response = self.client.send(request, Bytes::new()).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(client::unexpected("finish an upload", response).await),
        }
    }
}

fn check_size(size: u64, complete: bool, expected: Expected) -> Result<(), RegistryError> {
    if size > expected.limit {
        return Err(RegistryError::TooLarge(expected.limit));
    }
    match expected.size {
        Some(wanted) if size > wanted || (complete && size != wanted) => {
            Err(RegistryError::WrongSize {
                expected: wanted,
                actual: size,
            })
        }
        _ => Ok(()),
    }
}
