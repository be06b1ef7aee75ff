//! Operations on containers, one a file.

pub mod archive;
pub mod attach;
mod capabilities;
pub mod config;
mod confinement;
pub mod create;
mod endpoints;
mod healthcheck;
pub mod inspect;
pub mod kill;
pub mod list;
mod log_options;
pub mod logs;
mod machine;
mod mounts;
pub mod names;
pub mod pause;
mod ports;
pub mod prune;
pub mod remove;
pub mod rename;
pub mod resize;
pub mod restart;
mod restart_policy;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
pub mod stop;
mod tmpfs;
pub mod top;
pub mod update;
mod validate;
pub mod wait;

use sockerless_shared::answer::{Answer, Head, Part};
use sockerless_shared::ids::AnswerId;
use sockerless_shared::spec::Runtime;

use super::{ApiError, Context};
use crate::engine::EngineError;
use crate::images::catalog::CatalogError;
use crate::store::containers::{Container, Found};
use crate::store::waiters::{Wait, Waiter};

/// How large a container is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// What it wrote to its root, as far as the host can tell.
    pub(super) written: u64,
    /// Its whole root: its image's size, 0 when that is gone, and what it wrote.
    pub(super) root: u64,
}

/// How large a container is.
///
/// # Errors
/// The store's, the host's.
pub(super) async fn size(context: &Context<'_>, container: &Container) -> Result<Size, ApiError> {
    let written = match container.shape.runtime {
        // Nothing but `/tmp` can be written to, which is in memory.
        Runtime::Function => 0,
        Runtime::Microvm => {
            let host = &context.control.host;
            host.writable_size(&container.id).await?.unwrap_or(0)
        }
    };
    let root = image_size(context, container).await? + written;
    Ok(Size { written, root })
}

async fn image_size(context: &Context<'_>, container: &Container) -> Result<u64, ApiError> {
    let control = context.control;
    let image = container.shape.image.to_string();
    let now = control.environment.now();
    match control
        .images
        .catalog
        .resolve(context.namespace, &image, now)
        .await
    {
        Ok(image) => Ok(image.size),
        Err(CatalogError::NoSuchImage(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// The container that a client names.
///
/// # Errors
/// 404 when there is none, 400 when more than one id begins so.
pub async fn find(context: &Context<'_>, reference: &str) -> Result<Container, ApiError> {
    match context
        .control
        .store
        .find_container(context.namespace, reference)
        .await?
    {
        Found::One(found) => Ok(found.record),
        Found::None => Err(ApiError::no_such_container(reference)),
        Found::Ambiguous => Err(ApiError::new(
            400,
            format!("multiple IDs found with provided prefix: {reference}"),
        )),
    }
}

/// The container that a client names in a body, where it may name none.
///
/// # Errors
/// As [`find`], and 400 where it names none.
pub async fn named(context: &Context<'_>, reference: &str) -> Result<Container, ApiError> {
    if reference.is_empty() {
        let message = "invalid name or ID supplied: \"\"";
        return Err(ApiError::new(400, message));
    }
    find(context, reference).await
}

/// Refuses what a container that waits to be started again cannot be asked for.
///
/// # Errors
/// 409.
pub(crate) fn not_restarting(container: &Container) -> Result<(), ApiError> {
    if container.lifecycle.is_restarting() {
        return Err(ApiError::new(
            409,
            format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            ),
        ));
    }
    Ok(())
}

/// Begins an answer that is given when something happens to a container, and
/// registers it, so that what happens from now on is not missed.
///
/// # Errors
/// When the caller has no relay or the store fails.
pub(crate) async fn await_event(
    context: &Context<'_>,
    container: &Container,
    head: Option<Head>,
    wait: Wait,
) -> Result<(Waiting, Answer), ApiError> {
    let first = head.map(Part::Head).into_iter().collect();
    let peer = context.peer()?;
    let (answer, parts) = context
        .control
        .begin_wait(peer, first, &container.id, wait.clone())
        .await?;
    let waiter = Waiter {
        answer: answer.clone(),
        peer: peer.clone(),
        wait,
    };
    Ok((Waiting { answer, waiter }, parts))
}

/// A registered answer.
pub(crate) struct Waiting {
    pub(crate) answer: AnswerId,
    waiter: Waiter,
}

impl Waiting {
    /// Ends the wait for an agent that is gone; what it was to do with files is done all the same.
    pub(crate) async fn end(
        self,
        context: &Context<'_>,
        container: &Container,
    ) -> Result<(), EngineError> {
        let control = context.control;
        control.end_agent_waiter(container, self.waiter).await
    }

    /// Takes the registration back, for what will not happen; whether it had not happened yet.
    pub(crate) async fn cancel(&self, context: &Context<'_>) -> Result<bool, ApiError> {
        Ok(context.control.store.take_back(&self.answer).await?)
    }
}

/// Carries out a change for which somebody registered to wait; when it is
/// refused, the registration is taken back first.
pub(crate) async fn or_cancel<T>(
    context: &Context<'_>,
    waiting: &Waiting,
    outcome: Result<T, EngineError>,
) -> Result<T, EngineError> {
    if outcome.is_err()
        && let Err(error) = waiting.cancel(context).await
    {
        tracing::warn!(error = error.message, "a waiter could not be taken back");
    }
    outcome
}
