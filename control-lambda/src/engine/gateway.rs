//! What the relay's gateway tells the control plane.

use std::time::Duration;

use async_trait::async_trait;
use sockerless_shared::ids::{ConnectionId, Namespace, Nonce, PeerId, RunId};
use sockerless_shared::lifecycle::Input;
use sockerless_shared::protocol::control::{ConnectQuery, ControlToFrontend};
use sockerless_shared::protocol::mac::Token;
use sockerless_shared::protocol::{VERSION, relay, understands};
use sockerless_shared::timestamp::Timestamp;

use super::{Control, EngineError};
use crate::ports::relay::{ConnectRefused, GatewayEvents, PostError};
use crate::store::peers::{Connected, Peer};
use crate::store::runs::RunRecord;

/// API Gateway ends a connection after two hours; its record goes a little later.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60 + 600);

/// How long a frontend's relay token is good for a new connection.
const RELAY_TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

#[async_trait]
impl GatewayEvents for Control {
    async fn connect(&self, connection: &ConnectionId, query: &str) -> Result<(), ConnectRefused> {
        // Every field's text is free of characters that a URL would escape.
        let field = |name: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v)
        };
        match ConnectQuery::from_fields(field) {
            Some(ConnectQuery::Agent {
                run,
                token,
                nonce,
                version,
            }) => {
                check_version(version)?;
                self.connect_agent(connection, &run, &token, nonce).await
            }
            Some(ConnectQuery::Frontend {
                peer,
                token,
                version,
            }) => {
                check_version(version)?;
                self.connect_frontend(connection, peer, &token).await
            }
            None => Err(refused(401, "credentials are missing or malformed")),
        }
    }

    async fn message(&self, connection: &ConnectionId, text: String) {
        let outcome = match text.as_bytes().first() {
            Some(b'd') => self.relay_datagram(connection, &text).await,
            _ => self.control_message(connection, &text).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(%connection, %error, "a message could not be handled");
        }
    }

    async fn disconnected(&self, connection: &ConnectionId) {
        if let Err(error) = self.forget_connection(connection).await {
            tracing::warn!(%connection, %error, "a closed connection could not be noted");
        }
    }
}

impl Control {
    /// A credential for a frontend's connection to the relay.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mint_relay_token(
        &self,
        namespace: &Namespace,
        peer: &PeerId,
    ) -> Result<Token, EngineError> {
        let token = Token::from_random(self.environment.random());
        let known = self.store.peer(peer).await?;
        let record = Peer {
            namespace: namespace.clone(),
            token: Some(token.hash()),
            token_expires: Some(self.environment.now().plus(RELAY_TOKEN_LIFETIME)),
            connection: known.and_then(|peer| peer.connection),
        };
        self.store.put_frontend(peer, &record).await?;
        Ok(token)
    }

    async fn connect_agent(
        &self,
        connection: &ConnectionId,
        run: &RunId,
        token: &Token,
        nonce: Nonce,
    ) -> Result<(), ConnectRefused> {
        let record = self
            .store
            .run(run)
            .await
            .map_err(unavailable)?
            .ok_or_else(|| refused(401, "no such run"))?;
        check_token(
            record.token.as_ref(),
            token,
            record.token_expires,
            self.environment.now(),
        )?;
        if record.visit.is_some() {
            match self.claim_visit(run, &nonce).await {
                Ok(true) => {}
                Ok(false) => return Err(refused(403, "the visit is another agent's")),
                Err(error) => return Err(refused(503, &error.to_string())),
            }
            let who = Connected::Agent { run: run.clone() };
            return self
                .note_connection(connection, &who)
                .await
                .map_err(unavailable);
        }
        let claim = Input::Claim {
            run: run.clone(),
            nonce,
        };
        match self
            .apply(&record.namespace, &record.container, claim)
            .await
        {
            Ok(_) => {}
            // A container that is gone has nobody to claim for; its agent may still
            // fetch the acknowledgement of its last report.
            Err(EngineError::NoSuchContainer(_)) if record.logs.is_some() => {}
            Err(error @ (EngineError::Refused(_) | EngineError::NoSuchContainer(_))) => {
                return Err(refused(403, &error.to_string()));
            }
            Err(error) => return Err(refused(503, &error.to_string())),
        }
        let who = Connected::Agent { run: run.clone() };
        self.note_connection(connection, &who)
            .await
            .map_err(unavailable)
    }

    async fn connect_frontend(
        &self,
        connection: &ConnectionId,
        id: PeerId,
        token: &Token,
    ) -> Result<(), ConnectRefused> {
        let peer = self
            .store
            .peer(&id)
            .await
            .map_err(unavailable)?
            .ok_or_else(|| refused(401, "no such frontend"))?;
        check_token(
            peer.token.as_ref(),
            token,
            peer.token_expires,
            self.environment.now(),
        )?;
        let who = Connected::Frontend { peer: id };
        self.note_connection(connection, &who)
            .await
            .map_err(unavailable)
    }

    async fn note_connection(
        &self,
        connection: &ConnectionId,
        who: &Connected,
    ) -> Result<(), EngineError> {
        let expires = self.environment.now().plus(CONNECTION_LIFETIME);
        self.store.put_connected(connection, who, expires).await?;
        Ok(())
    }

    async fn relay_datagram(&self, sender: &ConnectionId, text: &str) -> Result<(), EngineError> {
        let forward = match relay::forward(&self.relay_key, self.environment.now(), sender, text) {
            Ok(forward) => forward,
            Err(error) => {
                tracing::debug!(%sender, %error, "datagram refused");
                return Ok(());
            }
        };
        match self.relay.post(&forward.connection, forward.text).await {
            // Like any datagram, one that finds no room is dropped; QUIC slows down.
            Ok(()) | Err(PostError::Throttled(_)) => Ok(()),
            Err(PostError::Gone(_)) => {
                let notice = ControlToFrontend::Undeliverable { peer: forward.to };
                self.post_or_forget(sender, serde_json::to_string(&notice)?)
                    .await;
                Ok(())
            }
            Err(error @ (PostError::TooLarge(_) | PostError::Unavailable(_))) => Err(error.into()),
        }
    }

    async fn control_message(
        &self,
        connection: &ConnectionId,
        text: &str,
    ) -> Result<(), EngineError> {
        match self.store.connected(connection).await? {
            Some(Connected::Agent { run }) => match serde_json::from_str(text) {
                Ok(message) => self.agent_message(connection, &run, message).await,
                Err(error) => {
                    tracing::warn!(%connection, %run, %error, "an agent's message cannot be read");
                    Ok(())
                }
            },
            Some(Connected::Frontend { peer }) => match serde_json::from_str(text) {
                Ok(message) => self.frontend_message(connection, &peer, message).await,
                Err(error) => {
                    tracing::warn!(%connection, %peer, %error, "a frontend's message cannot be read");
                    Ok(())
                }
            },
            None => {
                tracing::debug!(%connection, "message from a connection that is not known");
                Ok(())
            }
        }
    }

    async fn forget_connection(&self, connection: &ConnectionId) -> Result<(), EngineError> {
        // The record of who it was goes by itself.
        match self.store.connected(connection).await? {
            Some(Connected::Agent { run }) => {
                // Nobody asks where the agent of a run is that has ended, or that has
                // another connection by now.
                let asked = |run: &RunRecord| run.logs.is_none() || self.waits_for_agents();
                let known = self.store.run(&run).await?;
                if known
                    .is_some_and(|run| asked(&run) && run.connection.as_ref() == Some(connection))
                {
                    let noted = self.store.update_run(&run, |record| {
                        let present = record.connection.as_ref() == Some(connection);
                        if present {
                            record.connection = None;
                        }
                        present
                    });
                    if let Some((record, true)) = noted.await? {
                        self.agent_left(&run, &record).await?;
                    }
                }
            }
            Some(Connected::Frontend { peer: id }) => {
                if let Some(peer) = self.store.peer(&id).await?
                    && peer.connection.as_ref() == Some(connection)
                {
                    self.store
                        .put_peer(
                            &id,
                            &Peer {
                                connection: None,
                                ..peer
                            },
                        )
                        .await?;
                }
            }
            None => {}
        }
        Ok(())
    }
}

impl Control {
    /// Whether functions are deleted when the last agent has left them.
    fn waits_for_agents(&self) -> bool {
        self.config.function_per_container && !self.host.lets_finish()
    }
}

/// The protocol versions that are understood: this one and the one before.
fn check_version(version: u16) -> Result<(), ConnectRefused> {
    if understands(version) {
        Ok(())
    } else {
        Err(refused(
            403,
            &format!("protocol version {version} is not understood, this is {VERSION}"),
        ))
    }
}

fn check_token(
    hash: Option<&sockerless_shared::protocol::mac::TokenHash>,
    token: &Token,
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), ConnectRefused> {
    let good =
        hash.is_some_and(|hash| hash.matches(token)) && expires.is_none_or(|expires| now < expires);
    if good {
        Ok(())
    } else {
        Err(refused(401, "the token is wrong or has expired"))
    }
}

fn refused(status: u16, reason: &str) -> ConnectRefused {
    ConnectRefused {
        status,
        reason: reason.to_owned(),
    }
}

fn unavailable(error: impl std::fmt::Display) -> ConnectRefused {
    refused(503, &error.to_string())
}
