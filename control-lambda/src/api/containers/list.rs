//! `GET /containers/json` (Engine API, `ContainerList`).

use regex_lite::Regex;
use serde_json::{Value, json};
use sockerless_shared::lifecycle::Phase;
use sockerless_shared::timestamp::Timestamp;

use super::{endpoints, find, mounts, ports, size, state};
use crate::api::filters::Filters;
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::ports::machine::MountSource;
use crate::store::containers::Container;

/// The version of the API from which on a list shows annotations.
const ANNOTATIONS_SINCE: ApiVersion = ApiVersion::new(1, 46);

const FILTERS: [&str; 14] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
];

const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];

/// The containers that satisfy the filters, newest first.
///
/// # Errors
/// 400 for a filter that is not one, 404 for a container that a filter names.
pub async fn list(context: &Context<'_>) -> ApiResult {
    let query = &context.query;
    let filters = query.filters()?;
    let limit = query
        .number("limit")?
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n > 0);
    let choice = Choice::new(context, &filters).await?;
    let mut containers = context.control.store.containers(context.namespace).await?;
    containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.id.cmp(&a.id)));
    let all = query.flag("all") || limit.is_some() || !filters.get("status").is_empty();
    let now = context.control.environment.now();
    let with_sizes = query.flag("size");
    let chosen = containers
        .iter()
        .filter(|container| {
            let lifecycle = &container.lifecycle;
            all || lifecycle.is_restarting()
                || matches!(lifecycle.phase, Phase::Running | Phase::Paused)
        })
        .filter(|container| choice.takes(container))
        .take(limit.unwrap_or(usize::MAX));
    let mut summaries = Vec::new();
    for container in chosen {
        let mut shown = if with_sizes {
            sized_summary(context, container, now).await?
        } else {
            summary(container, now)
        };
        if context.version < ANNOTATIONS_SINCE
            && let Some(host) = shown["HostConfig"].as_object_mut()
        {
            host.remove("Annotations");
        }
        summaries.push(shown);
    }
    json(200, &summaries)
}

/// A container as the list shows it, with its sizes; one of zero is left out, as in Docker.
///
/// # Errors
/// The store's, the host's.
pub(in crate::api) async fn sized_summary(
    context: &Context<'_>,
    container: &Container,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let size = size(context, container).await?;
    let mut summary = summary(container, now);
    for (name, bytes) in [("SizeRw", size.written), ("SizeRootFs", size.root)] {
        if bytes > 0 {
            summary[name] = json!(bytes);
        }
    }
    Ok(summary)
}

fn summary(container: &Container, now: Timestamp) -> Value {
    let mut host = json!({"NetworkMode": container.host_config["NetworkMode"]});
    let annotations = &container.host_config["Annotations"];
    if annotations.as_object().is_some_and(|some| !some.is_empty()) {
        host["Annotations"] = annotations.clone();
    }
    json!({
        "Id": container.id,
        "Names": [format!("/{}", container.name)],
        "Image": container.image_reference,
        "ImageID": container.shape.image,
        "Command": command_line(&container.args),
        "Created": container.created.secs(),
        "Ports": ports::listed(container),
        "Labels": container.config["Labels"],
        "State": state::status(&container.lifecycle),
        "Status": state::words(&container.lifecycle, now),
        "HostConfig": host,
        "NetworkSettings": {"Networks": endpoints::listed(container)},
        "Mounts": mounts::shown(
            container.shape.machine.as_ref().map_or(&[], |machine| &machine.mounts),
        ),
    })
}

/// Program and arguments; an argument with a space in quotes, as Docker shows it.
fn command_line(args: &[String]) -> String {
    let Some((path, rest)) = args.split_first() else {
        return String::new();
    };
    let mut line = path.clone();
    for arg in rest {
        line.push(' ');
        if arg.contains(' ') {
            line.push('\'');
            line.push_str(arg);
            line.push('\'');
        } else {
            line.push_str(arg);
        }
    }
    line
}

/// The filters, checked and resolved.
struct Choice<'a> {
    filters: &'a Filters,
    images: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    exited: Vec<i32>,
    names: Vec<Result<Regex, String>>,
    tasks_only: bool,
}

impl<'a> Choice<'a> {
    async fn new(context: &Context<'_>, filters: &'a Filters) -> Result<Self, ApiError> {
        filters.only(&[&FILTERS[..], &["volume"]].concat())?;
        let invalid = |name: &str, value: &str, why: &str| {
            ApiError::new(400, format!("invalid filter '{name}={value}'{why}"))
        };
        for value in filters.get("status") {
            if !STATES.contains(&value.as_str()) {
                let why = format!(
                    ": invalid value for state ({value}): must be one of {}",
                    STATES.join(", ")
                );
                return Err(invalid("status", value, &why));
            }
        }
        for value in filters.get("health") {
            if !["none", "starting", "healthy", "unhealthy"].contains(&value.as_str()) {
                let why = format!(
                    ": invalid value for health ({value}): must be one of none, starting, healthy, unhealthy"
                );
                return Err(invalid("health", value, &why));
            }
        }
        let mut exited = Vec::new();
        for value in filters.get("exited") {
            exited.push(value.parse().map_err(|_| {
                let why = format!(
                    ": strconv.Atoi: parsing {}: invalid syntax",
                    crate::api::query::go_quote(value)
                );
                invalid("exited", value, &why)
            })?);
        }
        let mut tasks_only = false;
        for value in filters.get("is-task") {
            tasks_only = match value.as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                other => return Err(invalid("is-task", &format!("[{other}]"), "")),
            };
        }
        let mut images = Vec::new();
        for value in filters.get("ancestor") {
            let control = context.control;
            let now = control.environment.now();
            if let Ok(image) = control
                .images
                .catalog
                .resolve(context.namespace, value, now)
                .await
            {
                images.push(image.id.to_string());
            }
        }
        let before = newest(context, filters.get("before")).await?;
        let since = newest(context, filters.get("since")).await?;
        let names = filters
            .get("name")
            .iter()
            .map(|text| Regex::new(text).map_err(|_| text.clone()))
            .collect();
        Ok(Self {
            filters,
            images,
            before,
            since,
            exited,
            names,
            tasks_only,
        })
    }

    fn takes(&self, container: &Container) -> bool {
        let filters = self.filters;
        let lifecycle = &container.lifecycle;
        let stopped_with = |code: &i32| {
            lifecycle.current_run().is_none()
                && lifecycle
                    .exit
                    .as_ref()
                    .is_some_and(|exit| exit.code == *code)
                && lifecycle
                    .run
                    .as_ref()
                    .is_some_and(|run| run.started_at.is_some())
        };
        let name_matches = |pattern: &Result<Regex, String>| match pattern {
            Ok(regex) => {
                regex.is_match(&container.name) || regex.is_match(&format!("/{}", container.name))
            }
            Err(text) => *text == container.name,
        };
        let status = state::status(lifecycle);
        let in_network = |wanted: &str| {
            let mut networks = container.networks.as_object().into_iter().flatten();
            networks.any(|(name, endpoint)| {
                let id = endpoint["NetworkID"].as_str().unwrap_or("");
                name == wanted || (!wanted.is_empty() && id.starts_with(wanted))
            })
        };
        !self.tasks_only
            && filters.any("id", |prefix| container.id.as_str().starts_with(prefix))
            && (self.names.is_empty() || self.names.iter().any(name_matches))
            && filters.any("status", |wanted| wanted == status)
            && filters.any("health", |wanted| wanted == state::health(lifecycle))
            && filters.any("network", in_network)
            && filters.labels("label", &container.config["Labels"])
            && filters.any("volume", |wanted| has_mount(container, wanted))
            && filters.get("publish").is_empty()
            && filters.any("expose", |port| exposes(container, port))
            && (self.exited.is_empty() || self.exited.iter().any(stopped_with))
            && (filters.get("ancestor").is_empty()
                || self
                    .images
                    .iter()
                    .any(|image| image == container.shape.image.as_str()))
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
    }
}

/// Whether a volume of this name, or anything at this place, is mounted into a container.
fn has_mount(container: &Container, wanted: &str) -> bool {
    let mut mounts = container
        .shape
        .machine
        .iter()
        .flat_map(|machine| &machine.mounts);
    mounts.any(|mount| {
        let name = match &mount.source {
            MountSource::Volume(volume) => Some(volume.name.as_str()),
            MountSource::Host { .. } | MountSource::Memory { .. } => None,
        };
        mount.shown && (name == Some(wanted) || mount.target == wanted)
    })
}

fn exposes(container: &Container, port: &str) -> bool {
    let port = if port.contains('/') {
        port.to_owned()
    } else {
        format!("{port}/tcp")
    };
    container.config["ExposedPorts"].get(port).is_some()
}

/// When the last of the containers that a filter names was created.
async fn newest(
    context: &Context<'_>,
    references: &[String],
) -> Result<Option<Timestamp>, ApiError> {
    match references.last() {
        None => Ok(None),
        Some(reference) => Ok(Some(find(context, reference).await?.created)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_quotes_arguments_with_spaces() {
        let args = ["sh", "-c", "exit 3"].map(ToOwned::to_owned);
        assert_eq!(command_line(&args), "sh -c 'exit 3'");
        assert_eq!(command_line(&[]), "");
    }
}
