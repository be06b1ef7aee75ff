//! The ports: what the control plane needs from the world. Each has one
//! contract suite that every adapter passes.

pub mod blobs;
pub mod environment;
pub mod function_host;
pub mod jobs;
pub mod layers;
pub mod machine;
pub mod registry;
pub mod relay;
pub mod table;

pub use blobs::Blobs;
pub use environment::Environment;
pub use function_host::FunctionHost;
pub use jobs::Jobs;
pub use layers::Layers;
pub use registry::Registry;
pub use relay::{GatewayEvents, Relay};
pub use table::Table;
