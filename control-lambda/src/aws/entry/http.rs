//! Requests from the HTTP API (payload format 2.0).

use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use sockerless_shared::answer::{Answer, Request};
use sockerless_shared::ids::{BlobId, Namespace};
use sockerless_shared::protocol::VERSION;
use sockerless_shared::wire::{
    self, BlobUrl, DestroyFunctions, HttpResponse, RelayAccess, RelayTokenRequest, Status,
};

use crate::api::ApiError;
use crate::api::containers::logs::{blob_name, by_way_of_a_blob};
use crate::aws::wiring::Plane;

/// How long a URL for a large body is good.
const URL_LIFETIME: Duration = Duration::from_secs(60 * 60);

impl Plane {
    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(super) async fn http(&self, event: ApiGatewayV2httpRequest) -> ApiGatewayV2httpResponse {
        let response = match self.answer(event).await {
            Ok(response) => response,
            Err(error) => {
                let answer = Answer::Final(error.into_response());
                wire::write_answer(answer).unwrap_or_else(|error| failed(&error.to_string()))
            }
        };
        lambda_response(response)
    }

    async fn answer(&self, event: ApiGatewayV2httpRequest) -> Result<HttpResponse, ApiError> {
        let namespace = namespace(&event)?;
        let request = request(event)?;
        let path = request.path_and_query.split('?').next().unwrap_or_default();
        if path.starts_with(wire::OWN_PATHS) {
            return self.own(&namespace, path, &request).await;
        }
        let answer = match self.control.handle(&namespace, request).await {
            // Lambda lets no more through.
            Answer::Final(response) => by_way_of_a_blob(&self.control, response).await?,
            answer => answer,
        };
        wire::write_answer(answer).map_err(|error| ApiError::new(500, error.to_string()))
    }

    /// The operations that are none of Docker's.
    async fn own(
        &self,
        namespace: &Namespace,
        path: &str,
        request: &Request,
    ) -> Result<HttpResponse, ApiError> {
        let until = self.environment.now().plus(URL_LIFETIME);
        let unavailable = |error: &dyn std::fmt::Display| ApiError::new(503, error.to_string());
        match (request.method.as_str(), path) {
            ("POST", wire::RELAY_TOKEN_PATH) => {
                let RelayTokenRequest { peer } = serde_json::from_slice(inline(request))
                    .map_err(|error| ApiError::new(400, error.to_string()))?;
                let token = self
                    .control
                    .mint_relay_token(namespace, &peer)
                    .await
                    .map_err(|error| unavailable(&error))?;
                let url = self.relay_url.clone();
                json(&RelayAccess { token, url })
            }
            ("POST", wire::UPLOADS_PATH) => {
                let blob = self.random_blob();
                let url = self
                    .control
                    .blobs()
                    .upload_url(&blob_name(&blob)?, until)
                    .await;
                let url = url.map_err(|error| unavailable(&error))?;
                json(&BlobUrl { blob, url })
            }
            ("GET", path) if path.starts_with(wire::BLOBS_PATH) => {
                let blob: BlobId = path[wire::BLOBS_PATH.len()..]
                    .parse()
                    .map_err(|_| ApiError::new(404, "no such blob"))?;
                let url = self
                    .control
                    .blobs()
                    .download_url(&blob_name(&blob)?, until)
                    .await;
                let url = url.map_err(|error| unavailable(&error))?;
                json(&BlobUrl { blob, url })
            }
            ("GET", wire::STATUS_PATH) => json(&self.status(namespace).await?),
            ("GET", wire::CHECKS_PATH) => json(&self.checks().await),
            ("POST", wire::DESTROY_FUNCTIONS_PATH) => {
                let DestroyFunctions { force } = serde_json::from_slice(inline(request))
                    .map_err(|error| ApiError::new(400, error.to_string()))?;
                let status = self.status(namespace).await?;
                if status.running > 0 && !force {
                    return Err(ApiError::new(
                        409,
                        format!(
                            "{} containers run: stop them first, or give --force",
                            status.running
                        ),
                    ));
                }
                self.jobs
                    .schedule()
                    .remove()
                    .await
                    .map_err(|error| unavailable(&error))?;
                self.host.ask_to_delete_all().await?;
                json(&self.status(namespace).await?)
            }
            _ => Err(ApiError::new(404, "page not found")),
        }
    }

    async fn status(&self, namespace: &Namespace) -> Result<Status, ApiError> {
        let running = self.control.store().live_containers().await?.len();
        let (functions, waiting) = self.host.count().await?;
        Ok(Status {
            protocol: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            namespace: namespace.to_string(),
            architecture: self.architecture.as_str().to_owned(),
            running,
            functions,
            waiting,
        })
    }
}

/// The request as its sender wrote it, as far as the HTTP API passes it on.
fn request(event: ApiGatewayV2httpRequest) -> Result<Request, ApiError> {
    let bad = |what: &str| ApiError::new(400, what);
    let body = match event.body {
        None => Bytes::new(),
        Some(text) if event.is_base64_encoded => STANDARD
            .decode(text)
            .map_err(|_| bad("the body is not base64"))?
            .into(),
        Some(text) => text.into(),
    };
    let mut headers = Vec::with_capacity(event.headers.len());
    for (name, value) in &event.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.push((name.as_str().to_owned(), value));
    }
    let decoded = event.raw_path.unwrap_or_else(|| "/".to_owned());
    let mut target = exact_path(&decoded, &headers);
    if let Some(query) = event.raw_query_string.filter(|query| !query.is_empty()) {
        target.push('?');
        target.push_str(&query);
    }
    let method = event.request_context.http.method.as_str().to_owned();
    wire::read_request(method, target, headers, body).map_err(|error| bad(&error.to_string()))
}

/// HTTP APIs decode the path. The sender's own form is taken if it says the
/// same: permissions are given for what the API has seen.
fn exact_path(decoded: &str, headers: &[(String, String)]) -> String {
    let said = headers
        .iter()
        .find_map(|(name, value)| (name == wire::PATH).then_some(value));
    match said {
        Some(said) if percent_decode_str(said).decode_utf8_lossy() == decoded => said.clone(),
        _ => encode_path(decoded),
    }
}

/// A path as it stands in a request line.
fn encode_path(decoded: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const NOT_IN_PATHS: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'%')
        .add(b'<')
        .add(b'>')
        .add(b'?')
        .add(b'`')
        .add(b'{')
        .add(b'}');
    utf8_percent_encode(decoded, NOT_IN_PATHS).to_string()
}

/// Whose containers are meant: those that the request names, or the caller's
/// own. Who calls is the API's word, never the request's.
fn namespace(event: &ApiGatewayV2httpRequest) -> Result<Namespace, ApiError> {
    let caller = event
        .request_context
        .authorizer
        .as_ref()
        .and_then(|authorizer| authorizer.iam.as_ref()?.user_arn.as_deref())
        .ok_or_else(|| {
            ApiError::new(
                401,
                "the request is not signed: send it with AWS Signature Version 4, and set the API's authorization to AWS_IAM",
            )
        })?;
    let named = event
        .headers
        .get(wire::NAMESPACE)
        .and_then(|value| value.to_str().ok());
    match named {
        Some(name) => name
            .parse()
            .map_err(|_| ApiError::new(400, format!("{name:?} is not the name of a namespace"))),
        None => principal(caller)
            .parse()
            .map_err(|_| ApiError::new(400, "your principal's name is no namespace: name one")),
    }
}

/// The name of a user or role: `arn:aws:iam::1:user/path/name`,
/// `arn:aws:sts::1:assumed-role/name/session`, `arn:aws:iam::1:root`.
fn principal(arn: &str) -> &str {
    let resource = arn.rsplit(':').next().unwrap_or(arn);
    let mut parts = resource.split('/');
    match parts.next() {
        Some("assumed-role") => parts.next().unwrap_or(resource),
        _ => resource.rsplit('/').next().unwrap_or(resource),
    }
}

fn inline(request: &Request) -> &[u8] {
    match &request.body {
        sockerless_shared::answer::Body::Inline(bytes) => bytes,
        sockerless_shared::answer::Body::Blob(_) | sockerless_shared::answer::Body::Waiting => &[],
    }
}

fn json(value: &impl Serialize) -> Result<HttpResponse, ApiError> {
    let body = serde_json::to_vec(value).map_err(|error| ApiError::new(500, error.to_string()))?;
    Ok(HttpResponse {
        status: 200,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.into(),
    })
}

fn failed(why: &str) -> HttpResponse {
    HttpResponse {
        status: 500,
        headers: Vec::new(),
        body: Bytes::from(why.to_owned()),
    }
}

fn lambda_response(response: HttpResponse) -> ApiGatewayV2httpResponse {
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for (name, value) in response.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    let mut lambda = ApiGatewayV2httpResponse::default();
    lambda.status_code = i64::from(response.status);
    lambda.headers = headers;
    lambda.body = Some(Body::Binary(response.body.to_vec()));
    lambda.is_base64_encoded = true;
    lambda
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> ApiGatewayV2httpRequest {
        serde_json::from_str(json).unwrap()
    }

    const SIGNED: &str = r#"{"version":"2.0","rawPath":"/v1.51/images/a/b c/json","rawQueryString":"x=%2F",
        "headers":{"x-sockerless-path":"/v1.51/images/a%2Fb%20c/json","content-type":"text/plain"},
        "requestContext":{"http":{"method":"POST","path":"/x"},"timeEpoch":0,
            "authorizer":{"iam":{"userArn":"arn:aws:iam::123456789012:user/dept/ann"}}},
        "body":"aGk=","isBase64Encoded":true}"#;

    #[test]
    fn a_request_is_read_as_it_was_sent() {
        let request = request(event(SIGNED)).unwrap();
        assert_eq!(request.method, "POST");
        assert_eq!(request.path_and_query, "/v1.51/images/a%2Fb%20c/json?x=%2F");
        assert_eq!(inline(&request), b"hi");
        assert_eq!(request.header("x-sockerless-path"), None);
    }

    #[test]
    fn a_path_that_says_something_else_is_not_believed() {
        let forged = SIGNED.replace("a%2Fb%20c/json\"", "other/json\"");
        let request = request(event(&forged)).unwrap();
        assert_eq!(request.path_and_query, "/v1.51/images/a/b%20c/json?x=%2F");
    }

    #[test]
    fn the_namespace_is_the_callers_name_unless_one_is_named() {
        assert_eq!(namespace(&event(SIGNED)).unwrap().as_str(), "ann");
        let named = SIGNED.replace(
            "\"content-type\"",
            "\"x-sockerless-namespace\":\"team\",\"content-type\"",
        );
        assert_eq!(namespace(&event(&named)).unwrap().as_str(), "team");
        let unsigned = SIGNED.replace("authorizer", "something");
        assert_eq!(namespace(&event(&unsigned)).unwrap_err().status, 401);
        assert_eq!(principal("arn:aws:sts::1:assumed-role/Dev/session"), "Dev");
        assert_eq!(principal("arn:aws:iam::1:root"), "root");
    }
}
