//! `POST /containers/prune` (Engine API, `ContainerPrune`).

use serde_json::json;
use sockerless_shared::lifecycle::{Input, Phase};

use super::size;
use crate::api::prune::Choice;
use crate::api::{ApiResult, Context, json};
use crate::engine::EngineError;
use crate::engine::events::of_prune;
use crate::store::events::Kind;

/// Removes the containers that do not run. Their volumes stay.
///
/// # Errors
/// 400 for a filter that is not one.
pub async fn prune(context: &Context<'_>) -> ApiResult {
    let filters = context.query.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let choice = Choice::new(context, &filters)?;
    let control = context.control;
    let (mut removed, mut freed) = (Vec::new(), 0);
    for container in control.store.containers(context.namespace).await? {
        let is_over = match container.lifecycle.phase {
            Phase::Created | Phase::Exited | Phase::Dead => true,
            Phase::Starting
            | Phase::Running
            | Phase::Paused
            | Phase::Restarting
            | Phase::Removing => false,
        };
        if !is_over || !choice.takes(container.created, &container.config["Labels"]) {
            continue;
        }
        let size = size(context, &container).await?;
        let input = Input::Remove { force: false };
        match control.apply(context.namespace, &container.id, input).await {
            Ok(_) => {
                freed += size.written;
                removed.push(container.id);
            }
            // Somebody started or removed it in this moment.
            Err(EngineError::Refused(_) | EngineError::NoSuchContainer(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let event = of_prune(Kind::Container, freed, control.environment.now());
    control.say_or_log(context.namespace, &[event]).await;
    let removed = (!removed.is_empty()).then_some(removed);
    json(
        200,
        &json!({ "ContainersDeleted": removed, "SpaceReclaimed": freed }),
    )
}
