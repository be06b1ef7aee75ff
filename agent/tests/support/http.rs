//! The runtime API and a blob store, on one port.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// What the agent answered to an invocation.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Whether it was `/response` and not `/error`.
    pub(crate) ok: bool,
    pub(crate) body: String,
}

pub(crate) struct Server {
    pub(crate) authority: String,
    shared: Arc<Shared>,
    invocations: mpsc::UnboundedSender<(Vec<u8>, Duration)>,
    answers: AsyncMutex<mpsc::UnboundedReceiver<Answer>>,
}

struct Shared {
    invocations: AsyncMutex<mpsc::UnboundedReceiver<(Vec<u8>, Duration)>>,
    answers: mpsc::UnboundedSender<Answer>,
    blob: Mutex<Vec<u8>>,
    refuse_blobs: Mutex<Vec<StatusCode>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let (invocations, queue) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            invocations: AsyncMutex::new(queue),
            answers,
            blob: Mutex::default(),
            refuse_blobs: Mutex::default(),
        });
        let state = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = service_fn(move |request| serve(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            authority,
            shared,
            invocations,
            answers: AsyncMutex::new(answered),
        }
    }

    pub(crate) fn invoke(&self, payload: Vec<u8>, time_limit: Duration) {
        self.invocations.send((payload, time_limit)).unwrap();
    }

    pub(crate) async fn next_answer(&self) -> Answer {
        self.answers.lock().await.recv().await.unwrap()
    }

    /// As if this had been uploaded.
    pub(crate) fn hold(&self, blob: Vec<u8>) {
        *self.shared.blob.lock().unwrap() = blob;
    }

    pub(crate) fn blob(&self) -> Vec<u8> {
        self.shared.blob.lock().unwrap().clone()
    }

    /// Answers the next uploads so.
    pub(crate) fn refuse_blobs(&self, statuses: &[StatusCode]) {
        *self.shared.refuse_blobs.lock().unwrap() = statuses.to_vec();
    }
}

async fn serve(
    state: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let response = Response::builder();
    if path == "/blob" {
        if request.method() == Method::GET {
            let blob = state.blob.lock().unwrap().clone();
            return Ok(response.body(Full::from(blob)).unwrap());
        }
        assert_eq!(request.method(), Method::PUT);
        assert!(request.headers().contains_key("content-length"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let refusal = state.refuse_blobs.lock().unwrap().pop();
        let status = refusal.unwrap_or_else(|| {
            *state.blob.lock().unwrap() = body.to_vec();
            StatusCode::OK
        });
        return Ok(response.status(status).body(Full::default()).unwrap());
    }
    let rest = path
        .strip_prefix("/2018-06-01/runtime/invocation/")
        .expect("a path of the runtime API");
    if rest == "next" {
        assert_eq!(request.method(), Method::GET);
        let Some((payload, time_limit)) = state.invocations.lock().await.recv().await else {
            std::future::pending().await
        };
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let deadline = (now + time_limit).as_millis();
        return Ok(response
            .header("Lambda-Runtime-Aws-Request-Id", "request-1")
            .header("Lambda-Runtime-Deadline-Ms", deadline.to_string())
            .body(Full::from(payload))
            .unwrap());
    }
    assert_eq!(request.method(), Method::POST);
    let ok = match rest {
        "request-1/response" => true,
        "request-1/error" => false,
        other => panic!("the runtime API has no {other}"),
    };
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    state.answers.send(Answer { ok, body }).unwrap();
    Ok(response
        .status(StatusCode::ACCEPTED)
        .body(Full::default())
        .unwrap())
}
