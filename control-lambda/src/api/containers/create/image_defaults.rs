//! What a container takes from its image (Docker's `merge` and `mergeAndVerifyConfig`).

use serde_json::{Map, Value, json};
use sockerless_shared::ids::ContainerId;

use crate::api::ApiError;
use crate::api::containers::healthcheck;
use crate::api::containers::spec::{DEFAULT_PATH, strings};

/// The container's configuration with the image's part, and its program and arguments.
///
/// # Errors
/// 400 when there is no command.
pub(super) fn merge(
    mut config: Map<String, Value>,
    image: &Value,
    id: &ContainerId,
) -> Result<(Map<String, Value>, Vec<String>), ApiError> {
    for name in ["User", "WorkingDir", "StopSignal"] {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
        let inherited = text(image.get(name));
        if text(config.get(name)).is_empty() && !inherited.is_empty() {
            config.insert(name.to_owned(), json!(inherited));
        }
    }
    for name in ["ExposedPorts", "Volumes", "Labels"] {
        inherit_map(&mut config, image, name);
    }
    if config.get("Volumes") == Some(&json!({})) {
        config.insert("Volumes".to_owned(), Value::Null);
    }
    healthcheck::merge(&mut config, image);
    for name in ["StopTimeout", "Shell"] {
        if !config.contains_key(name)
            && let Some(value) = image.get(name).filter(|value| !value.is_null())
        {
            config.insert(name.to_owned(), value.clone());
        }
    }
    inherit_env(&mut config, image);
    let args = command(&mut config, image)?;
    if config
        .get("Hostname")
        .and_then(Value::as_str)
        .unwrap_or("")
        .is_empty()
    {
        config.insert("Hostname".to_owned(), json!(id.short()));
    }
    Ok((config, args))
}

fn inherit_map(config: &mut Map<String, Value>, image: &Value, name: &str) {
    let Some(Value::Object(inherited)) = image.get(name) else {
        return;
    };
    if inherited.is_empty() {
        return;
    }
    let mut merged = inherited.clone();
    if let Some(Value::Object(own)) = config.get(name) {
        merged.extend(own.clone());
    }
    config.insert(name.to_owned(), Value::Object(merged));
}

/// The client's variables, then those of the image that the client did not set.
fn inherit_env(config: &mut Map<String, Value>, image: &Value) {
    let mut env = strings(config.get("Env").unwrap_or(&Value::Null));
    let inherited = match image.get("Env") {
        Some(Value::Array(_)) => strings(&image["Env"]),
        _ => Vec::new(),
    };
    let key = |entry: &str| entry.split('=').next().unwrap_or("").to_owned();
    for entry in inherited {
        if !env.iter().any(|own| key(own) == key(&entry)) {
            env.push(entry);
        }
    }
    // Docker's own images carry it, imported ones do not, and its `inspect` shows it either way.
    if !env.iter().any(|own| key(own) == "PATH") {
        env.push(DEFAULT_PATH.to_owned());
    }
    config.insert("Env".to_owned(), json!(env));
}

fn command(config: &mut Map<String, Value>, image: &Value) -> Result<Vec<String>, ApiError> {
    let entrypoint_given = config
        .get("Entrypoint")
        .is_some_and(|value| !value.is_null());
    let mut entrypoint = strings(config.get("Entrypoint").unwrap_or(&Value::Null));
    let mut cmd = strings(config.get("Cmd").unwrap_or(&Value::Null));
    if entrypoint.is_empty() {
        if cmd.is_empty() {
            cmd = strings(&image["Cmd"]);
        }
        if !entrypoint_given {
            entrypoint = strings(&image["Entrypoint"]);
        }
    }
    if entrypoint.iter().map(String::as_str).eq([""]) {
        entrypoint.clear();
    }
    if entrypoint.is_empty() && cmd.is_empty() {
        return Err(ApiError::new(400, "no command specified"));
    }
    let or_null = |items: &[String]| {
        if items.is_empty() {
            Value::Null
        } else {
            json!(items)
        }
    };
    config.insert("Entrypoint".to_owned(), or_null(&entrypoint));
    config.insert("Cmd".to_owned(), or_null(&cmd));
    entrypoint.extend(cmd);
    Ok(entrypoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(config: Value, image: Value) -> Result<(Map<String, Value>, Vec<String>), ApiError> {
        let Value::Object(config) = config else {
            unreachable!()
        };
        merge(config, &image, &ContainerId::from_random([0xab; 32]))
    }

    #[test]
    fn command_and_entrypoint_follow_dockers_rules() {
        let image = json!({"Entrypoint": ["/e"], "Cmd": ["c"]});
        let args = |config: Value| merged(config, image.clone()).unwrap().1;
        assert_eq!(args(json!({})), ["/e", "c"]);
        assert_eq!(args(json!({"Cmd": ["x"]})), ["/e", "x"]);
        assert_eq!(args(json!({"Entrypoint": ["/o"]})), ["/o"]);
        assert_eq!(args(json!({"Entrypoint": [""], "Cmd": ["x"]})), ["x"]);
        assert_eq!(
            merged(json!({}), json!({})).unwrap_err().message,
            "no command specified"
        );
    }

    #[test]
    fn the_clients_variables_come_first_and_win() {
        let (config, _) = merged(
            json!({"Env": ["A=1"], "Cmd": ["x"]}),
            json!({"Env": ["PATH=/p", "A=2"], "Labels": {"l": "1"}, "WorkingDir": "/w"}),
        )
        .unwrap();
        assert_eq!(config["Env"], json!(["A=1", "PATH=/p"]));
        assert_eq!(config["Labels"], json!({"l": "1"}));
        assert_eq!(config["WorkingDir"], "/w");
        assert_eq!(config["Hostname"], "abababababab");
    }
}
