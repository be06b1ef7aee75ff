//! `GET /distribution/{name}/json` (Engine API, `DistributionInspect`).

use serde_json::{Map, Value, json};

use super::{ApiError, ApiResult, Context, json};
use crate::images::config::{ImageConfig, MAX_CONFIG_BYTES};
use crate::images::manifest::{DescriptorPlatform, ManifestOrIndex, media};
use crate::images::reference::{ImageName, Reference};
use crate::images::remote::{Credentials, RemoteError, Repository};

/// What a registry has under a name: digest, media type and platforms.
///
/// # Errors
/// 400 for a name that is none; those of the registry.
pub async fn inspect(context: &Context<'_>, name: &str) -> ApiResult {
    let reference = match ImageName::parse(name) {
        Ok(ImageName::Named(reference)) => reference.or_latest(),
        Ok(ImageName::Id(_)) => {
            return Err(ApiError::new(500, "no manifest found for full image ID"));
        }
        Err(error) => return Err(ApiError::new(400, error.to_string())),
    };
    let credentials = Credentials::from_header(context.request.header("x-registry-auth"));
    let found = ask(context, &reference, &credentials).await;
    json(200, &found?)
}

async fn ask(
    context: &Context<'_>,
    reference: &Reference,
    credentials: &Credentials,
) -> Result<Value, ApiError> {
    let refused = |error: RemoteError| ApiError::new(error.status(), error.bare());
    let remote = context.control.images.remote().await.map_err(refused)?;
    let repository = remote.repository(reference, credentials).await;
    let repository = repository.map_err(refused)?;
    let manifest = repository.manifest(reference).await.map_err(refused)?;
    let parsed = ManifestOrIndex::parse(&manifest.bytes, &manifest.media_type)
        .map_err(|error| ApiError::new(500, error.to_string()))?;
    let media_type = match &parsed {
        ManifestOrIndex::Index(index) if !index.media_type.is_empty() => &index.media_type,
        ManifestOrIndex::Manifest(image) if !image.media_type.is_empty() => &image.media_type,
        ManifestOrIndex::Index(_) | ManifestOrIndex::Manifest(_) => &manifest.media_type,
    };
    let platforms = match &parsed {
        ManifestOrIndex::Index(index) => {
            let platforms = index.manifests.iter().filter_map(|m| m.platform.as_ref());
            json!(platforms.map(platform).collect::<Vec<_>>())
        }
        // Docker looks into the configs of its own manifests only.
        ManifestOrIndex::Manifest(_) if media_type == media::OCI_MANIFEST => Value::Null,
        ManifestOrIndex::Manifest(image) => {
            json!([of_config(&repository, &image.config.digest).await?])
        }
    };
    Ok(json!({
        "Descriptor": {
            "mediaType": media_type,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
        },
        "Platforms": platforms,
    }))
}

/// The platform that an image's config names.
async fn of_config(
    repository: &Repository,
    config: &crate::images::Digest,
) -> Result<Value, ApiError> {
    let bytes = repository
        .small_blob(config, MAX_CONFIG_BYTES)
        .await
        .map_err(|error| ApiError::new(error.status(), error.bare()))?;
    let config = ImageConfig::parse(&bytes).map_err(|e| ApiError::new(500, e.to_string()))?;
    Ok(platform(&DescriptorPlatform {
        os: config.os,
        architecture: config.architecture,
        variant: config.variant,
    }))
}

fn platform(platform: &DescriptorPlatform) -> Value {
    let mut shown = Map::new();
    shown.insert("architecture".to_owned(), json!(platform.architecture));
    shown.insert("os".to_owned(), json!(platform.os));
    if !platform.variant.is_empty() {
        shown.insert("variant".to_owned(), json!(platform.variant));
    }
    Value::Object(shown)
}
