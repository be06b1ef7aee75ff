//! What every [`Relay`] does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sockerless_control::ports::Relay;
use sockerless_control::ports::relay::PostError;
use sockerless_shared::ids::ConnectionId;
use sockerless_shared::protocol::control::MAX_MESSAGE_BYTES;

/// Makes a test of every case. `$make` is an async expression that gives an
/// `Arc<dyn Gateway>`, see [`Gateway`].
macro_rules! relay_contract {
    ($make:expr) => {
        crate::relay::relay_contract!($make;
            a_posted_text_arrives,
            the_largest_text_arrives_and_one_more_byte_is_refused,
            many_texts_arrive_whatever_the_order,
            texts_go_to_their_connection,
            a_connection_that_never_was_is_gone,
            a_connection_that_its_client_closed_is_gone,
            a_connection_that_was_cut_is_gone,
            a_disconnected_connection_is_closed_and_gone,
            disconnecting_is_idempotent,
        );
    };
    ($make:expr; $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let gateway = $make.await;
                crate::relay::$case(gateway).await;
            }
        )*
    };
}
pub(crate) use relay_contract;

/// A relay with its gateway, to which clients can connect.
#[async_trait]
pub(crate) trait Gateway: Send + Sync {
    fn relay(&self) -> &dyn Relay;
    /// Connects a client; its connection takes posts when this returns.
    async fn connect(&self) -> (ConnectionId, Box<dyn Client>);
}

/// The client's end of a connection.
#[async_trait]
pub(crate) trait Client: Send {
    /// The next text, or `None` when the connection has ended.
    async fn receive(&mut self) -> Option<String>;
    /// Closes it in an orderly way.
    async fn close(self: Box<Self>);
    /// Vanishes without a word.
    fn cut(self: Box<Self>);
}

type Shared = Arc<dyn Gateway>;

async fn receive(client: &mut Box<dyn Client>) -> Option<String> {
    tokio::time::timeout(Duration::from_secs(20), client.receive())
        .await
        .expect("nothing came for 20 seconds")
}

/// Posts, as the control plane does: again when throttled.
async fn post(gateway: &Shared, to: &ConnectionId, text: &str) -> Result<(), PostError> {
    loop {
        match gateway.relay().post(to, text.to_owned()).await {
            Err(PostError::Throttled(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            outcome => return outcome,
        }
    }
}

/// Posts until the gateway has noticed that the connection is gone.
async fn becomes_gone(gateway: &Shared, id: &ConnectionId) {
    let noticed = async {
        loop {
            match post(gateway, id, "anybody there?").await {
                Err(PostError::Gone(gone)) => return gone,
                Ok(()) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), noticed).await;
    assert_eq!(gone.expect("not gone after 20 seconds"), *id);
}

pub(crate) async fn a_posted_text_arrives(gateway: Shared) {
    let (id, mut client) = gateway.connect().await;
    for text in ["{\"t\":\"welcome\"}", "d\u{1F980} ünï\ncode", "x"] {
        post(&gateway, &id, text).await.unwrap();
        assert_eq!(receive(&mut client).await.as_deref(), Some(text));
    }
}

pub(crate) async fn the_largest_text_arrives_and_one_more_byte_is_refused(gateway: Shared) {
    let (id, mut client) = gateway.connect().await;
    let largest = "x".repeat(MAX_MESSAGE_BYTES);
    post(&gateway, &id, &largest).await.unwrap();
    assert!(receive(&mut client).await.unwrap() == largest);
    let more = post(&gateway, &id, &(largest + "x")).await;
    assert_eq!(more, Err(PostError::TooLarge(MAX_MESSAGE_BYTES + 1)));
    post(&gateway, &id, "still there").await.unwrap();
    assert_eq!(receive(&mut client).await.as_deref(), Some("still there"));
}

pub(crate) async fn many_texts_arrive_whatever_the_order(gateway: Shared) {
    let (id, mut client) = gateway.connect().await;
    let posts: Vec<_> = (0..50)
        .map(|n| {
            let (gateway, id) = (Arc::clone(&gateway), id.clone());
            tokio::spawn(async move { post(&gateway, &id, &format!("{n:02}")).await })
        })
        .collect();
    let mut seen = Vec::new();
    while seen.len() < posts.len() {
        seen.push(receive(&mut client).await.unwrap());
    }
    for post in posts {
        post.await.unwrap().unwrap();
    }
    seen.sort();
    let all: Vec<_> = (0..50).map(|n| format!("{n:02}")).collect();
    assert_eq!(seen, all);
}

pub(crate) async fn texts_go_to_their_connection(gateway: Shared) {
    let (a, mut at_a) = gateway.connect().await;
    let (b, mut at_b) = gateway.connect().await;
    assert_ne!(a, b);
    post(&gateway, &b, "for b").await.unwrap();
    post(&gateway, &a, "for a").await.unwrap();
    assert_eq!(receive(&mut at_a).await.as_deref(), Some("for a"));
    assert_eq!(receive(&mut at_b).await.as_deref(), Some("for b"));
}

pub(crate) async fn a_connection_that_never_was_is_gone(gateway: Shared) {
    let id: ConnectionId = "AAAAAAAAAAAAAAA=".parse().unwrap();
    let outcome = post(&gateway, &id, "hello").await;
    assert_eq!(outcome, Err(PostError::Gone(id)));
}

pub(crate) async fn a_connection_that_its_client_closed_is_gone(gateway: Shared) {
    let (id, client) = gateway.connect().await;
    client.close().await;
    becomes_gone(&gateway, &id).await;
}

pub(crate) async fn a_connection_that_was_cut_is_gone(gateway: Shared) {
    let (id, client) = gateway.connect().await;
    client.cut();
    becomes_gone(&gateway, &id).await;
}

pub(crate) async fn a_disconnected_connection_is_closed_and_gone(gateway: Shared) {
    let (id, mut client) = gateway.connect().await;
    gateway.relay().disconnect(&id).await.unwrap();
    assert_eq!(receive(&mut client).await, None);
    becomes_gone(&gateway, &id).await;
}

pub(crate) async fn disconnecting_is_idempotent(gateway: Shared) {
    let (id, _client) = gateway.connect().await;
    gateway.relay().disconnect(&id).await.unwrap();
    gateway.relay().disconnect(&id).await.unwrap();
    let never: ConnectionId = "AAAAAAAAAAAAAAA=".parse().unwrap();
    gateway.relay().disconnect(&never).await.unwrap();
}
