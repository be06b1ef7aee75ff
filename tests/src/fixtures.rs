//! The files that scenarios load, send and pull: the small images, archives
//! that are broken on purpose, and images in a registry.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::{Endpoint, Request, fetch};

/// An answer of a registry on this machine takes no longer.
const REGISTRY_LIMIT: Duration = Duration::from_secs(20);

/// The fixtures' folder, and the digests that both engines must name alike.
#[derive(Debug)]
pub struct Fixtures {
    /// Where the files are.
    pub folder: PathBuf,
    /// Hexadecimal SHA-256 digests of all configurations, layers and manifests.
    pub known: BTreeSet<String>,
    layer: Vec<u8>,
    config: Value,
}

impl Fixtures {
    /// Makes all files below `folder`.
    ///
    /// # Errors
    /// A sentence about what could not be made.
    pub fn make(scripts: &Path, folder: &Path) -> Result<Self, String> {
        for variant in ["plain", "configured", "user"] {
            let output = Command::new(scripts.join("small-image"))
                .args(["--variant", variant])
                .arg(folder.join(format!("{variant}.tar")))
                .output()
                .map_err(|error| format!("small-image: {error}"))?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        let plain = read(&folder.join("plain.tar"))?;
        let mut fixtures = Self {
            folder: folder.to_owned(),
            known: BTreeSet::new(),
            layer: Vec::new(),
            config: Value::Null,
        };
        fixtures.learn(&plain)?;
        fixtures.learn(&read(&folder.join("configured.tar"))?)?;
        fixtures.learn(&read(&folder.join("user.tar"))?)?;
        fixtures.take_apart(&plain)?;
        fixtures.write_broken(&plain)?;
        Ok(fixtures)
    }

    /// Remembers the digests of an archive's blobs.
    fn learn(&mut self, archive: &[u8]) -> Result<(), String> {
        for (name, _) in entries(archive)? {
            if let Some(digest) = name.strip_prefix("blobs/sha256/")
                && digest.len() == 64
            {
                self.known.insert(digest.to_owned());
            }
        }
        Ok(())
    }

    /// Finds the plain image's layer and configuration again.
    fn take_apart(&mut self, archive: &[u8]) -> Result<(), String> {
        let files = entries(archive)?;
        let find = |wanted: &str| {
            files
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, content)| content.clone())
                .ok_or_else(|| format!("plain.tar has no {wanted}"))
        };
        let manifest: Value = parse(&find("manifest.json")?)?;
        let at = |pointer: &str| {
            manifest
                .pointer(pointer)
                .and_then(Value::as_str)
                .ok_or_else(|| format!("plain.tar: manifest.json has no {pointer}"))
        };
        self.layer = find(at("/0/Layers/0")?)?;
        self.config = parse(&find(at("/0/Config")?)?)?;
        self.write("rootfs.tar", &self.layer)?;
        self.write("pushed.tar", &pushed_archive(&self.config)?)?;
        let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
        zipped
            .write_all(&self.layer)
            .map_err(|error| error.to_string())?;
        let zipped = zipped.finish().map_err(|error| error.to_string())?;
        self.write("rootfs.tar.gz", &zipped)
    }

    /// Archives that no engine may take.
    fn write_broken(&mut self, plain: &[u8]) -> Result<(), String> {
        self.write("garbage.tar", b"this is no archive\n")?;
        self.write("cut.tar", &plain[..plain.len() / 2])?;
        self.write(
            "no-manifest.tar",
            &pack(&[("other".to_owned(), Vec::new())])?,
        )?;
        self.write(
            "bad-manifest.tar",
            &pack(&[("manifest.json".to_owned(), b"{not JSON".to_vec())])?,
        )?;
        // The configuration names another layer than the archive holds.
        let mut config = self.config.clone();
        config["rootfs"]["diff_ids"] = json!([format!("sha256:{}", "0".repeat(64))]);
        self.write(
            "wrong-digest.tar",
            &image_archive(&config, Some(&self.layer))?,
        )?;
        self.write("missing-layer.tar", &image_archive(&config, None)?)?;
        // A layer that reaches out of the root.
        let layer = escaping_layer()?;
        let digest = hex::encode(Sha256::digest(&layer));
        config["rootfs"]["diff_ids"] = json!([format!("sha256:{digest}")]);
        self.write("escape.tar", &image_archive(&config, Some(&layer))?)?;
        // A few hundred bytes that unpack to an exbibyte.
        let layer = bomb_layer()?;
        let digest = hex::encode(Sha256::digest(&layer));
        config["rootfs"]["diff_ids"] = json!([format!("sha256:{digest}")]);
        self.write("bomb.tar", &image_archive(&config, Some(&layer))?)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), String> {
        std::fs::write(self.folder.join(name), content).map_err(|error| format!("{name}: {error}"))
    }

    /// Puts the images that scenarios pull into a registry: `test/single:v1`, a
    /// manifest of one platform, and `test/multi:v1`, an index of two.
    ///
    /// # Errors
    /// A sentence about what the registry refused.
    pub fn publish(&mut self, registry: &Endpoint) -> Result<(), String> {
        let layer = gzip(&self.layer)?;
        let layer = (self.put_blob(registry, "test/single", &layer)?, layer.len());
        let here = self.config["architecture"].clone();
        let other = if here == "amd64" { "arm64" } else { "amd64" };
        let single = self.put_image(registry, "test/single", &self.config.clone(), &layer)?;
        self.put_manifest(registry, "test/single", "v1", &single)?;
        self.put_manifest(registry, "test/single", "v2", &single)?;

        let layer_bytes = gzip(&self.layer)?;
        self.put_blob(registry, "test/multi", &layer_bytes)?;
        let mut members = Vec::new();
        for architecture in [other, here.as_str().unwrap_or("amd64")] {
            let mut config = self.config.clone();
            config["architecture"] = architecture.into();
            config["config"]["Labels"] = json!({"architecture": architecture});
            let manifest = self.put_image(registry, "test/multi", &config, &layer)?;
            let digest = self.put_manifest(registry, "test/multi", "", &manifest)?;
            members.push(json!({
                "mediaType": MANIFEST,
                "digest": digest,
                "size": manifest.to_string().len(),
                "platform": {"architecture": architecture, "os": "linux"},
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": members});
        self.put_manifest(registry, "test/multi", "v1", &index)?;

        // Large enough that a client can go away in the middle of the pull.
        let large = gzip(&pack(&[("large".to_owned(), noise(8 << 20))])?)?;
        let layer = (self.put_blob(registry, "test/large", &large)?, large.len());
        let mut config = self.config.clone();
        let diff = Sha256::digest(pack(&[("large".to_owned(), noise(8 << 20))])?);
        config["rootfs"]["diff_ids"] = json!([format!("sha256:{}", hex::encode(diff))]);
        let manifest = self.put_image(registry, "test/large", &config, &layer)?;
        self.put_manifest(registry, "test/large", "v1", &manifest)?;
        Ok(())
    }

    fn put_image(
        &mut self,
        registry: &Endpoint,
        repository: &str,
        config: &Value,
        (layer, layer_size): &(String, usize),
    ) -> Result<Value, String> {
        let bytes = config.to_string().into_bytes();
        let digest = self.put_blob(registry, repository, &bytes)?;
        Ok(json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest,
                "size": bytes.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": layer,
                "size": layer_size,
            }],
        }))
    }

    fn put_blob(
        &mut self,
        registry: &Endpoint,
        repository: &str,
        bytes: &[u8],
    ) -> Result<String, String> {
        let digest = hex::encode(Sha256::digest(bytes));
        self.known.insert(digest.clone());
        let begin = ask(
            registry,
            "POST",
            &format!("/v2/{repository}/blobs/uploads/"),
            None,
            "",
        )?;
        let separator = if begin.contains('?') { '&' } else { '?' };
        // The registry answers with an absolute address of its own.
        let path = begin
            .split_once("//")
            .and_then(|(_, rest)| rest.find('/').map(|slash| rest[slash..].to_owned()))
            .unwrap_or(begin);
        ask(
            registry,
            "PUT",
            &format!("{path}{separator}digest=sha256:{digest}"),
            Some(bytes),
            "application/octet-stream",
        )?;
        Ok(format!("sha256:{digest}"))
    }

    /// An empty tag means by digest alone.
    fn put_manifest(
        &mut self,
        registry: &Endpoint,
        repository: &str,
        tag: &str,
        manifest: &Value,
    ) -> Result<String, String> {
        let bytes = manifest.to_string().into_bytes();
        let digest = hex::encode(Sha256::digest(&bytes));
        self.known.insert(digest.clone());
        let digest = format!("sha256:{digest}");
        let reference = if tag.is_empty() { &digest } else { tag };
        let kind = manifest["mediaType"].as_str().unwrap_or_default();
        ask(
            registry,
            "PUT",
            &format!("/v2/{repository}/manifests/{reference}"),
            Some(&bytes),
            kind,
        )?;
        Ok(digest)
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Sends a request that has to succeed; gives the `Location` of the answer.
fn ask(
    registry: &Endpoint,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
    kind: &str,
) -> Result<String, String> {
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: vec![("Content-Type".to_owned(), kind.to_owned())],
        body: body.map(<[u8]>::to_vec),
        chunked: false,
    };
    let (head, answer) = fetch(registry, &request, REGISTRY_LIMIT)
        .map_err(|error| format!("registry: {method} {target}: {error}"))?;
    if !(200..300).contains(&head.status) {
        return Err(format!(
            "registry: {method} {target}: {}: {}",
            head.status,
            String::from_utf8_lossy(&answer)
        ));
    }
    Ok(head.header("location").unwrap_or_default().to_owned())
}

/// Bytes that do not compress, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse(json: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(json).map_err(|error| format!("plain.tar: {error}"))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| format!("gzip: {error}"))
}

fn entries(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files = Vec::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if entry.header().entry_type().is_file() {
            let name = entry
                .path()
                .map_err(|error| error.to_string())?
                .display()
                .to_string();
            let mut content = Vec::new();
            entry
                .read_to_end(&mut content)
                .map_err(|error| error.to_string())?;
            files.push((name, content));
        }
    }
    Ok(files)
}

/// An archive of one image, as `docker load` takes it; without the layer if
/// there is none.
fn image_archive(config: &Value, layer: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": ["broken:latest"],
        "Layers": ["layer.tar"],
    }]);
    let mut files = vec![
        (
            "manifest.json".to_owned(),
            manifest.to_string().into_bytes(),
        ),
        ("config.json".to_owned(), config.to_string().into_bytes()),
    ];
    if let Some(layer) = layer {
        files.push(("layer.tar".to_owned(), layer.to_vec()));
    }
    pack(&files)
}

/// Two images, `pushed:one` and `pushed:two`, of which the second has a layer on top of the
/// first's; nothing else has either layer.
fn pushed_archive(config: &Value) -> Result<Vec<u8>, String> {
    let layers = [
        pack(&[("first".to_owned(), noise(100_000))])?,
        pack(&[("second".to_owned(), noise(200_000))])?,
    ];
    let ids = layers
        .each_ref()
        .map(|layer| format!("sha256:{}", hex::encode(Sha256::digest(layer))));
    let names = ["first.tar", "second.tar"];
    let mut files = Vec::new();
    let mut list = Vec::new();
    for (count, tag) in [(1, "one"), (2, "two")] {
        let mut config = config.clone();
        config["rootfs"]["diff_ids"] = json!(ids[..count]);
        config["history"] = json!(vec![json!({"created_by": "by hand"}); count]);
        let name = format!("{tag}.json");
        list.push(json!({
            "Config": name,
            "RepoTags": [format!("pushed:{tag}")],
            "Layers": names[..count],
        }));
        files.push((name, config.to_string().into_bytes()));
    }
    let [first, second] = layers;
    files.push(("first.tar".to_owned(), first));
    files.push(("second.tar".to_owned(), second));
    files.insert(
        0,
        (
            "manifest.json".to_owned(),
            json!(list).to_string().into_bytes(),
        ),
    );
    pack(&files)
}

/// A layer with a file `../../escaped`, which the `tar` crate would not write.
fn escaping_layer() -> Result<Vec<u8>, String> {
    let placeholder = "xx/xx/escaped";
    let name = "../../escaped";
    let mut layer = pack(&[(placeholder.to_owned(), b"out\n".to_vec())])?;
    layer[..name.len()].copy_from_slice(name.as_bytes());
    // The header's checksum is the sum of its bytes, its own field as spaces.
    layer[148..156].fill(b' ');
    let sum: u32 = layer[..512].iter().map(|byte| u32::from(*byte)).sum();
    layer[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(layer)
}

/// A layer with one file that is one hole, as GNU tar writes it (PAX sparse format 1.0).
fn bomb_layer() -> Result<Vec<u8>, String> {
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([
            ("GNU.sparse.major", &b"1"[..]),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"bomb"),
            ("GNU.sparse.realsize", b"1152921504606846976"),
        ])
        .map_err(|error| error.to_string())?;
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    let mut header = tar::Header::new_ustar();
    header.set_size(map.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "GNUSparseFile.0/bomb", map.as_slice())
        .map_err(|error| error.to_string())?;
    builder.into_inner().map_err(|error| error.to_string())
}

fn pack(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_704_067_200);
        builder
            .append_data(&mut header, name, content.as_slice())
            .map_err(|error| format!("{name}: {error}"))?;
    }
    builder.into_inner().map_err(|error| error.to_string())
}
