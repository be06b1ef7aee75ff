//! A client that speaks QUIC with an agent through the gateway.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use sockerless_shared::ids::PeerId;
use sockerless_shared::protocol::grant::{Grant, Operation};
use sockerless_shared::protocol::invocation::Invocation;
use sockerless_shared::protocol::stream::{StreamReply, encode_head, head_length};
use sockerless_shared::quic::{Pace, RelayEndpoint, quinn};
use tokio::time::{sleep, timeout};

use super::gateway::{Gateway, now};
use super::{LIMIT, random};

pub(crate) struct Client {
    pub(crate) endpoint: RelayEndpoint,
    pub(crate) peer: PeerId,
    pub(crate) connection: quinn::Connection,
    invocation: Invocation,
}

pub(crate) struct Stream {
    pub(crate) send: quinn::SendStream,
    pub(crate) recv: quinn::RecvStream,
}

impl Client {
    /// Connects to the agent of an invocation.
    pub(crate) async fn connect(gateway: &Gateway, invocation: &Invocation) -> Self {
        timeout(LIMIT, Self::connect_anyhow(gateway, invocation))
            .await
            .expect("a connection in time")
    }

    async fn connect_anyhow(gateway: &Gateway, invocation: &Invocation) -> Self {
        let peer = PeerId::from_random(random());
        let (endpoint, mut outbox) =
            RelayEndpoint::client(Arc::new(quinn::TokioRuntime), peer.clone(), Pace::NEAR).unwrap();
        let (connection, mut texts) = gateway.client();
        let relay = gateway.clone();
        tokio::spawn(async move {
            while let Some(text) = outbox.next().await {
                relay.relay_from(&connection, &text);
            }
        });
        let inbox = endpoint.clone();
        tokio::spawn(async move {
            while let Some(text) = texts.recv().await {
                inbox.deliver(&text).unwrap();
            }
        });
        let (ticket, pin) = loop {
            match gateway.locate_agent(&peer, &invocation.peer) {
                Some(found) => break found,
                None => sleep(Duration::from_millis(5)).await,
            }
        };
        endpoint.set_route(&invocation.peer, ticket).unwrap();
        // What a frontend does: it asks for the present ticket now and then.
        let (routes, relay) = (endpoint.clone(), gateway.clone());
        let (me, agent) = (peer.clone(), invocation.peer.clone());
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(200)).await;
                if let Some((ticket, _)) = relay.locate_agent(&me, &agent) {
                    routes.set_route(&agent, ticket).unwrap();
                }
            }
        });
        let connection = endpoint.connect(&invocation.peer, &pin).await.unwrap();
        Self {
            endpoint,
            peer,
            connection,
            invocation: invocation.clone(),
        }
    }

    /// Opens a stream for an operation and reads the agent's reply.
    pub(crate) async fn open(&self, operation: Operation) -> Result<Stream, String> {
        let grant = self.grant(operation);
        self.present(&grant).await
    }

    /// Sends a whole body for an operation that answers itself; the answer's status and body.
    pub(crate) async fn ask(&self, operation: Operation, body: &[u8]) -> (u16, Vec<u8>) {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        let head = encode_head(&self.grant(operation)).unwrap();
        send.write_all(&head).await.unwrap();
        send.write_all(body).await.unwrap();
        send.finish().unwrap();
        let mut length = [0; 4];
        recv.read_exact(&mut length).await.unwrap();
        let mut text = vec![0; head_length(length, 64 * 1024).unwrap()];
        recv.read_exact(&mut text).await.unwrap();
        match serde_json::from_slice(&text).unwrap() {
            StreamReply::Answer { status, .. } => (status, raw(&mut recv).await),
            other => panic!("no answer of its own: {other:?}"),
        }
    }

    /// A signed grant.
    pub(crate) fn grant(&self, operation: Operation) -> String {
        sign(&self.invocation, operation)
    }

    /// Opens a stream with a grant's text.
    pub(crate) async fn present(&self, grant: &str) -> Result<Stream, String> {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        send.write_all(&encode_head(grant).unwrap()).await.unwrap();
        let mut length = [0; 4];
        recv.read_exact(&mut length).await.unwrap();
        let mut text = vec![0; head_length(length, 64 * 1024).unwrap()];
        recv.read_exact(&mut text).await.unwrap();
        match serde_json::from_slice(&text).unwrap() {
            StreamReply::Accepted | StreamReply::Answer { .. } => Ok(Stream { send, recv }),
            StreamReply::Refused { message } => Err(message),
        }
    }
}

impl Stream {
    /// Sends everything and ends the input.
    pub(crate) async fn send_all(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
        self.send.finish().unwrap();
    }

    /// Reads to the stream's end: stdout and stderr out of frames.
    pub(crate) async fn frames(&mut self) -> (Vec<u8>, Vec<u8>) {
        frames(&mut self.recv).await
    }

    /// Reads to the stream's end.
    pub(crate) async fn raw(&mut self) -> Vec<u8> {
        raw(&mut self.recv).await
    }

    /// Reads until this text has come.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let read = timeout(LIMIT, self.recv.read(&mut buffer))
                .await
                .unwrap_or_else(|_| panic!("{text:?} in {:?}", String::from_utf8_lossy(&seen)))
                .unwrap()
                .unwrap_or_else(|| panic!("{text:?} in {:?}", String::from_utf8_lossy(&seen)));
            seen.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

/// A signed grant for a run.
pub(crate) fn sign(invocation: &Invocation, operation: Operation) -> String {
    let grant = Grant {
        run: invocation.run.clone(),
        expires: now().plus(Duration::from_secs(60)),
        operation,
    };
    grant.sign(&invocation.grant_key).unwrap()
}

/// An attach with everything.
pub(crate) fn attach() -> Operation {
    Operation::Attach {
        stdin: true,
        stdout: true,
        stderr: true,
        history: true,
        follow: true,
        detach_keys: Vec::new(),
        raw: false,
    }
}

/// Reads to a stream's end: stdout and stderr out of frames.
pub(crate) async fn frames(recv: &mut quinn::RecvStream) -> (Vec<u8>, Vec<u8>) {
    let bytes = raw(recv).await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = &bytes[..];
    while let Some((header, body)) = rest.split_first_chunk::<8>() {
        let [number, 0, 0, 0, a, b, c, d] = *header else {
            panic!("not a frame: {header:?}");
        };
        let (data, after) = body.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        match number {
            1 => out.extend_from_slice(data),
            2 => err.extend_from_slice(data),
            other => panic!("stream {other}"),
        }
        rest = after;
    }
    assert!(rest.is_empty());
    (out, err)
}

async fn raw(recv: &mut quinn::RecvStream) -> Vec<u8> {
    timeout(4 * LIMIT, recv.read_to_end(1 << 30))
        .await
        .expect("the stream's end in time")
        .unwrap()
}
