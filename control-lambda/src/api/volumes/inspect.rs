//! `GET /volumes/{name}` (Engine API, `VolumeInspect`).

use super::{find, shown};
use crate::api::{ApiResult, Context, json};

/// Everything that is known of a volume.
///
/// # Errors
/// 404.
pub async fn inspect(context: &Context<'_>, name: &str) -> ApiResult {
    json(200, &shown(&find(context, name).await?))
}
