//! What the control plane, the agent and the local frontend agree on.
//!
//! Everything here is data and pure functions: identifiers, the container's
//! lifecycle, the container's specification, the messages of the relay, and
//! the transport that runs over it. Nothing here reads a clock, draws a random
//! number, knows AWS, Docker's JSON, or an async runtime; callers bring those.

pub mod answer;
pub mod health;
pub mod ids;
pub mod lifecycle;
pub mod logs;
pub mod protocol;
#[cfg(feature = "quic")]
pub mod quic;
pub mod spec;
pub mod timestamp;
pub mod wire;
