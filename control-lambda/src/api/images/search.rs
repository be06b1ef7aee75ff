//! `GET /images/search` (Engine API, `ImageSearch`).

use crate::api::filters::Filters;
use crate::api::query::go_quote;
use crate::api::{ApiError, ApiResult, Context, json};
use crate::images::remote::{Credentials, Found, SearchError};

const FILTERS: [&str; 3] = ["is-automated", "is-official", "stars"];
/// How many are shown unless it is said.
const USUAL: u8 = 25;
const MOST: i64 = 100;

/// Searches Docker Hub.
///
/// # Errors
/// 400 for a limit or a filter that is none; Docker Hub's own.
pub async fn search(context: &Context<'_>) -> ApiResult {
    let limit = limit(context.query.text("limit"))?;
    let filters = context.query.filters()?;
    filters.only(&FILTERS)?;
    let choice = Choice::new(&filters)?;
    let credentials = Credentials::from_header(context.request.header("x-registry-auth"));
    let term = context.query.text("term");
    let refused = |error: SearchError| ApiError::new(error.status(), error.to_string());
    let remote = context.control.images.remote().await;
    let remote = remote.map_err(|error| ApiError::new(error.status(), error.to_string()))?;
    let found = remote
        .search(term, limit, &credentials)
        .await
        .map_err(refused)?;
    let found: Vec<Found> = found.into_iter().filter(|f| choice.takes(f)).collect();
    json(200, &found)
}

fn limit(text: &str) -> Result<u8, ApiError> {
    if text.is_empty() {
        return Ok(USUAL);
    }
    let number: i64 = text.parse().map_err(|_| {
        let text = go_quote(text);
        ApiError::new(
            400,
            format!("invalid limit specified: strconv.Atoi: parsing {text}: invalid syntax"),
        )
    })?;
    match u8::try_from(number) {
        Ok(0) => Ok(USUAL),
        Ok(limit) if number <= MOST => Ok(limit),
        _ => Err(ApiError::new(
            400,
            format!("limit {number} is outside the range of [1, {MOST}]"),
        )),
    }
}

/// What the filters ask for.
struct Choice {
    is_automated: Option<bool>,
    is_official: Option<bool>,
    stars: i64,
}

impl Choice {
    fn new(filters: &Filters) -> Result<Self, ApiError> {
        let mut stars = 0;
        for value in filters.get("stars") {
            let number: i64 = value.parse().map_err(|_| {
                let quoted = go_quote(value);
                ApiError::new(
                    400,
                    format!("invalid filter 'stars={value}': strconv.Atoi: parsing {quoted}: invalid syntax"),
                )
            })?;
            stars = stars.max(number);
        }
        Ok(Self {
            is_automated: flag(filters, "is-automated")?,
            is_official: flag(filters, "is-official")?,
            stars,
        })
    }

    fn takes(&self, found: &Found) -> bool {
        self.is_automated
            .is_none_or(|wanted| wanted == found.is_automated)
            && self
                .is_official
                .is_none_or(|wanted| wanted == found.is_official)
            && found.star_count >= self.stars
    }
}

fn flag(filters: &Filters, name: &str) -> Result<Option<bool>, ApiError> {
    let values = filters.get(name);
    let known = |value: &String| match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    };
    match values {
        [] => Ok(None),
        [one] if known(one).is_some() => Ok(known(one)),
        _ => {
            let list = values.join(" ");
            Err(ApiError::new(
                400,
                format!("invalid filter '{name}=[{list}]'"),
            ))
        }
    }
}
