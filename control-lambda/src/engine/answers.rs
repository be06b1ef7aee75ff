//! Parts of answers: stored, posted, posted again.

use sockerless_shared::answer::{Answer, Part, StreamTarget};
use sockerless_shared::ids::{AnswerId, ConnectionId, ContainerId, PeerId, RunId};
use sockerless_shared::protocol::control::ControlToFrontend;
use sockerless_shared::protocol::grant::{Grant, Operation};
use sockerless_shared::protocol::relay::Ticket;
use std::time::Duration;

use super::{Control, EngineError};
use crate::ports::relay::PostError;
use crate::store::answers::Meta;
use crate::store::runs::RunRecord;
use crate::store::waiters::{Wait, Waiter};

/// How long a ticket is good: a little longer than API Gateway lets a connection live.
pub(crate) const TICKET_LIFETIME: Duration = Duration::from_secs(3 * 60 * 60);

/// So much of the texts of several parts goes into one message: it is billed by 32 KB, and a
/// frame holds as much.
const MESSAGE_BYTES: usize = 28 * 1024;

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
            .create_answer(&id, peer, first.len() as u64, None)
            .await?;
        Ok((id.clone(), Answer::Parts { id, first }))
    }

    /// Begins an answer whose rest is given when something happens to a container.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_wait(
        &self,
        peer: &PeerId,
        first: Vec<Part>,
        container: &ContainerId,
        wait: Wait,
    ) -> Result<(AnswerId, Answer), EngineError> {
        let id = AnswerId::waiting(self.environment.random(), wait.kind(), container);
        self.store
            .create_answer(&id, peer, first.len() as u64, Some(wait))
            .await?;
        Ok((id.clone(), Answer::Parts { id, first }))
    }

    /// Gives somebody who waits the rest of the answer, unless that has been done; whether it
    /// was done now.
    ///
    /// # Errors
    /// As [`Control::deliver`].
    pub(crate) async fn answer_waiter(
        &self,
        waiter: &Waiter,
        parts: Vec<Part>,
    ) -> Result<bool, EngineError> {
        let Some((peer, first)) = self.store.end_wait(&waiter.answer, &parts).await? else {
            return Ok(false);
        };
        self.post_parts(&waiter.answer, &peer, first, parts).await?;
        Ok(true)
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
        self.post_parts(id, &peer, first, parts).await
    }

    /// Removes an answer and the blobs that are parts of it.
    pub(crate) async fn forget_answer(
        &self,
        id: &AnswerId,
        meta: &Meta,
    ) -> Result<(), EngineError> {
        let parts = self.store.parts_from(id, meta, 0).await?;
        self.store.erase_answer(id).await?;
        for (_, part) in parts {
            if let Part::Blob { blob } = part {
                self.drop_body(&blob).await;
            }
        }
        Ok(())
    }

    /// Whether all of an answer has been given, if only its client is not done with it yet.
    pub(crate) async fn is_complete(&self, id: &AnswerId) -> Result<bool, EngineError> {
        let Some(meta) = self.store.answer(id).await? else {
            return Ok(true);
        };
        let last = meta.next.saturating_sub(1);
        let parts = self.store.parts_from(id, &meta, last).await?;
        Ok(matches!(parts.last(), Some((_, Part::End))))
    }

    /// Ends an answer that cannot be completed: its client sees that it breaks off.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn break_off(&self, id: &AnswerId) -> Result<(), EngineError> {
        let Some(meta) = self.store.answer(id).await? else {
            return Ok(());
        };
        self.forget_answer(id, &meta).await?;
        let found = self.store.peer(&meta.peer).await?;
        if let Some(connection) = found.and_then(|peer| peer.connection) {
            let answer = id.clone();
            let text = serde_json::to_string(&ControlToFrontend::NoSuchAnswer { answer })?;
            self.post_or_forget(&connection, text).await;
        }
        Ok(())
    }

    /// Posts parts that are stored; those that are lost are asked for again.
    async fn post_parts(
        &self,
        id: &AnswerId,
        peer: &PeerId,
        first: u64,
        parts: Vec<Part>,
    ) -> Result<(), EngineError> {
        let found = self.store.peer(peer).await?;
        if let Some(connection) = found.and_then(|peer| peer.connection) {
            for text in in_messages(id, first, parts)? {
                self.post_or_forget(&connection, text).await;
            }
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
        if record.connection.is_none() || record.certificate_sha256.is_none() {
            return Ok(None);
        }
        self.store
            .update_run(run, |record| record.streams += 1)
            .await?;
        self.allowed_target(run, record, frontend, operation)
    }

    /// The same for a stream that counts as allowed already.
    pub(crate) fn allowed_target(
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
        let now = self.environment.now();
        let last = operation.ends_with_run();
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
            last,
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

/// Parts that follow one another as texts of messages: as few as are paid for.
pub(crate) fn in_messages(
    id: &AnswerId,
    first: u64,
    parts: Vec<Part>,
) -> Result<Vec<String>, EngineError> {
    let mut messages: Vec<Vec<Part>> = Vec::new();
    let mut bytes = 0;
    for part in parts {
        let length = serde_json::to_string(&part)?.len();
        match messages.last_mut() {
            Some(together) if bytes + length <= MESSAGE_BYTES => {
                together.push(part);
                bytes += length;
            }
            _ => {
                messages.push(vec![part]);
                bytes = length;
            }
        }
    }
    let mut next = first;
    let texts = messages.into_iter().map(|parts| {
        let seq = next;
        next += parts.len() as u64;
        let answer = id.clone();
        Ok(serde_json::to_string(&ControlToFrontend::Parts {
            answer,
            seq,
            parts,
        })?)
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_travel_together_while_they_fit() {
        let id = AnswerId::from_random([1; 16]);
        let data = |bytes: usize| Part::Data {
            data: vec![b'x'; bytes].into(),
        };
        let sizes = [10, 10, 20_000, 20_000, 10];
        let mut parts: Vec<_> = sizes.map(data).into();
        parts.push(Part::End);
        let texts = in_messages(&id, 5, parts.clone()).unwrap();
        let mut came = Vec::new();
        for text in &texts {
            assert!(text.len() < 32 * 1024);
            match serde_json::from_str(text).unwrap() {
                ControlToFrontend::Parts { seq, parts, .. } => {
                    assert_eq!(seq, 5 + came.len() as u64);
                    came.extend(parts);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((texts.len(), came), (2, parts));
        assert!(in_messages(&id, 0, Vec::new()).unwrap().is_empty());
    }
}
