//! A place for images of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use sockerless_control::embedded::images::{LayerFolders, OciLayout, Rootfs};
use sockerless_control::embedded::table::SqliteTable;
use sockerless_control::images::catalog::Catalog;
use sockerless_control::images::layer::LayerLimits;
use sockerless_control::images::load::LoadError;
use sockerless_control::images::platform::Platform;
use sockerless_control::images::progress::Message;
use sockerless_control::images::{ImageLimits, Images};
use sockerless_control::ports::blobs::ByteStream;
use sockerless_control::ports::{Environment, Registry};
use sockerless_shared::ids::Namespace;
use sockerless_shared::timestamp::Timestamp;

/// A clock that goes on by a second with every look.
struct Clock(AtomicI64);

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) images: Images,
    pub(crate) rootfs: Rootfs,
    pub(crate) namespace: Namespace,
}

pub(crate) fn place() -> Place {
    place_with(LayerLimits::default())
}

pub(crate) fn place_with(layer: LayerLimits) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let registry: Arc<dyn Registry> =
        Arc::new(OciLayout::open(&folder.path().join("images")).unwrap());
    let layers = LayerFolders::open(&folder.path().join("layers"), layer).unwrap();
    let rootfs = Rootfs::new(Arc::clone(&registry), layers.clone());
    let images = Images::new(
        Catalog::new(Arc::new(SqliteTable::in_memory().unwrap())),
        registry,
        Arc::new(layers),
        Arc::new(Clock(AtomicI64::new(0))),
        Platform::of("linux", "amd64", ""),
        ImageLimits { layer },
    );
    Place {
        folder,
        images,
        rootfs,
        namespace: "test".parse().unwrap(),
    }
}

impl Place {
    pub(crate) async fn load(&self, archive: &[u8]) -> Result<Vec<Message>, LoadError> {
        let mut messages = Vec::new();
        self.images
            .load(&self.namespace, body(archive), None, true, &mut messages)
            .await
            .map(|()| messages)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.images.environment.now()
    }

    /// The text of the streams of a load.
    pub(crate) async fn loaded(&self, archive: &[u8]) -> String {
        let messages = self.load(archive).await.unwrap();
        messages.into_iter().map(|m| m.stream).collect()
    }

    /// The unpacked layers of a loaded image, lowest first.
    pub(crate) async fn layers_of(&self, name: &str) -> Vec<PathBuf> {
        let image = self
            .images
            .catalog
            .resolve(&self.namespace, name, self.now())
            .await
            .unwrap();
        self.rootfs.layers(&image.id.into()).await.unwrap()
    }

    /// Everything that is stored, after the collection that follows a failure.
    pub(crate) async fn leftovers(&self) -> Vec<String> {
        self.images.collect_garbage().await.unwrap();
        let mut names = Vec::new();
        for folder in [
            "images/ingest",
            "images/blobs/sha256",
            "layers",
            "layers/unpacking",
        ] {
            for entry in std::fs::read_dir(self.folder.path().join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name != "unpacking" {
                    names.push(format!("{folder}/{name}"));
                }
            }
        }
        names
    }
}

/// In pieces that fit no boundary.
pub(crate) fn body(bytes: &[u8]) -> ByteStream {
    let bytes = Bytes::copy_from_slice(bytes);
    let pieces: Vec<_> = bytes.chunks(7777).map(|c| Ok(bytes.slice_ref(c))).collect();
    Box::pin(futures_util::stream::iter(pieces))
}

/// Some bytes, and then nothing more, ever.
pub(crate) fn stuck(bytes: &[u8]) -> ByteStream {
    Box::pin(body(bytes).chain(futures_util::stream::pending()))
}
