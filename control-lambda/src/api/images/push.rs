//! `POST /images/{name}/push` (Engine API, `ImagePush`).

use sockerless_shared::ids::{AnswerId, Namespace};

use super::news::{self, News};
use super::platform;
use crate::api::{ApiError, ApiResult, Context};
use crate::engine::{Control, EngineError};
use crate::images::progress::Message;
use crate::images::reference::Reference;
use crate::images::remote::Credentials;
use crate::ports::jobs::Job;

/// Pushes an image, or all of a repository. Whatever goes wrong at the registry is told
/// within the answer, whose status is 200 all the same.
///
/// # Errors
/// 400 for a name, a tag or a platform that is none; 404 for an image of another platform.
pub async fn push(context: &Context<'_>, name: &str) -> ApiResult {
    let bad = |error: &dyn std::fmt::Display| ApiError::new(400, error.to_string());
    let mut reference = Reference::parse(name).map_err(|e| bad(&e))?;
    let tag = context.query.text("tag");
    if !tag.is_empty() {
        reference = reference.with_tag(tag).map_err(|e| bad(&e))?;
    }
    let control = context.control;
    if let Some(wanted) = platform::parameter(context)? {
        let now = control.environment.now();
        let catalog = &control.images.catalog;
        let named = reference.familiar();
        let image = catalog.resolve(context.namespace, &named, now).await?;
        platform::check(context, &named, &image, Some(&wanted)).await?;
    }
    let credentials = Credentials::from_header(context.request.header("x-registry-auth"));
    let Some(peer) = &context.request.peer else {
        let mut messages: Vec<Message> = Vec::new();
        let pushed = control
            .images
            .push(context.namespace, &reference, &credentials, &mut messages)
            .await;
        let outcome = pushed.map_err(|error| ApiError::new(500, error.to_string()));
        return news::at_once(messages, outcome);
    };
    let (answer, parts) = control.begin_answer(peer, Vec::new()).await?;
    let job = Job::Push {
        namespace: context.namespace.clone(),
        reference: reference.to_string(),
        credentials,
        answer,
    };
    control.jobs.submit(job).await.map_err(EngineError::from)?;
    Ok(parts)
}

/// Carries out [`Job::Push`].
///
/// # Errors
/// When the answer cannot be stored.
pub(crate) async fn carry_out(
    control: &Control,
    namespace: &Namespace,
    reference: &str,
    credentials: &Credentials,
    answer: AnswerId,
) -> Result<(), EngineError> {
    let mut news = News::resume(control, answer).await?;
    let outcome = match Reference::parse(reference) {
        Err(error) => Err(ApiError::new(400, error.to_string())),
        Ok(reference) => {
            let pushed = control
                .images
                .push(namespace, &reference, credentials, &mut news)
                .await;
            pushed.map_err(|error| {
                tracing::info!(%error, image = %reference, "an image was not pushed");
                ApiError::new(500, error.to_string())
            })
        }
    };
    news.finish(outcome).await
}
