//! Uploading one blob in parts.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{Method, StatusCode};
use sha2::{Digest as _, Sha256};

use super::client::{self, Client};
use crate::images::digest::Digest;
use crate::ports::blobs::ByteStream;
use crate::ports::registry::{Expected, RegistryError, Stored};

/// Size of a part in bytes. ECR takes at most 20,971,520 (Amazon ECR service quotas).
const PART_BYTES: usize = 16 * 1024 * 1024;

/// An upload that has begun. The registry forgets it unless it is finished.
pub(super) struct Upload<'a> {
    client: &'a Client,
    location: String,
    sent: u64,
}

impl<'a> Upload<'a> {
    pub(super) async fn begin(client: &'a Client) -> Result<Self, RegistryError> {
        let request = client.request(Method::POST, "blobs/uploads/");
        let response = client.send(request, client::empty()).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(client::unexpected("begin an upload", response).await);
        }
        let location = client::location(&response)?.to_owned();
        Ok(Self {
            client,
            location,
            sent: 0,
        })
    }

    /// Sends a body, and checks it against what was announced.
    pub(super) async fn fill(
        mut self,
        mut body: ByteStream,
        expected: Expected,
    ) -> Result<(Self, Stored), RegistryError> {
        let mut hash = Sha256::new();
        let mut size = 0u64;
        let mut part = BytesMut::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| RegistryError::Interrupted(error.to_string()))?;
            size = size.saturating_add(piece.len() as u64);
            check_size(size, false, expected)?;
            hash.update(&piece);
            part.extend_from_slice(&piece);
            while part.len() >= PART_BYTES {
                self.send(part.split_to(PART_BYTES).freeze()).await?;
            }
        }
        check_size(size, true, expected)?;
        let actual = Digest::from_hash(hash);
        if let Some(expected) = expected.digest
            && expected != actual
        {
            return Err(RegistryError::WrongDigest { expected, actual });
        }
        if !part.is_empty() {
            self.send(part.freeze()).await?;
        }
        let stored = Stored {
            digest: actual,
            size,
        };
        Ok((self, stored))
    }

    async fn send(&mut self, part: Bytes) -> Result<(), RegistryError> {
        let end = self.sent + part.len() as u64;
        let request = self
            .client
            .request_to(Method::PATCH, &self.location)?
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, format!("{}-{}", self.sent, end - 1));
        let response = self.client.send(request, client::full(part)).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(client::unexpected("store a part of a blob", response).await);
        }
        self.location = client::location(&response)?.to_owned();
        self.sent = end;
        Ok(())
    }

    /// Makes a blob of what was sent.
    pub(super) async fn finish(self, digest: &Digest) -> Result<(), RegistryError> {
        let separator = if self.location.contains('?') {
            '&'
        } else {
            '?'
        };
        let location = format!("{}{separator}digest={digest}", self.location);
        let request = self.client.request_to(Method::PUT, &location)?;
        let response = self.client.send(request, client::empty()).await?;
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
