//! `GET /images/json` (Engine API, `ImageList`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::{Value, json};
use sockerless_shared::timestamp::Timestamp;

use super::{Users, time};
use crate::api::filters::Filters;
use crate::api::query::go_quote;
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::images::Digest;
use crate::images::catalog::ImageRecord;
use crate::images::digest::chain_ids;
use crate::images::reference::{Reference, familiar_match};
use crate::images::remove::references;
use crate::images::store::StoreError;

const FILTERS: [&str; 6] = ["dangling", "label", "before", "since", "reference", "until"];

/// The images that satisfy the filters, newest first.
///
/// # Errors
/// 400 for a filter that is not one, 404 for an image that a filter names, 500
/// (as in Docker) for a pattern or a time that is none.
pub async fn list(context: &Context<'_>) -> ApiResult {
    let control = context.control;
    let version = context.version;
    let filters = context.query.filters()?;
    filters.only(&FILTERS)?;
    let mut choice = Choice::new(context, &filters).await?;
    if version < ApiVersion::new(1, 41) && !context.query.text("filter").is_empty() {
        choice
            .patterns
            .push(context.query.text("filter").to_owned());
    }
    let now = control.environment.now();
    let mut images = control.images.catalog.list(context.namespace, now).await?;
    let shared = version >= ApiVersion::new(1, 42) && context.query.flag("shared-size");
    let sizes = if shared {
        shared_sizes(context, &images).await?
    } else {
        HashMap::new()
    };
    images.sort_by_key(|image| (std::cmp::Reverse(created(image)), image.id));
    let users = if version >= ApiVersion::new(1, 51) {
        Some(Users::of(context).await?)
    } else {
        None
    };
    let mut summaries = Vec::with_capacity(images.len());
    for image in &images {
        if let Some(names) = choice.names_of(image)? {
            let containers = users.as_ref().map(|u| u.of_image(&image.id).count());
            let shared = sizes.get(&image.id).copied();
            summaries.push(summary(image, &names, containers, shared, version));
        }
    }
    json(200, &summaries)
}

/// All images, with what they share and who uses them, as `docker system df` shows them.
///
/// # Errors
/// The store's.
pub(in crate::api) async fn all(context: &Context<'_>) -> Result<Vec<Value>, ApiError> {
    let control = context.control;
    let now = control.environment.now();
    let mut images = control.images.catalog.list(context.namespace, now).await?;
    images.sort_by_key(|image| (std::cmp::Reverse(created(image)), image.id));
    let sizes = shared_sizes(context, &images).await?;
    let users = Users::of(context).await?;
    let summaries = images.iter().map(|image| {
        let names = references(image);
        let containers = Some(users.of_image(&image.id).count());
        let shared = sizes.get(&image.id).copied();
        let mut summary = summary(image, &names, containers, shared, context.version);
        for list in ["RepoTags", "RepoDigests"] {
            if summary[list].as_array().is_some_and(Vec::is_empty) {
                summary[list] = Value::Null;
            }
        }
        summary
    });
    Ok(summaries.collect())
}

fn summary(
    image: &ImageRecord,
    names: &[Reference],
    containers: Option<usize>,
    shared: Option<u64>,
    version: ApiVersion,
) -> Value {
    let familiar = |digests: bool| -> Vec<String> {
        names
            .iter()
            .filter(|name| name.digest().is_some() == digests)
            .map(Reference::familiar)
            .collect()
    };
    let (mut tags, mut digests) = (json!(familiar(false)), json!(familiar(true)));
    if version < ApiVersion::new(1, 43) {
        if names.is_empty() {
            (tags, digests) = (json!(["<none>:<none>"]), json!(["<none>@<none>"]));
        }
        for list in [&mut tags, &mut digests] {
            if list.as_array().is_some_and(Vec::is_empty) {
                *list = Value::Null;
            }
        }
    }
    let mut summary = json!({
        "Containers": containers.map_or(json!(-1), |count| json!(count)),
        "Created": created(image).map_or(0, Timestamp::secs),
        "Id": image.id,
        "Labels": image.labels,
        "ParentId": "",
        "RepoDigests": digests,
        "RepoTags": tags,
        "SharedSize": shared.map_or(json!(-1), |size| json!(size)),
        "Size": image.size,
    });
    if version < ApiVersion::new(1, 44) {
        summary["VirtualSize"] = json!(image.size);
    }
    summary
}

fn created(image: &ImageRecord) -> Option<Timestamp> {
    image.created.as_deref().and_then(Timestamp::parse_rfc3339)
}

/// The sizes of all layers of these images, each by the chain that it ends.
///
/// # Errors
/// The layer store's.
pub(in crate::api) async fn layer_sizes(
    context: &Context<'_>,
    images: &[ImageRecord],
) -> Result<HashMap<Digest, u64>, ApiError> {
    let mut sizes = HashMap::new();
    for image in images {
        for (chain, layer) in chain_ids(&image.layers).into_iter().zip(&image.layers) {
            if let Entry::Vacant(vacant) = sizes.entry(chain) {
                let size = context.control.images.layers.stat(layer).await;
                vacant.insert(size.map_err(StoreError::from)?.unwrap_or_default());
            }
        }
    }
    Ok(sizes)
}

/// How many bytes of each image are in layers that others have too.
async fn shared_sizes(
    context: &Context<'_>,
    images: &[ImageRecord],
) -> Result<HashMap<Digest, u64>, ApiError> {
    let mut uses: HashMap<Digest, usize> = HashMap::new();
    for layer in images.iter().flat_map(|image| chain_ids(&image.layers)) {
        *uses.entry(layer).or_default() += 1;
    }
    let of_layers = layer_sizes(context, images).await?;
    let sizes = images.iter().map(|image| {
        let chains = chain_ids(&image.layers).into_iter();
        let shared = chains.filter(|chain| uses.get(chain).is_some_and(|count| *count > 1));
        let bytes = shared.filter_map(|chain| of_layers.get(&chain)).sum();
        (image.id, bytes)
    });
    Ok(sizes.collect())
}

/// What the filters ask for.
struct Choice<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    /// Images made at this time or later are left out.
    before: Option<Timestamp>,
    /// Images made at this time or earlier are left out.
    since: Option<Timestamp>,
    patterns: Vec<String>,
}

impl<'a> Choice<'a> {
    async fn new(context: &Context<'_>, filters: &'a Filters) -> Result<Self, ApiError> {
        let dangling = filters.get("dangling");
        let known = |value: &String| match value.to_ascii_lowercase().as_str() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        };
        let values: Option<Vec<bool>> = dangling.iter().map(known).collect();
        let dangling = match values.as_deref() {
            Some([]) => None,
            Some([one]) => Some(*one),
            _ => {
                let list = dangling.join(" ");
                return Err(ApiError::new(
                    400,
                    format!("invalid filter 'dangling=[{list}]'"),
                ));
            }
        };
        let mut choice = Self {
            filters,
            dangling,
            before: None,
            since: None,
            patterns: filters.get("reference").to_vec(),
        };
        let control = context.control;
        let now = control.environment.now();
        let find = async |name: &str| {
            let catalog = &control.images.catalog;
            let image = catalog.resolve(context.namespace, name, now).await;
            image.map_err(ApiError::from)
        };
        for value in filters.get("until") {
            let time = time::parse(value, now).ok_or_else(|| {
                let value = go_quote(value);
                ApiError::new(
                    500,
                    format!("failed to parse value as time or duration: {value}"),
                )
            })?;
            choice.before = Some(choice.before.map_or(time, |before| before.min(time)));
        }
        for name in filters.get("before") {
            // An image without a time was made before all others.
            let time = created(&find(name).await?).unwrap_or_default();
            choice.before = Some(choice.before.map_or(time, |before| before.min(time)));
        }
        for name in filters.get("since") {
            let time = created(&find(name).await?).unwrap_or_default();
            choice.since = Some(choice.since.map_or(time, |since| since.max(time)));
        }
        Ok(choice)
    }

    /// The names of an image that are to be shown; `None` when it is not.
    fn names_of(&self, image: &ImageRecord) -> Result<Option<Vec<Reference>>, ApiError> {
        let made = created(image);
        let too_late = self
            .before
            .is_some_and(|before| made.is_none_or(|made| made >= before));
        let too_early = self
            .since
            .is_some_and(|since| made.is_none_or(|made| made <= since));
        let labels = json!(image.labels);
        if too_late || too_early || !self.filters.labels("label", &labels) {
            return Ok(None);
        }
        let mut names = references(image);
        let is_dangling = !names.iter().any(|name| name.tag().is_some());
        if self.dangling == Some(true) && !is_dangling {
            return Ok(None);
        }
        if !self.patterns.is_empty() {
            let mut found = Vec::new();
            for name in names {
                let mut fits = false;
                for pattern in &self.patterns {
                    fits |= familiar_match(pattern, &name)
                        .ok_or_else(|| ApiError::new(500, "syntax error in pattern"))?;
                }
                if fits {
                    found.push(name);
                }
            }
            names = found;
        }
        let hidden =
            names.is_empty() && (self.dangling == Some(false) || !self.patterns.is_empty());
        Ok((!hidden).then_some(names))
    }
}
