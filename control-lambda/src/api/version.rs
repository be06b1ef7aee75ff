//! API versions.

use std::fmt;

use super::ApiError;

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

    /// Reads the `v1.51` at the head of a path; `None` where the segment is no version.
    #[must_use]
    pub fn from_segment(segment: &str) -> Option<Self> {
        let (major, minor) = segment.strip_prefix('v')?.split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (digits(major) && digits(minor))
            .then(|| Some(Self::new(major.parse().ok()?, minor.parse().ok()?)))
            .flatten()
    }

    /// Refuses versions that are not served, in Docker's words.
    ///
    /// # Errors
    /// 400.
    pub fn check(self) -> Result<Self, ApiError> {
        if self < Self::OLDEST {
            Err(ApiError::new(
                400,
                format!(
                    "client version {self} is too old. Minimum supported API version is {}, \
                     please upgrade your client to a newer version",
                    Self::OLDEST
                ),
            ))
        } else if self > Self::NEWEST {
            Err(ApiError::new(
                400,
                format!(
                    "client version {self} is too new. Maximum supported API version is {}",
                    Self::NEWEST
                ),
            ))
        } else {
            Ok(self)
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
        assert!(ApiVersion::from_segment("v1.9").unwrap() < ApiVersion::OLDEST);
        assert!(ApiVersion::from_segment("v1.24").unwrap().check().is_ok());
        assert!(ApiVersion::from_segment("v1.52").unwrap().check().is_err());
        assert_eq!(ApiVersion::from_segment("containers"), None);
        assert_eq!(ApiVersion::from_segment("v1."), None);
        assert_eq!(ApiVersion::from_segment("v99999999999.1"), None);
    }
}
