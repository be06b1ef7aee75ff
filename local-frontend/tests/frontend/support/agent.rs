//! An agent, played: what a stream's grant says, it does.

use std::sync::{Arc, Mutex};

use sockerless_shared::ids::PeerId;
use sockerless_shared::protocol::stream::{StreamReply, encode_head};
use sockerless_shared::quic::{Identity, Pace, RelayEndpoint, quinn};

use super::relay::Gateway;

pub(crate) struct Agent {
    pub(super) peer: PeerId,
    pub(super) certificate_sha256: String,
    pub(super) endpoint: RelayEndpoint,
    /// What clients did, in order: `end`, `gone`, and how many connections and streams.
    events: Mutex<Vec<&'static str>>,
}

impl Agent {
    pub(super) fn start(gateway: &Arc<Gateway>) -> Arc<Self> {
        let peer = PeerId::from_random([2; 14]);
        let identity = Identity::generate().unwrap();
        let runtime = Arc::new(quinn::TokioRuntime);
        let (endpoint, outbox) =
            RelayEndpoint::server(runtime, peer.clone(), Pace::NEAR, &identity).unwrap();
        gateway.attach_agent(&endpoint, outbox);
        let this = Arc::new(Self {
            peer,
            certificate_sha256: identity.certificate_sha256(),
            endpoint,
            events: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&this).accept());
        this
    }

    pub(crate) fn saw(&self, event: &str) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|seen| **seen == event).count()
    }

    fn note(&self, event: &'static str) {
        self.events.lock().unwrap().push(event);
    }

    async fn accept(self: Arc<Self>) {
        while let Some(incoming) = self.endpoint.accept().await {
            let this = Arc::clone(&self);
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else {
                    return;
                };
                this.note("connection");
                while let Ok((send, receive)) = connection.accept_bi().await {
                    this.note("stream");
                    tokio::spawn(Arc::clone(&this).serve(send, receive));
                }
                this.note("closed");
            });
        }
    }

    async fn serve(self: Arc<Self>, mut send: quinn::SendStream, mut receive: quinn::RecvStream) {
        let mut length = [0; 4];
        receive.read_exact(&mut length).await.unwrap();
        let mut grant = vec![0; u32::from_be_bytes(length) as usize];
        receive.read_exact(&mut grant).await.unwrap();
        let grant = String::from_utf8(grant).unwrap();
        let (verb, argument) = grant.split_once(' ').unwrap_or((&grant, ""));
        let reply = match verb {
            "refuse" => StreamReply::Refused {
                message: argument.to_owned(),
            },
            _ => StreamReply::Accepted,
        };
        let head = encode_head(&serde_json::to_string(&reply).unwrap()).unwrap();
        if send.write_all(&head).await.is_err() {
            return;
        }
        let gone = match verb {
            // Sends back what it gets, and says so at the end of the input.
            "echo" => loop {
                match receive.read_chunk(64 * 1024, true).await {
                    Ok(Some(chunk)) => {
                        if send.write_chunk(chunk.bytes).await.is_err() {
                            break true;
                        }
                    }
                    Ok(None) => {
                        self.note("end");
                        let _ = send.write_all(b"END").await;
                        break false;
                    }
                    Err(_) => break true,
                }
            },
            // That many bytes.
            "output" => {
                let mut left: usize = argument.parse().unwrap();
                let chunk = vec![b'o'; 32 * 1024];
                loop {
                    let piece = &chunk[..left.min(chunk.len())];
                    if send.write_all(piece).await.is_err() {
                        break true;
                    }
                    left -= piece.len();
                    if left == 0 {
                        break false;
                    }
                }
            }
            // Says a word, then nothing, until its client is gone.
            "quiet" => {
                send.write_all(b"quiet").await.unwrap();
                let _ = send.stopped().await;
                true
            }
            _ => false,
        };
        if gone {
            self.note("gone");
        }
        let _ = send.finish();
    }
}
