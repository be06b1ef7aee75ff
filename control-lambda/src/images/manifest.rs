//! Manifests and indexes, of OCI and of Docker, as far as they matter here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::digest::Digest;

/// Largest manifest or index, in bytes. Source: distribution specification
/// ("at least 4 MiB"), which is also Docker's limit.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Most layers of an image. Docker's limit is 127, and so is Lambda's.
pub const MAX_LAYERS: usize = 127;

/// Media types.
pub mod media {
    /// OCI manifest of one platform.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, not compressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker manifest of one platform.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, not compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// Why a text is no manifest to work with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Too large.
    #[error("manifest of {0} bytes is larger than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge(usize),
    /// Not JSON, or not of the shape.
    #[error("manifest is not valid: {0}")]
    Invalid(String),
    /// The first version, with its own signature format.
    #[error(
        "manifest is of Docker's schema 1, which registries have given up; push the image again with a present-day client"
    )]
    SchemaOne,
    /// Neither an image nor an index.
    #[error("manifest of media type {0:?} is not of an image; only images can be run")]
    NotAnImage(String),
    /// More layers than an image may have.
    #[error("image has {0} layers; an image may have at most {MAX_LAYERS}")]
    TooManyLayers(usize),
}

/// Points at a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where else the blob may be had (foreign layers).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// A descriptor of these three.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
        }
    }

    /// Whether this is BuildKit's attestation rather than an image.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.annotations
            .get("vnd.docker.reference.type")
            .is_some_and(|kind| kind == "attestation-manifest")
    }

    /// Whether this points at another index.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            media::OCI_INDEX | media::DOCKER_LIST
        )
    }
}

/// `platform` of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPlatform {
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// Processor.
    #[serde(default)]
    pub architecture: String,
    /// Processor's variant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A manifest of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// OCI or Docker.
    #[serde(default)]
    pub media_type: String,
    /// The image's config.
    pub config: Descriptor,
    /// Lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// An OCI manifest of this config and these layers.
    #[must_use]
    pub fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media::OCI_MANIFEST.to_owned(),
            config,
            layers,
        }
    }

    /// The same in OCI's media types, for readers that know no others.
    #[must_use]
    pub fn into_oci(self) -> Self {
        let layers = self.layers.into_iter().map(|mut layer| {
            let media_type = match layer.media_type.as_str() {
                media::DOCKER_LAYER => media::OCI_LAYER,
                media::DOCKER_LAYER_GZIP => media::OCI_LAYER_GZIP,
                _ => return layer,
            };
            media_type.clone_into(&mut layer.media_type);
            layer
        });
        let layers = layers.collect();
        let config = Descriptor::new(media::OCI_CONFIG, self.config.digest, self.config.size);
        Self::oci(config, layers)
    }

    /// A Docker manifest (version 2, schema 2) of this config and these layers, which are gzip.
    #[must_use]
    pub fn docker(config: &Descriptor, layers: &[Descriptor]) -> Self {
        let layer = |l: &Descriptor| Descriptor::new(media::DOCKER_LAYER_GZIP, l.digest, l.size);
        Self {
            schema_version: 2,
            media_type: media::DOCKER_MANIFEST.to_owned(),
            config: Descriptor::new(media::DOCKER_CONFIG, config.digest, config.size),
            layers: layers.iter().map(layer).collect(),
        }
    }

    /// Its bytes as Docker writes them: with line breaks.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`], which plain data does not cause.
    pub fn to_docker_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = Vec::new();
        let form = serde_json::ser::PrettyFormatter::with_indent(b"   ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, form);
        self.serialize(&mut serializer)
            .map_err(|e| ManifestError::Invalid(e.to_string()))?;
        Ok(bytes)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`], which plain data does not cause.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        serde_json::to_vec(self).map_err(|e| ManifestError::Invalid(e.to_string()))
    }
}

/// A list of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// OCI or Docker.
    #[serde(default)]
    pub media_type: String,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

/// Either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestOrIndex {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

impl ManifestOrIndex {
    /// Reads either. `media_type` is what the registry or the index said it is;
    /// the document's own word and its shape come after that.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Peek {
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let invalid = |e: serde_json::Error| ManifestError::Invalid(e.to_string());
        let peek: Peek = serde_json::from_slice(bytes).map_err(invalid)?;
        if peek.schema_version == 1 {
            return Err(ManifestError::SchemaOne);
        }
        let said = if peek.media_type.is_empty() {
            media_type.split(';').next().unwrap_or_default().trim()
        } else {
            &peek.media_type
        };
        let is_index = match said {
            media::OCI_INDEX | media::DOCKER_LIST => true,
            media::OCI_MANIFEST | media::DOCKER_MANIFEST => false,
            _ => match (peek.manifests, peek.config) {
                (Some(_), None) => true,
                (None, Some(_)) => false,
                _ => return Err(ManifestError::NotAnImage(said.chars().take(120).collect())),
            },
        };
        if is_index {
            return serde_json::from_slice(bytes)
                .map(Self::Index)
                .map_err(invalid);
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(invalid)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(manifest.layers.len()));
        }
        match manifest.config.media_type.as_str() {
            "" | media::OCI_CONFIG | media::DOCKER_CONFIG => Ok(Self::Manifest(manifest)),
            other => Err(ManifestError::NotAnImage(other.chars().take(120).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let d = Digest::of(b"x");
        let config = Descriptor::new(media::OCI_CONFIG, d, 1);
        let manifest = Manifest::oci(config, vec![]);
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(
            ManifestOrIndex::parse(&bytes, ""),
            Ok(ManifestOrIndex::Manifest(manifest))
        );
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{d}","size":1}}]}}"#);
        assert!(matches!(
            ManifestOrIndex::parse(index.as_bytes(), media::DOCKER_LIST),
            Ok(ManifestOrIndex::Index(_))
        ));
        assert!(matches!(
            ManifestOrIndex::parse(index.as_bytes(), "text/plain"),
            Ok(ManifestOrIndex::Index(_))
        ));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let refused = |text: &str| ManifestOrIndex::parse(text.as_bytes(), "").unwrap_err();
        assert_eq!(refused(r#"{"schemaVersion":1}"#), ManifestError::SchemaOne);
        assert!(matches!(refused("{}"), ManifestError::NotAnImage(_)));
        assert!(matches!(refused("[]"), ManifestError::Invalid(_)));
        assert!(matches!(refused("nonsense"), ManifestError::Invalid(_)));
        let chart = format!(
            r#"{{"schemaVersion":2,"layers":[],"config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{}","size":1}}}}"#,
            Digest::of(b"")
        );
        assert!(matches!(refused(&chart), ManifestError::NotAnImage(_)));
        assert!(matches!(
            ManifestOrIndex::parse(&vec![b' '; MAX_MANIFEST_BYTES + 1], ""),
            Err(ManifestError::TooLarge(_))
        ));
        let deep = "[".repeat(100_000);
        assert!(matches!(refused(&deep), ManifestError::Invalid(_)));
    }
}
