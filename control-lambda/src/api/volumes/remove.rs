//! `DELETE /volumes/{name}` (Engine API, `VolumeDelete`).

use super::find;
use crate::api::{ApiError, ApiResult, Context, empty};

/// Removes a volume and its data; with `force`, one that is not there is no error.
///
/// # Errors
/// 404, 409 while a container uses it.
pub async fn remove(context: &Context<'_>, name: &str) -> ApiResult {
    let volume = match find(context, name).await {
        Err(error) if error.status == 404 && context.query.flag("force") => return Ok(empty(204)),
        other => other?,
    };
    let used = context
        .control
        .remove_unused_volumes(context.namespace, &[&volume.name], None)
        .await?;
    if let Some((_, users)) = used.first() {
        let ids: Vec<&str> = users.iter().map(|id| id.as_str()).collect();
        let message = format!("remove {name}: volume is in use - [{}]", ids.join(", "));
        return Err(ApiError::new(409, message));
    }
    Ok(empty(204))
}
