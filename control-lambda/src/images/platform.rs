//! Operating system and processor, and choosing by them from an index.

use std::fmt;

use thiserror::Error;

use super::manifest::{Descriptor, DescriptorPlatform};

/// What an image is built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, … as Go names them.
    pub architecture: String,
    /// `v8`, `v7`, …; empty where there is none.
    pub variant: String,
}

/// Why no platform was found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlatformError {
    /// The text is not a platform.
    #[error(
        "{0:?} is an invalid component of {1:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Invalid(String, String),
    /// The first part of the text is no operating system.
    #[error(
        "{0:?} is an invalid OS component of {1:?}: OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.%-]*)((?:\\\\+[A-Za-z0-9_.%-]+)*)\\\\))?$\": invalid argument"
    )]
    InvalidOs(String, String),
    /// One word that is neither.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// More than three parts.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    TooManyParts(String),
    /// Nothing for this platform in the index.
    #[error(
        "no matching manifest for {wanted} in the manifest list entries (available: {available})"
    )]
    Missing {
        /// What was wanted.
        wanted: Platform,
        /// What there is.
        available: String,
    },
}

impl Platform {
    /// The platform this program runs on.
    #[must_use]
    pub fn host() -> Self {
        normalised("linux", std::env::consts::ARCH, "")
    }

    /// Reads `os`, `arch`, `os/arch` or `os/arch/variant`; what is not said is
    /// that of `default`.
    ///
    /// # Errors
    /// [`PlatformError::Invalid`].
    pub fn parse(text: &str, default: &Self) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        if let Some((place, bad)) = parts.iter().enumerate().find(|(_, part)| !valid(part)) {
            return Err(if place == 0 {
                PlatformError::InvalidOs(clip(bad), clip(text))
            } else {
                PlatformError::Invalid(clip(bad), clip(text))
            });
        }
        match parts.as_slice() {
            [one] if is_os(&one.to_lowercase()) => {
                Ok(normalised(one, &default.architecture, &default.variant))
            }
            [arch] if is_architecture(&arch.to_lowercase()) => {
                Ok(normalised(&default.os, arch, ""))
            }
            [_] => Err(PlatformError::Unknown(clip(text))),
            [os, arch] => Ok(normalised(os, arch, "")),
            [os, arch, variant] => Ok(normalised(os, arch, variant)),
            _ => Err(PlatformError::TooManyParts(clip(text))),
        }
    }

    /// From what an index or a config says.
    #[must_use]
    pub fn of(os: &str, architecture: &str, variant: &str) -> Self {
        normalised(os, architecture, variant)
    }

    /// Whether something built for `other` runs on this. A wanted platform
    /// without a variant takes the processor's usual one.
    #[must_use]
    pub fn accepts(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant == other.variant || self.arm_rank() > other.arm_rank())
    }

    /// 32-bit ARM runs older variants too; the higher, the newer.
    fn arm_rank(&self) -> u8 {
        match (self.architecture.as_str(), self.variant.as_str()) {
            ("arm", "v8") => 4,
            ("arm", "v7") => 3,
            ("arm", "v6") => 2,
            ("arm", "v5") => 1,
            _ => 0,
        }
    }
}

/// Chooses the manifest for `wanted`. Attestations and other entries whose
/// platform is `unknown` are no candidates.
///
/// # Errors
/// [`PlatformError::Missing`], naming what there is.
pub fn choose<'a>(
    manifests: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, PlatformError> {
    let candidates: Vec<(&Descriptor, Platform)> = manifests
        .iter()
        .filter(|descriptor| !descriptor.is_attestation())
        .map(|descriptor| {
            let platform = match &descriptor.platform {
                Some(p) => of_descriptor(p),
                // Docker takes an entry without a platform for the wanted one.
                None => wanted.clone(),
            };
            (descriptor, platform)
        })
        .filter(|(_, platform)| platform.os != "unknown")
        .collect();
    candidates
        .iter()
        // Of equals the first in the index wins, and `max_by_key` takes the last.
        .rev()
        .filter(|(_, platform)| wanted.accepts(platform))
        .max_by_key(|(_, platform)| (*platform == *wanted, platform.arm_rank()))
        .map(|(descriptor, _)| *descriptor)
        .ok_or_else(|| {
            let mut names: Vec<String> = candidates.iter().map(|(_, p)| p.to_string()).collect();
            names.dedup();
            let more = names.len().saturating_sub(20);
            names.truncate(20);
            let mut available = names.join(", ");
            if more > 0 {
                available.push_str(&format!(" and {more} more"));
            } else if available.is_empty() {
                available.push_str("none");
            }
            PlatformError::Missing {
                wanted: wanted.clone(),
                available,
            }
        })
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

fn of_descriptor(platform: &DescriptorPlatform) -> Platform {
    normalised(&platform.os, &platform.architecture, &platform.variant)
}

fn is_os(text: &str) -> bool {
    matches!(
        text,
        "linux"
            | "windows"
            | "darwin"
            | "macos"
            | "freebsd"
            | "netbsd"
            | "openbsd"
            | "solaris"
            | "plan9"
            | "aix"
            | "android"
            | "dragonfly"
            | "illumos"
            | "js"
            | "wasip1"
    )
}

/// Processors that Go knows, and other names of theirs.
fn is_architecture(text: &str) -> bool {
    matches!(
        text,
        "386"
            | "amd64"
            | "amd64p32"
            | "arm"
            | "armbe"
            | "arm64"
            | "arm64be"
            | "ppc64"
            | "ppc64le"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "mips64p32"
            | "mips64p32le"
            | "ppc"
            | "riscv"
            | "riscv64"
            | "s390"
            | "s390x"
            | "sparc"
            | "sparc64"
            | "wasm"
            | "x86_64"
            | "x86-64"
            | "i386"
            | "aarch64"
            | "armhf"
            | "armel"
    )
}

/// The names Go uses. Source: containerd's platform normalisation.
fn normalised(os: &str, architecture: &str, variant: &str) -> Platform {
    let os = match os.to_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    };
    let variant = variant.to_lowercase();
    let (architecture, variant) = match (architecture.to_lowercase().as_str(), variant.as_str()) {
        ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64".to_owned(), String::new()),
        ("x86_64" | "x86-64" | "amd64", v) => ("amd64".to_owned(), v.to_owned()),
        ("i386" | "x86", _) => ("386".to_owned(), String::new()),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0" | "") => ("arm64".to_owned(), String::new()),
        ("aarch64" | "arm64", v) => ("arm64".to_owned(), v.to_owned()),
        ("armhf", _) | ("arm", "" | "7") => ("arm".to_owned(), "v7".to_owned()),
        ("armel", _) | ("arm", "6") => ("arm".to_owned(), "v6".to_owned()),
        ("arm", "5") => ("arm".to_owned(), "v5".to_owned()),
        ("arm", "8") => ("arm".to_owned(), "v8".to_owned()),
        (arch, v) => (arch.to_owned(), v.to_owned()),
    };
    Platform {
        os: clip(&os),
        architecture: clip(&architecture),
        variant: clip(&variant),
    }
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::manifest::Index;

    fn index(entries: &[(&str, &str, &str)]) -> Index {
        let manifests: Vec<_> = entries
            .iter()
            .map(|(os, arch, variant)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": crate::images::digest::Digest::of(format!("{os}{arch}{variant}").as_bytes()),
                    "size": 3,
                    "platform": {"os": os, "architecture": arch, "variant": variant}
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": manifests}))
            .unwrap()
    }

    fn chosen(index: &Index, wanted: &str) -> Result<String, String> {
        let amd = Platform::of("linux", "amd64", "");
        let wanted = Platform::parse(wanted, &amd).unwrap();
        choose(&index.manifests, &wanted)
            .map(|d| of_descriptor(d.platform.as_ref().unwrap()).to_string())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_right_manifest_is_chosen() {
        let index = index(&[
            ("unknown", "unknown", ""),
            ("linux", "arm", "v6"),
            ("linux", "arm", "v7"),
            ("linux", "amd64", ""),
            ("linux", "arm64", "v8"),
        ]);
        assert_eq!(chosen(&index, "linux/amd64").unwrap(), "linux/amd64");
        assert_eq!(chosen(&index, "amd64").unwrap(), "linux/amd64");
        assert_eq!(chosen(&index, "linux").unwrap(), "linux/amd64");
        assert_eq!(chosen(&index, "linux/aarch64").unwrap(), "linux/arm64");
        assert_eq!(chosen(&index, "linux/arm").unwrap(), "linux/arm/v7");
        assert_eq!(chosen(&index, "linux/arm/v6").unwrap(), "linux/arm/v6");
        assert_eq!(
            chosen(&index, "windows/amd64").unwrap_err(),
            "no matching manifest for windows/amd64 in the manifest list entries \
             (available: linux/arm/v6, linux/arm/v7, linux/amd64, linux/arm64)"
        );
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        let amd = Platform::host();
        for bad in [
            "", "/", "linux/", "a/b/c/d", "li nux", "linux/ä", "nonsense",
        ] {
            assert!(Platform::parse(bad, &amd).is_err(), "{bad}");
        }
    }
}
