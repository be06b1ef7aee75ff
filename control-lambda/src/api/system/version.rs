//! `GET /version` (Engine API, `SystemVersion`).

use serde_json::json;
use sockerless_shared::answer::Answer;

use crate::api::version::ApiVersion;
use crate::api::{ApiResult, Context, json};

/// How long the frontend may answer by itself, in seconds.
const CACHE_S: u32 = 10;

/// Versions of the program and of the API.
///
/// # Errors
/// None in practice.
pub fn version(context: &Context<'_>) -> ApiResult {
    let place = &context.control.config.place;
    let version = env!("CARGO_PKG_VERSION");
    let arch = go_arch(&place.architecture);
    let answer = json(
        200,
        &json!({
            "Platform": {"Name": format!("Sockerless ({})", place.name)},
            "Components": [{
                "Name": "Engine",
                "Version": version,
                "Details": {
                    "ApiVersion": ApiVersion::NEWEST.to_string(),
                    "Arch": arch,
                    "BuildTime": "",
                    "Experimental": "false",
                    "GitCommit": "",
                    "GoVersion": "",
                    "KernelVersion": place.kernel,
                    "MinAPIVersion": ApiVersion::OLDEST.to_string(),
                    "Os": "linux",
                },
            }],
            "Version": version,
            "ApiVersion": ApiVersion::NEWEST.to_string(),
            "MinAPIVersion": ApiVersion::OLDEST.to_string(),
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": arch,
            "KernelVersion": place.kernel,
            "BuildTime": "",
        }),
    )?;
    Ok(match answer {
        Answer::Final(mut response) => {
            response.cache_s = CACHE_S;
            Answer::Final(response)
        }
        other @ (Answer::Parts { .. } | Answer::SendBody) => other,
    })
}

/// Go's name of an architecture.
#[must_use]
pub fn go_arch(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
