//! Everything that travels between control plane, agent and frontend.
//!
//! - [`invocation`]: the payload of an Invoke, control plane → agent.
//! - [`kept`]: what stays of a container's files between its runs.
//! - [`control`]: small JSON messages to and from the control plane over the relay.
//! - [`relay`]: datagrams between two peers, relayed with signed tickets.
//! - [`grant`]: what a stream may do, signed by the control plane, checked by the agent.
//! - [`stream`]: what stands at the head of a QUIC stream.
//! - [`stdcopy`]: Docker's framing of stdout and stderr on one connection.
//!
//! # Versions
//! - 1: first.

pub mod control;
pub mod grant;
pub mod invocation;
pub mod kept;
pub mod mac;
pub mod relay;
pub mod stdcopy;
pub mod stream;

/// The version this build speaks. A control plane understands this one and the
/// one before it.
pub const VERSION: u16 = 1;

/// Whether a control plane of this build understands an end that speaks `version`.
#[must_use]
pub const fn understands(version: u16) -> bool {
    version == VERSION || version.saturating_add(1) == VERSION
}
