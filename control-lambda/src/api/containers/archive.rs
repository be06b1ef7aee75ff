//! `GET`, `PUT` and `HEAD /containers/{id}/archive` (Engine API, `ContainerArchive`,
//! `PutContainerArchive`, `ContainerArchiveInfo`), and `GET /containers/{id}/export`.

use sockerless_shared::protocol::grant::Operation;

use super::attach::open;
use super::find;
use crate::api::{ApiError, ApiResult, Context};
use crate::store::containers::Container;

/// What is at a path.
///
/// # Errors
/// 400 without a path, 404, 501 when the container does not run.
pub async fn info(context: &Context<'_>, reference: &str) -> ApiResult {
    let path = path(context)?;
    let container = living(context, reference).await?;
    let operation = Operation::PathStat {
        container: reference.to_owned(),
        path,
    };
    open(context, &container, None, operation).await
}

/// A tar archive of what is at a path.
///
/// # Errors
/// See [`info`].
pub async fn get(context: &Context<'_>, reference: &str) -> ApiResult {
    let path = path(context)?;
    let container = living(context, reference).await?;
    let operation = Operation::ArchiveGet {
        container: reference.to_owned(),
        path,
    };
    open(context, &container, None, operation).await
}

/// Extracts a tar archive into a folder.
///
/// # Errors
/// See [`info`].
pub async fn put(context: &Context<'_>, reference: &str) -> ApiResult {
    let path = path(context)?;
    let container = living(context, reference).await?;
    let user = container.config["User"].as_str().unwrap_or("");
    let operation = Operation::ArchivePut {
        container: reference.to_owned(),
        path,
        keep_kinds: context.query.flag("noOverwriteDirNonDir"),
        owner: (context.query.flag("copyUIDGID") && !user.is_empty()).then(|| user.to_owned()),
    };
    open(context, &container, None, operation).await
}

/// A tar archive of the whole root.
///
/// # Errors
/// 404, 501 when the container does not run.
pub async fn export(context: &Context<'_>, reference: &str) -> ApiResult {
    let container = living(context, reference).await?;
    open(context, &container, None, Operation::Export).await
}

fn path(context: &Context<'_>) -> Result<String, ApiError> {
    match context.query.text("path") {
        // Docker's words, with the blank that it leaves out.
        "" => Err(ApiError::new(400, "bad parameter: pathcannot be empty")),
        path => Ok(path.to_owned()),
    }
}

/// A container whose agent can be asked.
async fn living(context: &Context<'_>, reference: &str) -> Result<Container, ApiError> {
    let container = find(context, reference).await?;
    if container.lifecycle.current_run().is_none() {
        return Err(ApiError::not_implemented(format!(
            "cp and export are not implemented by sockerless for a container that does not run: start {reference} first, \
             or copy from its image"
        )));
    }
    Ok(container)
}
