//! Unpacked layers, one folder each, shared by all images that have them.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rustix::fs::XattrFlags;
use serde::{Deserialize, Serialize};

use super::files::{Doomed, Scratch, remove_tree};
use super::unpack::Unpacker;
use crate::images::digest::DiffId;
use crate::images::feed;
use crate::images::layer::{self, LayerError, LayerLimits};
use crate::ports::Layers;
use crate::ports::blobs::ByteStream;

/// How many hex digits of a layer's digest name its folder: short, because
/// overlay takes the names of all lower directories in one page of text.
const NAME_DIGITS: usize = 26;

/// Where overlay looks for its own attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayXattr {
    /// `trusted.overlay.*`: for root.
    Trusted,
    /// `user.overlay.*`, with the mount option `userxattr`: for everybody else.
    User,
}

impl OverlayXattr {
    /// The attribute of a directory that shows nothing of lower layers.
    #[must_use]
    pub fn opaque_name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// Unpacked layers: `<root>/<short id>/` is a lower directory of overlay, and
/// `<root>/<short id>.json` says which layer it is. The folder belongs to one process.
#[derive(Debug, Clone)]
pub struct LayerFolders {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    scratch: Scratch,
    xattr: OverlayXattr,
    limits: LayerLimits,
    /// A folder and what stands beside it appear and go together.
    publishing: Mutex<()>,
}

/// What stands beside a layer's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    diff_id: DiffId,
    size: u64,
}

impl LayerFolders {
    /// Opens the folder, or makes it. What a process that died was unpacking is removed.
    ///
    /// # Errors
    /// [`LayerError::Storage`], with the path.
    pub fn open(root: &Path, limits: LayerLimits) -> Result<Self, LayerError> {
        let make = || -> io::Result<Inner> {
            fs::create_dir_all(root)?;
            let scratch = Scratch::open(root.join("unpacking"))?;
            Ok(Inner {
                root: root.to_owned(),
                xattr: probe_xattr(scratch.path()),
                scratch,
                limits,
                publishing: Mutex::new(()),
            })
        };
        let inner = make().map_err(|e| failed("open", root, &e))?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Which attributes these layers have, and so how they must be mounted.
    #[must_use]
    pub fn overlay_xattr(&self) -> OverlayXattr {
        self.inner.xattr
    }

    /// The folder of a layer.
    ///
    /// # Errors
    /// [`LayerError::NotFound`] when it is not there.
    pub async fn folder(&self, layer: &DiffId) -> Result<PathBuf, LayerError> {
        match self.stat(layer).await? {
            Some(_) => Ok(self.inner.folder(layer)),
            None => Err(LayerError::NotFound(*layer)),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, LayerError> + Send + 'static,
    ) -> Result<T, LayerError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|e| Err(LayerError::Storage(e.to_string())))
    }
}

#[async_trait]
impl Layers for LayerFolders {
    async fn stat(&self, layer: &DiffId) -> Result<Option<u64>, LayerError> {
        let layer = *layer;
        self.blocking(move |inner| inner.stat(&layer)).await
    }

    async fn add(&self, layer: &DiffId, body: ByteStream) -> Result<u64, LayerError> {
        let layer = *layer;
        let inner = Arc::clone(&self.inner);
        feed::run(body, move |reader| inner.unpack(&layer, reader))
            .await
            .unwrap_or_else(|| Err(LayerError::Storage("unpacking failed".to_owned())))
    }

    async fn remove(&self, layer: &DiffId) -> Result<(), LayerError> {
        let layer = *layer;
        self.blocking(move |inner| inner.remove(&layer)).await
    }

    async fn list(&self) -> Result<Vec<DiffId>, LayerError> {
        self.blocking(Inner::list).await
    }
}

impl Inner {
    fn folder(&self, layer: &DiffId) -> PathBuf {
        self.root.join(&layer.0.hex()[..NAME_DIGITS])
    }

    fn facts(&self, layer: &DiffId) -> PathBuf {
        self.folder(layer).with_extension("json")
    }

    fn stat(&self, layer: &DiffId) -> Result<Option<u64>, LayerError> {
        if !self.folder(layer).is_dir() {
            return Ok(None);
        }
        let path = self.facts(layer);
        let facts = read_facts(&path)?;
        if facts.diff_id == *layer {
            Ok(Some(facts.size))
        } else {
            Err(LayerError::Storage(format!(
                "{} holds the layer {}, whose name begins like that of {layer}; remove the one image to have the other",
                path.display(),
                facts.diff_id
            )))
        }
    }

    fn unpack(&self, layer: &DiffId, reader: impl Read + Send) -> Result<u64, LayerError> {
        if let Some(size) = self.stat(layer)? {
            layer::read(reader, Some(*layer), self.limits, &mut layer::Discard)?;
            return Ok(size);
        }
        let temporary = Doomed::new(&self.scratch);
        let path = temporary.path();
        let cannot = |e: io::Error| failed("unpack to", path, &e);
        fs::create_dir(path).map_err(cannot)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(cannot)?;
        let mut unpacker = Unpacker::new(path, &self.scratch, self.xattr).map_err(cannot)?;
        let read = layer::read(reader, Some(*layer), self.limits, &mut unpacker);
        for replaced in unpacker.take_trash() {
            remove_tree(&replaced, &self.scratch).map_err(cannot)?;
        }
        let size = read?.size;
        // The folder makes the layer be there, so it comes last.
        let facts = Facts {
            diff_id: *layer,
            size,
        };
        let _publishing = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.write_facts(layer, &facts)
            .map_err(|e| failed("write", &self.facts(layer), &e))?;
        let folder = self.folder(layer);
        match fs::rename(path, &folder) {
            Ok(()) => temporary.keep(),
            // Somebody else was faster with the same layer.
            Err(_) if folder.is_dir() => {}
            Err(e) => return Err(failed("store", &folder, &e)),
        }
        self.stat(layer)?.ok_or(LayerError::NotFound(*layer))
    }

    fn write_facts(&self, layer: &DiffId, facts: &Facts) -> io::Result<()> {
        let path = self.facts(layer);
        if self.folder(layer).is_dir() {
            return Ok(());
        }
        let temporary = Doomed::new(&self.scratch);
        fs::write(temporary.path(), serde_json::to_vec(facts)?)?;
        fs::rename(temporary.path(), path)?;
        temporary.keep();
        Ok(())
    }

    fn remove(&self, layer: &DiffId) -> Result<(), LayerError> {
        let folder = self.folder(layer);
        let doomed = Doomed::new(&self.scratch);
        let _publishing = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.stat(layer)?.is_none() {
            return Ok(());
        }
        // At once out of sight, whole.
        match fs::rename(&folder, doomed.path()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed("remove", &folder, &e)),
        }
        let facts = self.facts(layer);
        fs::remove_file(&facts).map_err(|e| failed("remove", &facts, &e))
    }

    fn list(&self) -> Result<Vec<DiffId>, LayerError> {
        let cannot = |e: io::Error| failed("list", &self.root, &e);
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            if path.extension().is_some_and(|e| e == "json") {
                let facts = read_facts(&path)?;
                if self.folder(&facts.diff_id).is_dir() {
                    layers.push(facts.diff_id);
                }
            }
        }
        Ok(layers)
    }
}

fn read_facts(path: &Path) -> Result<Facts, LayerError> {
    let bytes = fs::read(path).map_err(|e| failed("read", path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| failed("understand", path, &e.into()))
}

/// Root outside of a user namespace may set trusted attributes; nobody else may.
fn probe_xattr(folder: &Path) -> OverlayXattr {
    let trusted = OverlayXattr::Trusted;
    match rustix::fs::setxattr(folder, trusted.opaque_name(), b"y", XattrFlags::empty()) {
        Ok(()) => trusted,
        Err(_) => OverlayXattr::User,
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> LayerError {
    LayerError::Storage(format!("cannot {what} {}: {error}", path.display()))
}
