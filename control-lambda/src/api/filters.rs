//! The `filters` parameter: a JSON object of names to values, either
//! `{"label": ["a"]}` or, as clients before API 1.22 wrote it, `{"label": {"a": true}}`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ApiError;

/// Filters by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the parameter's text; empty text is no filter.
    ///
    /// # Errors
    /// 400 when it is not such an object.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || ApiError::new(400, "invalid filter");
        let Ok(Value::Object(map)) = serde_json::from_str::<Value>(text) else {
            return Err(invalid());
        };
        let mut filters = BTreeMap::new();
        for (name, values) in map {
            let values = match values {
                Value::Array(values) => values
                    .into_iter()
                    .map(|value| value.as_str().map(ToOwned::to_owned).ok_or_else(invalid))
                    .collect::<Result<_, _>>()?,
                Value::Object(values) => {
                    if values.values().any(|value| !value.is_boolean()) {
                        return Err(invalid());
                    }
                    values
                        .into_iter()
                        .filter(|(_, on)| *on == Value::Bool(true))
                        .map(|(value, _)| value)
                        .collect()
                }
                Value::Null => Vec::new(),
                _ => return Err(invalid()),
            };
            filters.insert(name, values);
        }
        Ok(Self(filters))
    }

    /// Refuses names that are not among `known`.
    ///
    /// # Errors
    /// 400 in Docker's words.
    pub fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(ApiError::new(400, format!("invalid filter '{name}'"))),
        }
    }

    /// The values of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a name is there, with or without values.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The one yes or no of a name (Docker's `GetBoolOrDefault` and its like); `None`
    /// where nothing is said.
    ///
    /// # Errors
    /// 400 in Docker's words.
    pub fn one_bool(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let refuse = |message: String| Err(ApiError::new(400, message));
        match self.get(name) {
            [] => Ok(None),
            [one] => match one.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => refuse(format!(
                    "invalid value for filter '{name}', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
                )),
            },
            _ => refuse(format!("got more than one value for filter key \"{name}\"")),
        }
    }

    /// The same, where Docker refuses in other words.
    ///
    /// # Errors
    /// 400 in Docker's words.
    pub fn bracketed_bool(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.one_bool(name).map_err(|error| ApiError {
            message: format!("invalid filter '{name}=[{}]'", self.get(name).join(" ")),
            ..error
        })
    }

    /// Whether the text has a part that one of the patterns of `name` describes; true where
    /// there are none (Docker's `Match`).
    #[must_use]
    pub fn matches(&self, name: &str, text: &str) -> bool {
        self.any(name, |pattern| {
            regex_lite::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        })
    }

    /// Whether nothing is filtered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    /// Whether one of the values of `name` satisfies `matches`; true where there are none.
    pub fn any(&self, name: &str, matches: impl Fn(&str) -> bool) -> bool {
        let values = self.get(name);
        values.is_empty() || values.iter().any(|value| matches(value))
    }

    /// Docker's rule for labels: every `key` or `key=value` must be there.
    #[must_use]
    pub fn labels(&self, name: &str, labels: &Value) -> bool {
        self.get(name)
            .iter()
            .all(|wanted| match wanted.split_once('=') {
                Some((key, value)) => labels.get(key).and_then(Value::as_str) == Some(value),
                None => labels.get(wanted).is_some(),
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        let new = Filters::parse(r#"{"status":["running","exited"]}"#).unwrap();
        let old =
            Filters::parse(r#"{"status":{"running":true,"exited":true,"dead":false}}"#).unwrap();
        assert_eq!(new.get("status").len(), 2);
        assert_eq!(old.get("status").len(), 2);
        assert!(Filters::parse("{").is_err());
        assert!(Filters::parse(r#"{"a":1}"#).is_err());
        assert!(new.only(&["status"]).is_ok());
        assert_eq!(
            new.only(&["x"]).unwrap_err().message,
            "invalid filter 'status'"
        );
    }

    #[test]
    fn every_label_must_be_there() {
        let filters = Filters::parse(r#"{"label":["a","b=c"]}"#).unwrap();
        assert!(filters.labels("label", &json!({"a": "", "b": "c"})));
        assert!(!filters.labels("label", &json!({"a": "", "b": "d"})));
        assert!(!filters.labels("label", &Value::Null));
    }
}
