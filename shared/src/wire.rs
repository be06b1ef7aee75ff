//! Requests and answers between frontend and control plane as HTTP.
//!
//! The frontend sends a client's request as it is: same method, path, query
//! and body, so that anybody may do the same with `curl --aws-sigv4`. What HTTP
//! APIs keep for themselves travels in headers of its own, whose names begin
//! with `x-sockerless-`. A final answer is an ordinary response; one in parts
//! is JSON. A response without [`ANSWER`] did not come from the control plane.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::answer::{Answer, Body, Head, Part, Request, Response};
use crate::ids::{AnswerId, BlobId, PeerId};
use crate::protocol::mac::Token;
use crate::protocol::{VERSION, understands};

/// Where the rest of an answer can be sent.
pub const PEER: &str = "x-sockerless-peer";
/// The blob that holds the request's body.
pub const BODY_BLOB: &str = "x-sockerless-body-blob";
/// Says that a large body is still with the frontend: [`WAITING`].
pub const BODY: &str = "x-sockerless-body";
/// Value of [`BODY`].
pub const WAITING: &str = "waiting";
/// Whose containers are meant, if not the caller's own.
pub const NAMESPACE: &str = "x-sockerless-namespace";
/// The protocol version of whoever sends it, in requests and in responses.
pub const VERSION_HEADER: &str = "x-sockerless-version";
/// The path as the client wrote it, where that says more than its decoded form,
/// which is all that HTTP APIs pass on.
pub const PATH: &str = "x-sockerless-path";
/// What a response is: [`FINAL`] or [`PARTS`].
pub const ANSWER: &str = "x-sockerless-answer";
/// The headers of a final response as they are to reach the client: a JSON
/// list of pairs. API Gateway renames and adds some.
pub const HEAD: &str = "x-sockerless-head";
/// For how many seconds a final response may be repeated.
pub const CACHE: &str = "x-sockerless-cache";
/// Value of [`ANSWER`]: the response itself.
pub const FINAL: &str = "final";
/// Value of [`ANSWER`]: [`Parts`] as JSON.
pub const PARTS: &str = "parts";
/// Value of [`ANSWER`]: the body that waits is wanted.
pub const SEND_BODY: &str = "send-body";

/// Begins the paths of the control plane's own operations, none of Docker's.
pub const OWN_PATHS: &str = "/_sockerless/";
/// POST with [`RelayTokenRequest`], answered with [`RelayAccess`].
pub const RELAY_TOKEN_PATH: &str = "/_sockerless/relay-token";
/// POST, answered with [`BlobUrl`]: where to PUT a large body.
pub const UPLOADS_PATH: &str = "/_sockerless/uploads";
/// GET with a blob's id behind it, answered with [`BlobUrl`].
pub const BLOBS_PATH: &str = "/_sockerless/blobs/";

/// Headers that the connection to the control plane has for itself. Those of
/// the client travel with this before their names.
const CARRIED: &str = "x-sockerless-client-";

/// Those headers that say something of the client's request nevertheless.
const CARRIED_NAMES: [&str; 3] = ["connection", "content-type", "upgrade"];

/// What a body is sent as, whatever the client calls it: HTTP APIs take what is called text
/// for text, and the Docker client calls an archive for `docker import` that.
const BYTES: &str = "application/octet-stream";

/// Those that are not passed on: they are of the client's own connection, or
/// would be taken for the frontend's.
const DROPPED_NAMES: [&str; 8] = [
    "authorization",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
];

/// GET, answered with [`Status`].
pub const STATUS_PATH: &str = "/_sockerless/status";
/// GET, answered with a list of [`Check`].
pub const CHECKS_PATH: &str = "/_sockerless/checks";
/// POST with [`DestroyFunctions`], answered with [`Status`].
pub const DESTROY_FUNCTIONS_PATH: &str = "/_sockerless/destroy-functions";

/// One thing that the control function has to be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// With what: a word.
    pub what: String,
    /// Why it cannot, if so.
    pub problem: Option<String>,
}

/// What `sockerless doctor` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The control plane's protocol version.
    pub protocol: u16,
    /// The control plane's own version.
    pub version: String,
    /// The caller's namespace.
    pub namespace: String,
    /// What containers run on.
    pub architecture: String,
    /// Containers that run, in all namespaces.
    pub running: usize,
    /// Functions of containers.
    pub functions: usize,
    /// Functions that are still to be made or deleted.
    pub waiting: usize,
}

/// Asks for the deletion of all functions of containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyFunctions {
    /// Even while containers run, which then cannot be started again as fast.
    pub force: bool,
}

/// An answer of which the rest comes over the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Under which name the rest arrives.
    pub id: AnswerId,
    /// What is known already.
    pub first: Vec<Part>,
}

/// Asks for a credential for the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayTokenRequest {
    /// The frontend's own address on the relay.
    pub peer: PeerId,
}

/// Where the relay is and what opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayAccess {
    /// The credential.
    pub token: Token,
    /// `ws://` or `wss://`, without a query.
    pub url: String,
}

/// Where a blob is put or got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobUrl {
    /// The blob.
    pub blob: BlobId,
    /// A presigned URL.
    pub url: String,
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

impl HttpResponse {
    /// The value of the first header of this (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Why a request or answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// A header's value is not what it should be.
    #[error("header {0} is malformed")]
    Header(&'static str),
    /// The response came from something between, with this status and text.
    #[error("HTTP {status}: {text}")]
    NotAnAnswer {
        /// Status.
        status: u16,
        /// The beginning of its body.
        text: String,
    },
    /// The other end speaks a version that this one does not.
    #[error("the two ends do not understand each other: one speaks protocol version {theirs}, the other {VERSION}; {}", remedy(*theirs))]
    Version {
        /// The version of the other end.
        theirs: u16,
    },
    /// The body of an answer in parts is not.
    #[error("answer is malformed: {0}")]
    Parts(String),
}

/// What to do about another version.
fn remedy(theirs: u16) -> &'static str {
    if theirs > VERSION {
        "the older one is this: bring it to the version of the other (install the newer `sockerless`, or deploy again)"
    } else {
        "the older one is the other: bring it to the version of this one (install the newer `sockerless`, or deploy again)"
    }
}

/// The headers with which a request is sent.
#[must_use]
pub fn request_headers(request: &Request) -> Vec<(String, String)> {
    let mut headers: Vec<_> = request
        .headers
        .iter()
        .filter(|(name, _)| {
            !DROPPED_NAMES.contains(&name.as_str())
                && !name.starts_with("x-sockerless-")
                && !name.starts_with("x-amz-")
        })
        .map(|(name, value)| {
            let name = if CARRIED_NAMES.contains(&name.as_str()) {
                format!("{CARRIED}{name}")
            } else {
                name.clone()
            };
            (name, value.clone())
        })
        .collect();
    if let Some(peer) = &request.peer {
        headers.push((PEER.to_owned(), peer.to_string()));
    }
    headers.push((VERSION_HEADER.to_owned(), VERSION.to_string()));
    let path = request.path_and_query.split('?').next().unwrap_or_default();
    if path.contains('%') {
        headers.push((PATH.to_owned(), path.to_owned()));
    }
    match &request.body {
        Body::Inline(bytes) if bytes.is_empty() => {}
        Body::Inline(_) => headers.push(("content-type".to_owned(), BYTES.to_owned())),
        Body::Blob(blob) => headers.push((BODY_BLOB.to_owned(), blob.to_string())),
        Body::Waiting => headers.push((BODY.to_owned(), WAITING.to_owned())),
    }
    headers
}

/// A request as it arrived. Names of headers are in lower case.
///
/// # Errors
/// [`WireError::Header`].
pub fn read_request(
    method: String,
    path_and_query: String,
    headers: Vec<(String, String)>,
    body: Bytes,
) -> Result<Request, WireError> {
    let mut request = Request {
        method,
        path_and_query,
        headers: Vec::with_capacity(headers.len()),
        body: Body::Inline(body),
        peer: None,
    };
    for (name, value) in headers {
        match name.as_str() {
            PEER => request.peer = Some(value.parse().map_err(|_| WireError::Header(PEER))?),
            BODY_BLOB => {
                let blob = value.parse().map_err(|_| WireError::Header(BODY_BLOB))?;
                request.body = Body::Blob(blob);
            }
            BODY if value == WAITING => request.body = Body::Waiting,
            BODY => return Err(WireError::Header(BODY)),
            // Somebody with curl says no version.
            VERSION_HEADER => {
                let version = value
                    .parse()
                    .map_err(|_| WireError::Header(VERSION_HEADER))?;
                if !understands(version) {
                    return Err(WireError::Version { theirs: version });
                }
            }
            NAMESPACE | PATH => {}
            // Somebody with curl says what it is.
            "content-type" if value != BYTES => request.headers.push((name, value)),
            name if CARRIED_NAMES.contains(&name) => {}
            name => {
                let name = name.strip_prefix(CARRIED).unwrap_or(name).to_owned();
                request.headers.push((name, value));
            }
        }
    }
    Ok(request)
}

/// The response that carries an answer.
///
/// # Errors
/// Never in practice: only if the answer cannot be written as JSON.
pub fn write_answer(answer: Answer) -> Result<HttpResponse, serde_json::Error> {
    let mut response = write_bare(answer)?;
    let version = (VERSION_HEADER.to_owned(), VERSION.to_string());
    response.headers.push(version);
    Ok(response)
}

fn write_bare(answer: Answer) -> Result<HttpResponse, serde_json::Error> {
    match answer {
        Answer::Final(Response {
            head,
            body,
            cache_s,
        }) => {
            let exact = serde_json::to_string(&head.headers)?;
            let mut headers: Vec<_> = head
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect();
            headers.push((ANSWER.to_owned(), FINAL.to_owned()));
            headers.push((HEAD.to_owned(), exact));
            if cache_s > 0 {
                headers.push((CACHE.to_owned(), cache_s.to_string()));
            }
            Ok(HttpResponse {
                status: head.status,
                headers,
                body,
            })
        }
        Answer::SendBody => Ok(HttpResponse {
            status: 200,
            headers: vec![(ANSWER.to_owned(), SEND_BODY.to_owned())],
            body: Bytes::new(),
        }),
        Answer::Parts { id, first } => Ok(HttpResponse {
            status: 200,
            headers: vec![
                (ANSWER.to_owned(), PARTS.to_owned()),
                ("content-type".to_owned(), "application/json".to_owned()),
            ],
            body: serde_json::to_vec(&Parts { id, first })?.into(),
        }),
    }
}

/// The answer that a response carries.
///
/// # Errors
/// See [`WireError`].
pub fn read_answer(response: HttpResponse) -> Result<Answer, WireError> {
    // What it understands of us, the control plane has judged; a newer one may have
    // answers that are unknown here.
    let version = response.header(VERSION_HEADER).map(str::parse::<u16>);
    match version {
        Some(Ok(theirs)) if theirs > VERSION && !is_error(&response) => {
            return Err(WireError::Version { theirs });
        }
        Some(Err(_)) => return Err(WireError::Header(VERSION_HEADER)),
        Some(Ok(_)) | None => {}
    }
    match response.header(ANSWER) {
        Some(FINAL) => {
            let headers = response
                .header(HEAD)
                .and_then(|text| serde_json::from_str(text).ok())
                .ok_or(WireError::Header(HEAD))?;
            let cache_s = match response.header(CACHE) {
                None => 0,
                Some(text) => text.parse().map_err(|_| WireError::Header(CACHE))?,
            };
            Ok(Answer::Final(Response {
                head: Head {
                    status: response.status,
                    headers,
                },
                body: response.body,
                cache_s,
            }))
        }
        Some(PARTS) => {
            let Parts { id, first } = serde_json::from_slice(&response.body)
                .map_err(|error| WireError::Parts(error.to_string()))?;
            Ok(Answer::Parts { id, first })
        }
        Some(SEND_BODY) => Ok(Answer::SendBody),
        Some(_) => Err(WireError::Header(ANSWER)),
        None => Err(WireError::NotAnAnswer {
            status: response.status,
            text: String::from_utf8_lossy(&response.body)
                .chars()
                .take(500)
                .collect(),
        }),
    }
}

/// Whether it is an error in words, which every version can read.
fn is_error(response: &HttpResponse) -> bool {
    response.status >= 400 && response.header(ANSWER) == Some(FINAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_request_arrives_as_the_client_sent_it() {
        let request = Request {
            method: "POST".into(),
            path_and_query: "/v1.51/containers/a/attach?stream=1".into(),
            headers: vec![
                header("host", "docker"),
                header("connection", "Upgrade"),
                header("upgrade", "tcp"),
                header("content-type", "text/plain"),
                header("content-length", "0"),
                header("x-registry-auth", "e30="),
                header("x-sockerless-peer", "forged"),
            ],
            body: Body::Inline(Bytes::from_static(b"body")),
            peer: Some(PeerId::from_random([3; 14])),
        };
        let sent = request_headers(&request);
        assert!(
            !sent
                .iter()
                .any(|(name, _)| name == "connection" || name == "host")
        );
        // What is called text would be taken for text on the way.
        assert!(sent.contains(&header("content-type", BYTES)));
        // The connection's own headers come on top.
        let mut arrived = sent;
        arrived.push(header("connection", "keep-alive"));
        let read = read_request(
            request.method.clone(),
            request.path_and_query.clone(),
            arrived,
            Bytes::from_static(b"body"),
        )
        .unwrap();
        assert_eq!(read.header("connection"), Some("Upgrade"));
        assert_eq!(read.header("upgrade"), Some("tcp"));
        assert_eq!(read.header("x-registry-auth"), Some("e30="));
        assert_eq!(read.header("content-type"), Some("text/plain"));
        assert_eq!(read.peer, request.peer);
        assert!(matches!(read.body, Body::Inline(body) if body == "body"));
    }

    #[test]
    fn a_body_in_the_blob_store_is_named() {
        let blob = BlobId::from_random([9; 16]);
        let request = Request {
            method: "POST".into(),
            path_and_query: "/images/load".into(),
            headers: Vec::new(),
            body: Body::Blob(blob.clone()),
            peer: None,
        };
        let read = read_request(
            "POST".into(),
            "/".into(),
            request_headers(&request),
            Bytes::new(),
        );
        assert!(matches!(read.unwrap().body, Body::Blob(read) if read == blob));
        let forged = vec![header(BODY_BLOB, "../x")];
        let read = read_request("POST".into(), "/".into(), forged, Bytes::new());
        assert_eq!(read.unwrap_err(), WireError::Header(BODY_BLOB));
    }

    #[test]
    fn answers_read_back_as_they_were_written() {
        let head = Head {
            status: 404,
            headers: vec![
                header("Server", "Sockerless"),
                header("Content-Type", "application/json"),
            ],
        };
        let answers = [
            Answer::Final(Response {
                head: head.clone(),
                body: Bytes::from_static(b"{}\n"),
                cache_s: 3,
            }),
            Answer::Parts {
                id: AnswerId::from_random([1; 16]),
                first: vec![Part::Head(head), Part::End],
            },
        ];
        for answer in answers {
            let mut response = write_answer(answer.clone()).unwrap();
            // What API Gateway does to it.
            for (name, _) in &mut response.headers {
                if name == "server" {
                    *name = "x-amzn-remapped-server".into();
                }
            }
            response.headers.push(header("apigw-requestid", "x"));
            assert_eq!(read_answer(response), Ok(answer));
        }
    }

    #[test]
    fn ends_that_do_not_understand_each_other_say_so() {
        let request = |version: &str| {
            let headers = vec![header(VERSION_HEADER, version)];
            read_request("GET".into(), "/".into(), headers, Bytes::new())
        };
        assert!(request(&VERSION.to_string()).is_ok());
        let error = request("99").unwrap_err();
        assert_eq!(error, WireError::Version { theirs: 99 });
        assert!(error.to_string().contains("deploy again"), "{error}");
        assert_eq!(request("x").unwrap_err(), WireError::Header(VERSION_HEADER));

        let answer = Answer::SendBody;
        let mut response = write_answer(answer.clone()).unwrap();
        assert_eq!(read_answer(response.clone()), Ok(answer));
        for (name, value) in &mut response.headers {
            if name == VERSION_HEADER {
                *value = "99".into();
            }
        }
        let error = read_answer(response).unwrap_err();
        assert_eq!(error, WireError::Version { theirs: 99 });
    }

    #[test]
    fn what_others_answer_is_no_answer() {
        let response = HttpResponse {
            status: 403,
            headers: Vec::new(),
            body: Bytes::from_static(b"{\"message\":\"Forbidden\"}"),
        };
        let error = read_answer(response).unwrap_err();
        assert_eq!(error.to_string(), "HTTP 403: {\"message\":\"Forbidden\"}");
    }
}
