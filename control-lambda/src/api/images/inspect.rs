//! `GET /images/{name}/json` (Engine API, `ImageInspect`).

use serde_json::{Map, Value, json};
use sockerless_shared::timestamp::Timestamp;

use super::STORAGE_DRIVER;
use crate::api::version::ApiVersion;
use crate::api::{ApiResult, Context, json};
use crate::images::catalog::ImageRecord;
use crate::images::config::{ImageConfig, RunConfig};
use crate::images::reference::Reference;
use crate::images::remove::references;

/// All that is known of an image.
///
/// # Errors
/// 404 for an unknown image.
pub async fn inspect(context: &Context<'_>, name: &str) -> ApiResult {
    let control = context.control;
    let now = control.environment.now();
    let image = control
        .images
        .catalog
        .resolve(context.namespace, name, now)
        .await?;
    let config = control.images.config(&image.id).await?;
    json(200, &details(&image, &config, context.version))
}

fn details(image: &ImageRecord, config: &ImageConfig, version: ApiVersion) -> Value {
    let names = references(image);
    let familiar = |digests: bool| -> Vec<String> {
        names
            .iter()
            .filter(|name| name.digest().is_some() == digests)
            .map(Reference::familiar)
            .collect()
    };
    let comment = match config.history.last() {
        Some(last) if config.comment.is_empty() => &last.comment,
        _ => &config.comment,
    };
    let tagged = image
        .last_tagged
        .map_or_else(|| Timestamp::DOCKER_ZERO.to_owned(), Timestamp::rfc3339);
    let os = if config.os.is_empty() {
        "linux"
    } else {
        &config.os
    };
    let mut details = json!({
        "Id": image.id,
        "RepoTags": familiar(false),
        "RepoDigests": familiar(true),
        "Parent": "",
        "Comment": comment,
        "DockerVersion": config.docker_version,
        "Author": config.author,
        "Architecture": config.architecture,
        "Os": os,
        "Size": image.size,
        "GraphDriver": {"Data": null, "Name": STORAGE_DRIVER},
        "RootFS": {"Type": "layers", "Layers": image.layers},
        "Metadata": {"LastTagTime": tagged},
        "Config": run_config(config.config.as_ref(), version),
    });
    match &config.created {
        Some(created) => details["Created"] = json!(created),
        None if version < ApiVersion::new(1, 44) => {
            details["Created"] = json!(Timestamp::DOCKER_ZERO);
        }
        None => {}
    }
    if image.layers.is_empty() {
        details["RootFS"] = json!({"Type": "layers"});
    }
    for (key, value) in [
        ("Variant", &config.variant),
        ("OsVersion", &config.os_version),
    ] {
        if !value.is_empty() {
            details[key] = json!(value);
        }
    }
    if version < ApiVersion::new(1, 44) {
        details["VirtualSize"] = json!(image.size);
    }
    if version < ApiVersion::new(1, 45) {
        details["ContainerConfig"] = container_config(config.container_config.as_ref());
        if !config.container.is_empty() {
            details["Container"] = json!(config.container);
        }
    }
    details
}

/// An image's `Config`. Up to API 1.49 it also has the fields of a container's
/// configuration that mean nothing for an image.
fn run_config(config: Option<&RunConfig>, version: ApiVersion) -> Value {
    let mut shown = json!({
        "Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null,
        "User": "", "Volumes": null, "WorkingDir": "",
    });
    if version < ApiVersion::new(1, 50) {
        overlay(&mut shown, &meaningless());
    }
    if let Some(Ok(Value::Object(config))) = config.map(serde_json::to_value) {
        for (key, value) in config {
            // A list of labels that is there but empty is shown as none.
            if value.as_object().is_none_or(|map| !map.is_empty()) {
                shown[key] = value;
            }
        }
    }
    shown
}

fn meaningless() -> Map<String, Value> {
    let fields = json!({
        "AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "",
        "Hostname": "", "Image": "", "OpenStdin": false, "StdinOnce": false, "Tty": false,
    });
    fields.as_object().cloned().unwrap_or_default()
}

/// The configuration of the container that the image was committed from, which
/// is whatever the builder of that time wrote.
fn container_config(stored: Option<&Map<String, Value>>) -> Value {
    const KNOWN: [&str; 25] = [
        "Hostname",
        "Domainname",
        "User",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "ExposedPorts",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "Env",
        "Cmd",
        "Healthcheck",
        "ArgsEscaped",
        "Image",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "NetworkDisabled",
        "MacAddress",
        "OnBuild",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Shell",
    ];
    let mut shown = run_config(None, ApiVersion::OLDEST);
    if let Some(stored) = stored {
        let known: Map<String, Value> = stored
            .iter()
            .filter(|(key, value)| KNOWN.contains(&key.as_str()) && !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        overlay(&mut shown, &known);
    }
    shown
}

fn overlay(onto: &mut Value, fields: &Map<String, Value>) {
    for (key, value) in fields {
        onto[key.as_str()] = value.clone();
    }
}
