//! `GET`, `HEAD /_ping` (Engine API, `SystemPing`).

use bytes::Bytes;
use sockerless_shared::answer::{Answer, Response};

use crate::api::{ApiResult, Context, head};

/// How long the frontend may answer pings by itself, in seconds.
const CACHE_S: u32 = 10;

/// Says that the control plane is there, and which version it speaks.
///
/// # Errors
/// None.
pub fn ping(context: &Context<'_>) -> ApiResult {
    let mut head = head(200, "text/plain; charset=utf-8");
    let mut add = |name: &str, value: &str| head.headers.push((name.to_owned(), value.to_owned()));
    // Version 2, BuildKit, as an Engine of this version says.
    add("Builder-Version", "2");
    add("Cache-Control", "no-cache, no-store, must-revalidate");
    add("Pragma", "no-cache");
    add("Swarm", "inactive");
    let body = if context.request.method == "HEAD" {
        Bytes::new()
    } else {
        Bytes::from_static(b"OK")
    };
    Ok(Answer::Final(Response {
        head,
        body,
        cache_s: CACHE_S,
    }))
}
