//! Layers compressed anew with gzip, which everybody takes.

use std::io::{self, Read as _, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compression as Level, GzBuilder};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::digest::{DiffId, Digest};
use super::feed;
use super::layer::compression::decoder;
use super::layer::repack::Repack;
use super::layer::{self, LayerError, LayerLimits};
use super::manifest::{Descriptor, media};
use crate::ports::Registry;
use crate::ports::blobs::{BlobError, ByteStream};
use crate::ports::registry::{Expected, RegistryError};

const CHUNK_BYTES: usize = 256 * 1024;

/// Whether a layer of this media type is compressed with gzip.
#[must_use]
pub fn is_gzip(media_type: &str) -> bool {
    matches!(media_type, media::OCI_LAYER_GZIP | media::DOCKER_LAYER_GZIP)
}

/// Whether a layer of this media type is a mere tar.
#[must_use]
pub fn is_plain(media_type: &str) -> bool {
    matches!(media_type, media::OCI_LAYER | media::DOCKER_LAYER)
}

/// Stores the same content with gzip, as it comes: never whole in memory. The same
/// content gives the same bytes.
///
/// # Errors
/// Those of the registry; [`RegistryError::Interrupted`] for what cannot be decompressed.
pub async fn to_gzip(
    registry: &dyn Registry,
    blob: &Digest,
    limits: LayerLimits,
) -> Result<Descriptor, RegistryError> {
    let body = registry.get_blob(blob).await?;
    let expected = Expected {
        digest: None,
        size: None,
        // What gzip adds to content that cannot be compressed is less than a thousandth.
        limit: limits
            .unpacked_bytes
            .saturating_add(limits.unpacked_bytes / 512),
    };
    let stored = registry
        .put_blob(gzipped(body, limits.unpacked_bytes), expected)
        .await?;
    Ok(Descriptor::new(
        media::OCI_LAYER_GZIP,
        stored.digest,
        stored.size,
    ))
}

/// A layer made to keep the rules of Lambda's unpacker, as gzip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repacked {
    /// Its blob.
    pub blob: Descriptor,
    /// What a config names it by.
    pub layer: DiffId,
}

/// Stores a layer written anew ([`Repack`]), as it comes.
///
/// # Errors
/// Those of the registry; [`RegistryError::Interrupted`] for what is no layer.
pub async fn repacked(
    registry: &dyn Registry,
    blob: &Digest,
    layer: DiffId,
    limits: LayerLimits,
) -> Result<Repacked, RegistryError> {
    let body = registry.get_blob(blob).await?;
    let (tell, told) = tokio::sync::oneshot::channel();
    let body = piped(body, move |reader, pieces| {
        let mut repack = Repack::new(Hashed {
            hash: Sha256::new(),
            out: gzip(pieces),
        });
        layer::read(reader, Some(layer), limits, &mut repack)?;
        let Hashed { hash, out } = repack.into_inner();
        out.finish()?.end();
        let _ = tell.send(DiffId(Digest::from_hash(hash)));
        Ok(())
    });
    let expected = Expected {
        digest: None,
        size: None,
        // An entry for each folder, and zeroes for holes.
        limit: limits.unpacked_bytes.saturating_mul(2),
    };
    let stored = registry.put_blob(body, expected).await?;
    let layer = told
        .await
        .map_err(|_| RegistryError::Interrupted("packing a layer failed".to_owned()))?;
    Ok(Repacked {
        blob: Descriptor::new(media::OCI_LAYER_GZIP, stored.digest, stored.size),
        layer,
    })
}

/// The content of a body, compressed or not, as gzip.
#[must_use]
pub fn gzipped(body: ByteStream, limit: u64) -> ByteStream {
    piped(body, move |reader, pieces| {
        let mut tar = decoder(reader)?;
        let mut gzip = gzip(pieces);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut total = 0u64;
        loop {
            let read = tar.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            if total > limit {
                return Err(LayerError::TooLarge(limit).into());
            }
            gzip.write_all(&buffer[..read])?;
        }
        gzip.finish()?.end();
        Ok(())
    })
}

/// No file name and no time in the header.
fn gzip(pieces: Pieces) -> GzEncoder<Pieces> {
    GzBuilder::new().mtime(0).write(pieces, Level::fast())
}

type Failure = Box<dyn std::error::Error>;

/// A body of what `work`, on a thread that may block, makes of another.
fn piped(
    body: ByteStream,
    work: impl FnOnce(feed::FeedReader, Pieces) -> Result<(), Failure> + Send + 'static,
) -> ByteStream {
    let (sender, receiver) = mpsc::channel(4);
    let (failed, closed) = (sender.clone(), sender.clone());
    let work = feed::run(body, move |reader| {
        if let Err(error) = work(reader, Pieces::new(sender)) {
            let _ = failed.blocking_send(Err(BlobError::Interrupted(error.to_string())));
        }
    });
    tokio::spawn(async move {
        // Nobody reads any more: dropping the work ends it.
        tokio::select! {
            _ = work => {}
            () = closed.closed() => {}
        }
    });
    feed::receive(receiver)
}

/// A writer into a body.
struct Pieces {
    sender: mpsc::Sender<Result<Bytes, BlobError>>,
    piece: Vec<u8>,
}

impl Pieces {
    fn new(sender: mpsc::Sender<Result<Bytes, BlobError>>) -> Self {
        Self {
            sender,
            piece: Vec::with_capacity(CHUNK_BYTES),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(CHUNK_BYTES));
        let sent = self.sender.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// What is left.
    fn end(mut self) {
        if !self.piece.is_empty() {
            // Nobody reads any more, which is no error.
            let _ = self.send();
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that knows the hash of what went through it.
struct Hashed<W> {
    hash: Sha256,
    out: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    async fn all(body: ByteStream) -> Result<Vec<u8>, BlobError> {
        let pieces: Vec<Bytes> = body.try_collect().await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn every_compression_becomes_the_same_gzip() {
        let tar: Vec<u8> = (0..3_000_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let plain = all(gzipped(feed::once(tar.clone().into()), 1 << 30))
            .await
            .unwrap();
        let zstd = zstd::encode_all(&tar[..], 1).unwrap();
        let from_zstd = all(gzipped(feed::once(zstd.into()), 1 << 30))
            .await
            .unwrap();
        assert_eq!(plain, from_zstd);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&plain[..])
            .read_to_end(&mut back)
            .unwrap();
        assert_eq!(back, tar);
    }

    #[tokio::test]
    async fn a_bomb_and_a_broken_body_are_errors() {
        let bomb = zstd::encode_all(&vec![0; 10_000_000][..], 1).unwrap();
        let error = all(gzipped(feed::once(bomb.into()), 1_000_000))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("unpacks to more than"),
            "{error}"
        );
        let cut: ByteStream = Box::pin(futures_util::stream::iter([
            Ok(Bytes::from_static(b"abc")),
            Err(BlobError::Interrupted("cut".to_owned())),
        ]));
        assert!(all(gzipped(cut, 1 << 30)).await.is_err());
    }
}
