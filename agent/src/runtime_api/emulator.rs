//! The endpoint of Lambda's runtime interface emulator: whoever posts an event
//! to it gets the invocation's answer. One at a time, as in a real environment.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::{Received, Reply};
use crate::clock;

/// Where events are posted to.
const PATH: &str = "/2015-03-31/functions/function/invocations";

/// Largest event, in bytes: Lambda's limit for synchronous invocations.
const MAX_EVENT_BYTES: usize = 6 * 1024 * 1024 + 64 * 1024;

/// Events that wait while another is carried out.
const WAITING: usize = 16;

/// The endpoint.
#[derive(Debug)]
pub(crate) struct Emulator {
    events: mpsc::Receiver<Event>,
    time_limit: Duration,
    count: u64,
}

#[derive(Debug)]
struct Event {
    payload: Bytes,
    reply: oneshot::Sender<Bytes>,
}

impl Emulator {
    /// Listens on a port of every address. `time_limit` stands for the function's.
    ///
    /// # Errors
    /// When the port is taken.
    pub(crate) async fn listen(port: u16, time_limit: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            .await
            .map_err(|error| {
                io::Error::new(error.kind(), format!("listening on port {port}: {error}"))
            })?;
        Ok(Self::on(listener, time_limit))
    }

    fn on(listener: TcpListener, time_limit: Duration) -> Self {
        let (sender, events) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    // Out of descriptors, for instance: others may be closed meanwhile.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let sender = sender.clone();
                let service = service_fn(move |request| answer(request, sender.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            events,
            time_limit,
            count: 0,
        }
    }

    pub(super) async fn next(&mut self) -> io::Result<Received> {
        let event = self
            .events
            .recv()
            .await
            .ok_or_else(|| io::Error::other("the emulator's endpoint ended"))?;
        self.count += 1;
        Ok(Received {
            request_id: format!("emulated-{}", self.count),
            payload: event.payload,
            deadline: clock::now().plus(self.time_limit),
            reply: Reply::Emulator(event.reply),
        })
    }
}

async fn answer(
    request: Request<Incoming>,
    events: mpsc::Sender<Event>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match invoke(request, events).await {
        Ok(body) => (StatusCode::OK, body),
        Err((status, text)) => (status, Bytes::from(text)),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

async fn invoke(
    request: Request<Incoming>,
    events: mpsc::Sender<Event>,
) -> Result<Bytes, (StatusCode, &'static str)> {
    if request.method() != Method::POST || request.uri().path() != PATH {
        return Err((
            StatusCode::NOT_FOUND,
            "POST an event to the invocations path",
        ));
    }
    let payload = Limited::new(request.into_body(), MAX_EVENT_BYTES)
        .collect()
        .await
        .map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, "the event is too large"))?
        .to_bytes();
    let (reply, answer) = oneshot::channel();
    let gone = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the agent is ending");
    events
        .send(Event { payload, reply })
        .await
        .map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "the agent is ending"))?;
    answer.await.map_err(gone)
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::super::Source;
    use super::*;
    use crate::net::http::request;

    async fn emulator() -> (Source, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let emulator = Emulator::on(listener, Duration::from_secs(60));
        (Source::Emulator(emulator), base)
    }

    async fn post(base: &str, path: &str, body: &str) -> (StatusCode, String) {
        let uri: Uri = format!("{base}{path}").parse().unwrap();
        let body = Bytes::from(body.to_owned());
        let response = request(Method::POST, &uri, body, 1024).await.unwrap();
        let text = String::from_utf8(response.body.to_vec()).unwrap();
        (response.status, text)
    }

    #[tokio::test]
    async fn an_event_is_an_invocation_and_its_answer_the_response() {
        let (mut source, base) = emulator().await;
        let (one, two) = (base.clone(), base.clone());
        let first = tokio::spawn(async move { post(&one, PATH, "one").await });
        let received = source.next().await.unwrap();
        assert_eq!(received.payload, "one");
        assert!(received.deadline > clock::now());
        // The next one waits for its turn.
        let second = tokio::spawn(async move { post(&two, PATH, "two").await });
        source.answer(received, "done".into()).await.unwrap();
        assert_eq!(first.await.unwrap(), (StatusCode::OK, "done".to_owned()));
        let received = source.next().await.unwrap();
        assert_eq!(received.payload, "two");
        source.fail(received, "broken").await.unwrap();
        let (status, body) = second.await.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("broken"), "{body}");
    }

    #[tokio::test]
    async fn there_is_nothing_but_that_path() {
        let (_source, base) = emulator().await;
        assert_eq!(post(&base, "/", "").await.0, StatusCode::NOT_FOUND);
    }
}
