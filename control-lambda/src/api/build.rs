//! `POST /build` and what BuildKit's clients speak: not there yet, and said so.

use sockerless_shared::answer::{Answer, Head, Part};
use sockerless_shared::ids::AnswerId;

use super::{ApiError, ApiResult, Context, common_headers};

/// What to do meanwhile.
pub const INSTEAD: &str = "docker build is not implemented by sockerless yet: build elsewhere \
    and bring the image with `docker save | docker load`, or push it to a registry and pull it here";

/// The classic builder.
///
/// # Errors
/// Always 501, with what to do meanwhile.
pub fn classic() -> ApiResult {
    Err(ApiError::not_implemented(INSTEAD))
}

/// gRPC's status for what is not there.
const UNIMPLEMENTED: &str = "12";

/// What BuildKit's clients ask: an upgrade to HTTP/2, in which they show what gRPC tells
/// them. Without one they would go and run a builder of their own in a container.
///
/// # Errors
/// 501 for a client that asks for no upgrade.
pub fn buildkit(context: &Context<'_>) -> ApiResult {
    let upgrade = context.request.header("upgrade").unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case("h2c") || context.request.peer.is_none() {
        return classic();
    }
    let mut headers = common_headers();
    for (name, value) in [
        ("Connection", "Upgrade"),
        ("Upgrade", "h2c"),
        ("Grpc-Status", UNIMPLEMENTED),
        ("Grpc-Message", INSTEAD),
    ] {
        headers.push((name.to_owned(), value.to_owned()));
    }
    let head = Head {
        status: 101,
        headers,
    };
    Ok(Answer::Parts {
        id: AnswerId::from_random(context.control.environment.random()),
        first: vec![Part::Head(head), Part::End],
    })
}
