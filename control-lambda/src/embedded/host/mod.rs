//! The local function host: images in sandboxes on this machine, under Lambda's
//! own contract.
//!
//! Two processes take part. The main process decides ([`pool`]), serves every
//! environment's runtime API ([`runtime_api`]), keeps its log stream, and limits
//! it ([`cgroup`]). The [`warden`], a small process of its own, makes namespaces
//! and mounts and is the parent of what runs in them. They talk through
//! [`wire`].
//!
//! *Invariant*: nothing that runs in a sandbox, no mount of one, outlives the
//! main process, however that ends.

mod base;
mod cgroup;
mod config;
mod environment;
mod etc;
mod local;
mod log_stream;
mod make;
mod outside;
mod pool;
mod runtime_api;
mod shared;
mod shares;
mod talk;
mod variables;
mod volumes;
mod warden;
mod warden_client;
mod wire;

pub use config::{GatewayAcceptor, HostConfig, RootfsProvider, StartError};
pub use local::LocalFunctionHost;
pub use pool::Policy;
pub use warden::{HELPER_ARGUMENT, helper_main};
