//! A blob's bytes, also over connections that break.

use futures_util::{StreamExt as _, stream};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::time::{Duration, sleep};

use super::super::digest::Digest;
use super::error::{RemoteError, innermost};
use super::repository::Repository;
use crate::ports::blobs::{BlobError, ByteStream};

/// How often in a row a connection may break before anything came over it.
const ATTEMPTS: u32 = 5;
/// How long to wait before another attempt, times the number of those that failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// An answer's body, once.
pub(super) fn plain(answer: Response) -> ByteStream {
    Box::pin(
        answer
            .bytes_stream()
            .map(|piece| piece.map_err(|e| BlobError::Interrupted(innermost(&e)))),
    )
}

struct State {
    repository: Repository,
    digest: Digest,
    body: Option<ByteStream>,
    /// The offset of the byte that comes next.
    next: u64,
    failed: u32,
}

/// The bytes from `offset` on. The first request is made at once, so that its refusal is
/// an error of its own.
pub(super) async fn stream(
    repository: Repository,
    digest: Digest,
    offset: u64,
) -> Result<ByteStream, RemoteError> {
    let body = body_from(&repository, &digest, offset).await?;
    let state = State {
        repository,
        digest,
        body: Some(body),
        next: offset,
        failed: 0,
    };
    Ok(Box::pin(stream::unfold(Some(state), |state| async {
        let mut state = state?;
        match state.step().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(state))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })))
}

impl State {
    async fn step(&mut self) -> Result<Option<bytes::Bytes>, BlobError> {
        loop {
            let Some(body) = &mut self.body else {
                sleep(RETRY_AFTER * self.failed).await;
                match body_from(&self.repository, &self.digest, self.next).await {
                    Ok(body) => self.body = Some(body),
                    Err(error) if error.is_passing() => self.count(error.to_string())?,
                    Err(error) => return Err(BlobError::Interrupted(error.to_string())),
                }
                continue;
            };
            match body.next().await {
                None => return Ok(None),
                Some(Ok(piece)) => {
                    self.next += piece.len() as u64;
                    self.failed = 0;
                    return Ok(Some(piece));
                }
                Some(Err(error)) => {
                    tracing::info!(%error, blob = %self.digest, at = self.next, "a blob's connection broke; it goes on");
                    self.body = None;
                    self.count(error.to_string())?;
                }
            }
        }
    }

    fn count(&mut self, error: String) -> Result<(), BlobError> {
        self.failed += 1;
        if self.failed < ATTEMPTS {
            Ok(())
        } else {
            Err(BlobError::Interrupted(error))
        }
    }
}

/// The bytes from `offset` on; of a registry that sends all of them the first are left out.
async fn body_from(
    repository: &Repository,
    digest: &Digest,
    offset: u64,
) -> Result<ByteStream, RemoteError> {
    let answer = repository.blob_answer(digest, offset).await?;
    if offset == 0 {
        return Ok(plain(answer));
    }
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(without_first(plain(answer), offset));
    }
    let begins = answer.headers().get(CONTENT_RANGE).and_then(|value| {
        value
            .to_str()
            .ok()?
            .strip_prefix("bytes ")?
            .split('-')
            .next()?
            .parse()
            .ok()
    });
    if begins == Some(offset) {
        Ok(plain(answer))
    } else {
        Err(RemoteError::Wrong(format!(
            "registry sent another part of {digest} than was asked for"
        )))
    }
}

fn without_first(body: ByteStream, bytes: u64) -> ByteStream {
    let mut left = bytes;
    Box::pin(body.filter_map(move |piece| {
        let piece = match piece {
            Ok(piece) if left >= piece.len() as u64 => {
                left -= piece.len() as u64;
                None
            }
            Ok(mut piece) => {
                // Less than the piece's length, so it fits.
                let skipped = usize::try_from(left).unwrap_or(piece.len());
                left = 0;
                Some(Ok(piece.split_off(skipped)))
            }
            Err(error) => Some(Err(error)),
        };
        std::future::ready(piece)
    }))
}
