//! `POST /containers/{id}/rename` (Engine API, `ContainerRename`).

use super::{find, names};
use crate::api::{ApiError, ApiResult, Context, empty};
use crate::engine::events::of_container;

/// Gives a container another name.
///
/// # Errors
/// 400 for an empty or invalid name, 404, 409 when the name is taken.
pub async fn rename(context: &Context<'_>, reference: &str) -> ApiResult {
    let wanted = context.query.text("name");
    if wanted.is_empty() {
        return Err(ApiError::new(400, "Neither old nor new names may be empty"));
    }
    let container = find(context, reference).await?;
    let wanted = names::check(wanted).map_err(|error| {
        // The name is shown with its slash.
        let message = if wanted.starts_with('/') {
            error.message
        } else {
            error.message.replacen('(', "(/", 1)
        };
        ApiError::new(
            error.status,
            format!("Error when allocating new name: {message}"),
        )
    })?;
    if wanted == container.name {
        return Err(ApiError::new(
            400,
            "Renaming a container with the same name as its current name",
        ));
    }
    let store = &context.control.store;
    let now = context.control.environment.now();
    if store
        .rename_container(
            context.namespace,
            &container.id,
            wanted,
            |container, old| {
                let old = ("oldName", format!("/{old}"));
                vec![of_container(container, "rename", [old], now)]
            },
        )
        .await?
    {
        context
            .control
            .tell_listeners_of(context.namespace, &container.id)
            .await;
        Ok(empty(204))
    } else {
        let conflict = names::conflict(context, wanted).await?;
        let message = format!("Error when allocating new name: {}", conflict.message);
        Err(ApiError {
            message,
            ..conflict
        })
    }
}
