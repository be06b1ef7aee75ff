//! What every AWS client is made of: credentials, region, endpoint, TLS.

use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};

/// Credentials, region and HTTP client, found in the environment once and
/// shared by all adapters.
#[derive(Debug, Clone)]
pub struct Sdk {
    config: SdkConfig,
    custom_endpoint: bool,
}

impl Sdk {
    /// Reads the environment in the way of all AWS SDKs (`AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, …, `AWS_ENDPOINT_URL` for an emulator). Fails only
    /// when a client is used.
    pub async fn from_environment() -> Self {
        Self::of(aws_config::defaults(BehaviorVersion::latest())).await
    }

    /// The same, with everything asked at this URL.
    pub async fn at(url: &str) -> Self {
        Self::of(aws_config::defaults(BehaviorVersion::latest()).endpoint_url(url)).await
    }

    async fn of(loader: ConfigLoader) -> Self {
        let http_client = Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let config = loader.http_client(http_client).load().await;
        let custom_endpoint = config.endpoint_url().is_some();
        Self {
            config,
            custom_endpoint,
        }
    }

    pub(super) const fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Whether an emulator stands in for AWS, which has no host name for each
    /// bucket.
    pub(super) const fn has_custom_endpoint(&self) -> bool {
        self.custom_endpoint
    }
}

/// An SDK error with all that it says of its causes, in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
