//! Signed URLs: `<base>/<name>?expires=<seconds since 1970>&signature=<text>`.

use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

use super::FolderBlobs;
use crate::ports::blobs::BlobName;

/// What a URL is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlMethod {
    /// Storing.
    Put,
    /// Reading.
    Get,
}

impl UrlMethod {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
        }
    }
}

/// Why a URL is not accepted. Whoever presented it is told no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UrlError {
    /// No name, no expiry or no signature where they belong.
    #[error("blob URL is malformed")]
    Malformed,
    /// Not signed by this store for this method and name.
    #[error("blob URL was not signed for this method and name")]
    Forged,
    /// Its time has passed.
    #[error("blob URL has expired")]
    Expired,
}

impl FolderBlobs {
    /// A URL that is good for one method and one blob until `expires`.
    #[must_use]
    pub fn signed_url(&self, method: UrlMethod, name: &BlobName, expires: Timestamp) -> String {
        let expires = expires.secs();
        let signature = self.key.sign(&signed_text(method, name, expires));
        format!(
            "{}/{}?expires={expires}&signature={signature}",
            self.base_url,
            name.as_str()
        )
    }

    /// The blob that a URL names, if it was signed for `method` and its time has
    /// not passed. `name` is what follows the base, without the `/`.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn verify_url(
        &self,
        method: UrlMethod,
        name: &str,
        query: &str,
    ) -> Result<BlobName, UrlError> {
        let field = |wanted: &str| {
            query
                .split('&')
                .filter_map(|field| field.split_once('='))
                .find_map(|(name, value)| (name == wanted).then_some(value))
                .ok_or(UrlError::Malformed)
        };
        let name = BlobName::new(name).map_err(|_| UrlError::Malformed)?;
        let expires: i64 = field("expires")?.parse().map_err(|_| UrlError::Malformed)?;
        // The comparison takes the same time for any wrong signature.
        if !self
            .key
            .verify(&signed_text(method, &name, expires), field("signature")?)
        {
            return Err(UrlError::Forged);
        }
        if Timestamp::from_secs(expires) <= self.environment.now() {
            return Err(UrlError::Expired);
        }
        Ok(name)
    }
}

fn signed_text(method: UrlMethod, name: &BlobName, expires: i64) -> Vec<u8> {
    format!("{}\n{}\n{expires}", method.as_str(), name.as_str()).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use sockerless_shared::protocol::mac::Key;

    use super::*;
    use crate::ports::Environment;

    struct At(AtomicI64);

    impl Environment for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_secs(self.0.load(Ordering::SeqCst))
        }

        fn fill_random(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    #[test]
    fn a_url_is_good_for_its_method_name_and_time_only() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(At(AtomicI64::new(99)));
        let key = Key::from_random([1; 32]);
        let open = |key| {
            FolderBlobs::open(
                folder.path(),
                "http://127.0.0.1:9002/blobs/",
                key,
                clock.clone(),
            )
            .unwrap()
        };
        let blobs = open(key);
        let name = BlobName::new("logs/a").unwrap();
        let url = blobs.signed_url(UrlMethod::Put, &name, Timestamp::from_secs(100));
        let (path, query) = url.split_once('?').unwrap();
        assert_eq!(path, "http://127.0.0.1:9002/blobs/logs/a");

        let verify = |method, name, query: &str| blobs.verify_url(method, name, query);
        assert_eq!(verify(UrlMethod::Put, "logs/a", query), Ok(name));
        assert_eq!(
            verify(UrlMethod::Get, "logs/a", query),
            Err(UrlError::Forged)
        );
        assert_eq!(
            verify(UrlMethod::Put, "logs/b", query),
            Err(UrlError::Forged)
        );
        let longer = query.replace("expires=100", "expires=1000");
        assert_eq!(
            verify(UrlMethod::Put, "logs/a", &longer),
            Err(UrlError::Forged)
        );
        for malformed in [
            "",
            "expires=100",
            "signature=a",
            "expires=x&signature=a",
            "&&=&",
        ] {
            assert_eq!(
                verify(UrlMethod::Put, "logs/a", malformed),
                Err(UrlError::Malformed)
            );
        }
        assert_eq!(
            verify(UrlMethod::Put, "../a", query),
            Err(UrlError::Malformed)
        );
        let other = open(Key::from_random([2; 32]));
        assert_eq!(
            other.verify_url(UrlMethod::Put, "logs/a", query),
            Err(UrlError::Forged)
        );
        clock.0.store(100, Ordering::SeqCst);
        assert_eq!(
            verify(UrlMethod::Put, "logs/a", query),
            Err(UrlError::Expired)
        );
    }
}
