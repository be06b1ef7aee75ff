//! Where the entries of a layer go.

use super::{LayerError, LayerPath};

/// Owner, mode, time and extended attributes of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since the epoch.
    pub mtime_s: i64,
    /// And nanoseconds.
    pub mtime_ns: u32,
    /// Names and values. Those that mean something to overlay file systems are
    /// never among them, nor those that a container has no business with.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Takes a layer's entries, in the order of the stream. The paths are clean, but
/// say nothing of the symbolic links that earlier entries made: an
/// implementation that writes must resolve within its root.
pub trait LayerSink {
    /// A directory; the root itself has an empty path.
    ///
    /// # Errors
    /// [`LayerError::Storage`]; so do all the others.
    fn directory(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), LayerError>;

    /// A file of `size` bytes begins. Its bytes follow; where none follow are holes.
    ///
    /// # Errors
    /// See above.
    fn file(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        size: u64,
    ) -> Result<(), LayerError>;

    /// Bytes of the file that began last, at an offset within its size.
    ///
    /// # Errors
    /// See above.
    fn file_data(&mut self, offset: u64, data: &[u8]) -> Result<(), LayerError>;

    /// The file that began last is complete.
    ///
    /// # Errors
    /// See above.
    fn file_end(&mut self) -> Result<(), LayerError>;

    /// A symbolic link; `target` is to be stored as it is.
    ///
    /// # Errors
    /// See above.
    fn symlink(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        target: &[u8],
    ) -> Result<(), LayerError>;

    /// Another name for an entry of this layer.
    ///
    /// # Errors
    /// [`LayerError::HardLinkTarget`] when there is no such entry.
    fn hard_link(&mut self, path: &LayerPath, target: &LayerPath) -> Result<(), LayerError>;

    /// A named pipe.
    ///
    /// # Errors
    /// See above.
    fn fifo(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), LayerError>;

    /// Hides what lower layers have at this path.
    ///
    /// # Errors
    /// See above.
    fn whiteout(&mut self, path: &LayerPath) -> Result<(), LayerError>;

    /// Hides everything that lower layers have in this directory.
    ///
    /// # Errors
    /// See above.
    fn opaque(&mut self, directory: &LayerPath) -> Result<(), LayerError>;

    /// An entry that no container is to have: a device, or bookkeeping of an old storage
    /// driver.
    ///
    /// # Errors
    /// See above.
    fn left_out(&mut self, _path: &LayerPath) -> Result<(), LayerError> {
        Ok(())
    }

    /// The stream is complete and its digest is right.
    ///
    /// # Errors
    /// See above.
    fn finish(&mut self) -> Result<(), LayerError>;
}

/// Takes everything and keeps nothing: for checking a layer.
#[derive(Debug, Default)]
pub struct Discard;

impl LayerSink for Discard {
    fn directory(&mut self, _: &LayerPath, _: &Attributes) -> Result<(), LayerError> {
        Ok(())
    }
    fn file(&mut self, _: &LayerPath, _: &Attributes, _: u64) -> Result<(), LayerError> {
        Ok(())
    }
    fn file_data(&mut self, _: u64, _: &[u8]) -> Result<(), LayerError> {
        Ok(())
    }
    fn file_end(&mut self) -> Result<(), LayerError> {
        Ok(())
    }
    fn symlink(&mut self, _: &LayerPath, _: &Attributes, _: &[u8]) -> Result<(), LayerError> {
        Ok(())
    }
    fn hard_link(&mut self, _: &LayerPath, _: &LayerPath) -> Result<(), LayerError> {
        Ok(())
    }
    fn fifo(&mut self, _: &LayerPath, _: &Attributes) -> Result<(), LayerError> {
        Ok(())
    }
    fn whiteout(&mut self, _: &LayerPath) -> Result<(), LayerError> {
        Ok(())
    }
    fn opaque(&mut self, _: &LayerPath) -> Result<(), LayerError> {
        Ok(())
    }
    fn finish(&mut self) -> Result<(), LayerError> {
        Ok(())
    }
}
