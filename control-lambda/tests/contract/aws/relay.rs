//! [`GatewayRelay`] with clients over WebSockets.

use std::sync::Arc;

use async_trait::async_trait;
use sockerless_control::ports::Relay;
use sockerless_shared::ids::ConnectionId;

use super::{GatewayRelay, Sdk, variable};
use crate::relay::{Client, Gateway};
use crate::socket::Socket;

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
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let mut socket = Socket::open(host.parse().unwrap(), path).await.unwrap();
        // The API answers every message with the connection's id.
        socket.send("who am i?").await;
        let id = socket.receive().await.unwrap();
        (id.parse().unwrap(), Box::new(socket))
    }
}
