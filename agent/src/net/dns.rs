//! Names to addresses without the C library: a static binary has no NSS.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use hickory_resolver::TokioResolver;
use tokio::sync::OnceCell;

static RESOLVER: OnceCell<TokioResolver> = OnceCell::const_new();

/// The addresses of a host: itself if it is one, loopback for `localhost`, else
/// what `/etc/hosts` and the configured name servers say.
///
/// # Errors
/// When `/etc/resolv.conf` cannot be read or the name has no address.
pub(crate) async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let resolver = RESOLVER
        .get_or_try_init(|| async { TokioResolver::builder_tokio()?.build() })
        .await
        .map_err(io::Error::other)?;
    let found = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
    Ok(found.iter().collect())
}
