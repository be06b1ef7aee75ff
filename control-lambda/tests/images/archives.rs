//! Archives made by hand.

use std::io::Write as _;

use serde_json::{Value, json};
use sockerless_control::images::Digest;

/// Builds a tar.
#[derive(Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Any header, with names that a decent writer would refuse.
    pub(crate) fn raw(mut self, name: &str, kind: u8, link: &str, mode: u32, data: &[u8]) -> Self {
        let size = data.len() as u64;
        self.header(name, kind, link, mode, size);
        self.data(data);
        self
    }

    fn header(&mut self, name: &str, kind: u8, link: &str, mode: u32, size: u64) {
        for (kind, text) in [(b'L', name), (b'K', link)] {
            if text.len() > 100 {
                self.header("././@LongLink", kind, "", 0o644, text.len() as u64 + 1);
                self.data(format!("{text}\0").as_bytes());
            }
        }
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        let cut = |text: &str| text.as_bytes()[..text.len().min(100)].to_vec();
        old.name[..cut(name).len()].copy_from_slice(&cut(name));
        old.linkname[..cut(link).len()].copy_from_slice(&cut(link));
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_704_067_200);
        header.set_size(size);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
    }

    fn data(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        let padding = (512 - data.len() % 512) % 512;
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.raw(name, b'0', "", 0o644, data)
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.raw(name, b'5', "", 0o755, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(name, b'2', target, 0o777, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(name, b'1', target, 0o644, b"")
    }

    /// PAX records for the entry that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + rest.to_string().len();
            length = rest + length.to_string().len();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw("PaxHeaders/x", b'x', "", 0o644, &data)
    }

    /// An entry that states more bytes than follow.
    pub(crate) fn cut_file(mut self, name: &str, size: u64, data: &[u8]) -> Vec<u8> {
        self.header(name, b'0', "", 0o644, size);
        self.bytes.extend_from_slice(data);
        self.bytes
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub(crate) fn config(layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"made.by": "hand"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}
    })
}

/// A Docker archive of one image; `stored` are its layers as they are in the archive.
pub(crate) fn docker_archive(config: &Value, tags: &[&str], stored: &[Vec<u8>]) -> Vec<u8> {
    let config = config.to_string();
    let mut tar = Tar::new().file("config.json", config.as_bytes());
    let mut names = Vec::new();
    for (i, layer) in stored.iter().enumerate() {
        let name = format!("layer{i}/layer.tar");
        tar = tar.folder(&format!("layer{i}/")).file(&name, layer);
        names.push(name);
    }
    let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]);
    tar.file("manifest.json", manifest.to_string().as_bytes())
        .end()
}

/// The same with layers that are stored as they are, and `latest` unless `name`
/// has a tag.
pub(crate) fn image(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let latest = format!("{name}:latest");
    let tag = if name.contains(':') { name } else { &latest };
    docker_archive(&config(layers), &[tag], layers)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({
        "mediaType": format!("application/vnd.oci.image.{media_type}"),
        "digest": Digest::of(bytes).to_string(),
        "size": bytes.len()
    })
}

/// An OCI layout archive of one image, named by an annotation.
pub(crate) fn oci_archive(name: &str, layers: &[Vec<u8>], stored: &[Vec<u8>]) -> Vec<u8> {
    let config = config(layers).to_string().into_bytes();
    let listed: Vec<_> = stored
        .iter()
        .map(|layer| descriptor("layer.v1.tar", layer))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "config": descriptor("config.v1+json", &config),
        "layers": listed
    })
    .to_string()
    .into_bytes();
    let mut entry = descriptor("manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let mut tar = Tar::new()
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .folder("blobs/")
        .folder("blobs/sha256/");
    for blob in stored.iter().chain([&config, &manifest]) {
        tar = tar.file(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    tar.file("index.json", index.as_bytes()).end()
}
