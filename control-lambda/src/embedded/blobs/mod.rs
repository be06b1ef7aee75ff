//! The blob store in a folder.
//!
//! A body is written to a file of its own in `incoming/` and renamed to its
//! place under `stored/` when it is complete, so that a reader sees the whole
//! of one body or of another. What an interrupted process left in `incoming/`
//! is removed when the store is opened. Renamed files survive the death of this
//! process; nothing waits for the disk, so they need not survive a power cut.

mod path;
mod url;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream;
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::timestamp::Timestamp;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::RwLock;

use crate::ports::blobs::{BlobError, BlobName, ByteStream};
use crate::ports::{Blobs, Environment};

pub use url::{UrlError, UrlMethod};

/// Bodies are read in pieces of this many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// [`Blobs`] in a folder.
pub struct FolderBlobs {
    incoming: PathBuf,
    stored: PathBuf,
    base_url: String,
    key: Key,
    environment: Arc<dyn Environment>,
    /// Written by whoever removes empty folders, read by whoever makes one to
    /// put a file there.
    folders: RwLock<()>,
}

impl FolderBlobs {
    /// Opens the store in `folder`, making it (mode 0700) if it does not exist,
    /// and removes what interrupted uploads left there.
    ///
    /// `base_url` is what comes before `/<name>` in signed URLs, as seen from
    /// inside a function. `key` signs them; those signed with another key are
    /// not accepted.
    ///
    /// # Errors
    /// When the folder cannot be made or cleaned.
    pub fn open(
        folder: &Path,
        base_url: &str,
        key: Key,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, BlobError> {
        let (incoming, stored) = (folder.join("incoming"), folder.join("stored"));
        let prepare = || {
            match std::fs::remove_dir_all(&incoming) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            path::make_private_folder(folder)?;
            path::make_private_folder(&incoming)?;
            path::make_private_folder(&stored)
        };
        prepare().map_err(|error| {
            BlobError::Unavailable(format!("cannot prepare {}: {error}", folder.display()))
        })?;
        Ok(Self {
            incoming,
            stored,
            base_url: base_url.trim_end_matches('/').to_owned(),
            key,
            environment,
            folders: RwLock::default(),
        })
    }

    fn place(&self, name: &BlobName) -> PathBuf {
        self.stored.join(path::relative(name))
    }

    /// A file in `incoming/` that is removed again unless it is put into its place.
    async fn begin(&self) -> io::Result<(File, Incoming)> {
        let name = hex(self.environment.random::<16>());
        let incoming = Incoming(Some(self.incoming.join(name)));
        let file = File::create_new(incoming.path()).await?;
        Ok((file, incoming))
    }
}

#[async_trait]
impl Blobs for FolderBlobs {
    async fn put(
        &self,
        name: &BlobName,
        mut body: ByteStream,
        limit: u64,
    ) -> Result<u64, BlobError> {
        let failed = |error| failed("store", name, &error);
        let (mut file, incoming) = self.begin().await.map_err(failed)?;
        let mut size = 0u64;
        while let Some(piece) = body.next().await {
            let piece = piece?;
            size = size.saturating_add(piece.len() as u64);
            if size > limit {
                return Err(BlobError::TooLarge(limit));
            }
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        drop(file);
        let _no_folder_vanishes = self.folders.read().await;
        incoming.move_to(&self.place(name)).await.map_err(failed)?;
        Ok(size)
    }

    async fn get(&self, name: &BlobName) -> Result<ByteStream, BlobError> {
        let file = File::open(self.place(name)).await.map_err(|error| {
            if is_absence(&error) {
                BlobError::NotFound(name.as_str().to_owned())
            } else {
                failed("read", name, &error)
            }
        })?;
        let name = name.clone();
        let pieces = stream::try_unfold((file, name), |(mut file, name)| async move {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            let read = file
                .read_buf(&mut piece)
                .await
                .map_err(|error| failed("read", &name, &error))?;
            Ok((read > 0).then(|| (piece.freeze(), (file, name))))
        });
        Ok(Box::pin(pieces))
    }

    async fn delete(&self, name: &BlobName) -> Result<(), BlobError> {
        let place = self.place(name);
        match fs::remove_file(&place).await {
            Ok(()) => {}
            Err(error) if is_absence(&error) => return Ok(()),
            Err(error) => return Err(failed("delete", name, &error)),
        }
        let _no_folder_is_needed = self.folders.write().await;
        // Folders are removed as far up as they are empty; the first that is not says so.
        let mut folder = place.parent();
        while let Some(empty) = folder.filter(|folder| *folder != self.stored) {
            if fs::remove_dir(empty).await.is_err() {
                break;
            }
            folder = empty.parent();
        }
        Ok(())
    }

    async fn upload_url(&self, name: &BlobName, expires: Timestamp) -> Result<String, BlobError> {
        Ok(self.signed_url(UrlMethod::Put, name, expires))
    }

    async fn download_url(&self, name: &BlobName, expires: Timestamp) -> Result<String, BlobError> {
        Ok(self.signed_url(UrlMethod::Get, name, expires))
    }
}

/// A file on its way.
struct Incoming(Option<PathBuf>);

impl Incoming {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or_else(|| Path::new(""))
    }

    async fn move_to(mut self, place: &Path) -> io::Result<()> {
        if let Some(folder) = place.parent() {
            path::make_private_folders(folder).await?;
        }
        fs::rename(self.path(), place).await?;
        self.0 = None;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(
                path = %path.display(),
                %error,
                "an interrupted upload could not be removed; it will be at the next start"
            );
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn failed(what: &str, name: &BlobName, error: &io::Error) -> BlobError {
    BlobError::Unavailable(format!("cannot {what} {}: {error}", name.as_str()))
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}
