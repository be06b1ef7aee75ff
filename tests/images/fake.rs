//! A registry that says whatever a test wants it to say, and archives that no tool would make.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// `sha256:…` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Points at some bytes.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Builds a tar with names that a decent writer would refuse.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    /// An entry whose header says `size` bytes, whatever follows.
    pub(crate) fn entry(
        mut self,
        name: &str,
        kind: u8,
        link: &str,
        size: u64,
        data: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_704_067_200);
        header.set_size(size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        let padding = (512 - data.len() % 512) % 512;
        self.0.extend(std::iter::repeat_n(0, padding));
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(name, b'0', "", data.len() as u64, data)
    }

    pub(crate) fn link(self, name: &str, kind: u8, target: &str) -> Self {
        self.entry(name, kind, target, 0, b"")
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// An image by its parts, each of which a test may make wrong.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    /// As they are stored.
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) manifest: Value,
}

impl Image {
    /// An honest one, of a layer that is stored with gzip.
    pub(crate) fn of(layer: &[u8]) -> Self {
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}});
        Self::with(config.to_string().into_bytes(), gzip(layer))
    }

    /// Of a config and a stored layer, whatever these are.
    pub(crate) fn with(config: Vec<u8>, layer: Vec<u8>) -> Self {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config), "layers": [descriptor(LAYER, &layer)]});
        Self {
            config,
            layers: vec![layer],
            manifest,
        }
    }

    /// Its blobs under the names that the manifest gives them.
    pub(crate) fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let named = |entry: &Value, bytes: &Vec<u8>| {
            (
                entry["digest"].as_str().unwrap_or("none").to_owned(),
                bytes.clone(),
            )
        };
        let layers = self.layers.iter().enumerate();
        std::iter::once(named(&self.manifest["config"], &self.config))
            .chain(layers.map(|(number, layer)| named(&self.manifest["layers"][number], layer)))
            .collect()
    }

    /// An OCI layout as a tar.
    pub(crate) fn layout(&self) -> Vec<u8> {
        let manifest = self.manifest.to_string().into_bytes();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [descriptor(MANIFEST, &manifest)]});
        let mut blobs = self.blobs();
        blobs.push((digest(&manifest), manifest));
        layout(&blobs, index.to_string().as_bytes())
    }
}

/// An OCI layout of these blobs and this `index.json`.
pub(crate) fn layout(blobs: &[(String, Vec<u8>)], index: &[u8]) -> Vec<u8> {
    let mut tar = Tar::default().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    for (digest, bytes) in blobs {
        tar = tar.file(&format!("blobs/{}", digest.replace(':', "/")), bytes);
    }
    tar.file("index.json", index).end()
}

type Answers = Arc<Mutex<HashMap<String, (String, Vec<u8>)>>>;

/// The registry. Whoever connects is answered until the test ends.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    answers: Answers,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Answers::default();
        let given = Arc::clone(&answers);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), answers) = (stream, Arc::clone(&given)) else {
                    return;
                };
                // A client that goes away in the middle is of no concern.
                std::thread::spawn(move || drop(serve(stream, &answers)));
            }
        });
        let registry = Self { address, answers };
        registry.answer("/v2/", "application/json", b"{}");
        registry
    }

    /// The reference of a tag.
    pub(crate) fn name(&self, tag: &str) -> String {
        format!("{}/r:{tag}", self.address)
    }

    pub(crate) fn answer(&self, path: &str, media_type: &str, body: &[u8]) {
        let answer = (media_type.to_owned(), body.to_owned());
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Under a tag or a digest.
    pub(crate) fn manifest(&self, name: &str, media_type: &str, body: &[u8]) {
        self.answer(&format!("/v2/r/manifests/{name}"), media_type, body);
    }

    /// An image under a tag.
    pub(crate) fn image(&self, tag: &str, image: &Image) {
        for (digest, bytes) in image.blobs() {
            let path = format!("/v2/r/blobs/{digest}");
            self.answer(&path, "application/octet-stream", &bytes);
        }
        self.manifest(tag, MANIFEST, image.manifest.to_string().as_bytes());
    }
}

fn serve(stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    // The hello of TLS, which no line ends.
    if reader.fill_buf()?.first() == Some(&0x16) {
        return Ok(());
    }
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = first.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let found = answers.lock().unwrap().get(path).cloned();
    let (status, (media_type, body)) = match found {
        Some(answer) => ("200 OK", answer),
        None => (
            "404 Not Found",
            (
                "application/json".to_owned(),
                br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#
                    .to_vec(),
            ),
        ),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        stream.write_all(&body)?;
    }
    Ok(())
}
