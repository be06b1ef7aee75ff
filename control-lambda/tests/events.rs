//! Who listens to events is given each of them once, in whatever order they are logged and
//! whoever delivers them: a control plane over a table in memory, with a relay that keeps
//! what is posted.
#![cfg(all(feature = "embedded", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use sockerless_control::engine::Control;
use sockerless_control::engine::events::of_network;
use sockerless_control::environment::SystemEnvironment;
use sockerless_control::ports::{Environment, GatewayEvents};
use sockerless_control::store::events::Event;
use sockerless_shared::answer::{Answer, Body, Part, Request};
use sockerless_shared::ids::{AnswerId, ConnectionId, Namespace, PeerId};
use sockerless_shared::protocol::control::{ConnectQuery, ControlToFrontend, FrontendMessage};

use world::World;

struct Plane {
    control: Arc<Control>,
    world: Arc<World>,
    environment: Arc<dyn Environment>,
    namespace: Namespace,
    peer: PeerId,
    connection: ConnectionId,
    _folder: tempfile::TempDir,
}

impl Plane {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment: Arc<dyn Environment> = Arc::new(SystemEnvironment);
        let world = Arc::new(World::default());
        let (host, relay, jobs) = (Arc::clone(&world), Arc::clone(&world), Arc::clone(&world));
        let control = world::control(folder.path(), &environment, (host, relay, jobs));
        let plane = Self {
            control: Arc::new(control),
            world,
            environment,
            namespace: "tests".parse().unwrap(),
            peer: PeerId::from_random([1; 14]),
            connection: "frontend".parse().unwrap(),
            _folder: folder,
        };
        plane.connect().await;
        plane
    }

    async fn connect(&self) {
        let token = self
            .control
            .mint_relay_token(&self.namespace, &self.peer)
            .await
            .unwrap();
        let query = ConnectQuery::Frontend {
            peer: self.peer.clone(),
            token,
            version: 1,
        };
        self.control
            .connect(&self.connection, &query.to_query())
            .await
            .unwrap();
        self.say(&FrontendMessage::Hello { version: 1 }).await;
    }

    async fn say(&self, message: &FrontendMessage) {
        let text = serde_json::to_string(message).unwrap();
        self.control.message(&self.connection, text).await;
    }

    async fn listen(&self, query: &str) -> Answer {
        let request = Request {
            method: "GET".to_owned(),
            path_and_query: format!("/events{query}"),
            headers: Vec::new(),
            body: Body::Inline(Bytes::new()),
            peer: Some(self.peer.clone()),
        };
        self.control.handle(&self.namespace, request).await
    }

    fn event(&self, number: usize) -> Event {
        let now = self.environment.now();
        of_network("create", &format!("n{number}"), "n", "bridge", None, now)
    }

    async fn happens(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let event = self.event(number);
            self.control.say(&self.namespace, &[event]).await.unwrap();
        }
    }

    /// The ids in an answer: in its first parts, and in those that were posted.
    fn heard(&self, answer: &Answer) -> Vec<String> {
        let mut parts = BTreeMap::new();
        let (id, first) = split(answer);
        parts.extend((0..).zip(first));
        for text in self.world.posted.lock().unwrap().iter() {
            if let Ok(ControlToFrontend::Parts {
                answer,
                seq,
                parts: posted,
            }) = serde_json::from_str(text)
                && answer == id
            {
                parts.extend((seq..).zip(posted));
            }
        }
        let text: Vec<u8> = parts
            .into_values()
            .flat_map(|part| match part {
                Part::Data { data } => data.to_vec(),
                _ => Vec::new(),
            })
            .collect();
        String::from_utf8(text)
            .unwrap()
            .lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                event["Actor"]["ID"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}

fn split(answer: &Answer) -> (AnswerId, Vec<Part>) {
    match answer {
        Answer::Parts { id, first } => (id.clone(), first.clone()),
        other => panic!("not a subscription: {other:?}"),
    }
}

fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("n{number}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_event_is_heard_once_while_many_are_logged_and_listeners_come() {
    let plane = Arc::new(Plane::new().await);
    plane.happens(0..10).await;
    let speakers: Vec<_> = (1..5)
        .map(|speaker| {
            let plane = Arc::clone(&plane);
            tokio::spawn(async move { plane.happens(speaker * 100..speaker * 100 + 25).await })
        })
        .collect();
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(plane.listen("?since=1").await);
    }
    for speaker in speakers {
        speaker.await.unwrap();
    }
    let mut all = ids(0..10);
    all.extend((1..5).flat_map(|speaker| ids(speaker * 100..speaker * 100 + 25)));
    all.sort();
    for listener in &listeners {
        let mut heard = plane.heard(listener);
        heard.sort();
        assert_eq!(heard, all);
    }
}

#[tokio::test]
async fn what_happened_while_a_frontend_was_away_is_heard_when_it_is_back() {
    let plane = Plane::new().await;
    plane.happens(0..2).await;
    let answer = plane.listen("").await;
    assert_eq!(plane.heard(&answer), ids(0..0));
    plane.control.disconnected(&plane.connection).await;
    plane.happens(2..5).await;
    assert_eq!(plane.heard(&answer), ids(0..0));
    plane.connect().await;
    let (id, first) = split(&answer);
    let resume = FrontendMessage::Resume {
        answer: id,
        from: first.len() as u64,
    };
    plane.say(&resume).await;
    assert_eq!(plane.heard(&answer), ids(2..5));
    plane.say(&resume).await;
    plane.happens(5..6).await;
    assert_eq!(plane.heard(&answer), ids(2..6));
}

#[tokio::test]
async fn a_client_that_has_gone_costs_nothing() {
    let plane = Plane::new().await;
    let answer = plane.listen("").await;
    let (id, _) = split(&answer);
    let store = plane.control.store();
    assert_eq!(
        store.subscriptions(&plane.namespace).await.unwrap().len(),
        1
    );
    plane
        .say(&FrontendMessage::Done { answer: id.clone() })
        .await;
    assert!(
        store
            .subscriptions(&plane.namespace)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.answer(&id).await.unwrap().is_none());
    plane.happens(0..3).await;
    assert_eq!(plane.heard(&answer), ids(0..0));
}

#[tokio::test]
async fn a_large_history_is_bounded_and_filters_hold_for_what_comes() {
    let plane = Plane::new().await;
    plane.happens(0..300).await;
    let answer = plane.listen("?since=1").await;
    assert_eq!(plane.heard(&answer), ids(44..300));
    let filters = "%7B%22network%22%3A%5B%22n30%22%5D%7D";
    let answer = plane.listen(&format!("?filters={filters}")).await;
    plane.happens(300..312).await;
    assert_eq!(plane.heard(&answer), ids(300..310));
}
