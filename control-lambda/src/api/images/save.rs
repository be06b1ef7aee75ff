//! `GET /images/{name}/get` and `GET /images/get` (Engine API, `ImageGet`, `ImageGetAll`).

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sockerless_shared::ids::{AnswerId, BlobId, Namespace};
use tokio::sync::mpsc;

use super::platform;
use crate::api::containers::logs::blob_name;
use crate::api::{ApiError, ApiResult, Context, head};
use crate::engine::jobs::AnswerWriter;
use crate::engine::{Control, EngineError};
use crate::images::feed;
use crate::images::platform::Platform;
use crate::images::save::SaveError;
use crate::ports::blobs::{BlobError, ByteStream};
use crate::ports::jobs::Job;

/// The archive goes in pieces of this size, so that the client has the first of it before
/// the last is read. In bytes.
const PIECE_BYTES: usize = 64 * 1024 * 1024;

/// Sends an archive of these images.
///
/// # Errors
/// 400 for a platform that is none, 404 for an image that is not there, 500 (as in Docker)
/// for a name that is none.
pub async fn save(context: &Context<'_>, names: Vec<String>) -> ApiResult {
    let platform = platform::parameter(context)?;
    let control = context.control;
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    // What is not there is refused before an answer begins.
    control
        .images
        .choose(context.namespace, &asked, platform.as_ref())
        .await
        .map_err(|error| refusal(&error))?;
    let (answer, parts) = control.begin_answer(context.peer()?, Vec::new()).await?;
    let job = Job::Save {
        namespace: context.namespace.clone(),
        names,
        platform: platform.map(|platform| platform.to_string()),
        answer,
    };
    control.jobs.submit(job).await.map_err(EngineError::from)?;
    Ok(parts)
}

fn refusal(error: &SaveError) -> ApiError {
    ApiError::new(error.status(), error.to_string())
}

/// Carries out [`Job::Save`]. One that an invocation before this one has begun and not ended, which
/// Lambda then carries out again, breaks off: the client has the beginning of another archive.
///
/// # Errors
/// When the answer cannot be stored.
pub(crate) async fn carry_out(
    control: &Control,
    namespace: &Namespace,
    names: &[String],
    platform: Option<&str>,
    answer: AnswerId,
) -> Result<(), EngineError> {
    let mut writer = AnswerWriter::resume(control, answer.clone()).await?;
    if writer.head_sent() {
        if control.is_complete(&answer).await? {
            return Ok(());
        }
        tracing::warn!(%answer, "an archive of images was begun by an invocation that is gone");
        return control.break_off(&answer).await;
    }
    let images = &control.images;
    let archive = async {
        let platform = platform
            .map(|text| Platform::parse(text, &images.platform))
            .transpose()
            .map_err(|error| ApiError::new(400, error.to_string()))?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = images.choose(namespace, &names, platform.as_ref()).await;
        let chosen = chosen.map_err(|error| refusal(&error))?;
        images
            .archive(chosen)
            .await
            .map_err(|error| refusal(&error))
    };
    let archive = match archive.await {
        Ok(archive) => archive,
        Err(error) => return writer.fail(error).await,
    };
    writer.head(head(200, "application/x-tar")).await?;
    let mut body = archive.body.peekable();
    while std::pin::Pin::new(&mut body).peek().await.is_some() {
        if !writer.is_wanted().await? {
            return Ok(());
        }
        let blob = BlobId::from_random(control.environment.random());
        match put_piece(control, &blob, &mut body).await {
            Ok(()) => writer.blob(blob).await?,
            Err(error) => {
                // The head is sent: the client sees an archive that breaks off.
                tracing::warn!(%error, "an archive of images broke off");
                control.drop_body(&blob).await;
                return control.break_off(&answer).await;
            }
        }
    }
    drop(archive.pins);
    writer.end().await
}

type Body = stream::Peekable<ByteStream>;

/// Stores the next piece of an archive.
async fn put_piece(control: &Control, blob: &BlobId, body: &mut Body) -> Result<(), EngineError> {
    let name = blob_name(blob).map_err(|error| EngineError::Encoding(error.message))?;
    let (sender, receiver) = mpsc::channel::<Result<Bytes, BlobError>>(4);
    let put = control.blobs.put(&name, feed::receive(receiver), u64::MAX);
    let send = async {
        let mut sent = 0;
        while sent < PIECE_BYTES
            && let Some(piece) = body.next().await
        {
            sent += piece.as_ref().map_or(0, Bytes::len);
            if sender.send(piece).await.is_err() {
                // The store has given up; its own error says why.
                break;
            }
        }
        drop(sender);
    };
    let (stored, ()) = tokio::join!(put, send);
    stored?;
    Ok(())
}
