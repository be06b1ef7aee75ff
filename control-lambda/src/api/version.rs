//! API versions.

use std::fmt;

use super::ApiError;
use super::error::Form;

/// A version of the Engine API, such as 1.51.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// The oldest that is served.
    pub const OLDEST: Self = Self::new(1, 24);
    /// The newest that is served.
    pub const NEWEST: Self = Self::new(1, 51);

    /// The version of these numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// What a `v1.51` at the head of a path says; `None` where the segment is no
    /// version for Docker's router, whose pattern is `v[0-9.]+`.
    #[must_use]
    pub fn text_of_segment(segment: &str) -> Option<&str> {
        segment.strip_prefix('v').filter(|text| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        })
    }

    /// The version that a client asked for, unless it is not served: then the
    /// refusal is in Docker's words.
    ///
    /// # Errors
    /// 400.
    pub fn served(text: &str) -> Result<Self, ApiError> {
        let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
        let asked = Self::new(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let beyond = asked == Self::NEWEST && numbers.any(|number: u32| number > 0);
        if asked < Self::OLDEST {
            Err(ApiError {
                form: Form::TooOld,
                ..ApiError::new(
                    400,
                    format!(
                        "client version {text} is too old. Minimum supported API version is {}, \
                         please upgrade your client to a newer version",
                        Self::OLDEST
                    ),
                )
            })
        } else if asked > Self::NEWEST || beyond {
            Err(ApiError {
                form: Form::TooNew,
                ..ApiError::new(
                    400,
                    format!(
                        "client version {text} is too new. Maximum supported API version is {}",
                        Self::NEWEST
                    ),
                )
            })
        } else {
            Ok(asked)
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_not_decimals() {
        let served = |text| ApiVersion::served(text).map_err(|error| error.form);
        assert_eq!(served("1.9"), Err(Form::TooOld));
        assert_eq!(served("1."), Err(Form::TooOld));
        assert_eq!(served("1.24"), Ok(ApiVersion::OLDEST));
        assert_eq!(served("1.51.0"), Ok(ApiVersion::NEWEST));
        assert_eq!(served("1.51.1"), Err(Form::TooNew));
        assert_eq!(served("1.52"), Err(Form::TooNew));
        assert_eq!(served("99999999999.1"), Err(Form::TooOld));
        assert_eq!(ApiVersion::text_of_segment("v1."), Some("1."));
        assert_eq!(ApiVersion::text_of_segment("containers"), None);
        assert_eq!(ApiVersion::text_of_segment("v1.5x"), None);
    }
}
