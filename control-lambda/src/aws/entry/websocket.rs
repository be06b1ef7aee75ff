//! The WebSocket API: `$connect`, `$default`, `$disconnect`.

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use serde_json::{Value, json};
use sockerless_shared::ids::ConnectionId;

use crate::aws::wiring::Plane;
use crate::ports::GatewayEvents as _;

impl Plane {
    /// Handles one event and says what the gateway is to do: let a connection
    /// in or not. What it says to a message is not sent to anybody.
    pub(super) async fn websocket(&self, event: ApiGatewayWebsocketProxyRequest) -> Value {
        let context = &event.request_context;
        let connection: Option<ConnectionId> = context
            .connection_id
            .as_deref()
            .and_then(|id| id.parse().ok());
        let Some(connection) = connection else {
            return status(400);
        };
        match context.event_type.as_deref() {
            Some("CONNECT") => {
                // The fields that credentials consist of have no character that
                // would have to be escaped.
                let query: Vec<_> = event
                    .query_string_parameters
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                match self.control.connect(&connection, &query.join("&")).await {
                    Ok(()) => status(200),
                    Err(refused) => {
                        tracing::info!(status = refused.status, reason = %refused.reason, "relay connection refused");
                        status(refused.status)
                    }
                }
            }
            Some("DISCONNECT") => {
                self.control.disconnected(&connection).await;
                status(200)
            }
            _ => {
                if let Some(text) = event.body.filter(|text| !text.is_empty()) {
                    self.control.message(&connection, text).await;
                }
                status(200)
            }
        }
    }
}

fn status(code: u16) -> Value {
    json!({"statusCode": code})
}
