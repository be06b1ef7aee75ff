//! The layer that brings the agent into an image.

use std::io::{self, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use thiserror::Error;
use tokio::sync::OnceCell;

use crate::images::digest::{DiffId, Digest};

/// The folder of the agent inside an image.
const FOLDER: &str = ".sockerless/";

/// The agent inside an image: its entrypoint.
pub(super) const AGENT: &str = "/.sockerless/agent";

/// The layer could not be made.
#[derive(Debug, Error)]
#[error("the agent's layer cannot be made of {}: {error}", .program.display())]
pub(super) struct AgentLayerError {
    program: PathBuf,
    error: io::Error,
}

/// A gzip layer with the agent. The same agent makes the same bytes.
///
/// Nothing of it is made before it is wanted: most invocations of the control function, and
/// its start, need none of it.
#[derive(Debug)]
pub struct AgentLayer {
    program: PathBuf,
    diff_id: OnceCell<DiffId>,
}

impl AgentLayer {
    /// The layer with this agent, a static program for Linux.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            diff_id: OnceCell::new(),
        }
    }

    /// The digest of its tar.
    ///
    /// # Errors
    /// When the program cannot be read.
    pub(super) async fn diff_id(&self) -> Result<DiffId, AgentLayerError> {
        let made = self
            .diff_id
            .get_or_try_init(async || Ok(DiffId(Digest::of(&self.tar().await?))));
        made.await.copied()
    }

    /// The layer.
    ///
    /// # Errors
    /// When the program cannot be read.
    pub(super) async fn bytes(&self) -> Result<Bytes, AgentLayerError> {
        let tar = self.tar().await?;
        // No file name and no time in the header.
        let mut gzip = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::default());
        gzip.write_all(&tar).map_err(|error| self.failed(error))?;
        Ok(gzip.finish().map_err(|error| self.failed(error))?.into())
    }

    async fn tar(&self) -> Result<Vec<u8>, AgentLayerError> {
        let agent = tokio::fs::read(&self.program).await;
        agent
            .and_then(|agent| tar(&agent))
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> AgentLayerError {
        AgentLayerError {
            program: self.program.clone(),
            error,
        }
    }
}

/// Lambda wants an entry for every folder, before what is in it.
fn tar(agent: &[u8]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::with_capacity(agent.len() + 4096));
    let mut append = |name: &str, kind, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content)
    };
    append(FOLDER, tar::EntryType::Directory, &[])?;
    append(
        AGENT.trim_start_matches('/'),
        tar::EntryType::Regular,
        agent,
    )?;
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::layer::{self, Discard, LayerLimits};

    fn agent(folder: &tempfile::TempDir, content: &[u8]) -> AgentLayer {
        let program = folder.path().join("agent");
        std::fs::write(&program, content).unwrap();
        AgentLayer::new(program)
    }

    #[tokio::test]
    async fn the_layer_is_reproducible_and_passes_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let layer = agent(&folder, b"\x7fELF agent");
        let bytes = layer.bytes().await.unwrap();
        let diff_id = layer.diff_id().await.unwrap();
        assert_eq!(layer.bytes().await.unwrap(), bytes);
        let limits = LayerLimits::default();
        let read = layer::read(&bytes[..], Some(diff_id), limits, &mut Discard).unwrap();
        assert_eq!((read.entries, read.size), (2, 10));
        let other = agent(&folder, b"other");
        assert_ne!(other.bytes().await.unwrap(), bytes);
        assert_ne!(other.diff_id().await.unwrap(), diff_id);
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_named() {
        let error = AgentLayer::new("/nonexistent/agent".into()).diff_id().await;
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/agent")
        );
    }

    #[tokio::test]
    async fn every_folder_comes_before_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let layer = agent(&folder, b"x").bytes().await.unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(
            names,
            [".sockerless/", ".sockerless/agent"].map(std::path::PathBuf::from)
        );
    }
}
