//! `POST /images/create` (Engine API, `ImageCreate`): `docker pull` and `docker import`.

use sockerless_shared::ids::{AnswerId, Namespace};

use super::news::{self, News};
use super::{import, release_unused, say};
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context};
use crate::engine::{Control, EngineError};
use crate::images::platform::Platform;
use crate::images::progress::Message;
use crate::images::pull::{PullError, Wanted};
use crate::images::reference::Reference;
use crate::images::remote::Credentials;
use crate::ports::jobs::Job;

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
    let all_tags = reference.tag().is_none() && reference.digest().is_none();
    let credentials = Credentials::from_header(context.request.header("x-registry-auth"));
    release_unused(context).await?;
    let control = context.control;
    let Some(peer) = &context.request.peer else {
        let mut messages: Vec<Message> = Vec::new();
        let wanted = Wanted {
            reference: &reference,
            all_tags,
            platform: platform.as_ref(),
            credentials: &credentials,
        };
        let outcome = control
            .images
            .pull(context.namespace, wanted, &mut messages);
        let outcome = outcome.await.map_err(|error| refusal(&error));
        if outcome.is_ok() {
            say_pulled(control, context.namespace, &reference).await;
        }
        return news::at_once(messages, outcome);
    };
    let (answer, parts) = control.begin_answer(peer, Vec::new()).await?;
    let job = Job::Pull {
        namespace: context.namespace.clone(),
        reference: reference.to_string(),
        all_tags,
        platform: platform.map(|platform| platform.to_string()),
        credentials,
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

/// A pull as a job has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull<'a> {
    pub(crate) reference: &'a str,
    pub(crate) all_tags: bool,
    pub(crate) platform: Option<&'a str>,
    pub(crate) credentials: &'a Credentials,
}

/// Carries out [`Job::Pull`].
///
/// # Errors
/// When the answer cannot be stored.
pub(crate) async fn carry_out(
    control: &Control,
    namespace: &Namespace,
    pull: Pull<'_>,
    answer: AnswerId,
) -> Result<(), EngineError> {
    let mut news = News::resume(control, answer).await?;
    let bad = |error: &dyn std::fmt::Display| ApiError::new(400, error.to_string());
    let outcome = async {
        let reference = Reference::parse(pull.reference).map_err(|e| bad(&e))?;
        let platform = pull
            .platform
            .map(|text| Platform::parse(text, &control.images.platform))
            .transpose()
            .map_err(|e| bad(&e))?;
        let wanted = Wanted {
            reference: &reference,
            all_tags: pull.all_tags,
            platform: platform.as_ref(),
            credentials: pull.credentials,
        };
        let pulled = control.images.pull(namespace, wanted, &mut news).await;
        pulled.map_err(|error| {
            tracing::info!(%error, image = %reference, "an image was not pulled");
            refusal(&error)
        })?;
        say_pulled(control, namespace, &reference).await;
        Ok(())
    };
    let outcome = outcome.await;
    news.finish(outcome).await
}
