//! Connections to AWS: HTTP requests and WebSockets, over TLS unless the
//! endpoint says otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, future};
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming as Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sockerless_shared::protocol::control::ConnectQuery;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use tower_service::Service as _;

use crate::relay::{Dial, Link, LinkError};

/// So long an answer may take: the HTTP API gives up after 30 seconds.
const ANSWER: Duration = Duration::from_secs(60);

/// So long a WebSocket may take to be opened.
const OPEN: Duration = Duration::from_secs(30);

/// What a request's body is.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

/// Makes connections and keeps them warm.
#[derive(Debug, Clone)]
pub struct Connection {
    connector: HttpsConnector<HttpConnector>,
    client: Client<HttpsConnector<HttpConnector>, Outgoing>,
}

impl Connection {
    /// Trusts the certificate authorities that this system trusts.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn new() -> std::io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector.clone()),
            connector,
        })
    }

    /// Sends a request, and returns when the answer's head is there.
    pub(super) async fn send(&self, request: Request<Outgoing>) -> Result<Response<Body>, String> {
        match tokio::time::timeout(ANSWER, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err(format!("no answer in {} s", ANSWER.as_secs())),
        }
    }

    async fn open(&self, url: &str, query: &str) -> Result<Link, LinkError> {
        let failed = |error: &dyn std::error::Error| LinkError(describe(error));
        // To the connector, a WebSocket is a connection like any other.
        let http_url: Uri = url
            .replacen("ws", "http", 1)
            .parse()
            .map_err(|_| LinkError(format!("{url} is not a ws:// or wss:// URL")))?;
        let mut connector = self.connector.clone();
        let stream = connector
            .call(http_url)
            .await
            .map_err(|error| LinkError(error.to_string()))?;
        let separator = if url.contains('?') { '&' } else { '?' };
        let opened = client_async(format!("{url}{separator}{query}"), TokioIo::new(stream)).await;
        let (socket, _) = opened.map_err(|error| match error {
            WebSocketError::Http(response) => {
                LinkError(format!("the gateway refused: HTTP {}", response.status()))
            }
            error => failed(&error),
        })?;
        let (sink, stream) = socket.split();
        let outgoing = sink
            .sink_map_err(|error: WebSocketError| LinkError(describe(&error)))
            .with(|text: String| future::ready(Ok(Message::text(text))));
        let incoming = stream.filter_map(|message| {
            future::ready(match message {
                Ok(Message::Text(text)) => Some(Ok(text.as_str().to_owned())),
                Ok(_) => None,
                Err(error) => Some(Err(LinkError(describe(&error)))),
            })
        });
        Ok(Link {
            outgoing: Box::pin(outgoing),
            incoming: Box::pin(incoming),
        })
    }
}

/// Opens WebSockets to the relay's gateway.
#[derive(Debug, Clone)]
pub struct WebSocketDial {
    connection: Connection,
    url: Arc<Mutex<Option<String>>>,
}

impl WebSocketDial {
    /// Connects to the URL that is in `url` at the time: the control plane says it
    /// with every credential.
    #[must_use]
    pub const fn new(connection: Connection, url: Arc<Mutex<Option<String>>>) -> Self {
        Self { connection, url }
    }
}

#[async_trait]
impl Dial for WebSocketDial {
    async fn dial(&self, query: ConnectQuery) -> Result<Link, LinkError> {
        let url = self
            .url
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let url =
            url.ok_or_else(|| LinkError("the gateway's address is not known yet".to_owned()))?;
        let query = query.to_query();
        let opening = self.connection.open(&url, &query);
        tokio::time::timeout(OPEN, opening)
            .await
            .unwrap_or_else(|_| Err(LinkError(format!("not open after {} s", OPEN.as_secs()))))
    }
}

/// An error with its causes in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
