//! The frontend's end of the relay: one connection to the gateway, kept up over
//! reconnects, which carries the rest of answers and the datagrams of streams.

mod agent_stream;
mod agents;
mod answers;
mod backoff;
mod driver;
mod link;

use std::sync::{Arc, Mutex, PoisonError};

use sockerless_shared::answer::{Part, StreamTarget};
use sockerless_shared::ids::{AnswerId, PeerId};
use sockerless_shared::protocol::control::FrontendMessage;
use sockerless_shared::quic::{Outbox, Pace, QuicError, RelayEndpoint};
use tokio::sync::mpsc;

pub use self::agent_stream::{AgentInput, AgentOutput, AgentStream};
pub use self::agents::StreamError;
pub use self::answers::{AnswerLost, AnswerParts};
pub use self::link::{Dial, Incoming, Link, LinkError, Outgoing};

use self::agents::Agents;
use self::answers::Answers;

/// Messages to the control plane that wait for the gateway; beyond it they are
/// lost, and said again when their time comes.
const QUEUED_MESSAGES: usize = 4096;

/// The frontend's end of the relay.
pub struct Relay {
    peer: PeerId,
    endpoint: RelayEndpoint,
    answers: Arc<Answers>,
    agents: Agents,
    /// What the driver sends; taken by it once.
    sources: Mutex<Option<Sources>>,
}

struct Sources {
    datagrams: Outbox,
    messages: mpsc::Receiver<FrontendMessage>,
}

impl Relay {
    /// A relay end under a new address. Nothing travels until [`Relay::run`] does.
    ///
    /// # Errors
    /// Only if QUIC refuses its fixed configuration.
    pub fn new(peer: PeerId, pace: Pace) -> Result<Arc<Self>, QuicError> {
        let runtime = Arc::new(quinn::TokioRuntime);
        let (endpoint, datagrams) = RelayEndpoint::client(runtime, peer.clone(), pace)?;
        let (outgoing, messages) = mpsc::channel(QUEUED_MESSAGES);
        Ok(Arc::new(Self {
            peer,
            agents: Agents::new(endpoint.clone(), outgoing.clone()),
            answers: Arc::new(Answers::new(outgoing)),
            endpoint,
            sources: Mutex::new(Some(Sources {
                datagrams,
                messages,
            })),
        }))
    }

    /// The address that requests name, so that the rest of an answer finds its way here.
    #[must_use]
    pub fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// Follows an answer of which these parts came with it.
    pub fn answer(&self, id: AnswerId, first: Vec<Part>) -> AnswerParts {
        self.answers.claim(id, first)
    }

    /// Opens a stream to an agent.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn open(&self, target: &StreamTarget) -> Result<AgentStream, StreamError> {
        self.agents.open(target).await
    }

    /// Keeps the connection to the gateway up. Does not return; a second call
    /// at the same time returns at once.
    pub async fn run(&self, control: &dyn crate::control_plane::ControlPlane, dial: &dyn Dial) {
        let sources = self
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(sources) = sources {
            driver::run(self, sources, control, dial).await;
        }
    }
}
