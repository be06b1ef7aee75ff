//! `POST /build/prune` (Engine API, `BuildPrune`).

use serde_json::json;

use crate::api::images::time;
use crate::api::query::go_quote;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::engine::events::of_prune;
use crate::store::events::Kind;

/// Filters of BuildKit's cache records.
const FILTERS: [&str; 11] = [
    "description",
    "id",
    "inuse",
    "parent",
    "private",
    "shared",
    "type",
    "until",
    "unused-for",
    "label",
    "label!",
];

/// Numbers of bytes that are to be kept.
const BYTES: [&str; 4] = [
    "keep-storage",
    "reserved-space",
    "max-used-space",
    "min-free-space",
];

/// Nothing is built here: nothing is kept of it, and nothing removed.
///
/// # Errors
/// 400 for what is no number, no filter, or no time.
pub async fn prune(context: &Context<'_>) -> ApiResult {
    let query = &context.query;
    let refuse = |message: String| Err(ApiError::new(400, message));
    for name in BYTES {
        let text = query.text(name);
        if !text.is_empty() && text.parse::<i64>().is_err() {
            return refuse(format!(
                "{name} is in bytes and expects an integer, got {text}: strconv.Atoi: parsing {}: invalid syntax",
                go_quote(text)
            ));
        }
    }
    let failed = |why: &str| format!("failed to prune build cache: {why}");
    let filters = query.filters()?;
    if let Err(error) = filters.only(&FILTERS) {
        return refuse(failed(&error.message));
    }
    if !filters.get("until").is_empty() && !filters.get("unused-for").is_empty() {
        return refuse(failed("conflicting filters: \"until\" and \"unused-for\""));
    }
    for name in ["until", "unused-for"] {
        for text in filters.get(name) {
            if time::parse(text, context.control.environment.now()).is_none() {
                let why = format!(
                    "\"{name}\" filter expects a duration (e.g., '24h') or a timestamp: failed to parse value as time or duration: {}",
                    go_quote(text)
                );
                return refuse(failed(&why));
            }
        }
    }
    let control = context.control;
    let event = of_prune(Kind::Builder, 0, control.environment.now());
    control.say_or_log(context.namespace, &[event]).await;
    json(200, &json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
}
