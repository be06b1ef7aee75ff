//! `POST /images/load` (Engine API, `ImageLoad`).

use bytes::BytesMut;
use sockerless_shared::answer::{Answer, Response};

use sockerless_shared::ids::{AnswerId, BlobId, Namespace};

use super::news::News;
use super::{platform, release_unused, say};
use crate::api::{ApiError, ApiResult, Context, head};
use crate::engine::{Control, EngineError};
use crate::images::Digest;
use crate::images::platform::Platform;
use crate::images::progress::{Message, Progress};
use crate::ports::jobs::Job;

/// Loads the images of an archive, of which the body is the tar. What goes wrong
/// with it is told within the answer, whose status is 200 all the same. A large archive,
/// which is in the blob store, is a job.
///
/// # Errors
/// 400 for a platform that is none.
pub async fn load(context: &Context<'_>) -> ApiResult {
    let quiet = context.query.flag_or("quiet", true);
    let images = &context.control.images;
    let platform = platform::parameter(context)?;
    release_unused(context).await?;
    if let Some((body, peer)) = context.take_body() {
        let (answer, parts) = context.control.begin_answer(peer, Vec::new()).await?;
        let job = Job::Load {
            namespace: context.namespace.clone(),
            body: body.clone(),
            platform: platform.map(|platform| platform.to_string()),
            quiet,
            answer,
        };
        let submitted = context.control.jobs.submit(job).await;
        submitted.map_err(EngineError::from)?;
        return Ok(parts);
    }
    let body = context.body_stream().await?;
    let mut told = Told::default();
    let outcome = images
        .load(context.namespace, body, platform.as_ref(), quiet, &mut told)
        .await;
    let Told {
        mut messages,
        loaded,
    } = told;
    say_loaded(context.control, context.namespace, &loaded).await;
    if let Err(error) = outcome {
        tracing::info!(%error, "an image archive was not loaded");
        messages.push(Message::failure(error.to_string()));
    }
    let mut text = BytesMut::new();
    for message in &messages {
        text.extend_from_slice(message.line().as_bytes());
    }
    Ok(Answer::Final(Response {
        head: head(200, "application/json"),
        body: text.freeze(),
        cache_s: 0,
    }))
}

async fn say_loaded(control: &Control, namespace: &Namespace, images: &[Digest]) {
    for image in images {
        let id = image.to_string();
        say(control, namespace, "load", image, &id, &id).await;
    }
}

/// A load as a job has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) body: &'a BlobId,
    pub(crate) platform: Option<&'a str>,
    pub(crate) quiet: bool,
}

/// Carries out [`Job::Load`].
///
/// # Errors
/// When the answer cannot be stored.
pub(crate) async fn carry_out(
    control: &Control,
    namespace: &Namespace,
    load: Load<'_>,
    answer: AnswerId,
) -> Result<(), EngineError> {
    let mut news = News::resume(control, answer).await?;
    news.begin().await?;
    let images = &control.images;
    let outcome = async {
        let bad = |error: &dyn std::fmt::Display| ApiError::new(400, error.to_string());
        let platform = load
            .platform
            .map(|text| Platform::parse(text, &images.platform))
            .transpose()
            .map_err(|error| bad(&error))?;
        let body = control.stored_body(load.body).await?;
        let loaded = images
            .load(namespace, body, platform.as_ref(), load.quiet, &mut news)
            .await;
        loaded.map_err(|error| {
            tracing::info!(%error, "an image archive was not loaded");
            ApiError::new(500, error.to_string())
        })
    };
    let outcome = outcome.await;
    say_loaded(control, namespace, news.loaded_images()).await;
    control.drop_body(load.body).await;
    news.finish(outcome).await
}

/// What a load told.
#[derive(Default)]
struct Told {
    messages: Vec<Message>,
    loaded: Vec<Digest>,
}

#[async_trait::async_trait]
impl Progress for Told {
    async fn message(&mut self, message: Message) {
        self.messages.push(message);
    }

    async fn loaded(&mut self, image: &Digest) {
        self.loaded.push(*image);
    }
}
