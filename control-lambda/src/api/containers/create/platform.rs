//! The platform that a container is wanted for, beside its image's and this machine's.

use serde_json::Value;

use crate::api::ApiError;
use crate::images::platform::Platform;
use crate::ports::function_host::Architecture;

/// The client's `platform`.
///
/// # Errors
/// 400 for what is none.
pub(super) fn wanted(text: &str) -> Result<Platform, ApiError> {
    Platform::parse(text, &Platform::host()).map_err(|_| {
        let quoted = Value::from(text);
        let message = format!("{quoted}: cannot parse platform specifier: invalid argument");
        ApiError::new(400, message)
    })
}

/// What has to be said of an image that is `found`: nothing, a warning where nobody asked for
/// its platform and this machine has another (unless there are `others` that have it), or that
/// it is not the one that is wanted.
///
/// # Errors
/// 404 in Docker's words.
pub(super) fn compare(
    reference: &str,
    found: &Platform,
    wanted: Option<&Platform>,
    others: bool,
) -> Result<Option<String>, ApiError> {
    let Some(wanted) = wanted else {
        let host = Platform::host();
        let warning = || {
            format!(
                "The requested image's platform ({found}) does not match the detected host platform ({}) and no specific platform was requested",
                detected(host.clone())
            )
        };
        return Ok((!others && !runs(&host, found)).then(warning));
    };
    if (&found.os, &found.architecture) == (&wanted.os, &wanted.architecture) {
        return Ok(None);
    }
    Err(ApiError::new(
        404,
        format!(
            "image with reference {reference} was found but its platform ({found}) does not match the specified platform ({wanted})"
        ),
    ))
}

/// What is said of an image for which there are no functions.
pub(super) fn without_functions(
    reference: &str,
    found: &Platform,
    architectures: &[Architecture],
) -> ApiError {
    let names: Vec<_> = architectures.iter().map(|one| one.as_str()).collect();
    let message = format!(
        "image {reference} is for {found}, and functions can be had for {} alone: pull another platform of it (docker pull --platform)",
        names.join(" and ")
    );
    ApiError::new(400, message)
}

/// Whether this machine runs it, as containerd's `platforms.Only` has it.
fn runs(host: &Platform, image: &Platform) -> bool {
    let same = host.architecture == image.architecture;
    let older = host.architecture == "arm64" && image.architecture == "arm";
    host.os == image.os && (same || older)
}

/// This machine's platform with the level of its processor.
fn detected(host: Platform) -> Platform {
    match host.architecture.as_str() {
        "amd64" => Platform {
            variant: amd64_level().to_owned(),
            ..host
        },
        _ => host,
    }
}

/// The level of an x86-64 processor, by the System V ABI's list of what each has.
#[cfg(target_arch = "x86_64")]
fn amd64_level() -> &'static str {
    macro_rules! has {
        ($($feature:tt),*) => { $(std::arch::is_x86_feature_detected!($feature))&&* };
    }
    if !has!("cmpxchg16b", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2") {
        "v1"
    } else if !has!(
        "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe"
    ) {
        "v2"
    } else if !has!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl") {
        "v3"
    } else {
        "v4"
    }
}

/// There is none elsewhere.
#[cfg(not(target_arch = "x86_64"))]
const fn amd64_level() -> &'static str {
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(architecture: &str) -> Platform {
        Platform::of("linux", architecture, "")
    }

    #[test]
    fn nothing_is_said_of_what_runs_here() {
        for (host, image, runs_there) in [
            ("amd64", "amd64", true),
            ("amd64", "arm64", false),
            ("arm64", "arm64", true),
            ("arm64", "arm", true),
            ("arm64", "amd64", false),
        ] {
            let (host, image) = (platform(host), platform(image));
            assert_eq!(runs(&host, &image), runs_there, "{host} {image}");
        }
    }

    #[test]
    fn another_than_the_wanted_one_is_refused() {
        let (amd64, arm64) = (platform("amd64"), platform("arm64"));
        assert!(matches!(
            compare("x", &amd64, Some(&amd64), false),
            Ok(None)
        ));
        let error = compare("x", &amd64, Some(&arm64), true).err();
        assert_eq!(error.map(|error| error.status), Some(404));
    }
}
