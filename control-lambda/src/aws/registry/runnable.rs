//! Images with the agent in them, as Lambda takes them: one manifest for one
//! platform, gzip layers, the agent as the entrypoint.
//!
//! Made without a build, by adding a layer to what is in the registry already,
//! and tagged with a hash of the image and the agent, so that it is made once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream;
use serde_json::{Value, json};
use sockerless_shared::ids::ImageDigest;

use super::agent_layer::{AGENT, AgentLayer, AgentLayerError};
use super::{EcrRegistry, OWN_MANIFEST, image_tag};
use crate::aws::functions::{Runnable, RunnableImages};
use crate::aws::layers::{CheckedLayers, PackedLayer};
use crate::images::config::{ImageConfig, MAX_CONFIG_BYTES};
use crate::images::digest::{DiffId, Digest};
use crate::images::layer::{LayerError, LayerLimits};
use crate::images::manifest::{Descriptor, Manifest, ManifestOrIndex, media};
use crate::images::recompress::{is_gzip, repacked, to_gzip};
use crate::images::store::read_small;
use crate::ports::Registry as _;
use crate::ports::function_host::{Architecture, HostError};
use crate::ports::registry::{Expected, RegistryError};

/// What the tags of images with an agent begin with.
const RUNNABLE: &str = "run-";
/// So many digits of an image's digest are in the tag of what was made of it.
const IMAGE_DIGITS: usize = 40;

/// Changed whenever the same image and agent are to be put together differently.
const GENERATION: u32 = 2;

/// Makes images of an [`EcrRegistry`] runnable.
pub struct EcrImages {
    registry: Arc<EcrRegistry>,
    layers: Arc<CheckedLayers>,
    agents: BTreeMap<Architecture, AgentLayer>,
    architectures: Vec<Architecture>,
    limits: LayerLimits,
    /// The tags of those that this process has seen.
    known: Mutex<HashMap<(ImageDigest, Architecture), String>>,
}

impl EcrImages {
    /// With these agents.
    #[must_use]
    pub fn new(
        registry: Arc<EcrRegistry>,
        layers: Arc<CheckedLayers>,
        agents: BTreeMap<Architecture, AgentLayer>,
        limits: LayerLimits,
    ) -> Self {
        Self {
            registry,
            layers,
            architectures: agents.keys().copied().collect(),
            agents,
            limits,
            known: Mutex::default(),
        }
    }

    /// The tag of an image with this agent.
    async fn tag(&self, image: &ImageDigest, agent: &AgentLayer) -> Result<String, HostError> {
        let diff_id = agent.diff_id().await;
        let diff_id = diff_id.map_err(|error| HostError::Failed(error.to_string()))?;
        Ok(tag(image, &diff_id))
    }

    fn agent(&self, architecture: Architecture) -> Result<&AgentLayer, HostError> {
        self.agents.get(&architecture).ok_or_else(|| {
            HostError::Failed(format!(
                "the control function has no agent for {}: deploy what `make package` builds",
                architecture.as_str()
            ))
        })
    }

    /// Puts an image and its agent together; whether that could be done at once, or with
    /// `patience`, however long it takes.
    async fn assemble(
        &self,
        image: &ImageDigest,
        agent: &AgentLayer,
        tag: &str,
        patience: bool,
    ) -> Result<bool, RegistryError> {
        let damaged = |why: &str| RegistryError::Unavailable(format!("image {image}: {why}"));
        let Parts { config, manifest } = self.parts(image).await?;
        let parsed = ImageConfig::parse(&config).map_err(|error| damaged(&error.to_string()))?;
        if parsed.layers().len() != manifest.layers.len() {
            return Err(damaged("its manifest and its config name different layers"));
        }
        let own = || parsed.layers().iter().zip(&manifest.layers);
        let kept = own().map(|(id, blob)| self.kept_layer(*id, blob));
        let kept = try_join_all(kept).await?;
        if !patience && kept.iter().any(Option::is_none) {
            return Ok(false);
        }
        let mut layers = Vec::with_capacity(manifest.layers.len() + 1);
        let mut ids = Vec::with_capacity(manifest.layers.len() + 1);
        for ((id, blob), kept) in own().zip(kept) {
            let (id, blob) = match kept {
                Some(layer) => layer,
                None => self.packed_layer(*id, blob).await?,
            };
            ids.push(id);
            layers.push(blob);
        }
        let unmade = |error: AgentLayerError| RegistryError::Unavailable(error.to_string());
        ids.push(agent.diff_id().await.map_err(unmade)?);
        let layer = agent.bytes().await.map_err(unmade)?;
        layers.push(self.put(layer, media::OCI_LAYER_GZIP).await?);
        let config = with_agent(&config, &ids).map_err(|why| damaged(&why))?;
        let config = self.put(config.into(), media::OCI_CONFIG).await?;
        let manifest = Manifest::oci(config, layers)
            .to_bytes()
            .map_err(|error| damaged(&error.to_string()))?;
        self.registry
            .put_manifest_as(tag, OWN_MANIFEST, manifest.into())
            .await?;
        Ok(true)
    }

    async fn parts(&self, image: &ImageDigest) -> Result<Parts, RegistryError> {
        let damaged = |why: &str| RegistryError::Unavailable(format!("image {image}: {why}"));
        let config_digest: Digest = image
            .as_str()
            .parse()
            .map_err(|_| damaged("not a digest"))?;
        let (media_type, bytes) = self
            .registry
            .manifest(&image_tag(&config_digest))
            .await?
            .ok_or_else(|| {
                RegistryError::Unavailable(
                    "ECR does not have it any more: pull or load it again".to_owned(),
                )
            })?;
        let parsed = ManifestOrIndex::parse(&bytes, &media_type)
            .map_err(|error| damaged(&error.to_string()))?;
        let ManifestOrIndex::Manifest(manifest) = parsed else {
            return Err(damaged("its manifest is an index"));
        };
        let config = read_small(&*self.registry, &config_digest, MAX_CONFIG_BYTES)
            .await
            .map_err(|error| damaged(&error.to_string()))?;
        Ok(Parts {
            config: config.into(),
            manifest,
        })
    }

    async fn put(&self, bytes: Bytes, media_type: &str) -> Result<Descriptor, RegistryError> {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        if self.registry.stat_blob(&digest).await?.is_none() {
            let expected = Expected {
                digest: Some(digest),
                size: Some(size),
                limit: size,
            };
            let body = Box::pin(stream::iter([Ok(bytes)]));
            self.registry.put_blob(body, expected).await?;
        }
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// The layer as Lambda takes it, where that is there: itself, if it is gzip and keeps
    /// the rules, or what was made of it before.
    async fn kept_layer(
        &self,
        id: DiffId,
        blob: &Descriptor,
    ) -> Result<Option<(DiffId, Descriptor)>, RegistryError> {
        let failed = |why: LayerError| RegistryError::Unavailable(format!("layer {id}: {why}"));
        if is_gzip(&blob.media_type) && !self.layers.breaks_rules(&id).await.map_err(failed)? {
            let same = Descriptor::new(media::OCI_LAYER_GZIP, blob.digest, blob.size);
            return Ok(Some((id, same)));
        }
        let Some(packed) = self.layers.packed(&blob.digest).await.map_err(failed)? else {
            return Ok(None);
        };
        let there = self.registry.stat_blob(&packed.blob).await?;
        Ok(there.map(|size| {
            let blob = Descriptor::new(media::OCI_LAYER_GZIP, packed.blob, size);
            (packed.layer, blob)
        }))
    }

    /// The layer packed anew, which takes as long as its size says.
    async fn packed_layer(
        &self,
        id: DiffId,
        blob: &Descriptor,
    ) -> Result<(DiffId, Descriptor), RegistryError> {
        let failed = |why: LayerError| RegistryError::Unavailable(format!("layer {id}: {why}"));
        let (layer, made) = if self.layers.breaks_rules(&id).await.map_err(failed)? {
            let made = repacked(&*self.registry, &blob.digest, id, self.limits).await?;
            (made.layer, made.blob)
        } else {
            let made = to_gzip(&*self.registry, &blob.digest, self.limits).await?;
            (id, made)
        };
        let packed = PackedLayer {
            layer,
            blob: made.digest,
        };
        self.layers
            .note_packed(&blob.digest, &packed)
            .await
            .map_err(failed)?;
        Ok((layer, made))
    }

    fn uri(&self, tag: &str) -> String {
        format!("{}:{tag}", self.registry.client.name())
    }

    fn note(&self, image: &ImageDigest, architecture: Architecture, tag: String) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((image.clone(), architecture), tag);
    }
}

/// What an image consists of.
struct Parts {
    config: Vec<u8>,
    manifest: Manifest,
}

fn unready(image: &ImageDigest, error: &RegistryError) -> HostError {
    HostError::Failed(format!(
        "image {image} cannot be made ready for Lambda: {error}"
    ))
}

#[async_trait]
impl RunnableImages for EcrImages {
    fn architectures(&self) -> &[Architecture] {
        &self.architectures
    }

    async fn find(
        &self,
        image: &ImageDigest,
        architecture: Architecture,
    ) -> Result<Runnable, HostError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&(image.clone(), architecture)).cloned()
        };
        if let Some(tag) = known {
            return Ok(Runnable {
                uri: self.uri(&tag),
                ready: true,
            });
        }
        let agent = self.agent(architecture)?;
        let tag = self.tag(image, agent).await?;
        let made = async {
            Ok(self.registry.has_manifest(&tag).await?
                || self.assemble(image, agent, &tag, false).await?)
        };
        let ready = made.await.map_err(|error| unready(image, &error))?;
        let uri = self.uri(&tag);
        if ready {
            self.note(image, architecture, tag);
        }
        Ok(Runnable { uri, ready })
    }

    async fn make(&self, image: &ImageDigest, architecture: Architecture) -> Result<(), HostError> {
        let agent = self.agent(architecture)?;
        let tag = self.tag(image, agent).await?;
        let made = async {
            if !self.registry.has_manifest(&tag).await? {
                self.assemble(image, agent, &tag, true).await?;
            }
            Ok(())
        };
        made.await.map_err(|error| unready(image, &error))?;
        self.note(image, architecture, tag);
        Ok(())
    }

    fn forget(&self, image: &ImageDigest) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(known, _), _| known != image);
    }
}

/// Names the image, so that what was made of it goes with it, and all that it was made with.
fn tag(image: &ImageDigest, agent: &DiffId) -> String {
    let with = Digest::of(format!("{GENERATION}\n{agent}").as_bytes());
    format!(
        "{RUNNABLE}{:.IMAGE_DIGITS$}-{:.20}",
        image.hex(),
        with.hex()
    )
}

/// Whether a tag is that of an image with an agent, made of one of these (by their configs'
/// digests in hex).
pub(super) fn is_made_of<'a>(tag: &str, images: impl IntoIterator<Item = &'a str>) -> bool {
    let Some((digits, _)) = tag
        .strip_prefix(RUNNABLE)
        .and_then(|rest| rest.split_once('-'))
    else {
        return false;
    };
    digits.len() == IMAGE_DIGITS && images.into_iter().any(|image| image.starts_with(digits))
}

/// The config with these layers, of which the agent's is on top, and the agent as what is
/// run. The rest of the image's own (`Cmd`, `Env`, `User` …) travels in the invocation.
fn with_agent(config: &[u8], layers: &[DiffId]) -> Result<Vec<u8>, String> {
    let mut config: Value = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    let object = config
        .as_object_mut()
        .ok_or("its config is not an object")?;
    let agents = json!({"created": "1970-01-01T00:00:00Z", "created_by": "sockerless agent"});
    let mut history = match object.remove("history") {
        Some(Value::Array(history)) => history,
        _ => Vec::new(),
    };
    let has_layer = |step: &&Value| step.get("empty_layer") != Some(&Value::Bool(true));
    // Lambda wants a step for each layer; one that is out of step says nothing anyway.
    if history.iter().filter(has_layer).count() + 1 != layers.len() {
        let unknown = json!({"created": "1970-01-01T00:00:00Z"});
        history = vec![unknown; layers.len().saturating_sub(1)];
    }
    history.push(agents);
    object.insert("history".to_owned(), Value::Array(history));
    object.insert(
        "config".to_owned(),
        json!({"Entrypoint": [AGENT], "WorkingDir": "/"}),
    );
    let rootfs = object
        .get_mut("rootfs")
        .and_then(Value::as_object_mut)
        .ok_or("its config names no layers")?;
    rootfs.insert("diff_ids".to_owned(), json!(layers));
    serde_json::to_vec(&config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(config: &[u8], layers: &[DiffId]) -> Value {
        serde_json::from_slice(&with_agent(config, layers).unwrap()).unwrap()
    }

    #[test]
    fn the_agent_is_what_an_image_runs() {
        let [own, agent] = [b"own", b"the"].map(|bytes| DiffId(Digest::of(bytes)));
        let config = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"User":"1"},
            "rootfs":{"type":"layers","diff_ids":["sha256:aa"]},
            "history":[{"created_by":"x"},{"created_by":"y","empty_layer":true}]}"#;
        let made = made(config, &[own, agent]);
        assert_eq!(made["config"]["Entrypoint"], json!([AGENT]));
        assert_eq!(made["config"].get("User"), None);
        assert_eq!(made["rootfs"]["diff_ids"], json!([own, agent]));
        assert_eq!(made["history"].as_array().unwrap().len(), 3);
        assert!(with_agent(b"[]", &[agent]).is_err());
        assert!(with_agent(b"{}", &[agent]).is_err());
    }

    #[test]
    fn what_is_made_of_an_image_is_known_by_its_tag() {
        let image = Digest::of(b"image");
        let tag = tag(&image.into(), &DiffId(Digest::of(b"agent")));
        let hex = image.hex();
        assert!(tag.len() <= 128, "ECR takes no longer ones");
        assert!(is_made_of(&tag, [hex.as_str()]));
        assert!(!is_made_of(&tag, [Digest::of(b"other").hex().as_str()]));
        for other in ["latest", "run-", "run--", "run-1-2", &image_tag(&image)] {
            assert!(!is_made_of(other, [hex.as_str()]), "{other}");
        }
    }

    #[test]
    fn a_history_out_of_step_is_put_into_step() {
        let layers = [b"1", b"2", b"3"].map(|bytes| DiffId(Digest::of(bytes)));
        for config in [
            &br#"{"rootfs":{},"history":[{"created_by":"x"}]}"#[..],
            br#"{"rootfs":{},"history":[]}"#,
            br#"{"rootfs":{},"history":null}"#,
            br#"{"rootfs":{}}"#,
        ] {
            let made = made(config, &layers);
            assert_eq!(made["history"].as_array().unwrap().len(), 3);
        }
    }
}
