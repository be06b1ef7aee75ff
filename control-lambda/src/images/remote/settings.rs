//! Which registries are spoken to how.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Where official images are found when Docker Hub throttles.
pub const HUB_FALLBACK: &str = "public.ecr.aws/docker";

/// How registries are spoken to.
#[derive(Clone, Default)]
pub struct RegistrySettings {
    /// Registries without TLS or with a certificate that nobody known signed, beside
    /// those on loopback addresses.
    pub insecure: Vec<Insecure>,
    /// Where Docker Hub is, if not where it usually is: `host[:port]`.
    pub hub: Option<String>,
    /// Asked for Docker Hub's images before Docker Hub.
    pub mirrors: Vec<Mirror>,
    /// Asked for Docker Hub's official images when Docker Hub answers that there were too
    /// many requests: host and path to which `/library/<name>` is added.
    pub hub_fallback: Option<String>,
    /// Certificates for single registries.
    pub certificates: Option<Arc<dyn HostCertificates>>,
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySettings")
            .field("insecure", &self.insecure)
            .field("hub", &self.hub)
            .field("mirrors", &self.mirrors)
            .field("hub_fallback", &self.hub_fallback)
            .finish_non_exhaustive()
    }
}

/// Certificates for single registries, such as those in `/etc/docker/certs.d`.
pub trait HostCertificates: Send + Sync {
    /// Those for `host[:port]`, asked for with every operation. May block.
    ///
    /// # Errors
    /// A sentence, when some are there and cannot be read.
    fn of(&self, host: &str) -> Result<TlsMaterial, String>;
}

/// What is there for one registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// Certificate authorities beside those of the machine, PEM.
    pub authorities: Vec<Vec<u8>>,
    /// The client's own certificate and key, PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// A text that names no registries.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Not a host or a network.
    #[error("{0:?} is neither HOST, HOST:PORT nor a network such as 10.0.0.0/8")]
    Insecure(String),
    /// Not the address of a mirror.
    #[error(
        "{0:?} is not the address of a mirror: https://HOST[:PORT], without anything behind it"
    )]
    Mirror(String),
}

/// Registries that may be insecure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insecure {
    /// This one.
    Host(String),
    /// All whose address lies in this network.
    Network(IpAddr, u8),
}

impl Insecure {
    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Host(name) => name == host || name == without_port(host),
            Self::Network(network, bits) => without_port(host)
                .parse()
                .is_ok_and(|ip| same_prefix(*network, ip, *bits)),
        }
    }
}

impl FromStr for Insecure {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let wrong = || SettingsError::Insecure(text.to_owned());
        if let Some((network, bits)) = text.split_once('/') {
            let network: IpAddr = network.parse().map_err(|_| wrong())?;
            let bits = bits.parse().map_err(|_| wrong())?;
            let most = if network.is_ipv4() { 32 } else { 128 };
            return if bits <= most {
                Ok(Self::Network(network, bits))
            } else {
                Err(wrong())
            };
        }
        if is_host(text) {
            Ok(Self::Host(text.to_owned()))
        } else {
            Err(wrong())
        }
    }
}

/// A mirror of Docker Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `host[:port]`.
    pub host: String,
}

impl FromStr for Mirror {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let trimmed = text.trim_end_matches('/');
        let (scheme, host) = match trimmed.split_once("://") {
            Some(("http", host)) => ("http", host),
            Some(("https", host)) => ("https", host),
            _ => return Err(SettingsError::Mirror(text.to_owned())),
        };
        if !is_host(host) {
            return Err(SettingsError::Mirror(text.to_owned()));
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
        })
    }
}

impl RegistrySettings {
    /// Those that hold where nobody says otherwise.
    #[must_use]
    pub fn usual() -> Self {
        Self {
            hub_fallback: Some(HUB_FALLBACK.to_owned()),
            ..Self::default()
        }
    }

    /// Whether a registry may do without TLS that can be checked.
    #[must_use]
    pub fn is_insecure(&self, host: &str) -> bool {
        is_loopback(host) || self.insecure.iter().any(|entry| entry.covers(host))
    }
}

/// Whether a registry is on this machine, as far as its name says.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        })
}

fn same_prefix(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    let (a, b, width) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32u8),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let ignored = u32::from(width.saturating_sub(bits));
    (a ^ b).checked_shr(ignored).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told() {
        for yes in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.8.9.1",
            "[::1]:5000",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "localhost.example.com",
            "10.0.0.1:5000",
            "[::2]",
            "example.com:443",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn insecure_registries_are_those_that_were_named() {
        let settings = RegistrySettings {
            insecure: ["a.example", "b.example:5000", "10.1.0.0/16", "fd00::/8"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            ..RegistrySettings::default()
        };
        for yes in [
            "a.example",
            "a.example:443",
            "b.example:5000",
            "10.1.2.3:80",
            "[fd00::1]:5000",
            "127.0.0.1",
        ] {
            assert!(settings.is_insecure(yes), "{yes}");
        }
        for no in [
            "b.example",
            "b.example:443",
            "10.2.0.1",
            "[fe00::1]",
            "example",
        ] {
            assert!(!settings.is_insecure(no), "{no}");
        }
        for wrong in ["", "10.0.0.0/33", "x/8", "http://a", "a b"] {
            assert!(wrong.parse::<Insecure>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn mirrors_are_addresses() {
        let mirror: Mirror = "https://mirror.example:5000/".parse().unwrap();
        assert_eq!(
            (mirror.scheme, mirror.host.as_str()),
            ("https", "mirror.example:5000")
        );
        for wrong in [
            "mirror.example",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://u@a",
        ] {
            assert!(wrong.parse::<Mirror>().is_err(), "{wrong}");
        }
    }
}
