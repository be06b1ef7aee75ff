//! What the control function is told by its environment.

use std::path::PathBuf;

use thiserror::Error;

/// The control function's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `SOCKERLESS_TABLE`: name of the DynamoDB table.
    pub table: String,
    /// `SOCKERLESS_BUCKET`: name of the S3 bucket.
    pub bucket: String,
    /// `SOCKERLESS_REPOSITORY`: the ECR repository, `<host>/<name>`.
    pub repository: String,
    /// `SOCKERLESS_RELAY_URL`: where agents and frontends connect, `wss://…/<stage>`.
    pub relay_url: String,
    /// `SOCKERLESS_RELAY_CALLBACK`: the WebSocket API's callback URL, `https://…/<stage>`.
    pub relay_callback: String,
    /// `SOCKERLESS_CONTAINER_ROLE`: ARN of the role of containers' functions.
    pub container_role: String,
    /// `SOCKERLESS_FUNCTION_ARN`: ARN of the control function itself.
    pub function_arn: String,
    /// `SOCKERLESS_ARCHITECTURE`: what containers run on, `x86_64` or `arm64`.
    pub architecture: String,
    /// `SOCKERLESS_AGENT`: the agent's program; `sockerless-agent` beside this
    /// one unless it is set.
    pub agent: PathBuf,
}

/// All that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("settings: {}", .0.join("; "))]
pub struct InvalidSettings(Vec<String>);

impl Settings {
    /// Reads the settings through `variable`.
    ///
    /// # Errors
    /// Everything that is missing or wrong, by name.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSettings> {
        let mut wrong = Vec::new();
        let mut text = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty());
            value.unwrap_or_else(|| {
                wrong.push(format!("{name} is not set"));
                String::new()
            })
        };
        let settings = Self {
            table: text("SOCKERLESS_TABLE"),
            bucket: text("SOCKERLESS_BUCKET"),
            repository: text("SOCKERLESS_REPOSITORY"),
            relay_url: text("SOCKERLESS_RELAY_URL"),
            relay_callback: text("SOCKERLESS_RELAY_CALLBACK"),
            container_role: text("SOCKERLESS_CONTAINER_ROLE"),
            function_arn: text("SOCKERLESS_FUNCTION_ARN"),
            architecture: text("SOCKERLESS_ARCHITECTURE"),
            agent: variable("SOCKERLESS_AGENT")
                .or_else(|| {
                    Some(format!(
                        "{}/sockerless-agent",
                        variable("LAMBDA_TASK_ROOT")?
                    ))
                })
                .unwrap_or_else(|| text("SOCKERLESS_AGENT"))
                .into(),
        };
        let mut check = |name: &str, good: bool, expected: &str| {
            if !good && !wrong.iter().any(|said| said.starts_with(name)) {
                wrong.push(format!("{name} is not {expected}"));
            }
        };
        check(
            "SOCKERLESS_RELAY_URL",
            ["wss://", "ws://"]
                .iter()
                .any(|p| settings.relay_url.starts_with(p)),
            "a wss:// URL",
        );
        check(
            "SOCKERLESS_RELAY_CALLBACK",
            ["https://", "http://"]
                .iter()
                .any(|p| settings.relay_callback.starts_with(p)),
            "an https:// URL",
        );
        check(
            "SOCKERLESS_ARCHITECTURE",
            matches!(settings.architecture.as_str(), "x86_64" | "arm64"),
            "x86_64 or arm64",
        );
        if wrong.is_empty() {
            Ok(settings)
        } else {
            Err(InvalidSettings(wrong))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(name: &str) -> Option<String> {
        Some(match name {
            "SOCKERLESS_RELAY_URL" => "wss://x/v1".into(),
            "SOCKERLESS_RELAY_CALLBACK" => "https://x/v1".into(),
            "SOCKERLESS_ARCHITECTURE" => "arm64".into(),
            "SOCKERLESS_AGENT" => return None,
            "LAMBDA_TASK_ROOT" => "/var/task".into(),
            _ => "x".into(),
        })
    }

    #[test]
    fn settings_are_read() {
        let settings = Settings::read(good).unwrap();
        assert_eq!(settings.agent, PathBuf::from("/var/task/sockerless-agent"));
        assert_eq!(settings.architecture, "arm64");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let error = Settings::read(|name| match name {
            "SOCKERLESS_TABLE" | "SOCKERLESS_BUCKET" => None,
            "SOCKERLESS_ARCHITECTURE" => Some("sparc".into()),
            _ => good(name),
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "settings: SOCKERLESS_TABLE is not set; SOCKERLESS_BUCKET is not set; SOCKERLESS_ARCHITECTURE is not x86_64 or arm64"
        );
        let nothing = Settings::read(|_| None).unwrap_err();
        assert_eq!(nothing.0.len(), 9);
    }
}
