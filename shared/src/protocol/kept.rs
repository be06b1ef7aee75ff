//! What stays of a container's files when its environment does not: under
//! [`crate::spec::Runtime::Function`] all that it could write to, `/tmp`, goes into the blob
//! store at its exit and is laid down again for the next run, and for whoever asks for
//! its files meanwhile. A tar archive, compressed with gzip.

use serde::{Deserialize, Serialize};

/// The most bytes of files that are kept of one container, before compression.
pub const MAX_KEPT_BYTES: u64 = 128 * 1024 * 1024;

/// The most entries that are kept of one container.
pub const MAX_KEPT_ENTRIES: u64 = 100_000;

/// Where the files of a container come from and go to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptFiles {
    /// Where to GET the archive that is laid down before anything else happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lay_url: Option<String>,
    /// Where to PUT the archive afterwards; without it, nothing is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_url: Option<String>,
    /// Why the last run's files are not there; a sentence for the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// What was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kept", rename_all = "snake_case")]
pub enum Kept {
    /// There was nothing to keep.
    Nothing,
    /// It is at [`KeptFiles::keep_url`].
    Stored {
        /// Size of the archive in bytes.
        bytes: u64,
    },
    /// It was more than is kept.
    TooMuch {
        /// Bytes of files.
        bytes: u64,
        /// Files and folders.
        entries: u64,
    },
    /// It could not be stored.
    Lost {
        /// Why.
        reason: String,
    },
}

impl Kept {
    /// Why the files are not there, if they are not; a sentence for the client.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        match self {
            Self::Nothing | Self::Stored { .. } => None,
            Self::TooMuch { bytes, entries } => Some(format!(
                "the container's last run left {entries} files of {} MiB below /tmp, and at most {MAX_KEPT_ENTRIES} of {} MiB \
                 are kept under the runtime function: copy them while it runs, or use --runtime microvm",
                bytes.div_ceil(1024 * 1024),
                MAX_KEPT_BYTES / (1024 * 1024),
            )),
            Self::Lost { reason } => Some(format!(
                "what the container's last run left below /tmp was not kept: {reason}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said_with_its_size() {
        assert_eq!(Kept::Nothing.missing(), None);
        assert_eq!(Kept::Stored { bytes: 1 }.missing(), None);
        let much = Kept::TooMuch {
            bytes: 200 * 1024 * 1024 + 1,
            entries: 3,
        };
        let sentence = much.missing().unwrap();
        assert!(sentence.contains("3 files of 201 MiB"), "{sentence}");
        assert!(sentence.contains("of 128 MiB are kept"), "{sentence}");
    }
}
