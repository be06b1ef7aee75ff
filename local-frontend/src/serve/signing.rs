//! AWS Signature Version 4 for the HTTP API.

use std::time::SystemTime;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use thiserror::Error;

use super::identity::Identity;

/// An endpoint that is none, or whose region is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidEndpoint {
    /// Not a URL.
    #[error("{0:?} is not an https:// URL")]
    NotAUrl(String),
}

/// Signs requests to one HTTP API.
#[derive(Debug)]
pub struct Signer {
    identity: Identity,
    region: String,
}

impl Signer {
    /// With these credentials, for a region.
    #[must_use]
    pub const fn new(identity: Identity, region: String) -> Self {
        Self { identity, region }
    }

    /// Who signs.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Adds the signature's headers. Signed are the method, the path, the query,
    /// the host, the body and the headers that say what is meant by them.
    ///
    /// # Errors
    /// A sentence: when there are no credentials, or the request cannot be written in
    /// the signature's form.
    pub async fn sign(&self, request: &mut Request<Bytes>) -> Result<(), String> {
        let identity = self.identity.credentials().await?.into();
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

/// The region that the name of an API's endpoint says.
pub(crate) fn named_region(endpoint: &Uri) -> Option<&str> {
    let rest = endpoint.host()?;
    let rest = rest
        .strip_suffix(".amazonaws.com")
        .or_else(|| rest.strip_suffix(".amazonaws.com.cn"))?;
    Some(rest.split_once(".execute-api.")?.1)
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

    fn signer() -> Signer {
        let identity = Identity::fixed("AKID", "secret", Some("session"));
        Signer::new(identity, "eu-west-1".to_owned())
    }

    #[tokio::test]
    async fn a_request_gets_the_headers_of_a_signature() {
        let mut request = request();
        signer().sign(&mut request).await.unwrap();
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        assert!(header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKID/"));
        assert!(header("authorization").contains("/eu-west-1/execute-api/aws4_request"));
        assert!(header("authorization").contains("x-sockerless-peer"));
        assert!(!header("authorization").contains("user-agent"));
        assert_eq!(header("x-amz-security-token"), "session");
    }

    #[test]
    fn secrets_do_not_show() {
        assert!(!format!("{:?}", signer()).contains("secret"));
    }

    #[test]
    fn the_region_is_in_the_name_of_the_endpoint() {
        let region = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            named_region(&uri).map(str::to_owned)
        };
        let aws = region("https://abc.execute-api.eu-west-1.amazonaws.com");
        assert_eq!(aws.as_deref(), Some("eu-west-1"));
        let china = region("https://abc.execute-api.cn-north-1.amazonaws.com.cn");
        assert_eq!(china.as_deref(), Some("cn-north-1"));
        assert_eq!(region("https://example.com"), None);
    }
}
