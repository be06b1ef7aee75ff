//! HTTP to the Distribution API of one repository.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, LOCATION};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri, request};
use http_body_util::{BodyDataStream, BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use thiserror::Error;

use super::credentials::Credentials;
use crate::ports::blobs::{BlobError, ByteStream};
use crate::ports::registry::RegistryError;

/// How much of an error's text is read.
const MAX_ERROR_BYTES: usize = 4096;

/// How often a request is sent that fails for a reason that passes.
const ATTEMPTS: u32 = 5;

/// The pause before it is sent again; each that follows is twice as long. ECR counts requests by
/// the second ("Amazon ECR service quotas").
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A text that does not name a repository.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a repository: expected <host>/<name>, such as 123456789012.dkr.ecr.eu-west-1.amazonaws.com/sockerless"
)]
pub struct InvalidRepository(String);

type Http = HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

#[derive(Debug)]
pub(super) struct Client {
    /// Once something is sent: reading a system's certificates takes longer than all else that
    /// the control function does before its first event.
    http: OnceLock<Http>,
    scheme: &'static str,
    host: Authority,
    repository: String,
    credentials: Arc<Credentials>,
}

impl Client {
    pub(super) fn new(
        text: &str,
        credentials: Arc<Credentials>,
    ) -> Result<Self, InvalidRepository> {
        let invalid = || InvalidRepository(text.to_owned());
        let (host, repository) = text.split_once('/').ok_or_else(invalid)?;
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        if repository.is_empty() || !repository.chars().all(valid) {
            return Err(invalid());
        }
        let host: Authority = host.parse().map_err(|_| invalid())?;
        let scheme = if is_loopback(host.host()) {
            "http"
        } else {
            "https"
        };
        Ok(Self {
            http: OnceLock::new(),
            scheme,
            host,
            repository: repository.to_owned(),
            credentials,
        })
    }

    pub(super) const fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    pub(super) fn host(&self) -> &str {
        self.host.as_str()
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// `<host>/<name>`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// A request to `/v2/<repository>/<path>`.
    pub(super) fn request(&self, method: Method, path: &str) -> request::Builder {
        let uri = format!(
            "{}://{}/v2/{}/{path}",
            self.scheme, self.host, self.repository
        );
        Request::builder().method(method).uri(uri)
    }

    /// A request to where the registry said to go on.
    pub(super) fn request_to(
        &self,
        method: Method,
        location: &str,
    ) -> Result<request::Builder, RegistryError> {
        Ok(Request::builder()
            .method(method)
            .uri(self.resolve(location)?))
    }

    /// An absolute URL of what may be a path on this registry.
    fn resolve(&self, location: &str) -> Result<Uri, RegistryError> {
        let absolute = if location.starts_with('/') {
            format!("{}://{}{location}", self.scheme, self.host)
        } else {
            location.to_owned()
        };
        absolute.parse().map_err(|_| {
            RegistryError::Unavailable("it leads to something that is not a URL".to_owned())
        })
    }

    /// Sends a request, with credentials if it is for the registry itself; again, where the
    /// registry had no room for it or no answer came, and it is certain that this does no harm.
    pub(super) async fn send(
        &self,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, RegistryError> {
        let request = request
            .body(())
            .map_err(|error| RegistryError::Unavailable(error.to_string()))?;
        let (head, ()) = request.into_parts();
        let is_own = head.uri.authority() == Some(&self.host);
        let mut pause = FIRST_PAUSE;
        let mut renewed = false;
        let mut attempt = 1;
        loop {
            let mut request = Request::from_parts(head.clone(), Full::new(body.clone()));
            let credentials = if is_own {
                let header = self.credentials.header().await?;
                request.headers_mut().insert(AUTHORIZATION, header.clone());
                Some(header)
            } else {
                None
            };
            let sent = self.http()?.request(request).await;
            if let (Ok(response), Some(header)) = (&sent, credentials)
                && response.status() == StatusCode::UNAUTHORIZED
                && !renewed
            {
                renewed = true;
                self.credentials.forget(&header).await;
                continue;
            }
            let failure = sent.as_ref().ok().map(Response::status);
            if attempt >= ATTEMPTS || !is_worth_repeating(&head.method, failure) {
                return sent.map_err(|error| RegistryError::Unavailable(super::describe(&error)));
            }
            tracing::info!(method = %head.method, path = head.uri.path(), ?failure, "asking the registry again");
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    fn http(&self) -> Result<&Http, RegistryError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| {
                RegistryError::Unavailable(format!("certificates of this system: {error}"))
            })?
            .https_or_http()
            .enable_http1()
            .build();
        let http = HttpClient::builder(TokioExecutor::new()).build(connector);
        Ok(self.http.get_or_init(|| http))
    }

    /// Gets something that may be elsewhere: ECR keeps blobs in S3. Its URLs
    /// carry credentials of their own, and are not followed further.
    pub(super) async fn get_following(
        &self,
        path: &str,
    ) -> Result<Response<Incoming>, RegistryError> {
        let response = self
            .send(self.request(Method::GET, path), Bytes::new())
            .await?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let request = self.request_to(Method::GET, location(&response)?)?;
        self.send(request, Bytes::new()).await
    }
}

/// Whether a request is sent again that was answered so, or not at all. What changes an upload may
/// have been done by then, and is repeated only where the registry says that it was not.
fn is_worth_repeating(method: &Method, answer: Option<StatusCode>) -> bool {
    let changes = *method == Method::PATCH || *method == Method::PUT;
    match answer {
        Some(StatusCode::TOO_MANY_REQUESTS) => true,
        Some(status) => status.is_server_error() && !changes,
        None => !changes,
    }
}

/// Where a response says to go on.
pub(super) fn location<B>(response: &Response<B>) -> Result<&str, RegistryError> {
    response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| RegistryError::Unavailable("it does not say where to go on".to_owned()))
}

/// The error that an unexpected response is.
pub(super) async fn unexpected(what: &str, response: Response<Incoming>) -> RegistryError {
    let status = response.status();
    let text = match collect(response, MAX_ERROR_BYTES).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    };
    RegistryError::Unavailable(format!("cannot {what}: HTTP {status}: {text}"))
}

/// A response's body, of at most `limit` bytes.
pub(super) async fn collect(
    response: Response<Incoming>,
    limit: usize,
) -> Result<Bytes, RegistryError> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| RegistryError::Interrupted(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > limit {
            return Err(RegistryError::TooLarge(limit as u64));
        }
    }
    Ok(bytes.freeze())
}

/// A response's body as it comes.
pub(super) fn stream(response: Response<Incoming>) -> ByteStream {
    let pieces = BodyDataStream::new(response.into_body());
    pieces
        .map(|piece| piece.map_err(|error| BlobError::Interrupted(error.to_string())))
        .boxed()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_not_repeated() {
        let throttled = Some(StatusCode::TOO_MANY_REQUESTS);
        let broken = Some(StatusCode::SERVICE_UNAVAILABLE);
        for (method, answer, again) in [
            (Method::GET, throttled, true),
            (Method::GET, broken, true),
            (Method::HEAD, None, true),
            (Method::POST, broken, true),
            (Method::PATCH, throttled, true),
            (Method::PATCH, broken, false),
            (Method::PUT, None, false),
            (Method::GET, Some(StatusCode::NOT_FOUND), false),
            (Method::PUT, Some(StatusCode::CREATED), false),
        ] {
            assert_eq!(
                is_worth_repeating(&method, answer),
                again,
                "{method} {answer:?}"
            );
        }
    }
}
