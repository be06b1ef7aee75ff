//! [`GatewayRelay`] with clients over WebSockets.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{SinkExt as _, StreamExt as _};
use sockerless_control::ports::Relay;
use sockerless_shared::ids::ConnectionId;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{GatewayRelay, Sdk, variable};
use crate::relay::{Client, Gateway};

async fn gateway() -> Arc<dyn Gateway> {
    let endpoint = variable("SOCKERLESS_TEST_RELAY");
    let sdk = Sdk::from_environment().await;
    Arc::new(ApiGateway {
        relay: GatewayRelay::new(&sdk, &endpoint),
        endpoint,
    })
}

crate::relay::relay_contract!(gateway());

struct ApiGateway {
    relay: GatewayRelay,
    endpoint: String,
}

#[async_trait]
impl Gateway for ApiGateway {
    fn relay(&self) -> &dyn Relay {
        &self.relay
    }

    async fn connect(&self) -> (ConnectionId, Box<dyn Client>) {
        let rest = self.endpoint.strip_prefix("http://").unwrap();
        let (host, _) = rest.split_once('/').unwrap();
        let stream = TcpStream::connect(host).await.unwrap();
        let (socket, _) = client_async(format!("ws://{rest}"), stream).await.unwrap();
        let mut socket = Socket(socket);
        // The API answers every message with the connection's id.
        socket.0.send(Message::text("who am i?")).await.unwrap();
        let id = socket.receive().await.unwrap();
        (id.parse().unwrap(), Box::new(socket))
    }
}

struct Socket(WebSocketStream<TcpStream>);

#[async_trait]
impl Client for Socket {
    async fn receive(&mut self) -> Option<String> {
        while let Some(Ok(message)) = self.0.next().await {
            if let Message::Text(text) = message {
                return Some(text.as_str().to_owned());
            }
        }
        None
    }

    async fn close(mut self: Box<Self>) {
        self.0.close(None).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }

    fn cut(self: Box<Self>) {}
}
