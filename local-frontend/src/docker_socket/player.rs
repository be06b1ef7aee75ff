//! Carries out the parts of an answer, one after the other.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use sockerless_shared::answer::{Head, MAX_INLINE_BODY_BYTES, Part, StreamTarget};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::request::Kept;
use super::watch::ClientWatch;
use crate::control_plane::{BodyError, ByteStream, ControlPlane, ControlPlaneError};
use crate::relay::{AgentInput, AgentOutput, AnswerLost, AnswerParts, Relay, StreamError};

/// Why an answer was not carried out to its end.
#[derive(Debug, Error)]
pub(super) enum Interrupted {
    /// The client is gone.
    #[error("the client is gone")]
    ClientGone,
    /// The rest of the answer is lost.
    #[error(transparent)]
    Lost(#[from] AnswerLost),
    /// A stream to an agent failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A blob is not to be had.
    #[error(transparent)]
    Control(#[from] ControlPlaneError),
    /// A blob broke off.
    #[error("answer's {0}")]
    Blob(#[from] BodyError),
    /// The parts make no answer.
    #[error("control plane sent {0}")]
    Disorder(&'static str),
}

/// One answer that is being carried out for one client.
pub(super) struct Player {
    control: Arc<dyn ControlPlane>,
    relay: Arc<Relay>,
    parts: AnswerParts,
    source: Source,
    /// When the answer ends, whatever has come until then.
    ends: Option<Instant>,
    gone: Gone,
    /// The client's body, for an agent that wants it.
    body: Option<Kept>,
    /// Sends it; ended with the player.
    sending: JoinSet<()>,
}

/// Ready once the client is gone.
pub(super) type Gone = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where bytes come from at present.
enum Source {
    Parts,
    Blob(ByteStream),
    Agent(AgentOutput),
    Ended,
}

/// What comes next.
pub(super) enum Step {
    /// These bytes.
    Bytes(Bytes),
    /// A stream, both ways.
    Stream(StreamTarget),
    /// Nothing.
    End,
}

impl Player {
    pub(super) fn new(
        control: Arc<dyn ControlPlane>,
        relay: Arc<Relay>,
        parts: AnswerParts,
        watch: Arc<ClientWatch>,
        body: Option<Kept>,
    ) -> Self {
        Self {
            body,
            sending: JoinSet::new(),
            control,
            relay,
            parts,
            source: Source::Parts,
            ends: None,
            gone: Box::pin(watch.gone(false)),
        }
    }

    /// The head, which must come first.
    pub(super) async fn head(&mut self) -> Result<Head, Interrupted> {
        let part = tokio::select! {
            part = self.parts.next() => part?,
            () = &mut self.gone => return Err(Interrupted::ClientGone),
        };
        match part {
            Part::Head(head) => Ok(head),
            Part::Ask { target, headers } => {
                let mut gone = self.take_gone();
                let head = tokio::select! {
                    head = self.ask(&target, headers) => head?,
                    () = &mut gone => return Err(Interrupted::ClientGone),
                };
                self.put_gone(gone);
                Ok(head)
            }
            Part::Data { .. }
            | Part::Blob { .. }
            | Part::Stream(_)
            | Part::EndAfter { .. }
            | Part::End => Err(Interrupted::Disorder("a body before its head")),
        }
    }

    /// Asks an agent, which gets the client's body and answers with a head of its own.
    async fn ask(
        &mut self,
        target: &StreamTarget,
        headers: Vec<(String, String)>,
    ) -> Result<Head, Interrupted> {
        let mut stream = self.relay.open(target).await?;
        if let Some(body) = self.body.take() {
            self.sending.spawn(send_body(body, stream.input));
        } else {
            stream.input.end();
        }
        let mut head = stream.output.head().await?;
        head.headers.extend(headers);
        self.source = Source::Agent(stream.output);
        Ok(head)
    }

    /// All of a short body.
    pub(super) async fn collect(mut self) -> Result<Bytes, Interrupted> {
        let mut body = BytesMut::new();
        while let Some(bytes) = self.one_way().await? {
            if body.len() + bytes.len() > MAX_INLINE_BODY_BYTES {
                return Err(Interrupted::Disorder("an error that is too long"));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body.freeze())
    }

    /// The body as it comes; what the client sends is not looked at.
    pub(super) fn into_body(self) -> impl Stream<Item = Result<Bytes, Interrupted>> + Send {
        stream::unfold(Some(self), |player| async {
            let mut player = player?;
            match player.one_way().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(player))),
                Ok(None) => None,
                Err(error) => {
                    error.log();
                    Some((Err(error), None))
                }
            }
        })
    }

    /// For a connection that has been taken over: the client may end its
    /// own side and listen on.
    pub(super) fn taken_over(&mut self, watch: Arc<ClientWatch>) {
        self.gone = Box::pin(watch.gone(true));
    }

    /// What comes next on a connection that has been taken over. Is not
    /// interrupted by the client's going.
    pub(super) async fn step(&mut self) -> Result<Step, Interrupted> {
        loop {
            match &mut self.source {
                Source::Ended => return Ok(Step::End),
                Source::Agent(output) => match output.read().await? {
                    Some(bytes) => return Ok(Step::Bytes(bytes)),
                    None => self.source = Source::Parts,
                },
                Source::Blob(blob) => match blob.next().await {
                    Some(bytes) => return Ok(Step::Bytes(bytes?)),
                    None => self.source = Source::Parts,
                },
                Source::Parts => match self.next_part().await? {
                    Part::Head(_) => return Err(Interrupted::Disorder("a second head")),
                    Part::Data { data } => return Ok(Step::Bytes(data)),
                    Part::Blob { blob } => {
                        self.source = Source::Blob(self.control.fetch(&blob).await?);
                    }
                    Part::Stream(target) => return Ok(Step::Stream(target)),
                    Part::Ask { .. } => {
                        return Err(Interrupted::Disorder("an agent's head behind another"));
                    }
                    Part::EndAfter { ms } => {
                        // What no clock can show is never.
                        self.ends = Instant::now().checked_add(Duration::from_millis(ms));
                    }
                    Part::End => self.source = Source::Ended,
                },
            }
        }
    }

    async fn next_part(&mut self) -> Result<Part, AnswerLost> {
        match self.ends {
            None => self.parts.next().await,
            Some(ends) => timeout_at(ends, self.parts.next())
                .await
                .unwrap_or(Ok(Part::End)),
        }
    }

    pub(super) fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Takes out the future that is ready once the client is gone, so that it
    /// can be waited for beside something else; [`Player::put_gone`] puts it back.
    pub(super) fn take_gone(&mut self) -> Gone {
        std::mem::replace(&mut self.gone, Box::pin(std::future::pending()))
    }

    pub(super) fn put_gone(&mut self, gone: Gone) {
        self.gone = gone;
    }

    /// Begins the streams that the answer has told to open already: the process of an
    /// exec runs, as with a Docker Engine, though its client has gone meanwhile.
    pub(super) async fn begin_streams_at_hand(&mut self) {
        while let Some(part) = self.parts.next_now() {
            if let Part::Stream(target) = part {
                let begun = async { self.relay.open(&target).await?.begun().await };
                if let Err(error) = begun.await {
                    tracing::debug!(%error, "a stream without a client did not begin");
                }
            }
        }
    }

    /// The next bytes of a body; `None` at its end.
    async fn one_way(&mut self) -> Result<Option<Bytes>, Interrupted> {
        let mut gone = self.take_gone();
        let result = tokio::select! {
            result = self.next_bytes() => result,
            () = &mut gone => {
                self.begin_streams_at_hand().await;
                return Err(Interrupted::ClientGone);
            }
        };
        self.put_gone(gone);
        result
    }

    async fn next_bytes(&mut self) -> Result<Option<Bytes>, Interrupted> {
        loop {
            match self.step().await? {
                Step::Bytes(bytes) => return Ok(Some(bytes)),
                Step::End => return Ok(None),
                Step::Stream(target) => {
                    let mut stream = self.relay.open(&target).await?;
                    stream.input.end();
                    self.source = Source::Agent(stream.output);
                }
            }
        }
    }
}

/// Passes a client's body on to an agent, as fast as the agent takes it. One that breaks
/// off is not ended, so that the agent does not take the beginning for the whole.
async fn send_body(body: Kept, mut input: AgentInput) {
    match body {
        Kept::Inline(bytes) => {
            if !bytes.is_empty() && input.write(bytes).await.is_err() {
                return;
            }
        }
        Kept::Large(mut stream) => {
            while let Some(piece) = stream.next().await {
                let Ok(piece) = piece else { return };
                // An agent that wants no more says why in its answer.
                if input.write(piece).await.is_err() {
                    return;
                }
            }
        }
    }
    input.end();
}

impl Interrupted {
    /// A client that goes is nothing to report.
    pub(super) fn log(&self) {
        match self {
            Self::ClientGone => tracing::debug!("the client went away"),
            Self::Lost(_)
            | Self::Stream(_)
            | Self::Control(_)
            | Self::Blob(_)
            | Self::Disorder(_) => tracing::warn!(error = %self, "an answer broke off"),
        }
    }
}
