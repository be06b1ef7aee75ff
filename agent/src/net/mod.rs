//! Outgoing connections: names, TCP, TLS, small HTTP requests.

pub(crate) mod dns;
pub(crate) mod http;

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long one attempt at a connection may take, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whether the connection is encrypted (`wss`, `https`).
    pub(crate) tls: bool,
    /// Name or address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

/// A connection, encrypted or not.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Target {
    /// Reads scheme, host and port of `ws`, `wss`, `http` and `https` URLs.
    ///
    /// # Errors
    /// When it is none of them. The URL is not repeated: it may hold a secret.
    pub(crate) fn of(uri: &::http::Uri) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let tls = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(invalid("the URL's scheme is none of ws, wss, http, https")),
        };
        let host = uri.host().ok_or_else(|| invalid("the URL has no host"))?;
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }

    /// Connects.
    ///
    /// # Errors
    /// When no address of the host answers in time, or its certificate is not trusted.
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s");
        timeout(CONNECT_LIMIT, self.connect_anyhow())
            .await
            .map_err(late)?
    }

    async fn connect_anyhow(&self) -> io::Result<Box<dyn Connection>> {
        let mut last = io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} has no address", self.host),
        );
        for address in dns::resolve(&self.host).await? {
            match TcpStream::connect((address, self.port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return self.secure(stream).await;
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Box<dyn Connection>> {
        if !self.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let config = TLS
            .as_ref()
            .map_err(|text| io::Error::other(text.clone()))?;
        let connector = TlsConnector::from(Arc::clone(config));
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

/// Made when first needed: on one machine nothing is encrypted twice.
static TLS: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS configuration: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_to_connect() {
        let of = |url: &str| Target::of(&url.parse().unwrap()).ok();
        let target = |tls, host: &str, port| {
            Some(Target {
                tls,
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!(of("ws://relay:1234/x?a=b"), target(false, "relay", 1234));
        assert_eq!(of("wss://relay/x"), target(true, "relay", 443));
        assert_eq!(of("http://[::1]/"), target(false, "::1", 80));
        assert_eq!(
            of("https://bucket.example/"),
            target(true, "bucket.example", 443)
        );
        assert_eq!(of("ftp://relay/"), None);
        assert_eq!(of("/path"), None);
    }
}
