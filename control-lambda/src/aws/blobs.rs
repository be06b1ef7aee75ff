//! The blob store in an S3 bucket.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::BytesMut;
use futures_util::stream::Fuse;
use futures_util::{StreamExt as _, stream};
use sockerless_shared::timestamp::Timestamp;

use super::sdk::{Sdk, describe};
use crate::ports::blobs::{BlobError, BlobName, ByteStream};
use crate::ports::{Blobs, Environment};

/// Size of the parts of a large upload, in bytes. S3 takes no less than 5 MiB
/// for all but the last, and at most 10,000.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// The longest that a presigned URL is good (Amazon S3 User Guide, presigned URLs).
const LONGEST_URL: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// [`Blobs`] in an S3 bucket.
#[derive(Clone)]
pub struct BucketBlobs {
    client: Client,
    bucket: String,
    environment: Arc<dyn Environment>,
}

impl BucketBlobs {
    /// The bucket of this name, which must exist.
    #[must_use]
    pub fn new(sdk: &Sdk, bucket: impl Into<String>, environment: Arc<dyn Environment>) -> Self {
        // Whoever holds a presigned URL sends the body alone, without checksums of the SDK's making.
        let config = Builder::from(sdk.config())
            .force_path_style(sdk.has_custom_endpoint())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self {
            client: Client::from_conf(config),
            bucket: bucket.into(),
            environment,
        }
    }

    /// How a URL that is good until `expires` is signed. S3 knows a beginning and
    /// a length; a URL that has expired already is one of the past.
    fn presigning(&self, expires: Timestamp) -> Result<PresigningConfig, BlobError> {
        let now = self.environment.now();
        let (start, length) = if expires > now {
            (now, expires.since(now).min(LONGEST_URL))
        } else {
            let second = Duration::from_secs(1);
            (
                Timestamp::from_secs(expires.secs().saturating_sub(1)),
                second,
            )
        };
        let start = UNIX_EPOCH + start.since(Timestamp::default());
        presigning_from(start, length)
            .map_err(|error| BlobError::Unavailable(format!("cannot sign a URL: {error}")))
    }

    /// Sends one part after another. The first is here already.
    async fn put_parts(
        &self,
        name: &BlobName,
        first: BytesMut,
        mut body: Fuse<ByteStream>,
        limit: u64,
    ) -> Result<u64, BlobError> {
        let upload = Upload::begin(self, name).await?;
        let mut parts = Vec::new();
        let mut size = first.len() as u64;
        let mut next = first;
        while !next.is_empty() {
            let part = next.split().freeze();
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            parts.push(upload.part(number, part.into()).await?);
            let already = size;
            read_part(&mut body, &mut next, already, limit).await?;
            size += next.len() as u64;
        }
        upload.complete(parts).await?;
        Ok(size)
    }
}

#[async_trait]
impl Blobs for BucketBlobs {
    async fn put(&self, name: &BlobName, body: ByteStream, limit: u64) -> Result<u64, BlobError> {
        // The part after the last is looked for where the body has ended already.
        let mut body = body.fuse();
        let mut first = BytesMut::new();
        read_part(&mut body, &mut first, 0, limit).await?;
        if first.len() >= PART_BYTES {
            return self.put_parts(name, first, body, limit).await;
        }
        let size = first.len() as u64;
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(name.as_str())
            .body(first.freeze().into())
            .send()
            .await
            .map_err(|error| failed("store", name, &error))?;
        Ok(size)
    }

    async fn get(&self, name: &BlobName) -> Result<ByteStream, BlobError> {
        let found = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(name.as_str())
            .send()
            .await
            .map_err(|error| match error.as_service_error() {
                Some(GetObjectError::NoSuchKey(_)) => BlobError::NotFound(name.as_str().to_owned()),
                _ => failed("read", name, &error),
            })?;
        let name = name.clone();
        let pieces = stream::try_unfold((found.body, name), |(mut body, name)| async move {
            match body.next().await {
                Some(Ok(piece)) => Ok(Some((piece, (body, name)))),
                None => Ok(None),
                Some(Err(error)) => Err(BlobError::Interrupted(format!(
                    "{}: {}",
                    name.as_str(),
                    describe(&error)
                ))),
            }
        });
        Ok(Box::pin(pieces))
    }

    async fn delete(&self, name: &BlobName) -> Result<(), BlobError> {
        self.client
            .delete_object()
            .bucket(&self.bucket)
            .key(name.as_str())
            .send()
            .await
            .map_err(|error| failed("delete", name, &error))?;
        Ok(())
    }

    async fn upload_url(&self, name: &BlobName, expires: Timestamp) -> Result<String, BlobError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(name.as_str())
            .presigned(self.presigning(expires)?)
            .await
            .map_err(|error| failed("sign a URL for", name, &error))?;
        Ok(request.uri().to_owned())
    }

    async fn download_url(&self, name: &BlobName, expires: Timestamp) -> Result<String, BlobError> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(name.as_str())
            .presigned(self.presigning(expires)?)
            .await
            .map_err(|error| failed("sign a URL for", name, &error))?;
        Ok(request.uri().to_owned())
    }
}

fn presigning_from(
    start: SystemTime,
    length: Duration,
) -> Result<PresigningConfig, aws_sdk_s3::presigning::PresigningConfigError> {
    PresigningConfig::builder()
        .start_time(start)
        .expires_in(length)
        .build()
}

/// Reads until there is enough for a part or the body ends. `already` bytes came before.
async fn read_part(
    body: &mut Fuse<ByteStream>,
    part: &mut BytesMut,
    already: u64,
    limit: u64,
) -> Result<(), BlobError> {
    while part.len() < PART_BYTES {
        let Some(piece) = body.next().await else {
            return Ok(());
        };
        part.extend_from_slice(&piece?);
        if already + part.len() as u64 > limit {
            return Err(BlobError::TooLarge(limit));
        }
    }
    Ok(())
}

/// A multipart upload, which is aborted unless it is completed: its parts
/// would be kept, and paid for.
struct Upload {
    client: Client,
    bucket: String,
    name: BlobName,
    id: Option<String>,
}

impl Upload {
    async fn begin(blobs: &BucketBlobs, name: &BlobName) -> Result<Self, BlobError> {
        let begun = blobs
            .client
            .create_multipart_upload()
            .bucket(&blobs.bucket)
            .key(name.as_str())
            .send()
            .await
            .map_err(|error| failed("begin to store", name, &error))?;
        Ok(Self {
            client: blobs.client.clone(),
            bucket: blobs.bucket.clone(),
            name: name.clone(),
            id: begun.upload_id,
        })
    }

    async fn part(
        &self,
        number: i32,
        body: aws_sdk_s3::primitives::ByteStream,
    ) -> Result<CompletedPart, BlobError> {
        let sent = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.name.as_str())
            .set_upload_id(self.id.clone())
            .part_number(number)
            .body(body)
            .send()
            .await
            .map_err(|error| failed("store a part of", &self.name, &error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .build())
    }

    async fn complete(mut self, parts: Vec<CompletedPart>) -> Result<(), BlobError> {
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        self.client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.name.as_str())
            .set_upload_id(self.id.clone())
            .multipart_upload(parts)
            .send()
            .await
            .map_err(|error| failed("finish storing", &self.name, &error))?;
        self.id = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else {
            return;
        };
        let abort = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(self.name.as_str())
            .upload_id(id);
        // Without a runtime the whole process is going; the bucket's lifecycle
        // rule removes what it leaves.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = abort.send().await {
                    tracing::warn!(
                        error = describe(&error),
                        "an interrupted upload could not be aborted; the bucket's lifecycle rule will"
                    );
                }
            });
        }
    }
}

fn failed<E, R>(what: &str, name: &BlobName, error: &SdkError<E, R>) -> BlobError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    BlobError::Unavailable(format!(
        "cannot {what} {}: {}",
        name.as_str(),
        describe(error)
    ))
}
