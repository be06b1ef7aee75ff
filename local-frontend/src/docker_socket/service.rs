//! One request: forwarded, and its answer begun.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use sockerless_shared::answer::{Answer, Body, Head, Request};

use super::Frontend;
use super::body::AnswerBody;
use super::cache::Cache;
use super::error;
use super::head::CheckedHead;
use super::player::{Interrupted, Player};
use super::request::{self, Kept};
use super::watch::ClientWatch;
use crate::control_plane::{ControlPlane, ControlPlaneError};

/// What to do with the client.
pub(super) enum Outcome {
    /// Send this.
    Response(Response<AnswerBody>),
    /// End HTTP on this connection: send the head and let the player go on.
    TakeOver(Box<TakeOver>),
}

/// A connection to be taken over.
pub(super) struct TakeOver {
    pub(super) head: CheckedHead,
    pub(super) player: Player,
}

/// Forwards one request.
pub(super) async fn handle(
    frontend: &Frontend,
    watch: &Arc<ClientWatch>,
    request: http::Request<Incoming>,
) -> Outcome {
    let (head, body) = request.into_parts();
    if let Err(reason) = (frontend.admit)(&head.headers) {
        return Outcome::Response(error::response(StatusCode::FORBIDDEN, reason));
    }
    let method = head.method.clone();
    let websocket_key = head.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    let key = match body.is_end_stream() {
        true => Cache::key(&head.method, &head.uri),
        false => None,
    };
    let now = Instant::now();
    if let Some(cached) = key.as_deref().and_then(|key| frontend.cache.get(key, now)) {
        return Outcome::Response(finished(cached.head, cached.body));
    }

    let peer = frontend.relay.peer();
    let control = frontend.control.as_ref();
    let (answer, kept) = match request::read(head, body, peer).await {
        Ok((request, kept)) => ask(control, request, kept).await,
        Err(error) => (Err(error), None),
    };
    match answer {
        Ok(Answer::SendBody) => {
            let message = "the control plane wants a body that it has got already";
            Outcome::Response(error::response(StatusCode::BAD_GATEWAY, message))
        }
        Err(error) => {
            if let Some(kept) = kept {
                kept.discard();
            }
            Outcome::Response(error::response(error::status(&error), &error.to_string()))
        }
        Ok(Answer::Final(response)) => {
            if let Some(kept) = kept {
                kept.discard();
            }
            if let Some(key) = key {
                frontend.cache.put(key, &response, now);
            }
            Outcome::Response(finished(response.head, response.body))
        }
        Ok(Answer::Parts { id, first }) => {
            let player = Player::new(
                Arc::clone(&frontend.control),
                Arc::clone(&frontend.relay),
                frontend.relay.answer(id, first),
                Arc::clone(watch),
                kept,
            );
            match begin(player, &method, websocket_key).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    error.log();
                    let status = StatusCode::BAD_GATEWAY;
                    Outcome::Response(error::response(status, &error.to_string()))
                }
            }
        }
    }
}

/// Sends a request, and again with its body in the blob store if that is wanted. What is
/// kept of the body is for the agent that the answer may name.
async fn ask(
    control: &dyn ControlPlane,
    request: Request,
    kept: Kept,
) -> (Result<Answer, ControlPlaneError>, Option<Kept>) {
    let large = matches!(kept, Kept::Large(_));
    let again = large.then(|| request.clone());
    match (control.request(request).await, kept, again) {
        (Ok(Answer::SendBody), Kept::Large(body), Some(mut request)) => {
            match control.upload(body).await {
                Ok(blob) => request.body = Body::Blob(blob),
                Err(error) => return (Err(error), None),
            }
            (control.request(request).await, None)
        }
        (answer, kept, _) => (answer, Some(kept)),
    }
}

async fn begin(
    mut player: Player,
    method: &http::Method,
    websocket_key: Option<http::HeaderValue>,
) -> Result<Outcome, Interrupted> {
    let mut head = CheckedHead::new(player.head().await?)?;
    if head.is_websocket()
        && let Some(key) = websocket_key
    {
        head.accept(key.as_bytes());
    }
    if head.takes_over(method) {
        return Ok(Outcome::TakeOver(Box::new(TakeOver { head, player })));
    }
    let short = head.status.is_client_error() || head.status.is_server_error() || head.has_length;
    let body = if short {
        // Clients look for the length of an error.
        AnswerBody::full(player.collect().await?)
    } else if head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED {
        player.collect().await?;
        AnswerBody::empty()
    } else {
        AnswerBody::chunks(player.into_body())
    };
    Ok(Outcome::Response(head.response(body)))
}

fn finished(head: Head, body: Bytes) -> Response<AnswerBody> {
    match CheckedHead::new(head) {
        Ok(head) => head.response(AnswerBody::full(body)),
        Err(error) => {
            error.log();
            error::response(StatusCode::BAD_GATEWAY, &error.to_string())
        }
    }
}

/// Lets every request in: what connects to a Unix socket of mode 0600 is this user.
pub(super) fn admit_all(_headers: &HeaderMap) -> Result<(), &'static str> {
    Ok(())
}

/// Keeps web pages out: a browser would carry their requests to a port on
/// loopback, but says where they come from, or names a host that is not this one.
pub(super) fn admit_local(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(header::ORIGIN) {
        return Err("requests from web pages are refused (they carry an Origin header)");
    }
    let host = headers.get(header::HOST).map(header::HeaderValue::to_str);
    match host {
        None => Ok(()),
        Some(Ok(host)) if is_local(host) => Ok(()),
        Some(_) => Err("the Host header does not name this machine; use 127.0.0.1 or localhost"),
    }
}

fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        // `docker` is what some clients say when there is no name.
        Err(_) => name == "docker" || name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_pages_are_kept_out_of_a_port_on_loopback() {
        let admit = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            admit_local(&headers).is_ok()
        };
        for host in [
            "127.0.0.1:2375",
            "localhost:2375",
            "[::1]:1",
            "api.moby.localhost",
        ] {
            assert!(admit("host", host), "{host}");
        }
        for host in [
            "evil.example:2375",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "\\",
        ] {
            assert!(!admit("host", host), "{host}");
        }
        assert!(!admit("origin", "http://evil.example"));
        assert!(admit_local(&HeaderMap::new()).is_ok());
    }
}
