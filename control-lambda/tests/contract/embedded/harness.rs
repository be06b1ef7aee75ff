//! A gateway on loopback with a control plane that writes down what it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use sockerless_control::embedded::blobs::FolderBlobs;
use sockerless_control::embedded::environment::SystemEnvironment;
use sockerless_control::embedded::gateway::{Gateway, GatewayConfig};
use sockerless_control::ports::relay::ConnectRefused;
use sockerless_control::ports::{GatewayEvents, Relay};
use sockerless_shared::ids::ConnectionId;
use sockerless_shared::protocol::mac::Key;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::relay::Client;
use crate::socket::Socket;

/// Something the control plane was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Connect(ConnectionId),
    Message(ConnectionId, String),
    Disconnected(ConnectionId),
}

/// Accepts the query `ok`; refuses a number with that status.
pub(crate) struct Recorder {
    told: mpsc::UnboundedSender<Told>,
    /// Handlers of messages that begin with `block` wait for it.
    pub(crate) release: Notify,
    /// `$connect` with the query `slow` waits for it.
    pub(crate) admit: Notify,
}

#[async_trait]
impl GatewayEvents for Recorder {
    async fn connect(&self, id: &ConnectionId, query: &str) -> Result<(), ConnectRefused> {
        match query {
            "ok" => {}
            "slow" => self.admit.notified().await,
            _ => {
                return Err(ConnectRefused {
                    status: query.parse().unwrap(),
                    reason: "the test asked for it".into(),
                });
            }
        }
        let _ = self.told.send(Told::Connect(id.clone()));
        Ok(())
    }

    async fn message(&self, id: &ConnectionId, text: String) {
        if text.starts_with("block") {
            self.release.notified().await;
        }
        let _ = self.told.send(Told::Message(id.clone(), text));
    }

    async fn disconnected(&self, id: &ConnectionId) {
        let _ = self.told.send(Told::Disconnected(id.clone()));
    }
}

pub(crate) struct Harness {
    pub(crate) gateway: Gateway,
    pub(crate) blobs: Arc<FolderBlobs>,
    pub(crate) events: Arc<Recorder>,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
    told: tokio::sync::Mutex<mpsc::UnboundedReceiver<Told>>,
    /// Keeps the control plane alive as the gateway sees it.
    attached: Mutex<Option<Arc<dyn GatewayEvents>>>,
}

impl Harness {
    pub(crate) async fn new(config: GatewayConfig) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let environment = Arc::new(SystemEnvironment);
        let blobs = FolderBlobs::open(
            folder.path(),
            &format!("http://{address}/blobs"),
            Key::from_random([5; 32]),
            environment.clone(),
        );
        let blobs = Arc::new(blobs.unwrap());
        let gateway = Gateway::new(config, Arc::clone(&blobs), environment);
        let (sender, told) = mpsc::unbounded_channel();
        let events = Arc::new(Recorder {
            told: sender,
            release: Notify::new(),
            admit: Notify::new(),
        });
        let attached: Arc<dyn GatewayEvents> = events.clone();
        gateway.attach(&attached);
        let server = gateway.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(socket).await });
            }
        });
        Arc::new(Self {
            gateway,
            blobs,
            events,
            address,
            _folder: folder,
            told: tokio::sync::Mutex::new(told),
            attached: Mutex::new(Some(attached)),
        })
    }

    /// The control plane goes away.
    pub(crate) fn drop_control_plane(self) -> (Gateway, SocketAddr) {
        self.attached.lock().unwrap().take();
        (self.gateway, self.address)
    }

    /// What the control plane is told next.
    pub(crate) async fn told(&self) -> Told {
        let mut told = self.told.lock().await;
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), told.recv());
        next.await
            .expect("nothing was told for 20 seconds")
            .unwrap()
    }

    pub(crate) async fn connect(&self) -> (ConnectionId, Socket) {
        let socket = self.try_connect("ok").await.unwrap();
        let Told::Connect(id) = self.told().await else {
            panic!("something else was told before the connection");
        };
        (id, socket)
    }

    /// Connects with a query; the status when it is refused.
    pub(crate) async fn try_connect(&self, query: &str) -> Result<Socket, u16> {
        Socket::open(self.address, &format!("/?{query}")).await
    }

    pub(crate) async fn message(&self) -> String {
        match self.told().await {
            Told::Message(_, text) => text,
            other => panic!("{other:?}"),
        }
    }
}

impl Socket {
    /// Reads to the end, which must be a close frame.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let to_end = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(Some(CloseFrame { code, .. })))) => return code.into(),
                    Some(Ok(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), to_end)
            .await
            .expect("not closed after 20 seconds")
    }
}

/// A client in the same process.
pub(crate) struct InProcess(
    /// Held, for the connection ends when it is dropped.
    #[allow(dead_code)]
    mpsc::Sender<String>,
    mpsc::Receiver<String>,
);

#[async_trait]
impl Client for InProcess {
    async fn receive(&mut self) -> Option<String> {
        self.1.recv().await
    }

    async fn close(self: Box<Self>) {}

    fn cut(self: Box<Self>) {}
}

/// The harness as the contract sees it, with clients over sockets.
pub(crate) struct OverSockets(pub(crate) Arc<Harness>);

#[async_trait]
impl crate::relay::Gateway for OverSockets {
    fn relay(&self) -> &dyn Relay {
        &self.0.gateway
    }

    async fn connect(&self) -> (ConnectionId, Box<dyn Client>) {
        let (id, socket) = self.0.connect().await;
        (id, Box::new(socket))
    }
}

/// The harness as the contract sees it, with clients in the same process.
pub(crate) struct InThisProcess(pub(crate) Arc<Harness>);

#[async_trait]
impl crate::relay::Gateway for InThisProcess {
    fn relay(&self) -> &dyn Relay {
        &self.0.gateway
    }

    async fn connect(&self) -> (ConnectionId, Box<dyn Client>) {
        let (sender, receiver) = self.0.gateway.connect_in_process("ok").await.unwrap();
        let Told::Connect(id) = self.0.told().await else {
            panic!("something else was told before the connection");
        };
        (id, Box::new(InProcess(sender, receiver)))
    }
}
