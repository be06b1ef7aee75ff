//! A registry that says whatever a test wants it to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use sockerless_control::images::Digest;
use sockerless_control::images::manifest::media;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// An answer.
#[derive(Clone)]
pub(crate) struct Canned {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// Answers by path, on a loopback port, until it is dropped.
pub(crate) struct Registry {
    pub(crate) address: String,
    answers: Arc<Mutex<HashMap<String, Canned>>>,
    asked: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers: Arc<Mutex<HashMap<String, Canned>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let server = {
            let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&answers), Arc::clone(&asked)));
                }
            })
        };
        let registry = Self {
            address,
            answers,
            asked,
            server,
        };
        registry.answer("/v2/", 200, "application/json", b"{}");
        registry
    }

    pub(crate) fn answer(&self, path: &str, status: u16, media_type: &str, body: &[u8]) {
        let canned = Canned {
            status,
            headers: vec![("Content-Type".to_owned(), media_type.to_owned())],
            body: Bytes::copy_from_slice(body),
        };
        self.canned(path, canned);
    }

    pub(crate) fn canned(&self, path: &str, canned: Canned) {
        self.answers.lock().unwrap().insert(path.to_owned(), canned);
    }

    /// The paths that were asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// A blob of repository `r`.
    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/r/blobs/{digest}");
        self.answer(&path, 200, "application/octet-stream", bytes);
        digest
    }

    /// A manifest or index of repository `r`, by its digest and by `tag`.
    pub(crate) fn manifest(&self, tag: &str, media_type: &str, value: &Value) -> Digest {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        for name in [tag.to_owned(), digest.to_string()] {
            let path = format!("/v2/r/manifests/{name}");
            self.answer(&path, 200, media_type, &bytes);
        }
        digest
    }

    /// An image of these layers, stored gzipped.
    pub(crate) fn image(&self, tag: &str, layers: &[Vec<u8>]) -> (Digest, Value) {
        let config = super::archives::config(layers).to_string().into_bytes();
        let id = self.blob(&config);
        let stored: Vec<_> = layers.iter().map(|l| super::archives::gzip(l)).collect();
        let listed: Vec<_> = stored
            .iter()
            .map(|bytes| descriptor(media::OCI_LAYER_GZIP, self.blob(bytes), bytes.len()))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": descriptor(media::OCI_CONFIG, id, config.len()),
            "layers": listed
        });
        (self.manifest(tag, media::OCI_MANIFEST, &manifest), manifest)
    }
}

pub(crate) fn descriptor(media_type: &str, digest: Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

async fn serve(
    stream: TcpStream,
    answers: Arc<Mutex<HashMap<String, Canned>>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut stream = BufReader::new(stream);
    // A TLS hello, which no line ends.
    if !matches!(stream.fill_buf().await, Ok([first, ..]) if *first != 0x16) {
        return;
    }
    let mut path = String::new();
    let mut authorised = false;
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        let lower = line.to_ascii_lowercase();
        authorised |= lower.starts_with("authorization: bearer good");
        if line.trim().is_empty() {
            break;
        }
    }
    asked.lock().unwrap().push(path.clone());
    let plain = path.split('?').next().unwrap_or_default().to_owned();
    let with_token = authorised.then(|| format!("{plain}#token"));
    let canned = {
        let answers = answers.lock().unwrap();
        let found = with_token.and_then(|key| answers.get(&key));
        found.or_else(|| answers.get(&plain)).cloned()
    };
    let canned = canned.unwrap_or(Canned {
        status: 404,
        headers: Vec::new(),
        body: Bytes::from_static(
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        ),
    });
    let mut head = format!(
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        canned.status,
        canned.body.len()
    );
    for (name, value) in &canned.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&canned.body).await;
    let _ = stream.shutdown().await;
}
