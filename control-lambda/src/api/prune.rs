//! What the prunes of all kinds of objects choose by.

use serde_json::Value;
use sockerless_shared::timestamp::Timestamp;

use super::filters::Filters;
use super::images::time;
use super::query::go_quote;
use super::{ApiError, Context};

/// The filters `until`, `label` and `label!`.
pub(super) struct Choice<'a> {
    until: Option<Timestamp>,
    filters: &'a Filters,
}

impl<'a> Choice<'a> {
    /// Reads the filters.
    ///
    /// # Errors
    /// 400 in Docker's words for a time that is none, or more than one.
    pub(super) fn new(context: &Context<'_>, filters: &'a Filters) -> Result<Self, ApiError> {
        let now = context.control.environment.now();
        let until = match filters.get("until") {
            [] => None,
            [text] => Some(time::parse(text, now).ok_or_else(|| {
                let message = format!(
                    "failed to parse value as time or duration: {}",
                    go_quote(text)
                );
                ApiError::new(400, message)
            })?),
            _ => return Err(ApiError::new(400, "more than one until filter specified")),
        };
        Ok(Self { until, filters })
    }

    /// Whether an object of this age and these labels is among what goes.
    pub(super) fn takes(&self, created: Timestamp, labels: &Value) -> bool {
        self.until.is_none_or(|until| created <= until)
            && self.filters.labels("label", labels)
            && (self.filters.get("label!").is_empty() || !self.filters.labels("label!", labels))
    }
}
