//! What Lambda's unpacker takes, which is less than Docker's.
//!
//! Every folder must be an entry of its own before what is in it, there are no devices, and
//! files have no holes. Source: observed by many; Lambda's own words are
//! `InvalidImage: MissingParentDirectory`.

use std::collections::HashSet;

use super::{Attributes, LayerError, LayerPath, LayerSink};

/// Sees whether a layer breaks a rule.
#[derive(Debug, Default)]
pub struct Strict {
    folders: HashSet<LayerPath>,
    /// Everything that a hard link may name.
    files: HashSet<LayerPath>,
    begun: u64,
    breaks: bool,
}

impl Strict {
    /// Whether it does.
    #[must_use]
    pub const fn breaks(&self) -> bool {
        self.breaks
    }

    fn below_its_parent(&mut self, path: &LayerPath) {
        let parent = path.parent();
        if !parent.is_root() && !self.folders.contains(&parent) {
            self.breaks = true;
        }
    }

    fn named(&mut self, path: &LayerPath) {
        self.below_its_parent(path);
        self.files.insert(path.clone());
    }
}

impl LayerSink for Strict {
    fn directory(&mut self, path: &LayerPath, _: &Attributes) -> Result<(), LayerError> {
        self.below_its_parent(path);
        self.folders.insert(path.clone());
        Ok(())
    }

    fn file(&mut self, path: &LayerPath, _: &Attributes, size: u64) -> Result<(), LayerError> {
        self.named(path);
        self.begun = size;
        Ok(())
    }

    fn file_data(&mut self, _: u64, data: &[u8]) -> Result<(), LayerError> {
        self.begun = self.begun.saturating_sub(data.len() as u64);
        Ok(())
    }

    fn file_end(&mut self) -> Result<(), LayerError> {
        self.breaks |= self.begun > 0;
        Ok(())
    }

    fn symlink(&mut self, path: &LayerPath, _: &Attributes, _: &[u8]) -> Result<(), LayerError> {
        self.named(path);
        Ok(())
    }

    fn hard_link(&mut self, path: &LayerPath, target: &LayerPath) -> Result<(), LayerError> {
        if !self.files.contains(target) {
            return Err(LayerError::HardLinkTarget {
                path: path.to_string(),
                target: target.to_string(),
            });
        }
        self.named(path);
        Ok(())
    }

    fn fifo(&mut self, path: &LayerPath, _: &Attributes) -> Result<(), LayerError> {
        self.named(path);
        Ok(())
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        self.below_its_parent(path);
        Ok(())
    }

    fn opaque(&mut self, directory: &LayerPath) -> Result<(), LayerError> {
        if !directory.is_root() && !self.folders.contains(directory) {
            self.breaks = true;
        }
        Ok(())
    }

    fn left_out(&mut self, _: &LayerPath) -> Result<(), LayerError> {
        self.breaks = true;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        Ok(())
    }
}
