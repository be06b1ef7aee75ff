//! `docker commit`: an image with one more layer than the one that a container was made of.

use serde_json::{Value, json};
use sockerless_shared::ids::Namespace;

use super::config::{History, ImageConfig, RunConfig};
use super::digest::{DiffId, Digest};
use super::import::{ImportError, NewImage};
use super::reference::Reference;
use super::store::{Images, TidyUnlessDone};
use crate::ports::blobs::ByteStream;

/// What the image is to be.
#[derive(Debug)]
pub struct Committed<'a> {
    /// What the container was made of.
    pub parent: Digest,
    /// Its name, if it is to have one.
    pub reference: Option<&'a Reference>,
    /// What containers of it run.
    pub config: &'a RunConfig,
    /// The container's id.
    pub container: String,
    /// The container's own configuration.
    pub container_config: &'a Value,
    /// Who made it.
    pub author: String,
    /// What they say of it.
    pub comment: String,
}

/// The tar of nothing: Docker makes no layer of it.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

impl Images {
    /// Makes an image of its parent and a layer, compressed or not. Returns the image's id.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn commit(
        &self,
        namespace: &Namespace,
        body: ByteStream,
        wanted: Committed<'_>,
    ) -> Result<Digest, ImportError> {
        let mut tidy = TidyUnlessDone::new(self);
        let made = self.commit_held(namespace, body, wanted, &mut tidy).await;
        tidy.end(made).await
    }

    async fn commit_held(
        &self,
        namespace: &Namespace,
        body: ByteStream,
        wanted: Committed<'_>,
        tidy: &mut TidyUnlessDone,
    ) -> Result<Digest, ImportError> {
        let mut pins = self.pins.operation();
        pins.begin_ingest().await;
        let now = self.environment.now();
        let parent = self
            .catalog
            .resolve(namespace, &wanted.parent.to_string(), now)
            .await?;
        for digest in &parent.blobs {
            pins.pin(*digest).await;
        }
        for layer in &parent.layers {
            pins.pin(layer.0).await;
        }
        let base = self.config(&parent.id).await?;
        let added = self.add_layer(namespace, &mut pins, tidy, body).await?;
        let is_empty = added.id.0 == Digest::of(&EMPTY_TAR);
        let mut layers = Vec::new();
        for digest in parent.blobs.iter().skip(1) {
            layers.push(self.layer_descriptor(digest).await?);
        }
        let mut size = parent.size;
        if !is_empty {
            layers.push(self.layer_descriptor(&added.blob).await?);
            size += added.size;
        }
        let layer = (!is_empty).then_some(added.id);
        let config = child(&base, &wanted, layer, &now.rfc3339());
        let new = NewImage {
            config: &config,
            layers,
            size,
            reference: wanted.reference,
        };
        self.name_new(namespace, pins, tidy, new).await
    }
}

/// The new image's config (moby's `image.NewChildImage`).
fn child(
    base: &ImageConfig,
    wanted: &Committed<'_>,
    layer: Option<DiffId>,
    created: &str,
) -> Value {
    let command = wanted.container_config["Cmd"].as_array();
    let words: Vec<_> = command
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut history = base.history.clone();
    history.push(History {
        created: Some(created.to_owned()),
        created_by: words.join(" "),
        author: wanted.author.clone(),
        comment: wanted.comment.clone(),
        empty_layer: layer.is_none(),
    });
    let layers: Vec<_> = base.layers().iter().copied().chain(layer).collect();
    let mut config = json!({
        "architecture": base.architecture,
        "os": if base.os.is_empty() { "linux" } else { &base.os },
        "created": created,
        "author": wanted.author,
        "container": wanted.container,
        "container_config": wanted.container_config,
        "docker_version": env!("CARGO_PKG_VERSION"),
        "config": wanted.config,
        "history": history,
        "rootfs": {"type": "layers", "diff_ids": layers},
    });
    if !base.variant.is_empty() {
        config["variant"] = json!(base.variant);
    }
    config
}

/// What a config that a client sends leaves to the container's (moby's `merge`).
pub fn complete(config: &mut RunConfig, container: &RunConfig) {
    let name = |entry: &str| entry.split('=').next().unwrap_or("").to_owned();
    for text in [
        (&mut config.user, &container.user),
        (&mut config.working_dir, &container.working_dir),
        (&mut config.stop_signal, &container.stop_signal),
    ] {
        if text.0.is_empty() {
            text.0.clone_from(text.1);
        }
    }
    for (port, empty) in &container.exposed_ports {
        config.exposed_ports.entry(port.clone()).or_insert(*empty);
    }
    for (path, empty) in &container.volumes {
        config.volumes.entry(path.clone()).or_insert(*empty);
    }
    for entry in &container.env {
        if !config.env.iter().any(|own| name(own) == name(entry)) {
            config.env.push(entry.clone());
        }
    }
    if let Some(labels) = &container.labels {
        let own = config.labels.get_or_insert_default();
        for (key, value) in labels {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if config.entrypoint.is_empty() {
        if config.cmd.is_empty() {
            config.cmd.clone_from(&container.cmd);
            config.args_escaped = container.args_escaped;
        }
        config.entrypoint.clone_from(&container.entrypoint);
    }
    if config.healthcheck.is_none() {
        config.healthcheck.clone_from(&container.healthcheck);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> RunConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_said_wins_and_the_rest_is_the_containers() {
        let container = config(json!({
            "User": "u", "Env": ["A=1", "B=2"], "Cmd": ["run"], "Entrypoint": ["sh"],
            "Labels": {"x": "1"}, "WorkingDir": "/w", "ExposedPorts": {"80/tcp": {}},
        }));
        let mut own = config(json!({"Env": ["B=3"], "Labels": {"x": "2"}, "Cmd": ["other"]}));
        complete(&mut own, &container);
        assert_eq!(
            serde_json::to_value(&own).unwrap(),
            json!({
                "User": "u", "Env": ["B=3", "A=1"], "Cmd": ["other"], "Entrypoint": ["sh"],
                "Labels": {"x": "2"}, "WorkingDir": "/w", "ExposedPorts": {"80/tcp": {}},
            })
        );
        let mut program = config(json!({"Entrypoint": ["x"]}));
        complete(&mut program, &container);
        assert!(program.cmd.is_empty());
    }

    #[test]
    fn a_child_has_its_parents_layers_and_history() {
        let base = ImageConfig::parse(
            br#"{"architecture":"arm64","variant":"v8","os":"linux","history":[{"created_by":"first"}],
                "rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        let container_config = json!({"Cmd": ["sh", "-c", "x"]});
        let wanted = Committed {
            parent: Digest::of(b"parent"),
            reference: None,
            config: &RunConfig::default(),
            container: "c".to_owned(),
            container_config: &container_config,
            author: "me".to_owned(),
            comment: "why".to_owned(),
        };
        let layer = DiffId(Digest::of(b"layer"));
        let made = child(&base, &wanted, Some(layer), "2026-01-01T00:00:00Z");
        assert_eq!(made["history"].as_array().unwrap().len(), 2);
        assert_eq!(made["history"][1]["created_by"], "sh -c x");
        assert_eq!(made["history"][1]["comment"], "why");
        assert_eq!(made["rootfs"]["diff_ids"], json!([layer]));
        assert_eq!(made["variant"], "v8");
        let made = child(&base, &wanted, None, "2026-01-01T00:00:00Z");
        assert_eq!(made["history"][1]["empty_layer"], true);
        assert_eq!(made["rootfs"]["diff_ids"], json!([]));
    }
}
