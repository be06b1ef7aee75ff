//! The `platform` parameter of operations on images that are here.

use bytes::Bytes;

use crate::api::{ApiError, Context, go_json};
use crate::images::catalog::ImageRecord;
use crate::images::platform::Platform;

/// `{"os": …, "architecture": …, "variant": …}`, since API 1.48.
///
/// # Errors
/// 400 for what is none.
pub fn parameter(context: &Context<'_>) -> Result<Option<Platform>, ApiError> {
    #[derive(serde::Deserialize)]
    struct Wanted {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        #[serde(default)]
        variant: String,
    }
    let text = context.query.text("platform");
    if text.is_empty() {
        return Ok(None);
    }
    let failed = |why: &dyn std::fmt::Display| {
        ApiError::new(400, format!("failed to parse platform: {why}"))
    };
    let value = go_json::parse(&Bytes::copy_from_slice(text.as_bytes()))
        .map_err(|error| failed(&go_json::bare(&error)))?;
    let wanted: Wanted = serde_json::from_value(value).map_err(|error| failed(&error))?;
    Ok(Some(Platform::of(
        &wanted.os,
        &wanted.architecture,
        &wanted.variant,
    )))
}

/// Refuses an image that is for another platform than the one asked for.
///
/// # Errors
/// 404 in Docker's words.
pub async fn check(
    context: &Context<'_>,
    name: &str,
    image: &ImageRecord,
    wanted: Option<&Platform>,
) -> Result<(), ApiError> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let config = context.control.images.config(&image.id).await?;
    let actual = Platform::of(&config.os, &config.architecture, &config.variant);
    if wanted.accepts(&actual) {
        return Ok(());
    }
    Err(ApiError::new(
        404,
        format!(
            "image with reference {name} was found but its platform ({actual}) does not match the specified platform ({wanted})"
        ),
    ))
}
