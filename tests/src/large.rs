//! A large image whose bytes cannot be compressed.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Bytes that cannot be compressed, each time the same.
struct Noise(fastrand::Rng);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.fill(buffer);
        Ok(buffer.len())
    }
}

struct Hashed<W>(W, Sha256);

impl<W: io::Write> io::Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An archive in `folder` of the image `large:v1`, with so many layers of so many bytes each.
///
/// # Errors
/// When it cannot be written.
pub fn archive(folder: &Path, layers: u64, bytes: u64) -> io::Result<PathBuf> {
    let (mut ids, mut names) = (Vec::new(), Vec::new());
    let path = folder.join("large.tar");
    let mut archive = tar::Builder::new(File::create(&path)?);
    for number in 0..layers {
        let name = format!("layer{number}");
        let mut layer = tar::Builder::new(Hashed(File::create(folder.join(&name))?, Sha256::new()));
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o644);
        let noise = Noise(fastrand::Rng::with_seed(number)).take(bytes);
        let file = format!("file{number}");
        layer.append_data(&mut header, file, noise)?;
        let Hashed(mut file, hash) = layer.into_inner()?;
        file.flush()?;
        ids.push(format!("sha256:{}", hex::encode(hash.finalize())));
        archive.append_path_with_name(folder.join(&name), &name)?;
        std::fs::remove_file(folder.join(&name))?;
        names.push(name);
    }
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["none"]},
        "rootfs": {"type": "layers", "diff_ids": ids}});
    let list = json!([{"Config": "config.json", "RepoTags": ["large:v1"], "Layers": names}]);
    for (name, text) in [
        ("config.json", config.to_string()),
        ("manifest.json", list.to_string()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    archive.into_inner()?;
    Ok(path)
}
