//! AWS Signature Version 4 for the HTTP API.

use std::fmt;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use thiserror::Error;

/// An endpoint that is none, or whose region is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidEndpoint {
    /// Not a URL.
    #[error("{0:?} is not an https:// URL")]
    NotAUrl(String),
    /// Its name does not say, and nobody else does.
    #[error("the region of {0} is not known: set AWS_REGION")]
    NoRegion(String),
}

/// Signs requests to one HTTP API.
#[derive(Clone)]
pub struct Signer {
    credentials: Credentials,
    region: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// With these credentials, for a region.
    #[must_use]
    pub fn new(key_id: &str, secret: &str, session_token: Option<&str>, region: &str) -> Self {
        let session_token = session_token.map(str::to_owned);
        Self {
            credentials: Credentials::new(key_id, secret, session_token, None, "environment"),
            region: region.to_owned(),
        }
    }

    /// Adds the signature's headers. Signed are the method, the path, the query,
    /// the host, the body and the headers that say what is meant by them.
    ///
    /// # Errors
    /// A sentence; only when the request cannot be written in the signature's form.
    pub fn sign(&self, request: &mut Request<Bytes>) -> Result<(), String> {
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("execute-api")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let signed_headers: Vec<(String, String)> = request
            .headers()
            .iter()
            .filter(|(name, _)| is_signed(name))
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.uri().to_string(),
            signed_headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
            SignableBody::Bytes(request.body()),
        )
        .map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|error| error.to_string())?
            .into_parts();
        for (name, value) in instructions.headers() {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            let mut value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }
}

/// Others may be changed on the way.
fn is_signed(name: &HeaderName) -> bool {
    matches!(name.as_str(), "host" | "content-type") || name.as_str().starts_with("x-sockerless-")
}

/// The region of an API's endpoint: what its name says, else what is configured.
///
/// # Errors
/// [`InvalidEndpoint::NoRegion`].
pub(crate) fn region(endpoint: &Uri, configured: Option<&str>) -> Result<String, InvalidEndpoint> {
    let host = endpoint.host().unwrap_or_default();
    let named = host
        .strip_suffix(".amazonaws.com")
        .and_then(|rest| rest.split_once(".execute-api."))
        .map(|(_, region)| region);
    named
        .or(configured)
        .map(str::to_owned)
        .ok_or_else(|| InvalidEndpoint::NoRegion(endpoint.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<Bytes> {
        Request::post(
            "https://abc.execute-api.eu-west-1.amazonaws.com/v1.51/containers/a%20b?x=%2F",
        )
        .header("host", "abc.execute-api.eu-west-1.amazonaws.com")
        .header("x-sockerless-peer", "p")
        .header("user-agent", "docker")
        .body(Bytes::from_static(b"{}"))
        .unwrap()
    }

    #[test]
    fn a_request_gets_the_headers_of_a_signature() {
        let mut request = request();
        Signer::new("AKID", "secret", Some("session"), "eu-west-1")
            .sign(&mut request)
            .unwrap();
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        assert!(header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKID/"));
        assert!(header("authorization").contains("/eu-west-1/execute-api/aws4_request"));
        assert!(header("authorization").contains("x-sockerless-peer"));
        assert!(!header("authorization").contains("user-agent"));
        assert_eq!(header("x-amz-security-token"), "session");
    }

    #[test]
    fn secrets_do_not_show() {
        let signer = Signer::new("AKID", "secret", Some("session"), "r");
        assert_eq!(format!("{signer:?}"), "Signer(…)");
    }

    #[test]
    fn the_region_is_in_the_name_of_the_endpoint() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let aws = uri("https://abc.execute-api.eu-west-1.amazonaws.com");
        assert_eq!(region(&aws, Some("us-east-1")).unwrap(), "eu-west-1");
        assert_eq!(region(&uri("https://example.com"), Some("r")).unwrap(), "r");
        assert!(region(&uri("https://example.com"), None).is_err());
    }
}
