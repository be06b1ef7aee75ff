//! Who signs: the standard chain of AWS credentials, fetched again before they expire.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use tokio::sync::Mutex;

use super::connection::describe;

/// Credentials that end so soon are fetched anew.
const MARGIN: Duration = Duration::from_secs(300);

/// Credentials, and where they come from.
pub struct Identity {
    provider: SharedCredentialsProvider,
    held: Mutex<Option<Credentials>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// What the environment, the profile, web identity, single sign-on, a process or
    /// the machine's role give, in the order of all AWS programs; and the region that
    /// goes with it, where one is configured.
    pub async fn from_environment(
        profile: Option<&str>,
        region: Option<&str>,
    ) -> (Self, Option<String>) {
        let http_client = Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let region = match region {
            Some(region) => Some(Region::new(region.to_owned())),
            None => {
                let mut chain = DefaultRegionChain::builder();
                if let Some(profile) = profile {
                    chain = chain.profile_name(profile);
                }
                chain.build().region().await
            }
        };
        let config = ProviderConfig::default()
            .with_http_client(http_client)
            .with_region(region.clone());
        let mut chain = DefaultCredentialsChain::builder().configure(config);
        if let Some(profile) = profile {
            chain = chain.profile_name(profile);
        }
        let identity = Self {
            provider: SharedCredentialsProvider::new(chain.build().await),
            held: Mutex::new(None),
        };
        (identity, region.map(|region| region.to_string()))
    }

    /// These and no others.
    #[must_use]
    pub fn fixed(key_id: &str, secret: &str, session_token: Option<&str>) -> Self {
        let session_token = session_token.map(str::to_owned);
        let credentials = Credentials::new(key_id, secret, session_token, None, "fixed");
        Self {
            provider: SharedCredentialsProvider::new(credentials),
            held: Mutex::new(None),
        }
    }

    /// The credentials of now.
    ///
    /// # Errors
    /// A sentence that says why there are none, and what to do.
    pub(super) async fn credentials(&self) -> Result<Credentials, String> {
        // Held while they are fetched, so that they are fetched once.
        let mut held = self.held.lock().await;
        if let Some(credentials) = &*held
            && still_good(credentials, SystemTime::now())
        {
            return Ok(credentials.clone());
        }
        let fetched = self.provider.provide_credentials().await.map_err(|error| {
            format!(
                "no AWS credentials can be had ({}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                 or name a profile with --profile (after `aws sso login`, where it signs on)",
                describe(&error)
            )
        })?;
        *held = Some(fetched.clone());
        Ok(fetched)
    }

    /// Forgets what is held: it was refused, and the source may have better.
    pub(super) async fn forget(&self) {
        *self.held.lock().await = None;
    }
}

fn still_good(credentials: &Credentials, now: SystemTime) -> bool {
    credentials
        .expiry()
        .is_none_or(|expiry| now + MARGIN < expiry)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use aws_credential_types::provider::future;

    use super::*;

    #[derive(Debug)]
    struct Counting {
        asked: Arc<AtomicU32>,
        lifetime: Duration,
    }

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let turn = self.asked.fetch_add(1, Ordering::SeqCst);
            let expiry = SystemTime::now() + self.lifetime;
            let key = format!("key-{turn}");
            future::ProvideCredentials::ready(Ok(Credentials::new(
                key,
                "secret",
                None,
                Some(expiry),
                "test",
            )))
        }
    }

    async fn key_ids(lifetime: Duration) -> Vec<String> {
        let asked = Arc::new(AtomicU32::new(0));
        let identity = Identity {
            provider: SharedCredentialsProvider::new(Counting { asked, lifetime }),
            held: Mutex::new(None),
        };
        let mut ids = Vec::new();
        for turn in 0..3 {
            if turn == 2 {
                identity.forget().await;
            }
            let credentials = identity.credentials().await.unwrap();
            ids.push(credentials.access_key_id().to_owned());
        }
        ids
    }

    #[tokio::test]
    async fn good_credentials_are_kept_and_old_or_refused_ones_are_not() {
        let long = key_ids(Duration::from_secs(3600)).await;
        assert_eq!(long, ["key-0", "key-0", "key-1"]);
        let short = key_ids(Duration::from_secs(60)).await;
        assert_eq!(short, ["key-0", "key-1", "key-2"]);
    }
}
