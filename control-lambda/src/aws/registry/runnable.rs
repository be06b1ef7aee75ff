//! Images with the agent in them, as Lambda takes them: one manifest for one
//! platform, gzip layers, the agent as the entrypoint.
//!
//! Made without a build, by adding a layer to what is in the registry already,
//! and tagged with a hash of the image and the agent, so that it is made once.

use std::collections::HashMap;
use std::io::{Read, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use futures_util::stream;
use serde_json::{Value, json};
use sockerless_shared::ids::ImageDigest;

use super::agent_layer::{AGENT, AgentLayer};
use super::{EcrRegistry, OWN_MANIFEST, image_tag};
use crate::aws::functions::RunnableImages;
use crate::images::config::MAX_CONFIG_BYTES;
use crate::images::digest::{DiffId, Digest};
use crate::images::feed;
use crate::images::layer::compression::{Compression, MAGIC_BYTES, decoder};
use crate::images::manifest::{Descriptor, Manifest, ManifestOrIndex, media};
use crate::images::store::read_small;
use crate::ports::Registry as _;
use crate::ports::function_host::HostError;
use crate::ports::registry::{Expected, RegistryError};

/// Changed whenever the same image and agent are to be put together differently.
const GENERATION: u32 = 1;

/// Largest layer that is compressed anew, in bytes. It is held in memory.
const MAX_RECOMPRESSED_BYTES: u64 = 512 * 1024 * 1024;

/// Makes images of an [`EcrRegistry`] runnable.
pub struct EcrImages {
    registry: Arc<EcrRegistry>,
    agent: AgentLayer,
    /// Those that this process has seen.
    known: Mutex<HashMap<ImageDigest, String>>,
}

impl EcrImages {
    /// For this agent.
    #[must_use]
    pub fn new(registry: Arc<EcrRegistry>, agent: AgentLayer) -> Self {
        Self {
            registry,
            agent,
            known: Mutex::default(),
        }
    }

    async fn make(&self, image: &ImageDigest, tag: &str) -> Result<(), RegistryError> {
        let damaged = |why: &str| RegistryError::Unavailable(format!("image {image}: {why}"));
        let config_digest: Digest = image
            .as_str()
            .parse()
            .map_err(|_| damaged("not a digest"))?;
        let (media_type, bytes) = self
            .registry
            .manifest(&image_tag(&config_digest))
            .await?
            .ok_or(RegistryError::NotFound(config_digest))?;
        let parsed = ManifestOrIndex::parse(&bytes, &media_type)
            .map_err(|error| damaged(&error.to_string()))?;
        let ManifestOrIndex::Manifest(manifest) = parsed else {
            return Err(damaged("its manifest is an index"));
        };
        let config = read_small(&*self.registry, &config_digest, MAX_CONFIG_BYTES)
            .await
            .map_err(|error| damaged(&error.to_string()))?;
        let config = with_agent(&config, &self.agent.diff_id).map_err(|why| damaged(&why))?;

        let mut layers = Vec::with_capacity(manifest.layers.len() + 1);
        for layer in &manifest.layers {
            layers.push(self.gzip_layer(layer).await?);
        }
        layers.push(
            self.put(self.agent.bytes.clone(), media::OCI_LAYER_GZIP)
                .await?,
        );
        let config = self.put(config.into(), media::OCI_CONFIG).await?;
        let manifest = Manifest::oci(config, layers)
            .to_bytes()
            .map_err(|error| damaged(&error.to_string()))?;
        self.registry
            .put_manifest_as(tag, OWN_MANIFEST, manifest.into())
            .await
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

    /// The layer itself if it is gzip, else the same content compressed so:
    /// Lambda takes nothing else.
    async fn gzip_layer(&self, layer: &Descriptor) -> Result<Descriptor, RegistryError> {
        if matches!(
            layer.media_type.as_str(),
            media::OCI_LAYER_GZIP | media::DOCKER_LAYER_GZIP
        ) {
            return Ok(Descriptor::new(
                media::OCI_LAYER_GZIP,
                layer.digest,
                layer.size,
            ));
        }
        let body = self.registry.get_blob(&layer.digest).await?;
        let compressed = feed::run(body, compress)
            .await
            .unwrap_or_else(|| Err("compressing failed".to_owned()))
            .map_err(|why| RegistryError::Unavailable(format!("layer {}: {why}", layer.digest)))?;
        match compressed {
            None => Ok(Descriptor::new(
                media::OCI_LAYER_GZIP,
                layer.digest,
                layer.size,
            )),
            Some(bytes) => self.put(bytes, media::OCI_LAYER_GZIP).await,
        }
    }
}

#[async_trait]
impl RunnableImages for EcrImages {
    async fn uri(&self, image: &ImageDigest) -> Result<String, HostError> {
        let known = |map: &Mutex<HashMap<_, _>>| {
            let map = map.lock().unwrap_or_else(PoisonError::into_inner);
            map.get(image).cloned()
        };
        if let Some(uri) = known(&self.known) {
            return Ok(uri);
        }
        let tag = tag(image, &self.agent.diff_id);
        let made = async {
            if self.registry.has_manifest(&tag).await? {
                Ok(())
            } else {
                self.make(image, &tag).await
            }
        };
        made.await.map_err(|error| {
            HostError::Failed(format!(
                "image {image} cannot be made ready for Lambda: {error}"
            ))
        })?;
        let uri = format!("{}:{tag}", self.registry.client.name());
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(image.clone(), uri.clone());
        Ok(uri)
    }
}

fn tag(image: &ImageDigest, agent: &DiffId) -> String {
    let hash = Digest::of(format!("{GENERATION}\n{image}\n{agent}").as_bytes());
    format!("run-{:.40}", hash.hex())
}

/// The config with the agent's layer on top and the agent as what is run. The
/// rest of the image's own (`Cmd`, `Env`, `User` …) travels in the invocation.
fn with_agent(config: &[u8], agent: &DiffId) -> Result<Vec<u8>, String> {
    let mut config: Value = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    let config_object = config
        .as_object_mut()
        .ok_or("its config is not an object")?;
    let has_history = config_object
        .get("history")
        .and_then(Value::as_array)
        .is_some_and(|history| !history.is_empty());
    if has_history
        && let Some(history) = config_object
            .get_mut("history")
            .and_then(Value::as_array_mut)
    {
        history.push(json!({"created": "1970-01-01T00:00:00Z", "created_by": "sockerless agent"}));
    }
    config_object.insert(
        "config".to_owned(),
        json!({"Entrypoint": [AGENT], "WorkingDir": "/"}),
    );
    config_object
        .get_mut("rootfs")
        .and_then(|rootfs| rootfs.get_mut("diff_ids"))
        .and_then(Value::as_array_mut)
        .ok_or("its config names no layers")?
        .push(Value::String(agent.to_string()));
    serde_json::to_vec(&config).map_err(|error| error.to_string())
}

/// The same tar stream as gzip; `None` when it is that already, whatever its
/// media type said.
fn compress(mut source: impl Read + Send) -> Result<Option<Bytes>, String> {
    let mut start = vec![0; MAGIC_BYTES];
    let mut filled = 0;
    while filled < start.len() {
        match source
            .read(&mut start[filled..])
            .map_err(|e| e.to_string())?
        {
            0 => break,
            read => filled += read,
        }
    }
    start.truncate(filled);
    if Compression::of(&start) == Compression::Gzip {
        return Ok(None);
    }
    let whole = std::io::Cursor::new(start).chain(source);
    let mut tar = decoder(whole)
        .map_err(|e| e.to_string())?
        .take(MAX_RECOMPRESSED_BYTES + 1);
    let mut gzip = GzEncoder::new(Vec::new(), Level::fast());
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0u64;
    loop {
        let read = tar.read(&mut buffer).map_err(|e| e.to_string())?;
        if read == 0 {
            break;
        }
        total += read as u64;
        if total > MAX_RECOMPRESSED_BYTES {
            return Err(format!(
                "it is larger than {MAX_RECOMPRESSED_BYTES} bytes and not gzip, which Lambda wants; compress it with gzip and load the image again"
            ));
        }
        gzip.write_all(&buffer[..read]).map_err(|e| e.to_string())?;
    }
    gzip.finish()
        .map(|bytes| Some(bytes.into()))
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_what_an_image_runs() {
        let agent = DiffId(Digest::of(b"agent"));
        let config = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"User":"1"},
            "rootfs":{"type":"layers","diff_ids":["sha256:aa"]},"history":[{"created_by":"x"}]}"#;
        let made: Value = serde_json::from_slice(&with_agent(config, &agent).unwrap()).unwrap();
        assert_eq!(made["config"]["Entrypoint"], json!([AGENT]));
        assert_eq!(made["config"].get("User"), None);
        assert_eq!(
            made["rootfs"]["diff_ids"],
            json!(["sha256:aa", agent.to_string()])
        );
        assert_eq!(made["history"].as_array().unwrap().len(), 2);
        assert!(with_agent(b"[]", &agent).is_err());
        assert!(with_agent(b"{}", &agent).is_err());
    }

    #[test]
    fn what_is_not_gzip_becomes_gzip_with_the_same_content() {
        let tar = vec![7; 300_000];
        let gzip = compress(&tar[..]).unwrap().unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&gzip[..])
            .read_to_end(&mut back)
            .unwrap();
        assert_eq!(back, tar);
        assert_eq!(compress(&gzip[..]), Ok(None));
    }
}
