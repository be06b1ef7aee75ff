//! `--restart`.

use serde_json::Value;
use sockerless_shared::lifecycle::RestartPolicy;

use crate::api::ApiError;

/// Reads `HostConfig.RestartPolicy` (moby's `ValidateRestartPolicy`).
///
/// # Errors
/// 400 in Docker's words.
pub(super) fn parse(policy: &Value) -> Result<RestartPolicy, ApiError> {
    let invalid = |why: &str| Err(ApiError::new(400, format!("invalid restart policy: {why}")));
    let limit = policy["MaximumRetryCount"].as_i64().unwrap_or(0);
    let without_limit = |policy: RestartPolicy| match limit {
        0 => Ok(policy),
        1.. => invalid("maximum retry count can only be used with 'on-failure'"),
        _ => {
            invalid("maximum retry count can only be used with 'on-failure' and cannot be negative")
        }
    };
    match policy["Name"].as_str().unwrap_or("") {
        "" | "no" => without_limit(RestartPolicy::No),
        "always" => without_limit(RestartPolicy::Always),
        "unless-stopped" => without_limit(RestartPolicy::UnlessStopped),
        "on-failure" => match u32::try_from(limit) {
            Ok(limit) => Ok(RestartPolicy::OnFailure { limit }),
            Err(_) if limit < 0 => invalid("maximum retry count cannot be negative"),
            Err(_) => Ok(RestartPolicy::OnFailure { limit: u32::MAX }),
        },
        other => invalid(&format!(
            "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_are_read_as_docker_reads_them() {
        let read = |policy: Value| parse(&policy).map_err(|error| error.message);
        assert_eq!(read(json!({})), Ok(RestartPolicy::No));
        assert_eq!(
            read(json!({"Name": "on-failure", "MaximumRetryCount": 3})),
            Ok(RestartPolicy::OnFailure { limit: 3 })
        );
        assert_eq!(
            read(json!({"Name": "always", "MaximumRetryCount": -1})),
            Err("invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative".to_owned())
        );
        assert_eq!(
            read(json!({"Name": "on-failure", "MaximumRetryCount": -1})),
            Err("invalid restart policy: maximum retry count cannot be negative".to_owned())
        );
        assert!(read(json!({"Name": "x"})).is_err());
    }
}
