//! Query parameters, by Docker's rules.

use super::ApiError;
use crate::api::filters::Filters;

/// The parameters of a request, decoded.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands behind the `?`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a name, or nothing.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// A yes or no as Docker reads it: everything but the known noes is a yes
    /// (`httputils.BoolValue`).
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        !matches!(
            self.text(name).trim().to_ascii_lowercase().as_str(),
            "" | "0" | "no" | "false" | "none"
        )
    }

    /// A yes or no with a value for when it is not there.
    #[must_use]
    pub fn flag_or(&self, name: &str, absent: bool) -> bool {
        if self.get(name).is_some() {
            self.flag(name)
        } else {
            absent
        }
    }

    /// A whole number; `None` where it is absent or empty.
    ///
    /// # Errors
    /// 500, as Docker gives, in the words of Go's `strconv.Atoi`.
    pub fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::new(
                    500,
                    format!("strconv.Atoi: parsing {}: invalid syntax", go_quote(text)),
                )
            }),
        }
    }

    /// The `filters` parameter.
    ///
    /// # Errors
    /// 400 when it is not a map of filters.
    pub fn filters(&self) -> Result<Filters, ApiError> {
        Filters::parse(self.text("filters"))
    }
}

/// Go's `strconv.ParseBool`.
#[must_use]
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Text in double quotes as Go's `%q` writes it.
#[must_use]
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_docker_reads_them() {
        let query = Query::parse("a=1&b=0&c=False&d=yes&e=&f=none");
        assert!(query.flag("a") && query.flag("d"));
        for no in ["b", "c", "e", "f", "missing"] {
            assert!(!query.flag(no), "{no}");
        }
        assert!(query.flag_or("missing", true));
        assert!(!query.flag_or("b", true));
    }

    #[test]
    fn numbers_fail_in_gos_words() {
        let query = Query::parse("n=x&m=3");
        assert_eq!(query.number("m").unwrap(), Some(3));
        assert_eq!(query.number("absent").unwrap(), None);
        assert!(
            query
                .number("n")
                .unwrap_err()
                .message
                .contains("parsing \"x\": invalid syntax")
        );
    }
}
