//! Names of images, as Docker reads and writes them.
//!
//! Grammar and normalisation are those of `distribution/reference`, errors'
//! texts included.

use std::fmt;
use std::sync::LazyLock;

use regex_lite::Regex;
use thiserror::Error;

use super::digest::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
/// The tag of a name that says none.
pub const DEFAULT_TAG: &str = "latest";

const DOMAIN: &str = r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?";
const PATH: &str =
    r"[a-z0-9]+(?:(?:[_.]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[_.]|__|-+)[a-z0-9]+)*)*";
const TAG: &str = r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}";
const DIGEST: &str = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}";

static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(
        "^((?:{DOMAIN}/)?{PATH})(?::({TAG}))?(?:@({DIGEST}))?$"
    ))
    .ok()
});
static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!("^(?:({DOMAIN})/)?({PATH})$")).ok());
static ONLY_TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("^{TAG}$")).ok());

/// Why a text names no image. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// Does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Upper case where the grammar has none.
    #[error("repository name must be lowercase")]
    Uppercase,
    /// Upper case in the repository's path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UppercaseName(String),
    /// No name at all.
    #[error("repository name must have at least one component")]
    Empty,
    /// A path of more than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// Looks like an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// The digest has the wrong length or digits.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// A digest by something else than SHA-256.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    /// The tag does not follow the grammar.
    #[error("invalid tag format")]
    Tag,
}

/// A normalised name: registry, repository, and a tag or a digest or both or
/// neither. `alpine` is `docker.io/library/alpine`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as people write it (`ParseNormalizedNamed`).
    ///
    /// # Errors
    /// See [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if is_hex_id(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.to_lowercase() != remote {
            return Err(ReferenceError::UppercaseName(
                remote.chars().take(300).collect(),
            ));
        }
        Self::parse_canonical(&format!("{domain}/{remainder}"))
    }

    fn parse_canonical(text: &str) -> Result<Self, ReferenceError> {
        let regex = REFERENCE.as_ref().ok_or(ReferenceError::Format)?;
        let Some(found) = regex.captures(text) else {
            return Err(if text.is_empty() {
                ReferenceError::Empty
            } else if regex.is_match(&text.to_lowercase()) {
                ReferenceError::Uppercase
            } else {
                ReferenceError::Format
            });
        };
        let whole = found.get(1).map_or("", |m| m.as_str());
        let name = NAME
            .as_ref()
            .and_then(|regex| regex.captures(whole))
            .ok_or(ReferenceError::Format)?;
        let domain = name.get(1).map_or("", |m| m.as_str());
        let path = name.get(2).map_or("", |m| m.as_str());
        if path.len() > 255 {
            return Err(ReferenceError::TooLong);
        }
        let digest = match found.get(3) {
            None => None,
            Some(m) => Some(parse_digest(m.as_str())?),
        };
        Ok(Self {
            domain: domain.to_owned(),
            path: path.to_owned(),
            tag: found.get(2).map(|m| m.as_str().to_owned()),
            digest,
        })
    }

    /// The registry, such as `docker.io` or `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, such as `library/alpine`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Registry and repository as people write it: `alpine`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// All of it as people write it: `alpine:3.20`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// [`ReferenceError::Tag`].
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !ONLY_TAG.as_ref().is_some_and(|regex| regex.is_match(tag)) {
            return Err(ReferenceError::Tag);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// With the tag `latest`, if it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(self) -> Self {
        match (&self.tag, &self.digest) {
            (None, None) => Self {
                tag: Some(DEFAULT_TAG.to_owned()),
                ..self
            },
            _ => self,
        }
    }

    /// What a local image is stored under: with a digest the tag does not
    /// count, and without both it is `latest`.
    #[must_use]
    pub fn key(self) -> Self {
        if self.digest.is_some() {
            Self { tag: None, ..self }
        } else {
            self.or_latest()
        }
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

/// What a client may name an image by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// A whole id, with or without `sha256:`.
    Id(Digest),
    /// A name, or the beginning of an id; which of the two only the store knows.
    Named(Reference),
}

impl ImageName {
    /// Reads it (`ParseAnyReference`).
    ///
    /// # Errors
    /// See [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let id = if is_hex_id(text) {
            format!("sha256:{text}").parse()
        } else {
            text.parse()
        };
        match id {
            Ok(digest) => Ok(Self::Id(digest)),
            Err(_) => Reference::parse(text).map(Self::Named),
        }
    }

    /// As Docker names it in "No such image".
    #[must_use]
    pub fn familiar(&self) -> String {
        match self {
            Self::Id(digest) => digest.to_string(),
            Self::Named(reference) => reference.clone().or_latest().familiar(),
        }
    }
}

/// Whether `pattern` (shell wildcards, no `*` over `/`) matches the familiar
/// name or the familiar reference (`FamiliarMatch`). `None` for a pattern that
/// is none.
#[must_use]
pub fn familiar_match(pattern: &str, reference: &Reference) -> Option<bool> {
    let whole = super::glob::matches(pattern, &reference.familiar())?;
    Some(whole || super::glob::matches(pattern, &reference.familiar_name())?)
}

fn is_hex_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    if !text.starts_with("sha256:") {
        return Err(ReferenceError::DigestAlgorithm);
    }
    text.parse().map_err(|_| {
        if text.len() == "sha256:".len() + 64 {
            ReferenceError::Format
        } else {
            ReferenceError::DigestLength
        }
    })
}

fn split_domain(text: &str) -> (&str, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{text}"));
    };
    let (domain, remote) = if first == LEGACY_DEFAULT_DOMAIN {
        (DEFAULT_DOMAIN, rest)
    } else if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first {
        (first, rest)
    } else {
        (DEFAULT_DOMAIN, text)
    };
    if domain == DEFAULT_DOMAIN && !remote.contains('/') {
        (domain, format!("{OFFICIAL_PREFIX}{remote}"))
    } else {
        (domain, remote.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_as_docker_does() {
        let check = |text: &str, full: &str, familiar: &str| {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        };
        check("alpine", "docker.io/library/alpine", "alpine");
        check("alpine:3", "docker.io/library/alpine:3", "alpine:3");
        check("docker.io/alpine", "docker.io/library/alpine", "alpine");
        check("index.docker.io/a/b", "docker.io/a/b", "a/b");
        check("a/b:c", "docker.io/a/b:c", "a/b:c");
        check("localhost/x", "localhost/x", "localhost/x");
        check("localhost:5000/x", "localhost:5000/x", "localhost:5000/x");
        check("Host/x", "Host/x", "Host/x");
        check("ghcr.io/a/b:v1", "ghcr.io/a/b:v1", "ghcr.io/a/b:v1");
        check("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x");
        check("library/alpine", "docker.io/library/alpine", "alpine");
        check("library/a/b", "docker.io/library/a/b", "library/a/b");
        let digested = format!("alpine@{D}");
        check(
            &digested,
            &format!("docker.io/library/{digested}"),
            &digested,
        );
        let both = format!("alpine:3@{D}");
        check(&both, &format!("docker.io/library/{both}"), &both);
        assert_eq!(Reference::parse(&both).unwrap().key().familiar(), digested);
        assert_eq!(Reference::parse("x").unwrap().key().familiar(), "x:latest");
    }

    #[test]
    fn what_is_no_name_is_refused_with_dockers_words() {
        let check = |text: &str, message: &str| {
            assert_eq!(
                Reference::parse(text).unwrap_err().to_string(),
                message,
                "{text}"
            );
        };
        check("", "invalid reference format");
        check("a b", "invalid reference format");
        check(":tag", "invalid reference format");
        check("a//b", "invalid reference format");
        check("-a", "invalid reference format");
        check("a:", "invalid reference format");
        check("a@sha256:12", "invalid reference format");
        check("../etc/passwd", "invalid reference format");
        check(
            "Alpine",
            "invalid reference format: repository name (library/Alpine) must be lowercase",
        );
        check(
            "a/B:c",
            "invalid reference format: repository name (a/B) must be lowercase",
        );
        check(
            &"a".repeat(300),
            "repository name must not be more than 255 characters",
        );
        check(
            &"a".repeat(64),
            "invalid repository name (aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa), cannot specify 64-byte hexadecimal strings",
        );
        check(
            &format!("a@sha256:{}", "0".repeat(40)),
            "invalid checksum digest length",
        );
        check(
            &format!("a@md5:{}", "0".repeat(32)),
            "unsupported digest algorithm",
        );
        check(
            &format!("a:{}", "t".repeat(129)),
            "invalid reference format",
        );
    }

    #[test]
    fn ids_and_names_are_told_apart() {
        let id = D.strip_prefix("sha256:").unwrap();
        assert_eq!(ImageName::parse(id).unwrap(), ImageName::parse(D).unwrap());
        assert_eq!(ImageName::parse("e3b0").unwrap().familiar(), "e3b0:latest");
        assert_eq!(
            ImageName::parse("sha256:e3b0").unwrap().familiar(),
            "sha256:e3b0"
        );
    }

    #[test]
    fn patterns_match_familiar_forms() {
        let reference = Reference::parse("repo/alpine:3.20").unwrap();
        for (pattern, expected) in [
            ("repo/alpine", true),
            ("repo/alpine:3.20", true),
            ("repo/*", true),
            ("*/alpine:3.*", true),
            ("alpine", false),
            ("*", false),
            ("docker.io/repo/alpine", false),
            ("repo/alp[h-k]ne", true),
        ] {
            assert_eq!(
                familiar_match(pattern, &reference),
                Some(expected),
                "{pattern}"
            );
        }
        assert_eq!(familiar_match("[", &reference), None);
    }
}
