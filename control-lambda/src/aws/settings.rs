//! What the control function is told by its environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::engine::spend::SpendGuard;
use crate::images::remote::RegistrySettings;
use crate::images::remote::certificates::CertificateFolders;
use crate::ports::function_host::Architecture;

/// The folder of registries' certificates in the control function's package.
const CERTIFICATES: &str = "certs.d";

/// The control function's settings.
#[derive(Debug, Clone)]
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
    /// `SOCKERLESS_WORKER_ARN`: ARN of the function that makes and deletes functions.
    pub worker_arn: String,
    /// `SOCKERLESS_SCHEDULE`: name of the sweep's schedule.
    pub schedule: String,
    /// `SOCKERLESS_SCHEDULE_ROLE`: ARN of the role in which the schedule invokes.
    pub schedule_role: String,
    /// `SOCKERLESS_LOG_GROUP`: name of the log group of containers.
    pub log_group: String,
    /// `SOCKERLESS_FUNCTION_STRATEGY`: `shared`, unless it is `per-container`.
    pub function_per_container: bool,
    /// `SOCKERLESS_MEMORY_MIB`: memory of a container that names none.
    pub memory_mib: u32,
    /// `SOCKERLESS_TMP_MIB`: size of `/tmp`.
    pub tmp_mib: u32,
    /// `SOCKERLESS_TIMEOUT_S`: time limit of a container in seconds.
    pub timeout_s: u32,
    /// `SOCKERLESS_SUBNETS`: ids with commas between them; none for Lambda's own network.
    pub subnets: Vec<String>,
    /// `SOCKERLESS_SECURITY_GROUPS`: the same for security groups.
    pub security_groups: Vec<String>,
    /// `SOCKERLESS_TAGS`: tags of containers' functions, a JSON object.
    pub tags: BTreeMap<String, String>,
    /// `SOCKERLESS_MAX_CONTAINERS` and `SOCKERLESS_MAX_GB_SECONDS_PER_DAY`; zero for no limit.
    pub spend_guard: SpendGuard,
    /// `SOCKERLESS_ARCHITECTURE`: what containers run on if their images are for more than
    /// one, `x86_64` or `arm64`.
    pub architecture: Architecture,
    /// `SOCKERLESS_AGENTS`: the folder of the agents, `sockerless-agent-x86_64` and
    /// `sockerless-agent-arm64`; that of this program unless it is set.
    pub agents: PathBuf,
    /// `SOCKERLESS_INSECURE_REGISTRY`, `SOCKERLESS_REGISTRY_MIRROR`, `SOCKERLESS_HUB_FALLBACK`:
    /// as the options of the same names of `sockerless local`; they may be absent. Certificates
    /// of registries are in the folder `certs.d` beside the agents.
    pub registries: RegistrySettings,
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
        // Numbers within Lambda's quotas, and those that stand for no limit with zero.
        let mut unread = Vec::new();
        let mut number = |name: &str, usual: u64, least: u64, most: u64| {
            let Some(value) = variable(name).filter(|value| !value.is_empty()) else {
                return usual;
            };
            match value.parse() {
                Ok(value) if (least..=most).contains(&value) => value,
                _ => {
                    unread.push(format!("{name} is not a number from {least} to {most}"));
                    usual
                }
            }
        };
        let memory_mib = number("SOCKERLESS_MEMORY_MIB", 1_769, 128, 10_240);
        let tmp_mib = number("SOCKERLESS_TMP_MIB", 512, 512, 10_240);
        let timeout_s = number("SOCKERLESS_TIMEOUT_S", 900, 1, 900);
        let max_containers = number("SOCKERLESS_MAX_CONTAINERS", 0, 0, u64::MAX);
        let max_gb_seconds = number("SOCKERLESS_MAX_GB_SECONDS_PER_DAY", 0, 0, u64::MAX);
        let list = |name: &str| {
            let text = variable(name).unwrap_or_default();
            text.split(',')
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let tags = match variable("SOCKERLESS_TAGS").filter(|text| !text.is_empty()) {
            None => BTreeMap::new(),
            Some(text) => serde_json::from_str(&text).unwrap_or_else(|_| {
                unread.push("SOCKERLESS_TAGS is not a JSON object of texts".to_owned());
                BTreeMap::new()
            }),
        };
        let strategy = variable("SOCKERLESS_FUNCTION_STRATEGY").unwrap_or_default();
        if !matches!(strategy.as_str(), "" | "shared" | "per-container") {
            unread.push("SOCKERLESS_FUNCTION_STRATEGY is not shared or per-container".to_owned());
        }
        let mut registries = RegistrySettings::usual();
        let mut registry_mistakes = Vec::new();
        let listed = |name: &str| variable(name).unwrap_or_default();
        for text in entries(&listed("SOCKERLESS_INSECURE_REGISTRY")) {
            match text.parse() {
                Ok(entry) => registries.insecure.push(entry),
                Err(error) => {
                    registry_mistakes.push(format!("SOCKERLESS_INSECURE_REGISTRY: {error}"));
                }
            }
        }
        for text in entries(&listed("SOCKERLESS_REGISTRY_MIRROR")) {
            match text.parse() {
                Ok(entry) => registries.mirrors.push(entry),
                Err(error) => {
                    registry_mistakes.push(format!("SOCKERLESS_REGISTRY_MIRROR: {error}"));
                }
            }
        }
        match listed("SOCKERLESS_HUB_FALLBACK").as_str() {
            "" => {}
            "none" => registries.hub_fallback = None,
            place => registries.hub_fallback = Some(place.to_owned()),
        }
        let architecture = text("SOCKERLESS_ARCHITECTURE");
        let architecture = Architecture::ALL
            .into_iter()
            .find(|known| known.as_str() == architecture);
        let agents: PathBuf = variable("SOCKERLESS_AGENTS")
            .or_else(|| variable("LAMBDA_TASK_ROOT"))
            .unwrap_or_else(|| text("SOCKERLESS_AGENTS"))
            .into();
        registries.certificates = Some(Arc::new(CertificateFolders::new(
            &agents.join(CERTIFICATES),
        )));
        let settings = Self {
            registries,
            table: text("SOCKERLESS_TABLE"),
            bucket: text("SOCKERLESS_BUCKET"),
            repository: text("SOCKERLESS_REPOSITORY"),
            relay_url: text("SOCKERLESS_RELAY_URL"),
            relay_callback: text("SOCKERLESS_RELAY_CALLBACK"),
            container_role: text("SOCKERLESS_CONTAINER_ROLE"),
            function_arn: text("SOCKERLESS_FUNCTION_ARN"),
            worker_arn: text("SOCKERLESS_WORKER_ARN"),
            schedule: text("SOCKERLESS_SCHEDULE"),
            schedule_role: text("SOCKERLESS_SCHEDULE_ROLE"),
            log_group: text("SOCKERLESS_LOG_GROUP"),
            function_per_container: strategy == "per-container",
            memory_mib: u32::try_from(memory_mib).unwrap_or(u32::MAX),
            tmp_mib: u32::try_from(tmp_mib).unwrap_or(u32::MAX),
            timeout_s: u32::try_from(timeout_s).unwrap_or(u32::MAX),
            subnets: list("SOCKERLESS_SUBNETS"),
            security_groups: list("SOCKERLESS_SECURITY_GROUPS"),
            tags,
            spend_guard: SpendGuard {
                max_containers: usize::try_from(max_containers).ok().filter(|max| *max > 0),
                max_gb_seconds_per_day: Some(max_gb_seconds).filter(|max| *max > 0),
            },
            architecture: architecture.unwrap_or(Architecture::X86_64),
            agents,
        };
        wrong.extend(unread);
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
            architecture.is_some(),
            "x86_64 or arm64",
        );
        wrong.extend(registry_mistakes);
        if wrong.is_empty() {
            Ok(settings)
        } else {
            Err(InvalidSettings(wrong))
        }
    }
}

/// What is between commas.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(name: &str) -> Option<String> {
        Some(match name {
            "SOCKERLESS_RELAY_URL" => "wss://x/v1".into(),
            "SOCKERLESS_RELAY_CALLBACK" => "https://x/v1".into(),
            "SOCKERLESS_ARCHITECTURE" => "arm64".into(),
            "SOCKERLESS_AGENTS" => return None,
            "LAMBDA_TASK_ROOT" => "/var/task".into(),
            "SOCKERLESS_MEMORY_MIB" | "SOCKERLESS_TMP_MIB" => "2048".into(),
            "SOCKERLESS_TIMEOUT_S" => "300".into(),
            "SOCKERLESS_MAX_CONTAINERS" => "0".into(),
            "SOCKERLESS_MAX_GB_SECONDS_PER_DAY" => "100".into(),
            "SOCKERLESS_FUNCTION_STRATEGY" => "per-container".into(),
            "SOCKERLESS_SUBNETS" => "subnet-1,subnet-2".into(),
            "SOCKERLESS_TAGS" => r#"{"team":"a"}"#.into(),
            "SOCKERLESS_INSECURE_REGISTRY" => "a.example:5000, 10.0.0.0/8".into(),
            "SOCKERLESS_REGISTRY_MIRROR" => "https://m.example".into(),
            "SOCKERLESS_HUB_FALLBACK" => "none".into(),
            _ => "x".into(),
        })
    }

    #[test]
    fn settings_are_read() {
        let settings = Settings::read(good).unwrap();
        assert_eq!(settings.agents, PathBuf::from("/var/task"));
        assert_eq!(settings.architecture, Architecture::Arm64);
        assert_eq!((settings.memory_mib, settings.timeout_s), (2048, 300));
        assert!(settings.function_per_container);
        assert_eq!(settings.subnets, ["subnet-1", "subnet-2"]);
        assert_eq!(settings.tags["team"], "a");
        assert_eq!(settings.spend_guard.max_containers, None);
        assert_eq!(settings.spend_guard.max_gb_seconds_per_day, Some(100));
        assert_eq!(settings.registries.insecure.len(), 2);
        assert_eq!(settings.registries.mirrors.len(), 1);
        assert_eq!(settings.registries.hub_fallback, None);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let error = Settings::read(|name| match name {
            "SOCKERLESS_TABLE" | "SOCKERLESS_BUCKET" => None,
            "SOCKERLESS_ARCHITECTURE" => Some("sparc".into()),
            "SOCKERLESS_TIMEOUT_S" => Some("901".into()),
            "SOCKERLESS_REGISTRY_MIRROR" => Some("m.example".into()),
            _ => good(name),
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "settings: SOCKERLESS_TABLE is not set; SOCKERLESS_BUCKET is not set; SOCKERLESS_TIMEOUT_S is not a number from 1 to 900; SOCKERLESS_ARCHITECTURE is not x86_64 or arm64; \
             SOCKERLESS_REGISTRY_MIRROR: \"m.example\" is not the address of a mirror: https://HOST[:PORT], without anything behind it"
        );
        let nothing = Settings::read(|_| None).unwrap_err();
        assert_eq!(nothing.0.len(), 13);
    }
}
