//! `sockerless serve`: a control plane on AWS, reached over its HTTP API with
//! signed requests and over its WebSocket API.

mod connection;
mod http_control_plane;
mod run;
mod signing;

pub use self::connection::{Connection, WebSocketDial};
pub use self::http_control_plane::HttpControlPlane;
pub use self::run::{RunError, run};
pub(crate) use self::signing::region;
pub use self::signing::{InvalidEndpoint, Signer};
