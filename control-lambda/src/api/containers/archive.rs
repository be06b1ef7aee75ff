//! `GET`, `PUT` and `HEAD /containers/{id}/archive` (Engine API, `ContainerArchive`,
//! `PutContainerArchive`, `ContainerArchiveInfo`), `GET /containers/{id}/export` and
//! `GET /containers/{id}/changes` (`ContainerExport`, `ContainerChanges`).
//!
//! The agent of the container's run answers all of them; of a container that does not run, one
//! that is invoked for this alone.

use sockerless_shared::answer::Answer;
use sockerless_shared::ids::RunId;
use sockerless_shared::protocol::grant::Operation;

use super::attach::open;
use super::{await_event, find, or_cancel};
use crate::api::{ApiError, ApiResult, Context};
use crate::store::containers::Container;
use crate::store::waiters::Wait;

/// What is at a path.
///
/// # Errors
/// 400 without a path, 404.
pub async fn info(context: &Context<'_>, reference: &str) -> ApiResult {
    let path = path(context)?;
    let container = find(context, reference).await?;
    let operation = Operation::PathStat {
        container: reference.to_owned(),
        path,
    };
    ask(context, &container, operation).await
}

/// A tar archive of what is at a path.
///
/// # Errors
/// See [`info`].
pub async fn get(context: &Context<'_>, reference: &str) -> ApiResult {
    let path = path(context)?;
    let container = find(context, reference).await?;
    let operation = Operation::ArchiveGet {
        container: reference.to_owned(),
        path,
    };
    ask(context, &container, operation).await
}

/// Extracts a tar archive into a folder.
///
/// # Errors
/// See [`info`].
pub async fn put(context: &Context<'_>, reference: &str) -> ApiResult {
    let path = path(context)?;
    let container = find(context, reference).await?;
    let user = container.config["User"].as_str().unwrap_or("");
    let operation = Operation::ArchivePut {
        container: reference.to_owned(),
        path,
        keep_kinds: context.query.flag("noOverwriteDirNonDir"),
        owner: (context.query.flag("copyUIDGID") && !user.is_empty()).then(|| user.to_owned()),
    };
    ask(context, &container, operation).await
}

/// A tar archive of the whole root.
///
/// # Errors
/// 404.
pub async fn export(context: &Context<'_>, reference: &str) -> ApiResult {
    let container = find(context, reference).await?;
    ask(context, &container, Operation::Export).await
}

/// What differs from the image.
///
/// # Errors
/// 404.
pub async fn changes(context: &Context<'_>, reference: &str) -> ApiResult {
    let container = find(context, reference).await?;
    ask(context, &container, Operation::Changes).await
}

fn path(context: &Context<'_>) -> Result<String, ApiError> {
    match context.query.text("path") {
        // Docker's words, with the blank that it leaves out.
        "" => Err(ApiError::new(400, "bad parameter: pathcannot be empty")),
        path => Ok(path.to_owned()),
    }
}

async fn ask(context: &Context<'_>, container: &Container, operation: Operation) -> ApiResult {
    let control = context.control;
    if let Some(run) = container.lifecycle.current_run() {
        let answer = open(context, container, None, operation.clone()).await?;
        let Answer::Parts { first, .. } = &answer else {
            return Ok(answer);
        };
        if first.is_empty() {
            // Whoever ends the wait has it visited, too.
            return Ok(answer);
        }
        // An agent whose end was recorded before it promised this stream does not wait for it.
        let found = control.store.container(context.namespace, &container.id);
        let lives = found.await?.is_none_or(|found| {
            let current = found.record.lifecycle.current_run();
            current.is_some_and(|current| current.id == run.id)
        });
        if lives {
            return Ok(answer);
        }
    }
    let run = RunId::from_random(control.environment.random());
    let wait = Wait::Visit {
        run: run.clone(),
        operation,
    };
    let (waiting, answer) = await_event(context, container, None, wait).await?;
    let begun = control.visit(container, &run).await;
    or_cancel(context, &waiting, begun).await?;
    Ok(answer)
}
