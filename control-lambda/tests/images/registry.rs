//! A registry that says whatever a test wants it to say.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use sockerless_control::images::Digest;
use sockerless_control::images::manifest::media;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
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
    manners: Arc<Manners>,
    server: tokio::task::JoinHandle<()>,
}

/// What a registry does on purpose.
#[derive(Default)]
pub(crate) struct Manners {
    /// By path: how often yet, and after how many bytes, an answer breaks off.
    cuts: Mutex<HashMap<String, (usize, usize)>>,
    /// By path: after how many bytes an answer stops, and goes on when it is no more here.
    stalls: Mutex<HashMap<String, usize>>,
    released: tokio::sync::Notify,
    /// How many requests a token is good for; 0 for registries without tokens.
    uses: AtomicUsize,
    tokens: AtomicUsize,
    used: AtomicUsize,
    /// What has come of each upload, by its path.
    uploads: Mutex<HashMap<String, Vec<u8>>>,
    /// How often yet, and after how many bytes, a PATCH or PUT is broken off.
    upload_cut: Mutex<(usize, usize)>,
    /// Before a request with this method the token ends, once.
    ends_before: Mutex<Option<&'static str>>,
}

impl Manners {
    /// The token ends now if that was wanted before such a request.
    fn end_token_before(&self, method: &str) {
        let mut ends_before = self.ends_before.lock().unwrap();
        if *ends_before == Some(method) {
            *ends_before = None;
            self.used.store(usize::MAX / 2, Ordering::Relaxed);
        }
    }

    /// After how many of this many bytes this body is broken off.
    fn upload_cut(&self, length: usize) -> Option<usize> {
        let mut cut = self.upload_cut.lock().unwrap();
        let (times, bytes) = *cut;
        if times == 0 || length <= bytes {
            return None;
        }
        cut.0 -= 1;
        Some(bytes)
    }

    /// Whether this token may be used once more.
    fn admits(&self, authorization: &str) -> bool {
        let uses = self.uses.load(Ordering::Relaxed);
        let token = format!("bearer t{}", self.tokens.load(Ordering::Relaxed));
        uses == 0 || authorization == token && self.used.fetch_add(1, Ordering::Relaxed) < uses
    }

    /// Another token.
    fn token(&self) -> String {
        self.used.store(0, Ordering::Relaxed);
        let number = self.tokens.fetch_add(1, Ordering::Relaxed) + 1;
        format!(r#"{{"token":"t{number}"}}"#)
    }
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
        let manners: Arc<Manners> = Arc::default();
        let server = {
            let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
            let (manners, address) = (Arc::clone(&manners), address.clone());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
                    let (manners, address) = (Arc::clone(&manners), address.clone());
                    tokio::spawn(serve(stream, answers, asked, manners, address));
                }
            })
        };
        let registry = Self {
            address,
            answers,
            asked,
            manners,
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

    /// The next `times` answers at this path break off after so many bytes.
    pub(crate) fn cut(&self, path: &str, times: usize, bytes: usize) {
        let cut = (times, bytes);
        self.manners
            .cuts
            .lock()
            .unwrap()
            .insert(path.to_owned(), cut);
    }

    /// Answers at this path stop after so many bytes, until they are released.
    pub(crate) fn stall(&self, path: &str, bytes: usize) {
        let mut stalls = self.manners.stalls.lock().unwrap();
        stalls.insert(path.to_owned(), bytes);
    }

    /// All that stopped goes on, and nothing stops any more.
    pub(crate) fn release(&self) {
        self.manners.stalls.lock().unwrap().clear();
        self.manners.released.notify_waiters();
    }

    /// From now on wants tokens, each of which is good for so many requests.
    pub(crate) fn want_tokens(&self, uses: usize) {
        self.manners.uses.store(uses, Ordering::Relaxed);
    }

    /// How many tokens were given.
    pub(crate) fn tokens(&self) -> usize {
        self.manners.tokens.load(Ordering::Relaxed)
    }

    /// How often this was asked for since the last [`Registry::asked`].
    pub(crate) fn count(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| *asked == path).count()
    }

    /// The next `times` longer bodies of uploads are broken off after so many bytes.
    pub(crate) fn cut_uploads(&self, times: usize, bytes: usize) {
        *self.manners.upload_cut.lock().unwrap() = (times, bytes);
    }

    /// The token ends before the next request with this method.
    pub(crate) fn end_token_before(&self, method: &'static str) {
        *self.manners.ends_before.lock().unwrap() = Some(method);
    }

    /// The bytes of the answer at a path.
    pub(crate) fn has(&self, path: &str) -> Option<Bytes> {
        let answers = self.answers.lock().unwrap();
        answers.get(path).map(|canned| canned.body.clone())
    }

    /// The paths that were asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// All that repository `r` has, in a repository of this name as well.
    pub(crate) fn share(&self, repository: &str) {
        let mut answers = self.answers.lock().unwrap();
        let shared: Vec<_> = answers
            .iter()
            .filter_map(|(path, canned)| {
                let rest = path.strip_prefix("/v2/r/")?;
                Some((format!("/v2/{repository}/{rest}"), canned.clone()))
            })
            .collect();
        answers.extend(shared);
    }

    /// Where the config of an image of repository `r` is.
    pub(crate) fn config_path(&self, tag: &str) -> String {
        let answers = self.answers.lock().unwrap();
        let manifest = &answers[&format!("/v2/r/manifests/{tag}")].body;
        let manifest: Value = serde_json::from_slice(manifest).unwrap();
        let digest = manifest["config"]["digest"].as_str().unwrap();
        format!("/v2/r/blobs/{digest}")
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

/// What is uploaded, and begun to be.
fn take(
    method: &str,
    path: &str,
    body: Vec<u8>,
    answers: &Mutex<HashMap<String, Canned>>,
    manners: &Manners,
) -> Canned {
    let canned = |status, headers| Canned {
        status,
        headers,
        body: Bytes::new(),
    };
    let location = |path: &str| vec![("Location".to_owned(), path.to_owned())];
    let (plain, query) = path.split_once('?').unwrap_or((path, ""));
    let mut uploads = manners.uploads.lock().unwrap();
    let stored = |body: Vec<u8>| Canned {
        status: 200,
        headers: Vec::new(),
        body: body.into(),
    };
    match (method, plain.split_once("/blobs/uploads/")) {
        ("POST", Some((repository, ""))) => {
            let upload = format!("{repository}/blobs/uploads/{}", uploads.len());
            uploads.insert(upload.clone(), Vec::new());
            canned(202, location(&upload))
        }
        ("PATCH", Some(_)) => {
            uploads.get_mut(plain).unwrap().extend(body);
            canned(202, location(plain))
        }
        ("PUT", Some((repository, _))) => {
            let upload = uploads.get_mut(plain).unwrap();
            upload.extend(body);
            let digest = Digest::of(upload).to_string();
            if query.replace("%3A", ":") != format!("digest={digest}") {
                return canned(400, Vec::new());
            }
            let blob = stored(upload.clone());
            let path = format!("{repository}/blobs/{digest}");
            answers.lock().unwrap().insert(path, blob);
            canned(201, Vec::new())
        }
        ("PUT", None) => {
            answers
                .lock()
                .unwrap()
                .insert(plain.to_owned(), stored(body));
            canned(201, Vec::new())
        }
        _ => canned(202, Vec::new()),
    }
}

async fn serve(
    stream: TcpStream,
    answers: Arc<Mutex<HashMap<String, Canned>>>,
    asked: Arc<Mutex<Vec<String>>>,
    manners: Arc<Manners>,
    address: String,
) {
    let mut stream = BufReader::new(stream);
    // A TLS hello, which no line ends.
    if !matches!(stream.fill_buf().await, Ok([first, ..]) if *first != 0x16) {
        return;
    }
    let (mut path, mut authorization, mut from) = (String::new(), String::new(), 0);
    let (mut method, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            line.split(' ')
                .next()
                .unwrap_or_default()
                .clone_into(&mut method);
        }
        let lower = line.trim().to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("authorization: ") {
            value.clone_into(&mut authorization);
        }
        if let Some(value) = lower.strip_prefix("range: bytes=") {
            from = value.trim_end_matches('-').parse().unwrap();
        }
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let is_head = method == "HEAD";
    let mut note = path.clone();
    if from > 0 {
        note.push_str(&format!(" from {from}"));
    }
    if method != "GET" {
        note = format!("{method} {note}");
    }
    asked.lock().unwrap().push(note);
    let plain = path.split('?').next().unwrap_or_default().to_owned();
    manners.end_token_before(&method);
    let with_token = authorization
        .starts_with("bearer good")
        .then(|| format!("{plain}#token"));
    let canned = {
        let answers = answers.lock().unwrap();
        let found = with_token.and_then(|key| answers.get(&key));
        found.or_else(|| answers.get(&plain)).cloned()
    };
    let is_said = canned.is_some();
    let mut canned = canned.unwrap_or(Canned {
        status: 404,
        headers: Vec::new(),
        body: Bytes::from_static(
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
        ),
    });
    let takes = matches!(method.as_str(), "POST" | "PATCH" | "PUT" | "DELETE");
    let uses = manners.uses.load(Ordering::Relaxed);
    if is_said && plain == "/token" {
        // A server of tokens that gives none.
    } else if uses > 0 && plain == "/token" {
        canned.status = 200;
        canned.body = manners.token().into();
    } else if !manners.admits(&authorization) {
        let realm = format!(r#"Bearer realm="http://{address}/token",service="s""#);
        canned.status = 401;
        canned.headers = vec![("WWW-Authenticate".to_owned(), realm)];
        canned.body = Bytes::new();
    } else if takes && plain.starts_with("/v2/") {
        let cut = manners.upload_cut(length);
        let mut body = vec![0; cut.unwrap_or(length)];
        if stream.read_exact(&mut body).await.is_err() || cut.is_some() {
            return;
        }
        canned = take(&method, &path, body, &answers, &manners);
    } else if from > 0 && canned.status == 200 {
        let range = format!(
            "bytes {from}-{}/{}",
            canned.body.len() - 1,
            canned.body.len()
        );
        canned.headers.push(("Content-Range".to_owned(), range));
        canned.status = 206;
        canned.body = canned.body.slice(from..);
    }
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
    if is_head {
        let _ = stream.shutdown().await;
        return;
    }
    let cut = {
        let mut cuts = manners.cuts.lock().unwrap();
        match cuts.get_mut(&plain) {
            Some((times, bytes)) if *times > 0 => {
                *times -= 1;
                Some((*bytes).min(canned.body.len()))
            }
            _ => None,
        }
    };
    if let Some(cut) = cut {
        let _ = stream.write_all(&canned.body[..cut]).await;
        let _ = stream.shutdown().await;
        return;
    }
    let stall = manners.stalls.lock().unwrap().get(&plain).copied();
    if let Some(bytes) = stall {
        let released = manners.released.notified();
        let (first, rest) = canned.body.split_at(bytes.min(canned.body.len()));
        let _ = stream.write_all(first).await;
        let _ = stream.flush().await;
        released.await;
        let _ = stream.write_all(rest).await;
    } else {
        let _ = stream.write_all(&canned.body).await;
    }
    let _ = stream.shutdown().await;
}
