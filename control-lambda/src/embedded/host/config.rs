//! What a host is made of, and why it does not start.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use sockerless_shared::ids::ImageDigest;
use thiserror::Error;
use tokio::net::TcpStream;

use super::pool::Policy;
use crate::ports::function_host::InvocationEvents;

/// Where images' files are.
#[async_trait]
pub trait RootfsProvider: Send + Sync {
    /// The image's layers, lowest first, each a folder as overlayfs wants it
    /// (whiteouts and opaque folders in its own terms).
    ///
    /// # Errors
    /// A sentence: what is missing.
    async fn layers(&self, image: &ImageDigest) -> Result<Vec<PathBuf>, String>;
}

/// Takes the connections that agents open to the relay's gateway.
pub trait GatewayAcceptor: Send + Sync + 'static {
    /// Serves one connection. Must not block; it spawns what takes time.
    fn accept(&self, stream: TcpStream);
}

impl<F: Fn(TcpStream) + Send + Sync + 'static> GatewayAcceptor for F {
    fn accept(&self, stream: TcpStream) {
        self(stream);
    }
}

/// What a host is made of.
pub struct HostConfig {
    /// A folder of its own, kept between starts.
    pub data_dir: PathBuf,
    /// The agent: one static program.
    pub agent: PathBuf,
    /// A program whose `main` calls [`super::helper_main`] when told to;
    /// [`HostConfig::THIS_PROGRAM`] for this one.
    pub helper: PathBuf,
    /// Where `slirp4netns` is looked for, as in `PATH`.
    pub search_path: OsString,
    /// Limits and habits.
    pub policy: Policy,
    /// Images' files.
    pub layers: Arc<dyn RootfsProvider>,
    /// The relay's gateway.
    pub gateway: Arc<dyn GatewayAcceptor>,
    /// Whom to tell how invocations ended.
    pub events: Arc<dyn InvocationEvents>,
}

impl HostConfig {
    /// This very program, even if its file has been replaced since.
    pub const THIS_PROGRAM: &'static str = "/proc/self/exe";
}

/// Why a host did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another process uses the folder.
    #[error("{0} is in use by another process; stop that one or choose another --data-dir")]
    InUse(PathBuf),
    /// A file operation failed.
    #[error("{what}: {source}")]
    Files {
        /// What was being done.
        what: String,
        /// The error.
        source: std::io::Error,
    },
    /// The machine does not allow sandboxes.
    #[error("{0}")]
    Sandbox(String),
}
