//! Layers: reading a tar stream that nobody has vouched for.
//!
//! [`read`] turns the bytes of a layer, compressed or not, into calls on a
//! [`LayerSink`]. It touches no file system, so that the same reader checks
//! layers where they are unpacked and where they are not, and so that a fuzzer
//! can call it.

pub mod compression;
pub mod path;
mod reader;
pub mod repack;
pub mod sink;
pub mod strict;

pub use path::LayerPath;
pub(crate) use reader::tar_error;
pub use reader::{LayerRead, read};
pub use sink::{Attributes, Discard, LayerSink};

use thiserror::Error;

use super::digest::DiffId;

/// Reads a layer and keeps nothing of it: for checks, and for fuzzing.
///
/// # Errors
/// See [`LayerError`].
pub fn check(bytes: &[u8]) -> Result<LayerRead, LayerError> {
    let limits = LayerLimits {
        unpacked_bytes: 64 * 1024 * 1024,
        entries: 10_000,
    };
    read(bytes, None, limits, &mut Discard)
}

/// What a layer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerLimits {
    /// Most bytes of the uncompressed tar stream, and of the files in it (holes
    /// count as if they were written).
    pub unpacked_bytes: u64,
    /// Most entries.
    pub entries: u64,
}

impl Default for LayerLimits {
    /// 10 GiB, which is the most that Lambda takes as an image, and 500,000 entries.
    fn default() -> Self {
        Self {
            unpacked_bytes: 10 * 1024 * 1024 * 1024,
            entries: 500_000,
        }
    }
}

/// Why a layer was not taken. Where Docker has words for it, they are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayerError {
    /// The bytes ended or failed before the layer did.
    #[error("{0}")]
    Interrupted(String),
    /// Not gzip, zstd or tar, or damaged.
    #[error("{0}")]
    Corrupt(String),
    /// A name that leads out of the image.
    #[error("invalid entry name {0:?}")]
    Outside(String),
    /// A hard link that leads out of the image.
    #[error("invalid hardlink target {0:?}")]
    HardLinkOutside(String),
    /// A hard link to something that the layer does not have.
    #[error("linkat {target} {path}: no such file or directory")]
    HardLinkTarget {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// A whiteout of nothing.
    #[error("invalid whiteout entry {0:?}")]
    Whiteout(String),
    /// A name that no file may have.
    #[error("layer entry {0:?} has a name that no file can have")]
    Name(String),
    /// Unpacks to too much.
    #[error("layer unpacks to more than {0} bytes, the most that is allowed")]
    TooLarge(u64),
    /// Too many entries.
    #[error("layer has more than {0} entries, the most that is allowed")]
    TooManyEntries(u64),
    /// Not the content that the image's config names.
    #[error(
        "layer's content has the digest {actual} and not {expected}, which the image's config names"
    )]
    WrongDiffId {
        /// What the config says.
        expected: DiffId,
        /// What it is.
        actual: DiffId,
    },
    /// Where it was to be unpacked to failed.
    #[error("layer cannot be unpacked: {0}")]
    Storage(String),
    /// No such layer.
    #[error("layer {0} is not unpacked here; load or pull the image again")]
    NotFound(DiffId),
}
