//! A control plane, played: what the path says, it answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sockerless_frontend::control_plane::{ByteStream, ControlPlane, ControlPlaneError};
use sockerless_shared::answer::{Answer, Body, Head, Part, Request, Response, StreamTarget};
use sockerless_shared::ids::{AnswerId, BlobId, PeerId};
use sockerless_shared::protocol::control::{ControlToFrontend, FrontendMessage};
use sockerless_shared::protocol::mac::Token;

use super::agent::Agent;
use super::relay::Gateway;

pub(crate) struct Control {
    gateway: Arc<Gateway>,
    agent: Arc<Agent>,
    me: Weak<Control>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    answers: HashMap<AnswerId, Vec<Part>>,
    blobs: HashMap<BlobId, usize>,
    largest_blob_piece: usize,
    next_id: u8,
    done: usize,
    tcp: Option<SocketAddr>,
}

impl Control {
    pub(super) fn new(gateway: &Arc<Gateway>, agent: &Arc<Agent>) -> Arc<Self> {
        let this = Arc::new_cyclic(|me| Self {
            gateway: Arc::clone(gateway),
            agent: Arc::clone(agent),
            me: me.clone(),
            state: Mutex::default(),
        });
        gateway.set_control(&this);
        this
    }

    pub(super) fn set_tcp(&self, address: SocketAddr) {
        self.state.lock().unwrap().tcp = Some(address);
    }

    pub(super) fn tcp(&self) -> SocketAddr {
        self.state.lock().unwrap().tcp.unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Answers that are neither finished nor given up.
    pub(crate) fn open_answers(&self) -> usize {
        let state = self.state.lock().unwrap();
        let open = |parts: &&Vec<Part>| parts.last() != Some(&Part::End);
        state.answers.values().filter(open).count()
    }

    /// Bytes in the only blob.
    pub(crate) fn blob_bytes(&self) -> usize {
        let state = self.state.lock().unwrap();
        assert_eq!(state.blobs.len(), 1);
        *state.blobs.values().next().unwrap()
    }

    /// The next part of the only answer that is open.
    pub(crate) fn send(&self, part: Part) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.answers.len(), 1);
        let (answer, parts) = state.answers.iter_mut().next().unwrap();
        parts.push(part.clone());
        let message = ControlToFrontend::Part {
            answer: answer.clone(),
            seq: parts.len() as u64 - 1,
            part,
        };
        drop(state);
        self.gateway.post(&message);
    }

    /// Forgets every answer, as after a lifetime that is over.
    pub(crate) fn forget(&self) {
        let answers = std::mem::take(&mut self.state.lock().unwrap().answers);
        for answer in answers.into_keys() {
            self.gateway
                .post(&ControlToFrontend::NoSuchAnswer { answer });
        }
    }

    pub(crate) fn agent_gone(&self, crashed: bool) {
        let peer = self.agent.peer.clone();
        self.gateway
            .post(&ControlToFrontend::PeerGone { peer, crashed });
    }

    pub(super) fn message(&self, message: FrontendMessage) {
        match message {
            FrontendMessage::Hello { version } => {
                self.gateway.post(&ControlToFrontend::Welcome { version });
            }
            FrontendMessage::Resume { answer, from } => {
                let parts = self.state.lock().unwrap().answers.get(&answer).cloned();
                match parts {
                    None => self
                        .gateway
                        .post(&ControlToFrontend::NoSuchAnswer { answer }),
                    Some(parts) => {
                        let rest = (0..).zip(parts).skip(usize::try_from(from).unwrap());
                        for (seq, part) in rest {
                            let answer = answer.clone();
                            self.gateway
                                .post(&ControlToFrontend::Part { answer, seq, part });
                        }
                    }
                }
            }
            FrontendMessage::Done { answer } => {
                let mut state = self.state.lock().unwrap();
                if state.answers.remove(&answer).is_some() {
                    state.done += 1;
                }
            }
            FrontendMessage::Locate { peer } => {
                let ticket = self.gateway.ticket(&PeerId::from_random([1; 14]), &peer);
                self.gateway
                    .post(&ControlToFrontend::Located { peer, ticket });
            }
        }
    }

    pub(crate) fn stream(&self, grant: &str) -> Part {
        Part::Stream(StreamTarget {
            peer: self.agent.peer.clone(),
            ticket: self
                .gateway
                .ticket(&PeerId::from_random([1; 14]), &self.agent.peer)
                .unwrap(),
            certificate_sha256: self.agent.certificate_sha256.clone(),
            grant: grant.to_owned(),
            last: false,
        })
    }

    fn parts(&self, first: Vec<Part>) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.next_id += 1;
        let id = AnswerId::from_random([state.next_id; 16]);
        // One that is whole is not kept.
        if first.last() != Some(&Part::End) {
            state.answers.insert(id.clone(), first.clone());
        }
        Answer::Parts { id, first }
    }
}

pub(crate) fn head(status: u16, media_type: &str) -> Part {
    Part::Head(Head {
        status,
        headers: vec![("Content-Type".to_owned(), media_type.to_owned())],
    })
}

pub(crate) fn data(text: &'static str) -> Part {
    Part::Data {
        data: Bytes::from_static(text.as_bytes()),
    }
}

fn done(status: u16, body: impl Into<Bytes>, cache_s: u32) -> Answer {
    Answer::Final(Response {
        head: Head {
            status,
            headers: vec![("Api-Version".to_owned(), "1.51".to_owned())],
        },
        body: body.into(),
        cache_s,
    })
}

const RAW: &str = "application/vnd.docker.raw-stream";

#[async_trait]
impl ControlPlane for Control {
    async fn request(&self, request: Request) -> Result<Answer, ControlPlaneError> {
        self.state.lock().unwrap().requests.push(request.clone());
        let grant = request
            .path_and_query
            .split_once('?')
            .map_or(String::new(), |(_, query)| query.replace('+', " "));
        let path = request.path_and_query.split('?').next().unwrap();
        Ok(match path {
            "/_ping" => done(200, "OK", 0),
            "/cached" => done(200, "OK", 60),
            "/length" => match &request.body {
                Body::Inline(bytes) => done(200, format!("inline {}", bytes.len()), 0),
                Body::Waiting => Answer::SendBody,
                Body::Blob(id) => {
                    let length = self.state.lock().unwrap().blobs[id];
                    done(200, format!("blob {length}"), 0)
                }
            },
            "/large" => done(200, vec![b'l'; 3_000_000], 0),
            "/unavailable" => return Err(ControlPlaneError::Unavailable("no answer".into())),
            "/failed" => return Err(ControlPlaneError::Failed("not JSON".into())),
            "/split" => Answer::Final(Response {
                head: Head {
                    status: 200,
                    headers: vec![("a".into(), "b\r\nc: d".into())],
                },
                body: Bytes::new(),
                cache_s: 0,
            }),
            // Nothing yet.
            "/deferred" => self.parts(vec![]),
            "/soon" => {
                let answer = self.parts(vec![]);
                let Answer::Parts { id, .. } = &answer else {
                    unreachable!()
                };
                let (this, id) = (self.me.upgrade().unwrap(), id.clone());
                tokio::spawn(async move {
                    for (seq, part) in
                        (0..).zip([head(200, "text/plain"), data("a"), data("b"), Part::End])
                    {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        let mut state = this.state.lock().unwrap();
                        let Some(parts) = state.answers.get_mut(&id) else {
                            return;
                        };
                        parts.push(part.clone());
                        drop(state);
                        let answer = id.clone();
                        this.gateway
                            .post(&ControlToFrontend::Part { answer, seq, part });
                    }
                });
                answer
            }
            "/head" => self.parts(vec![head(200, "text/plain")]),
            "/refused" => self.parts(vec![head(404, "application/json"), data("{}"), Part::End]),
            "/nothing" => self.parts(vec![head(204, "text/plain"), Part::End]),
            "/attach" => self.parts(vec![head(101, RAW), self.stream(&grant), Part::End]),
            "/attach-old" => self.parts(vec![head(200, RAW), self.stream(&grant), Part::End]),
            "/attach-multiplexed" => self.parts(vec![
                head(101, "application/vnd.docker.multiplexed-stream"),
                self.stream(&grant),
                Part::End,
            ]),
            "/attach-early" => self.parts(vec![head(101, RAW)]),
            "/logs" => self.parts(vec![head(200, RAW), self.stream(&grant), Part::End]),
            "/blob" => {
                let blob = BlobId::from_random([9; 16]);
                self.parts(vec![
                    head(200, "text/plain"),
                    Part::Blob { blob },
                    Part::End,
                ])
            }
            _ => done(404, r#"{"message":"page not found"}"#, 0),
        })
    }

    async fn upload(&self, mut body: ByteStream) -> Result<BlobId, ControlPlaneError> {
        let mut length = 0;
        while let Some(piece) = body.next().await {
            let piece = piece?;
            length += piece.len();
            let mut state = self.state.lock().unwrap();
            state.largest_blob_piece = state.largest_blob_piece.max(piece.len());
        }
        let mut state = self.state.lock().unwrap();
        state.next_id += 1;
        let id = BlobId::from_random([state.next_id; 16]);
        state.blobs.insert(id.clone(), length);
        Ok(id)
    }

    async fn fetch(&self, _blob: &BlobId) -> Result<ByteStream, ControlPlaneError> {
        let pieces = (0..64).map(|_| Ok(Bytes::from(vec![b'b'; 100_000])));
        Ok(Box::pin(stream::iter(pieces)))
    }

    async fn relay_token(&self, _peer: &PeerId) -> Result<Token, ControlPlaneError> {
        Ok(Token::presented("a relay token".to_owned()))
    }
}
