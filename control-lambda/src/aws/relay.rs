//! The relay's gateway: an API Gateway WebSocket API and its `@connections`.

use async_trait::async_trait;
use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::config::Builder;
use aws_sdk_apigatewaymanagement::config::retry::RetryConfig;
use aws_sdk_apigatewaymanagement::operation::delete_connection::DeleteConnectionError;
use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use sockerless_shared::ids::ConnectionId;
use sockerless_shared::protocol::control::MAX_MESSAGE_BYTES;

use super::sdk::{Sdk, describe};
use crate::ports::Relay;
use crate::ports::relay::PostError;

/// [`Relay`] over `@connections`.
#[derive(Debug, Clone)]
pub struct GatewayRelay {
    client: Client,
}

impl GatewayRelay {
    /// For the WebSocket API whose callback URL (`https://…/<stage>`) is `endpoint`.
    #[must_use]
    pub fn new(sdk: &Sdk, endpoint: &str) -> Self {
        // What is throttled is dropped or sent again by those who know whether it
        // is still worth it.
        let config = Builder::from(sdk.config())
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled())
            .build();
        Self {
            client: Client::from_conf(config),
        }
    }
}

#[async_trait]
impl Relay for GatewayRelay {
    async fn post(&self, connection: &ConnectionId, text: String) -> Result<(), PostError> {
        let length = text.len();
        if length > MAX_MESSAGE_BYTES {
            return Err(PostError::TooLarge(length));
        }
        let sent = self
            .client
            .post_to_connection()
            .connection_id(connection.as_str())
            .data(Blob::new(text))
            .send()
            .await;
        let Err(error) = sent else {
            return Ok(());
        };
        Err(match error.as_service_error() {
            Some(PostToConnectionError::GoneException(_)) => PostError::Gone(connection.clone()),
            Some(PostToConnectionError::LimitExceededException(_)) => {
                PostError::Throttled(connection.clone())
            }
            Some(PostToConnectionError::PayloadTooLargeException(_)) => PostError::TooLarge(length),
            _ => PostError::Unavailable(format!("cannot post: {}", describe(&error))),
        })
    }

    async fn disconnect(&self, connection: &ConnectionId) -> Result<(), PostError> {
        let sent = self
            .client
            .delete_connection()
            .connection_id(connection.as_str())
            .send()
            .await;
        let Err(error) = sent else {
            return Ok(());
        };
        match error.as_service_error() {
            Some(DeleteConnectionError::GoneException(_)) => Ok(()),
            _ => Err(PostError::Unavailable(format!(
                "cannot disconnect: {}",
                describe(&error)
            ))),
        }
    }
}
