//! Parts of answers: stored, posted, posted again.

use sockerless_shared::answer::{Answer, Part, StreamTarget};
use sockerless_shared::ids::{AnswerId, ConnectionId, PeerId, RunId};
use sockerless_shared::protocol::control::ControlToFrontend;
use sockerless_shared::protocol::grant::{Grant, Operation};
use sockerless_shared::protocol::relay::Ticket;
use std::time::Duration;

use super::{Control, EngineError};
use crate::ports::relay::PostError;
use crate::store::runs::RunRecord;

/// How long a ticket is good: a little longer than API Gateway lets a connection live.
pub(crate) const TICKET_LIFETIME: Duration = Duration::from_secs(3 * 60 * 60);

/// How long a grant may wait to be presented.
const GRANT_LIFETIME: Duration = Duration::from_secs(10 * 60);

impl Control {
    /// Begins an answer whose rest arrives over the relay.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_answer(
        &self,
        peer: &PeerId,
        first: Vec<Part>,
    ) -> Result<(AnswerId, Answer), EngineError> {
        let id = AnswerId::from_random(self.environment.random());
        self.store
            .create_answer(&id, peer, first.len() as u64)
            .await?;
        Ok((id.clone(), Answer::Parts { id, first }))
    }

    /// Appends parts to an answer and posts them. An answer that nobody waits
    /// for any more swallows them.
    ///
    /// # Errors
    /// When the store fails; a part that could not be posted is asked for again.
    pub async fn deliver(&self, id: &AnswerId, parts: Vec<Part>) -> Result<(), EngineError> {
        let Some((peer, first)) = self.store.append_parts(id, &parts).await? else {
            return Ok(());
        };
        let Some(connection) = self
            .store
            .peer(&peer)
            .await?
            .and_then(|peer| peer.connection)
        else {
            return Ok(());
        };
        for (seq, part) in (first..).zip(parts) {
            let message = ControlToFrontend::Part {
                answer: id.clone(),
                seq,
                part,
            };
            self.post_or_forget(&connection, serde_json::to_string(&message)?)
                .await;
        }
        Ok(())
    }

    /// Posts a text that will be asked for or sent again should it be lost.
    pub(crate) async fn post_or_forget(&self, connection: &ConnectionId, text: String) {
        match self.relay.post(connection, text).await {
            Ok(()) => {}
            Err(PostError::Gone(_) | PostError::Throttled(_)) => {
                tracing::debug!(%connection, "message not delivered; it will be asked for again");
            }
            Err(error @ (PostError::TooLarge(_) | PostError::Unavailable(_))) => {
                tracing::warn!(%connection, %error, "message not delivered");
            }
        }
    }

    /// Whether a stream to this run could be opened now, and how. It counts as
    /// allowed: the agent waits for it before it ends.
    ///
    /// # Errors
    /// When the store fails or the grant cannot be written.
    pub(crate) async fn stream_target(
        &self,
        run: &RunId,
        record: &RunRecord,
        frontend: &PeerId,
        operation: Operation,
    ) -> Result<Option<StreamTarget>, EngineError> {
        let (Some(connection), Some(certificate)) =
            (&record.connection, &record.certificate_sha256)
        else {
            return Ok(None);
        };
        self.store
            .update_run(run, |record| record.streams += 1)
            .await?;
        let now = self.environment.now();
        let grant = self.sign_grant(run, operation)?;
        let ticket = Ticket::issue(
            &self.relay_key,
            frontend,
            &record.peer,
            connection,
            now.plus(TICKET_LIFETIME),
        );
        Ok(Some(StreamTarget {
            peer: record.peer.clone(),
            ticket,
            certificate_sha256: certificate.clone(),
            grant,
        }))
    }

    /// A signed grant for this run.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn sign_grant(
        &self,
        run: &RunId,
        operation: Operation,
    ) -> Result<String, EngineError> {
        let expires = self.environment.now().plus(GRANT_LIFETIME);
        let grant = Grant {
            run: run.clone(),
            expires,
            operation,
        };
        Ok(grant.sign(&self.grant_key(run))?)
    }
}
