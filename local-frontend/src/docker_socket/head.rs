//! Heads of responses.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use sockerless_shared::answer::Head;

use super::body::AnswerBody;
use super::player::Interrupted;

/// Docker's media types for a stream that is nothing but the stream.
const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// The same with frames that tell stdout from stderr.
const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// A head that HTTP allows.
pub(super) struct CheckedHead {
    pub(super) status: StatusCode,
    /// Whether it says how long the body is, so that the client is to be told too.
    pub(super) has_length: bool,
    headers: HeaderMap,
}

impl CheckedHead {
    pub(super) fn new(head: Head) -> Result<Self, Interrupted> {
        let status = StatusCode::from_u16(head.status)
            .map_err(|_| Interrupted::Disorder("a status that HTTP does not know"))?;
        let mut headers = HeaderMap::with_capacity(head.headers.len() + 2);
        let has_length = head
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        for (name, value) in head.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(&value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Interrupted::Disorder("a header that HTTP does not allow"));
            };
            // How the body is framed is decided here.
            if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
                headers.append(name, value);
            }
        }
        Ok(Self {
            status,
            has_length,
            headers,
        })
    }

    /// Whether what follows is a raw stream both ways, for which HTTP ends on
    /// this connection: an upgrade, or, as Docker did before there were
    /// upgrades, a POST answered with a stream.
    pub(super) fn takes_over(&self, method: &Method) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
            || (*method == Method::POST
                && self.status == StatusCode::OK
                && (self.is(RAW_STREAM) || self.is(MULTIPLEXED_STREAM)))
    }

    /// Whether the stream is a WebSocket's.
    pub(super) fn is_websocket(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
            && self
                .headers
                .get(header::UPGRADE)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
    }

    /// Whether the stream is HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
            && self
                .headers
                .get(header::UPGRADE)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"h2c"))
    }

    /// The value of a header.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// Answers a WebSocket client's key, which shows that its request was understood.
    pub(super) fn accept(&mut self, key: &[u8]) {
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key);
        if let Ok(value) = HeaderValue::from_str(&accept) {
            self.headers.insert(header::SEC_WEBSOCKET_ACCEPT, value);
        }
    }

    /// Whether the stream is framed.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.is(MULTIPLEXED_STREAM)
    }

    fn is(&self, media_type: &str) -> bool {
        self.headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value == media_type)
    }

    pub(super) fn response(self, body: AnswerBody) -> Response<AnswerBody> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// The head as bytes, for a connection that is taken over, as Docker writes it.
    pub(super) fn raw(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        let upgrade = self.status == StatusCode::SWITCHING_PROTOCOLS;
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(self.status.as_str().as_bytes());
        out.put_slice(if self.is_websocket() {
            &b" Switching Protocols\r\n"[..]
        } else if upgrade {
            b" UPGRADED\r\n"
        } else {
            b" OK\r\n"
        });
        let mut put = |name: &str, value: &[u8]| {
            out.put_slice(name.as_bytes());
            out.put_slice(b": ");
            out.put_slice(value);
            out.put_slice(b"\r\n");
        };
        for (name, value) in &self.headers {
            put(&title_case(name.as_str()), value.as_bytes());
        }
        if upgrade {
            for (name, value) in [("Connection", "Upgrade"), ("Upgrade", "tcp")] {
                if !self.headers.contains_key(name) {
                    put(name, value.as_bytes());
                }
            }
        }
        out.put_slice(b"\r\n");
        out.freeze()
    }
}

/// `content-type` → `Content-Type`, as Go writes it.
fn title_case(name: &str) -> String {
    // The one name that Go's WebSocket server writes by hand.
    if name == header::SEC_WEBSOCKET_ACCEPT.as_str() {
        return "Sec-WebSocket-Accept".to_owned();
    }
    let mut first = true;
    name.chars()
        .map(|c| {
            let upper = std::mem::replace(&mut first, c == '-');
            if upper { c.to_ascii_uppercase() } else { c }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(status: u16, headers: &[(&str, &str)]) -> Result<CheckedHead, Interrupted> {
        CheckedHead::new(Head {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        })
    }

    #[test]
    fn an_upgrade_is_written_as_docker_writes_it() {
        let head = checked(101, &[("content-type", RAW_STREAM)]).unwrap();
        assert!(head.takes_over(&Method::GET));
        assert_eq!(
            head.raw(),
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
    }

    #[test]
    fn a_stream_takes_the_connection_over_only_in_answer_to_a_post() {
        let head = checked(200, &[("Content-Type", MULTIPLEXED_STREAM)]).unwrap();
        assert!(head.takes_over(&Method::POST));
        assert!(!head.takes_over(&Method::GET));
        assert!(head.is_multiplexed());
        let json = checked(200, &[("Content-Type", "application/json")]).unwrap();
        assert!(!json.takes_over(&Method::POST));
    }

    #[test]
    fn a_head_that_could_split_a_response_is_refused() {
        assert!(checked(200, &[("a", "b\r\nc: d")]).is_err());
        assert!(checked(200, &[("a b", "c")]).is_err());
        assert!(checked(1, &[]).is_err());
        let framed = [("Content-Length", "5"), ("transfer-encoding", "chunked")];
        assert!(checked(200, &framed).unwrap().headers.is_empty());
    }
}
