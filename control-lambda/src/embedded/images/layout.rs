//! Blobs and manifests as an OCI layout: `oci-layout`, `index.json`, `blobs/sha256/…`.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::files::{Doomed, Scratch};
use super::partial::Partial;
use crate::images::digest::Digest;
use crate::images::feed::{self, FeedReader};
use crate::images::manifest::{Descriptor, Index, MAX_MANIFEST_BYTES, media};
use crate::ports::blobs::ByteStream;
use crate::ports::registry::{Expected, Registry, RegistryError, Stored};

const CHUNK_BYTES: usize = 256 * 1024;

/// An OCI layout in a folder. The folder belongs to one process.
#[derive(Debug, Clone)]
pub struct OciLayout {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    scratch: Scratch,
    partial: Partial,
    /// `index.json` is read, changed and replaced by one at a time.
    index: Mutex<()>,
}

impl OciLayout {
    /// Opens the layout, or makes it. What a process that died was storing is removed.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`], with the path.
    pub fn open(root: &Path) -> Result<Self, RegistryError> {
        let make = || -> io::Result<(Scratch, Partial)> {
            fs::create_dir_all(root.join("blobs/sha256"))?;
            let marker = root.join("oci-layout");
            if !marker.exists() {
                fs::write(&marker, r#"{"imageLayoutVersion":"1.0.0"}"#)?;
            }
            let partial = Partial::open(root.join("partial"))?;
            Ok((Scratch::open(root.join("ingest"))?, partial))
        };
        let (scratch, partial) = make().map_err(|e| failed("open", root, &e))?;
        Ok(Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                scratch,
                partial,
                index: Mutex::new(()),
            }),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|e| Err(RegistryError::Unavailable(e.to_string())))
    }

    async fn change_index(
        &self,
        change: impl FnOnce(&mut Index) -> bool + Send + 'static,
    ) -> Result<(), RegistryError> {
        let _one_at_a_time = self.inner.index.lock().await;
        self.blocking(move |inner| {
            let mut index = inner.read_index()?;
            if change(&mut index) {
                inner.write_index(&index)?;
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Registry for OciLayout {
    async fn stat_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let digest = *digest;
        self.blocking(move |inner| inner.stat(&digest)).await
    }

    async fn get_blob(&self, digest: &Digest) -> Result<ByteStream, RegistryError> {
        let digest = *digest;
        let file = self
            .blocking(move |inner| {
                let path = inner.blob(&digest);
                match File::open(&path) {
                    Ok(file) => Ok(file),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        Err(RegistryError::NotFound(digest))
                    }
                    Err(e) => Err(failed("read", &path, &e)),
                }
            })
            .await?;
        Ok(feed::read_out(move || Ok(Box::new(file)), CHUNK_BYTES))
    }

    async fn put_blob(
        &self,
        body: ByteStream,
        expected: Expected,
    ) -> Result<Stored, RegistryError> {
        if let Some(size) = expected.size.filter(|size| *size > expected.limit) {
            tracing::debug!(size, "a blob was refused for its size");
            return Err(RegistryError::TooLarge(expected.limit));
        }
        let inner = Arc::clone(&self.inner);
        feed::run(body, move |reader| inner.store(reader, &expected))
            .await
            .unwrap_or_else(|| Err(RegistryError::Unavailable("storing failed".to_owned())))
    }

    async fn kept_bytes(&self, digest: &Digest) -> Result<u64, RegistryError> {
        let digest = *digest;
        self.blocking(move |inner| inner.partial.kept_bytes(&digest))
            .await
    }

    async fn put_blob_from(
        &self,
        kept: u64,
        body: ByteStream,
        expected: Expected,
    ) -> Result<Stored, RegistryError> {
        if expected.size.is_some_and(|size| size > expected.limit) {
            return Err(RegistryError::TooLarge(expected.limit));
        }
        let inner = Arc::clone(&self.inner);
        feed::run(body, move |reader| {
            let stored = inner.partial.store(kept, reader, &expected)?;
            let target = inner.blob(&stored.digest);
            inner.partial.publish(&stored.digest, &target)?;
            Ok(stored)
        })
        .await
        .unwrap_or_else(|| Err(RegistryError::Unavailable("storing failed".to_owned())))
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<(), RegistryError> {
        let digest = *digest;
        self.blocking(move |inner| inner.delete(&digest)).await
    }

    async fn list_blobs(&self) -> Result<Vec<Digest>, RegistryError> {
        let manifests = self.list_manifests().await?;
        let mut blobs = self
            .blocking(|inner| {
                let folder = inner.root.join("blobs/sha256");
                let list = || -> io::Result<Vec<Digest>> {
                    let mut digests = Vec::new();
                    for entry in fs::read_dir(&folder)? {
                        let name = entry?.file_name();
                        // What is not named as a blob is not ours.
                        if let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse() {
                            digests.push(digest);
                        }
                    }
                    Ok(digests)
                };
                list().map_err(|e| failed("list", &folder, &e))
            })
            .await?;
        blobs.retain(|blob| !manifests.contains(blob));
        Ok(blobs)
    }

    async fn put_manifest(&self, media_type: &str, bytes: Bytes) -> Result<Digest, RegistryError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge(MAX_MANIFEST_BYTES as u64));
        }
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        let expected = Expected {
            digest: Some(descriptor.digest),
            size: Some(descriptor.size),
            limit: MAX_MANIFEST_BYTES as u64,
        };
        self.put_blob(feed::once(bytes), expected).await?;
        let digest = descriptor.digest;
        self.change_index(move |index| {
            let known = index.manifests.iter().any(|m| m.digest == digest);
            if !known {
                index.manifests.push(descriptor);
            }
            !known
        })
        .await?;
        Ok(digest)
    }

    async fn get_manifest(&self, digest: &Digest) -> Result<(String, Bytes), RegistryError> {
        let digest = *digest;
        self.blocking(move |inner| {
            let index = inner.read_index()?;
            let descriptor = index
                .manifests
                .into_iter()
                .find(|m| m.digest == digest)
                .ok_or(RegistryError::NotFound(digest))?;
            let path = inner.blob(&digest);
            let bytes = fs::read(&path).map_err(|e| failed("read", &path, &e))?;
            Ok((descriptor.media_type, Bytes::from(bytes)))
        })
        .await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<(), RegistryError> {
        let digest = *digest;
        // The index first: an entry without its blob would be a broken layout.
        self.change_index(move |index| {
            let before = index.manifests.len();
            index.manifests.retain(|m| m.digest != digest);
            index.manifests.len() != before
        })
        .await?;
        self.delete_blob(&digest).await
    }

    async fn list_manifests(&self) -> Result<Vec<Digest>, RegistryError> {
        self.blocking(|inner| {
            let index = inner.read_index()?;
            Ok(index.manifests.iter().map(|m| m.digest).collect())
        })
        .await
    }
}

impl Inner {
    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    fn stat(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let path = self.blob(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("look up", &path, &e)),
        }
    }

    fn delete(&self, digest: &Digest) -> Result<(), RegistryError> {
        let path = self.blob(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, &e)),
            _ => Ok(()),
        }
    }

    /// Reads to the end, then gives the file its name.
    fn store(&self, reader: FeedReader, expected: &Expected) -> Result<Stored, RegistryError> {
        let temporary = Doomed::new(&self.scratch);
        let path = temporary.path();
        let mut file = File::create_new(path).map_err(|e| failed("write", path, &e))?;
        let stored = copy(reader, &mut file, path, (Sha256::new(), 0), expected)?;
        let target = self.blob(&stored.digest);
        fs::rename(path, &target).map_err(|e| failed("store", &target, &e))?;
        temporary.keep();
        Ok(stored)
    }

    fn read_index(&self) -> Result<Index, RegistryError> {
        let path = self.root.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                RegistryError::Unavailable(format!(
                    "{} is damaged ({e}); restore it, or remove the folder and load the images again",
                    path.display()
                ))
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Index {
                schema_version: 2,
                media_type: media::OCI_INDEX.to_owned(),
                manifests: Vec::new(),
            }),
            Err(e) => Err(failed("read", &path, &e)),
        }
    }

    fn write_index(&self, index: &Index) -> Result<(), RegistryError> {
        let path = self.root.join("index.json");
        let write = || -> io::Result<()> {
            let temporary = Doomed::new(&self.scratch);
            let mut file = File::create_new(temporary.path())?;
            file.write_all(&serde_json::to_vec(index)?)?;
            file.sync_data()?;
            fs::rename(temporary.path(), &path)?;
            temporary.keep();
            Ok(())
        };
        write().map_err(|e| failed("write", &path, &e))
    }
}

/// Reads to the end, and checks. `begun` is the hash and the number of the bytes that are
/// in the file already.
pub(super) fn copy(
    mut reader: impl Read,
    file: &mut File,
    path: &Path,
    begun: (Sha256, u64),
    expected: &Expected,
) -> Result<Stored, RegistryError> {
    let cannot = |e: &io::Error| failed("write", path, e);
    let (mut hash, mut size) = begun;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) => return Err(RegistryError::Interrupted(e.to_string())),
        };
        size += read as u64;
        if size > expected.limit {
            return Err(RegistryError::TooLarge(expected.limit));
        }
        if let Some(announced) = expected.size.filter(|announced| size > *announced) {
            return Err(RegistryError::WrongSize {
                expected: announced,
                actual: size,
            });
        }
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(|e| cannot(&e))?;
    }
    let digest = Digest::from_hash(hash);
    match (expected.size, expected.digest) {
        (Some(expected), _) if expected != size => {
            return Err(RegistryError::WrongSize {
                expected,
                actual: size,
            });
        }
        (_, Some(expected)) if expected != digest => {
            return Err(RegistryError::WrongDigest {
                expected,
                actual: digest,
            });
        }
        _ => {}
    }
    // A name must never stand for bytes that a power failure took away.
    file.sync_data().map_err(|e| cannot(&e))?;
    Ok(Stored { digest, size })
}

pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> RegistryError {
    RegistryError::Unavailable(format!("cannot {what} {}: {error}", path.display()))
}
