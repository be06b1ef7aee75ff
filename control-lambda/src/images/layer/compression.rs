//! Compressions of layers and archives, told by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

use super::super::manifest::media;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// bzip2, which is recognised only.
    Bzip2,
    /// xz, which is recognised only.
    Xz,
}

/// How many bytes [`Compression::of`] wants to see.
pub const MAGIC_BYTES: usize = 6;

impl Compression {
    /// What the first bytes of a stream say.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        // A zstd stream may begin with a skippable frame, 0x184D2A50 to …5F.
        let skippable =
            start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
        if start.starts_with(&[0x1f, 0x8b, 0x08]) {
            Self::Gzip
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
            Self::Zstd
        } else if start.starts_with(b"BZh") {
            Self::Bzip2
        } else if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0x00]) {
            Self::Xz
        } else {
            Self::None
        }
    }

    /// The OCI media type of a layer that is compressed so.
    #[must_use]
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::Gzip => media::OCI_LAYER_GZIP,
            Self::Zstd => media::OCI_LAYER_ZSTD,
            Self::None | Self::Bzip2 | Self::Xz => media::OCI_LAYER,
        }
    }
}

/// Largest window of a zstd frame, as a power of two: what `zstd --long` uses
/// and what decoders take unasked (RFC 8878 recommends 8 MiB at least).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A reader of the uncompressed bytes.
///
/// # Errors
/// When the first bytes cannot be read, or are of a compression that is not
/// understood.
pub fn decoder<'a>(source: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut source = BufReader::with_capacity(64 * 1024, Prefixed::new(source)?);
    Ok(match Compression::of(source.fill_buf()?) {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Bzip2 => return Err(unsupported("bzip2")),
        Compression::Xz => return Err(unsupported("xz")),
    })
}

fn unsupported(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("it is compressed with {name}; use gzip, zstd or no compression"),
    )
}

/// A reader whose first read returns at least [`MAGIC_BYTES`], if there are so many.
struct Prefixed<R> {
    start: io::Cursor<Vec<u8>>,
    rest: R,
}

impl<R: Read> Prefixed<R> {
    fn new(mut source: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(MAGIC_BYTES);
        source
            .by_ref()
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut start)?;
        Ok(Self {
            start: io::Cursor::new(start),
            rest: source,
        })
    }
}

impl<R: Read> Read for Prefixed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.start.read(buffer)? {
            0 => self.rest.read(buffer),
            n => Ok(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decoder(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_compression_is_told_and_undone() {
        let text = b"some text that is long enough".repeat(1000);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&text).unwrap();
        let gz = gz.finish().unwrap();
        let zst = zstd::encode_all(&text[..], 1).unwrap();
        assert_eq!(plain(&text).unwrap(), text);
        assert_eq!(plain(&gz).unwrap(), text);
        assert_eq!(plain(&zst).unwrap(), text);
        assert_eq!(plain(&[gz.clone(), gz].concat()).unwrap(), text.repeat(2));
        assert_eq!(plain(b"").unwrap(), b"");
        assert!(plain(b"BZh91AY").unwrap_err().to_string().contains("bzip2"));
        assert!(plain(&zst[..zst.len() - 5]).is_err());
    }
}
