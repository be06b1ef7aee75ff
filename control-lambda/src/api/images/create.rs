//! `POST /images/create` (Engine API, `ImageCreate`): `docker pull` and `docker import`.

use sockerless_shared::answer::{Answer, Response};
use sockerless_shared::ids::{AnswerId, Namespace};
use tokio::time::Instant;

use super::{import, release_unused, say};
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context, head};
use crate::engine::jobs::AnswerWriter;
use crate::engine::{Control, EngineError};
use crate::images::platform::Platform;
use crate::images::progress::{Message, Progress};
use crate::images::pull::PullError;
use crate::images::reference::Reference;
use crate::ports::jobs::Job;

/// How long news may wait for more news.
const GATHERED_FOR: std::time::Duration = std::time::Duration::from_millis(200);

/// Pulls an image, or imports one.
///
/// # Errors
/// 400 for a name or a platform that is none, and those of the registry as long
/// as nothing was answered.
pub async fn create(context: &Context<'_>) -> ApiResult {
    let query = &context.query;
    let platform = match query.text("platform") {
        "" => None,
        text if context.version >= ApiVersion::new(1, 32) => Some(
            Platform::parse(text, &context.control.images.platform)
                .map_err(|error| ApiError::new(400, error.to_string()))?,
        ),
        _ => None,
    };
    if query.text("fromImage").is_empty() {
        return import::import(context, platform.as_ref()).await;
    }
    let reference = wanted(query.text("fromImage"), query.text("tag"))?;
    release_unused(context).await?;
    let control = context.control;
    let Some(peer) = &context.request.peer else {
        return at_once(context, &reference, platform.as_ref()).await;
    };
    let (answer, parts) = control.begin_answer(peer, Vec::new()).await?;
    let job = Job::Pull {
        namespace: context.namespace.clone(),
        reference: reference.to_string(),
        platform: platform.map(|platform| platform.to_string()),
        answer,
    };
    control.jobs.submit(job).await.map_err(EngineError::from)?;
    Ok(parts)
}

/// What `fromImage` and `tag`, which may be a digest, name together.
fn wanted(image: &str, tag: &str) -> Result<Reference, ApiError> {
    let parse = || {
        let reference = Reference::parse(image)?;
        match tag {
            "" => Ok(reference),
            tag => match tag.parse() {
                Ok(digest) => Ok(reference.with_digest(digest)),
                Err(_) => reference.with_tag(tag),
            },
        }
    };
    parse().map_err(|error| ApiError::new(400, error.to_string()))
}

/// For a caller without a relay: all of it in one response.
async fn at_once(
    context: &Context<'_>,
    reference: &Reference,
    platform: Option<&Platform>,
) -> ApiResult {
    let mut messages: Vec<Message> = Vec::new();
    let images = &context.control.images;
    let outcome = images
        .pull(context.namespace, reference, platform, &mut messages)
        .await;
    if outcome.is_ok() {
        say_pulled(context.control, context.namespace, reference).await;
    }
    if let Err(error) = outcome {
        if messages.is_empty() {
            return Err(refusal(&error));
        }
        messages.push(Message::failure(error.to_string()));
    }
    let text: String = messages.iter().map(Message::line).collect();
    Ok(Answer::Final(Response {
        head: head(200, "application/json"),
        body: text.into(),
        cache_s: 0,
    }))
}

/// Docker's event of a pull names the image as it was asked for.
async fn say_pulled(control: &Control, namespace: &Namespace, reference: &Reference) {
    let pulled = reference.clone().or_latest();
    let now = control.environment.now();
    let found = control
        .images
        .catalog
        .resolve(namespace, &pulled.to_string(), now)
        .await;
    if let Ok(image) = found {
        let (actor, name) = (pulled.familiar(), pulled.familiar_name());
        say(control, namespace, "pull", &image.id, &actor, &name).await;
    }
}

fn refusal(error: &PullError) -> ApiError {
    ApiError::new(error.status(), error.to_string())
}

/// Carries out [`Job::Pull`].
///
/// # Errors
/// When the answer cannot be stored.
pub(crate) async fn carry_out(
    control: &Control,
    namespace: &Namespace,
    reference: &str,
    platform: Option<&str>,
    answer: AnswerId,
) -> Result<(), EngineError> {
    let writer = AnswerWriter::new(control, answer);
    let parsed = Reference::parse(reference).map_err(|e| ApiError::new(400, e.to_string()));
    let platform = platform
        .map(|text| Platform::parse(text, &control.images.platform))
        .transpose()
        .map_err(|error| ApiError::new(400, error.to_string()));
    let (reference, platform) = match (parsed, platform) {
        (Ok(reference), Ok(platform)) => (reference, platform),
        (Err(error), _) | (_, Err(error)) => return writer.fail(error).await,
    };
    let mut news = News {
        writer,
        flushed: Instant::now(),
        failed: None,
    };
    let outcome = control
        .images
        .pull(namespace, &reference, platform.as_ref(), &mut news)
        .await;
    if outcome.is_ok() {
        say_pulled(control, namespace, &reference).await;
    }
    if let Err(error) = outcome {
        tracing::info!(%error, image = %reference, "an image was not pulled");
        if !news.writer.head_sent() {
            return news.writer.fail(refusal(&error)).await;
        }
        news.message(Message::failure(error.to_string())).await;
    }
    match news.failed {
        Some(error) => Err(error),
        None => news.writer.end().await,
    }
}

/// Messages as the body of an answer.
struct News<'a> {
    writer: AnswerWriter<'a>,
    flushed: Instant,
    failed: Option<EngineError>,
}

impl News<'_> {
    async fn write(&mut self, message: &Message) -> Result<(), EngineError> {
        if !self.writer.head_sent() {
            self.writer.head(head(200, "application/json")).await?;
        }
        self.writer.data(message.line().as_bytes()).await?;
        if self.flushed.elapsed() >= GATHERED_FOR {
            self.writer.flush().await?;
            self.flushed = Instant::now();
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Progress for News<'_> {
    async fn message(&mut self, message: Message) {
        // The pull goes on: the image may be wanted by others all the same.
        if self.failed.is_none()
            && let Err(error) = self.write(&message).await
        {
            tracing::warn!(%error, "progress of a pull could not be told");
            self.failed = Some(error);
        }
    }
}
