//! The local frontend: a Docker socket in front of a control plane.
//!
//! It knows no Docker semantics. A request goes to the [`control_plane`] as it
//! is, and what comes back says what to do with the client: give this response,
//! or carry out these parts as they arrive over the [`relay`], among them streams
//! to the agents inside the containers.

pub mod agent_binary;
pub mod cli;
pub mod config;
pub mod control_plane;
pub mod docker_socket;
#[cfg(target_os = "linux")]
pub mod local;
pub mod logging;
pub mod memory;
mod process;
pub mod relay;
pub mod serve;

/// What `sockerless version` prints.
pub const VERSION: &str = concat!(
    "sockerless ",
    env!("CARGO_PKG_VERSION"),
    " (Docker Engine API 1.24 to 1.51)"
);
