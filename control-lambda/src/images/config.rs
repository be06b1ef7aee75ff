//! An image's config: what it runs, and of which layers it consists.
//!
//! Field names and omissions follow Docker's `image.Image` and the OCI image
//! specification, which agree on what both have.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::digest::DiffId;
use super::manifest::MAX_LAYERS;

/// Largest config, in bytes. Docker's limit for it.
pub const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of labels and environment that an image's record may carry.
pub const MAX_RECORD_BYTES: usize = 256 * 1024;

/// Why a config is none to work with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Too large.
    #[error("image config of {0} bytes is larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge(usize),
    /// Not JSON, or of the wrong shape.
    #[error("image config is not valid: {0}")]
    Invalid(String),
    /// Has no list of layers.
    #[error("invalid image JSON, no RootFS key")]
    NoRootFs,
    /// More layers than an image may have.
    #[error("image has {0} layers; an image may have at most {MAX_LAYERS}")]
    TooManyLayers(usize),
    /// Built for something else than Linux.
    #[error("cannot load {0} image on linux")]
    OperatingSystem(String),
}

/// The whole config.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, deserialize_with = "or_default")]
    pub author: String,
    /// `amd64`, …
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// `v8`, …
    #[serde(default, deserialize_with = "or_default")]
    pub variant: String,
    /// `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// Windows only.
    #[serde(default, rename = "os.version", deserialize_with = "or_default")]
    pub os_version: String,
    /// Commit message.
    #[serde(default, deserialize_with = "or_default")]
    pub comment: String,
    /// Which Docker built it.
    #[serde(default, deserialize_with = "or_default")]
    pub docker_version: String,
    /// What to run.
    #[serde(default, deserialize_with = "object")]
    pub config: Option<RunConfig>,
    /// The layers.
    #[serde(default, deserialize_with = "object")]
    pub rootfs: Option<RootFs>,
    /// What the container was configured as that this image was committed from.
    #[serde(default)]
    pub container_config: Option<serde_json::Map<String, serde_json::Value>>,
    /// And which container that was.
    #[serde(default, deserialize_with = "or_default")]
    pub container: String,
    /// How it came to be.
    #[serde(default, deserialize_with = "or_default")]
    pub history: Vec<History>,
}

/// `rootfs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<DiffId>,
}

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What was run.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub created_by: String,
    /// By whom.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub author: String,
    /// Message.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub comment: String,
    /// Whether this step made no layer.
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "or_default"
    )]
    pub empty_layer: bool,
}

/// A set in Go's JSON: `{"80/tcp": {}}`.
pub type Set = BTreeMap<String, Empty>;

/// `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// What a container of this image runs unless told otherwise. Serialises as
/// Docker 28 shows an image's `Config` (OCI image config with Docker's
/// extensions): what is not set is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub user: String,
    /// `EXPOSE`.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    pub exposed_ports: Set,
    /// `KEY=value`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "or_default"
    )]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "strings"
    )]
    pub entrypoint: Vec<String>,
    /// `CMD`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "strings"
    )]
    pub cmd: Vec<String>,
    /// `VOLUME`.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    pub volumes: Set,
    /// `WORKDIR`.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// `STOPSIGNAL`.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub stop_signal: String,
    /// Windows only.
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "or_default"
    )]
    pub args_escaped: bool,
    /// `HEALTHCHECK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// `ONBUILD`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "or_default"
    )]
    pub on_build: Vec<String>,
    /// `SHELL`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "strings"
    )]
    pub shell: Vec<String>,
}

/// `HEALTHCHECK`. Durations are nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// What to run.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "or_default"
    )]
    pub test: Vec<String>,
    /// Between two runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Of one run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Before failures count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two runs during the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures in a row make it unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

impl ImageConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge(bytes.len()));
        }
        let invalid = |e: serde_json::Error| ConfigError::Invalid(e.to_string());
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let config: Option<Self> = object(&mut reader).map_err(invalid)?;
        reader.end().map_err(invalid)?;
        let config = config.ok_or_else(|| ConfigError::Invalid("null".to_owned()))?;
        match &config.rootfs {
            None => return Err(ConfigError::NoRootFs),
            Some(rootfs) if rootfs.diff_ids.len() > MAX_LAYERS => {
                return Err(ConfigError::TooManyLayers(rootfs.diff_ids.len()));
            }
            Some(_) => {}
        }
        let labels: usize = config
            .config
            .iter()
            .filter_map(|c| c.labels.as_ref())
            .flatten()
            .map(|(key, value)| key.len() + value.len() + 8)
            .sum();
        if labels > MAX_RECORD_BYTES {
            return Err(ConfigError::Invalid(format!(
                "labels of {labels} bytes are more than the {MAX_RECORD_BYTES} that an image may have"
            )));
        }
        if !config.os.is_empty() && config.os != "linux" {
            return Err(ConfigError::OperatingSystem(
                config.os.chars().take(40).collect(),
            ));
        }
        Ok(config)
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[DiffId] {
        self.rootfs.as_ref().map_or(&[], |rootfs| &rootfs.diff_ids)
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Go reads `null` as the zero value.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An object or `null`. What serde derives would take a list of the fields, too.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object: Option<serde_json::Map<_, _>> = Option::deserialize(deserializer)?;
    object
        .map(|object| serde_json::from_value(serde_json::Value::Object(object)))
        .transpose()
        .map_err(D::Error::custom)
}

/// A list of strings, for which Docker also takes one string.
fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![text],
        Some(OneOrMany::Many(list)) => list,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_zero_values_as_in_go() {
        let config = ImageConfig::parse(
            br#"{"architecture":"amd64","os":"linux","author":null,"history":null,
                "config":{"Env":null,"Cmd":["sh"],"Entrypoint":"run","Labels":null,"Volumes":null,
                          "ExposedPorts":{"80/tcp":{}},"Hostname":"old","Image":"sha256:old"},
                "rootfs":{"type":"layers","diff_ids":null},"container_config":{}}"#,
        )
        .unwrap();
        let run = config.config.as_ref().unwrap();
        assert_eq!(run.cmd, ["sh"]);
        assert_eq!(run.entrypoint, ["run"]);
        assert_eq!(
            serde_json::to_string(run).unwrap(),
            r#"{"ExposedPorts":{"80/tcp":{}},"Entrypoint":["run"],"Cmd":["sh"]}"#
        );
        assert!(config.layers().is_empty());
    }

    #[test]
    fn hostile_configs_are_refused() {
        let refused = |text: &str| ImageConfig::parse(text.as_bytes()).unwrap_err();
        assert_eq!(refused("{}"), ConfigError::NoRootFs);
        for text in [
            "[]",
            "null",
            "7",
            r#""config""#,
            r#"{"rootfs":7}"#,
            r#"{"rootfs":[]}"#,
            r#"{"rootfs":["layers",[]]}"#,
            r#"{"config":[],"rootfs":{"type":"layers"}}"#,
            r#"{"rootfs":{"type":"layers"}} more"#,
        ] {
            assert!(matches!(refused(text), ConfigError::Invalid(_)), "{text}");
        }
        assert!(matches!(
            refused(r#"{"rootfs":{"type":"layers","diff_ids":["../../etc"]}}"#),
            ConfigError::Invalid(_)
        ));
        assert_eq!(
            refused(r#"{"os":"windows","rootfs":{"type":"layers"}}"#),
            ConfigError::OperatingSystem("windows".into())
        );
        let many = vec![crate::images::digest::Digest::of(b""); 200];
        let text = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": many}}).to_string();
        assert_eq!(refused(&text), ConfigError::TooManyLayers(200));
    }
}
