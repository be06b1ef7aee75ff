//! The layer that brings the agent into an image.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use thiserror::Error;

use crate::images::digest::{DiffId, Digest};

/// The folder of the agent inside an image.
const FOLDER: &str = ".sockerless/";

/// The agent inside an image: its entrypoint.
pub(super) const AGENT: &str = "/.sockerless/agent";

/// The layer could not be made.
#[derive(Debug, Error)]
#[error("the agent's layer cannot be made: {0}")]
pub struct AgentLayerError(#[from] io::Error);

/// A gzip layer with the agent. The same agent makes the same bytes.
#[derive(Debug, Clone)]
pub struct AgentLayer {
    pub(super) bytes: Bytes,
    pub(super) diff_id: DiffId,
}

impl AgentLayer {
    /// The layer with this agent, a static program for Linux.
    ///
    /// # Errors
    /// Never in practice: only when memory cannot be written to.
    pub fn new(agent: &[u8]) -> Result<Self, AgentLayerError> {
        let tar = tar(agent)?;
        let diff_id = DiffId(Digest::of(&tar));
        // No file name and no time in the header.
        let mut gzip = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::default());
        gzip.write_all(&tar)?;
        let bytes = Bytes::from(gzip.finish()?);
        Ok(Self { bytes, diff_id })
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

    #[test]
    fn the_layer_is_reproducible_and_passes_for_one() {
        let layer = AgentLayer::new(b"\x7fELF agent").unwrap();
        assert_eq!(
            AgentLayer::new(b"\x7fELF agent").unwrap().bytes,
            layer.bytes
        );
        assert_ne!(AgentLayer::new(b"other").unwrap().bytes, layer.bytes);
        let limits = LayerLimits::default();
        let read =
            layer::read(&layer.bytes[..], Some(layer.diff_id), limits, &mut Discard).unwrap();
        assert_eq!((read.entries, read.size), (2, 10));
    }

    #[test]
    fn every_folder_comes_before_what_is_in_it() {
        let layer = AgentLayer::new(b"x").unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&layer.bytes[..]));
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
