//! The relay's gateway in this process, with API Gateway's manners: texts only,
//! of at most 128 KB in frames of at most 32 KB; no order promised; messages of
//! one connection handled at the same time; connections that idle out, that are
//! cut after two hours, whose buffers fill. On the same listener it serves the
//! blob store's signed URLs.
//!
//! A [`ChaosPolicy`] makes it lose, repeat, reorder, delay and cut on purpose.

mod chaos;
mod connection;
mod http;
mod in_process;
mod socket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use sockerless_shared::ids::ConnectionId;
use sockerless_shared::protocol::control::MAX_MESSAGE_BYTES;
use tokio::sync::mpsc;

use crate::embedded::blobs::FolderBlobs;
use crate::ports::relay::{ConnectRefused, PostError};
use crate::ports::{Environment, GatewayEvents, Relay};

pub use chaos::{ChaosPolicy, InvalidChaos, Mischief};
use connection::{Connection, End};

/// API Gateway closes a connection that sends a larger frame.
const MAX_FRAME_BYTES: usize = 32 * 1024;

/// What can be set. The default is what API Gateway does.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// A connection without a message for so long is closed.
    pub idle: Duration,
    /// A connection is closed after so long, whatever happens on it.
    pub lifetime: Duration,
    /// So many bytes at most wait to be sent on a connection; more are throttled.
    pub queue_bytes: usize,
    /// So many messages at most wait to be sent on a connection.
    pub queue_messages: usize,
    /// So many messages of one connection at most are handled at the same time.
    /// While there are as many, no more is read from it.
    pub concurrency: usize,
    /// Largest body, in bytes, that is taken by a signed URL.
    pub max_upload: u64,
    /// Misbehaviour on purpose, for tests.
    pub chaos: Option<ChaosPolicy>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(10 * 60),
            lifetime: Duration::from_secs(2 * 60 * 60),
            queue_bytes: 4 * 1024 * 1024,
            queue_messages: 1024,
            concurrency: 64,
            max_upload: 5 * 1024 * 1024 * 1024,
            chaos: None,
        }
    }
}

/// The gateway. A clone is the same gateway.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    config: GatewayConfig,
    blobs: Arc<FolderBlobs>,
    environment: Arc<dyn Environment>,
    /// Weak, for the control plane holds the gateway.
    events: OnceLock<Weak<dyn GatewayEvents>>,
    connections: Mutex<HashMap<ConnectionId, Arc<Connection>>>,
}

impl Gateway {
    /// A gateway that refuses everybody until [`Gateway::attach`].
    #[must_use]
    pub fn new(
        config: GatewayConfig,
        blobs: Arc<FolderBlobs>,
        environment: Arc<dyn Environment>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                blobs,
                environment,
                events: OnceLock::new(),
                connections: Mutex::default(),
            }),
        }
    }

    /// Says who is told of connections and messages; the first to be named
    /// stays. The gateway does not keep it alive: when it is dropped, everybody
    /// is refused again.
    pub fn attach(&self, events: &Arc<dyn GatewayEvents>) {
        // A second one would split the connections between two control planes.
        let _ = self.shared.events.set(Arc::downgrade(events));
    }

    /// Closes every connection.
    pub fn close(&self) {
        for connection in self.shared.connections().values() {
            connection.end(End::Closed);
        }
    }
}

#[async_trait]
impl Relay for Gateway {
    async fn post(&self, id: &ConnectionId, text: String) -> Result<(), PostError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(PostError::TooLarge(text.len()));
        }
        match self.shared.find(id) {
            Some(connection) => connection.post(text),
            None => Err(PostError::Gone(id.clone())),
        }
    }

    async fn disconnect(&self, id: &ConnectionId) -> Result<(), PostError> {
        if let Some(connection) = self.shared.find(id) {
            connection.end(End::Closed);
        }
        Ok(())
    }
}

/// A connection that may be posted to, until this is dropped; then its end is
/// told to the control plane.
struct Membership {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionId, Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that takes posts.
    fn find(&self, id: &ConnectionId) -> Option<Arc<Connection>> {
        self.connections()
            .get(id)
            .filter(|connection| !connection.has_ended())
            .cloned()
    }

    fn events(&self) -> Option<Arc<dyn GatewayEvents>> {
        self.events.get()?.upgrade()
    }

    /// `$connect`: asks the control plane, then makes the connection known.
    /// Should the client go away meanwhile, the control plane is not
    /// interrupted but told of the end afterwards, as it would be on AWS.
    async fn admit(
        self: &Arc<Self>,
        query: &str,
    ) -> Result<(Membership, mpsc::Receiver<String>), ConnectRefused> {
        let refused = |status, reason: &str| ConnectRefused {
            status,
            reason: reason.to_owned(),
        };
        let Some(events) = self.events() else {
            return Err(refused(503, "there is no control plane (any more)"));
        };
        let (shared, query) = (Arc::clone(self), query.to_owned());
        let admission = tokio::spawn(async move {
            let id = shared.new_id();
            events.connect(&id, &query).await?;
            Ok(shared.open(id))
        });
        admission
            .await
            .unwrap_or_else(|_| Err(refused(500, "the control plane failed")))
    }

    fn open(self: Arc<Self>, id: ConnectionId) -> (Membership, mpsc::Receiver<String>) {
        let (connection, queue) = Connection::open(id, &self.config);
        let connection = Arc::new(connection);
        self.connections()
            .insert(connection.id().clone(), Arc::clone(&connection));
        let membership = Membership {
            shared: self,
            connection,
        };
        (membership, queue)
    }

    /// As API Gateway's: eleven random bytes, sixteen characters of which the last is `=`.
    fn new_id(&self) -> ConnectionId {
        loop {
            let text = URL_SAFE.encode(self.environment.random::<11>());
            if let Ok(id) = ConnectionId::try_from(text) {
                return id;
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.connection.end(End::Gone);
        self.shared.connections().remove(self.connection.id());
        let Some(events) = self.shared.events() else {
            return;
        };
        if self.connection.forgets_disconnect() {
            return;
        }
        // Without a runtime the whole process is going, and nobody is left to tell.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let id = self.connection.id().clone();
            runtime.spawn(async move { events.disconnected(&id).await });
        }
    }
}
