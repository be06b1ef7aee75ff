//! What frontends say.

use std::time::Duration;

use sockerless_shared::ids::{ConnectionId, PeerId, RunId};
use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::control::{ControlToFrontend, FrontendMessage};
use sockerless_shared::protocol::relay::Ticket;

use super::answers::{TICKET_LIFETIME, in_messages};
use super::{Control, EngineError};
use crate::store::peers::Peer;
use crate::store::runs::RunRecord;

/// So long after its end was recorded an agent that cannot be reached may be on its way back;
/// later it has left.
const LEFT_AFTER: Duration = Duration::from_secs(90);

impl Control {
    pub(crate) async fn frontend_message(
        &self,
        connection: &ConnectionId,
        peer: &PeerId,
        message: FrontendMessage,
    ) -> Result<(), EngineError> {
        match message {
            FrontendMessage::Hello { version: _ } => {
                if let Some(known) = self.store.peer(peer).await? {
                    let here = Peer {
                        connection: Some(connection.clone()),
                        ..known
                    };
                    self.store.put_peer(peer, &here).await?;
                }
                self.reply(connection, &ControlToFrontend::Welcome { version: VERSION })
                    .await
            }
            FrontendMessage::Resume { answer, from } => match self.store.answer(&answer).await? {
                Some(meta) if meta.peer == *peer => {
                    // Whatever kept an event from being given to it is made good here.
                    if let Some(subscription) = &meta.subscription {
                        let namespace = &subscription.namespace;
                        self.store.log_all_unsaid(namespace).await?;
                        self.catch_up(namespace, &answer).await?;
                    }
                    let parts = self.store.parts_from(&answer, &meta, from).await?;
                    if let Some((first, _)) = parts.first() {
                        let first = *first;
                        let parts = parts.into_iter().map(|(_, part)| part).collect();
                        for text in in_messages(&answer, first, parts)? {
                            self.post_or_forget(connection, text).await;
                        }
                    }
                    Ok(())
                }
                Some(_) | None => {
                    self.reply(connection, &ControlToFrontend::NoSuchAnswer { answer })
                        .await
                }
            },
            FrontendMessage::Done { answer } => {
                let found = self.store.answer(&answer).await?;
                if let Some(meta) = found.filter(|meta| meta.peer == *peer) {
                    self.forget_answer(&answer, &meta).await?;
                    if let Some(subscription) = meta.subscription {
                        self.store
                            .unsubscribe(&subscription.namespace, &answer)
                            .await?;
                    }
                }
                Ok(())
            }
            FrontendMessage::Locate { peer: wanted } => {
                if let Some(crashed) = self.is_over(&wanted).await? {
                    let gone = ControlToFrontend::PeerGone {
                        peer: wanted,
                        crashed,
                    };
                    return self.reply(connection, &gone).await;
                }
                let ticket = self.ticket(peer, &wanted).await?;
                self.reply(
                    connection,
                    &ControlToFrontend::Located {
                        peer: wanted,
                        ticket,
                    },
                )
                .await
            }
        }
    }

    /// For a peer that will not be back (an agent's record goes with its container), whether
    /// the platform ended it.
    async fn is_over(&self, peer: &PeerId) -> Result<Option<bool>, EngineError> {
        let now = self.environment.now();
        Ok(match self.store.run_of(peer).await? {
            None => Some(false),
            Some(run) if run.over => Some(true),
            Some(run) => run
                .ended_at
                .filter(|at| now > at.plus(LEFT_AFTER))
                .map(|_| false),
        })
    }

    /// Says to every frontend of a namespace that an agent will not be back,
    /// and had no time to end its streams.
    pub(crate) async fn announce_gone(
        &self,
        run: &RunId,
        record: &RunRecord,
    ) -> Result<(), EngineError> {
        self.store
            .update_run(run, |record| {
                record.over = true;
                record.connection = None;
            })
            .await?;
        let (namespace, peer) = (&record.namespace, &record.peer);
        let notice = serde_json::to_string(&ControlToFrontend::PeerGone {
            peer: peer.clone(),
            crashed: true,
        })?;
        for frontend in self.store.frontends(namespace).await? {
            if let Some(connection) = self
                .store
                .peer(&frontend)
                .await?
                .and_then(|peer| peer.connection)
            {
                self.post_or_forget(&connection, notice.clone()).await;
            }
        }
        Ok(())
    }

    /// A ticket from one peer to another of the same namespace.
    async fn ticket(&self, from: &PeerId, to: &PeerId) -> Result<Option<Ticket>, EngineError> {
        let (Some(sender), Some(receiver)) =
            (self.store.peer(from).await?, self.store.run_of(to).await?)
        else {
            return Ok(None);
        };
        if sender.namespace != receiver.namespace {
            return Ok(None);
        }
        let expires = self.environment.now().plus(TICKET_LIFETIME);
        Ok(receiver
            .connection
            .map(|to_connection| Ticket::issue(&self.relay_key, from, to, &to_connection, expires)))
    }

    async fn reply(
        &self,
        connection: &ConnectionId,
        message: &ControlToFrontend,
    ) -> Result<(), EngineError> {
        self.post_or_forget(connection, serde_json::to_string(message)?)
            .await;
        Ok(())
    }
}
