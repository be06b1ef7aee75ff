//! Operations on images, one a file.

pub mod commit;
pub mod create;
pub mod history;
pub(crate) mod import;
pub mod inspect;
pub mod list;
pub mod load;
pub(crate) mod news;
pub mod platform;
pub mod prune;
pub mod push;
pub mod remove;
pub mod save;
pub mod search;
pub mod tag;
pub(in crate::api) mod time;

use sockerless_shared::ids::Namespace;
use sockerless_shared::lifecycle::Phase;

use super::{ApiError, Context, signal};
use crate::engine::Control;
use crate::engine::events::of_image;
use crate::images::config::RunConfig;
use crate::images::remove::User;
use crate::images::{Digest, changes};

/// The name that storage drivers have in `info` and `inspect`.
pub const STORAGE_DRIVER: &str = "overlay2";

/// The containers of a namespace, by the image that they were made of.
pub(super) struct Users(Vec<(Digest, User)>);

impl Users {
    pub(super) async fn of(context: &Context<'_>) -> Result<Self, ApiError> {
        let containers = context.control.store.containers(context.namespace).await?;
        let users = containers.into_iter().map(|container| {
            let running = container.lifecycle.is_restarting()
                || matches!(container.lifecycle.phase, Phase::Running | Phase::Paused);
            let user = User {
                running,
                container: container.id,
            };
            (Digest::from(&container.shape.image), user)
        });
        Ok(Self(users.collect()))
    }

    pub(super) fn of_image(&self, image: &Digest) -> impl Iterator<Item = &User> {
        self.0
            .iter()
            .filter(move |(id, _)| id == image)
            .map(|(_, user)| user)
    }
}

/// Says what happened to an image, of which clients know by `actor` and `name`; its
/// labels are told while it is there.
pub(super) async fn say(
    control: &Control,
    namespace: &Namespace,
    action: &str,
    image: &Digest,
    actor: &str,
    name: &str,
) {
    let now = control.environment.now();
    let found = control.images.catalog.get(namespace, image, now).await;
    let labels = found.ok().flatten().and_then(|record| record.labels);
    let event = of_image(action, actor, name, &labels.unwrap_or_default(), now);
    control.say_or_log(namespace, &[event]).await;
}

/// What Dockerfile instructions (`--change`) make of a config.
///
/// # Errors
/// 400 in Docker's words.
pub(super) fn changed<'a>(
    config: RunConfig,
    changes: impl IntoIterator<Item = &'a str>,
) -> Result<RunConfig, ApiError> {
    let before = config.stop_signal.clone();
    let config = changes::apply_to(config, changes)
        .map_err(|error| ApiError::new(400, error.to_string()))?;
    if config.stop_signal != before {
        signal::parse(&config.stop_signal)?;
    }
    Ok(config)
}

/// Gives up what was kept for containers that are gone meanwhile.
pub(super) async fn release_unused(context: &Context<'_>) -> Result<(), ApiError> {
    let users = Users::of(context).await?;
    context
        .control
        .images
        .release_unused(context.namespace, |image| {
            users.of_image(image).next().is_some()
        })
        .await
        .map_err(ApiError::from)
}
