//! A frontend between real sockets and a control plane, a relay and an agent that
//! are played. The relay delays, loses, repeats and disconnects as told, from a
//! seed that is printed (`SOCKERLESS_TEST_SEED` sets it).

mod agent;
mod client;
mod control;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use sockerless_frontend::control_plane::ControlPlane;
use sockerless_frontend::docker_socket::{Listen, Listener, Server};
use sockerless_frontend::relay::Relay;
use sockerless_shared::ids::PeerId;
use sockerless_shared::quic::Pace;

pub(crate) use self::agent::Agent;
pub(crate) use self::client::Client;
pub(crate) use self::control::{Control, data, head};
pub(crate) use self::relay::{FAIR, FOUL, Gateway, ROUGH};

/// The longest that anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) control: Arc<Control>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) agent: Arc<Agent>,
    server: Option<Server>,
    socket: tempfile::TempDir,
    relay_task: tokio::task::JoinHandle<()>,
}

impl World {
    pub(crate) async fn start(weather: relay::Weather) -> Self {
        let gateway = Gateway::new(weather);
        let agent = Agent::start(&gateway);
        let control = Control::new(&gateway, &agent);
        let relay = Relay::new(PeerId::from_random([1; 14]), Pace::NEAR).unwrap();
        let socket = tempfile::tempdir().unwrap();
        let listen = Listen::Unix(socket.path().join("s"));
        let tcp = "tcp://127.0.0.1:0".parse().unwrap();
        let listeners = vec![
            Listener::bind(&listen).await.unwrap(),
            Listener::bind(&tcp).await.unwrap(),
        ];
        if let Listen::Tcp(address) = listeners[1].address().unwrap() {
            control.set_tcp(address);
        }
        let port: Arc<dyn ControlPlane> = control.clone();
        let server = Server::start(listeners, &port, &relay);
        let dial = relay::Door(Arc::clone(&gateway));
        let relay_task = tokio::spawn(async move { relay.run(port.as_ref(), &dial).await });
        Self {
            control,
            gateway,
            agent,
            server: Some(server),
            socket,
            relay_task,
        }
    }

    pub(crate) async fn client(&self) -> Client<tokio::net::UnixStream> {
        let path = self.socket.path().join("s");
        Client::new(tokio::net::UnixStream::connect(path).await.unwrap())
    }

    pub(crate) async fn tcp_client(&self) -> Client<tokio::net::TcpStream> {
        Client::new(
            tokio::net::TcpStream::connect(self.control.tcp())
                .await
                .unwrap(),
        )
    }

    pub(crate) fn take_server(&mut self) -> Server {
        self.server.take().unwrap()
    }

    pub(crate) fn socket_exists(&self) -> bool {
        self.socket.path().join("s").exists()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.relay_task.abort();
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}
