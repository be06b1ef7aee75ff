//! `POST /images/{name}/tag` (Engine API, `ImageTag`).

use super::say;
use crate::api::{ApiError, ApiResult, Context, empty};
use crate::images::reference::{Reference, ReferenceError};

/// Gives an image another name.
///
/// # Errors
/// 400 for a name that is none, 404 for an unknown image.
pub async fn tag(context: &Context<'_>, name: &str) -> ApiResult {
    let query = &context.query;
    let Some(reference) = repo_and_tag(query.text("repo"), query.text("tag"))? else {
        // So does Docker when no repository is given.
        return Ok(empty(200));
    };
    let control = context.control;
    let catalog = &control.images.catalog;
    let now = control.environment.now();
    let image = catalog.resolve(context.namespace, name, now).await?;
    catalog
        .tag(context.namespace, &image.id, &reference, true, now)
        .await?;
    let (actor, name) = (image.id.to_string(), reference.familiar());
    say(control, context.namespace, "tag", &image.id, &actor, &name).await;
    Ok(empty(201))
}

/// The name that `repo` and `tag` give together; `None` without a repository
/// (`httputils.RepoTagReference`).
pub(super) fn repo_and_tag(repo: &str, tag: &str) -> Result<Option<Reference>, ApiError> {
    if repo.is_empty() {
        return Ok(None);
    }
    let bad = |error: ReferenceError| ApiError::new(400, error.to_string());
    let reference = Reference::parse(repo).map_err(bad)?;
    if reference.digest().is_some() {
        return Err(ApiError::new(400, "cannot import digest reference"));
    }
    if tag.is_empty() {
        Ok(Some(reference.or_latest()))
    } else {
        reference.with_tag(tag).map(Some).map_err(bad)
    }
}
