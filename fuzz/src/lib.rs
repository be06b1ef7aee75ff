//! A control plane whose function host and relay do nothing: what a stranger
//! sends goes through all of the parsing and the deciding, and runs nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_control::embedded::blobs::FolderBlobs;
use sockerless_control::embedded::images::{LayerFolders, OciLayout};
use sockerless_control::embedded::table::SqliteTable;
use sockerless_control::engine::{Config, Control, Parts, Place};
use sockerless_control::environment::SystemEnvironment;
use sockerless_control::images::catalog::Catalog;
use sockerless_control::images::platform::Platform;
use sockerless_control::images::{ImageLimits, Images};
use sockerless_control::ports::function_host::{EnsuredFunction, FunctionShape, HostError};
use sockerless_control::ports::jobs::{Job, JobError};
use sockerless_control::ports::relay::PostError;
use sockerless_control::ports::{Environment, FunctionHost, GatewayEvents, Jobs, Relay, Table};
use sockerless_control::store::Store;
use sockerless_shared::answer::{Body, Request};
use sockerless_shared::ids::{ConnectionId, ContainerId, FunctionName, Namespace, PeerId, RunId};
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::spec::Runtime;

/// After this many inputs a new control plane is made, or its records pile up.
const INPUTS: u32 = 2000;

struct Idle;

#[async_trait]
impl FunctionHost for Idle {
    async fn ensure(&self, _: &FunctionShape) -> Result<EnsuredFunction, HostError> {
        let name = "skls-fuzz"
            .parse()
            .map_err(|_| HostError::Failed("no name".to_owned()))?;
        let warnings = Vec::new();
        Ok(EnsuredFunction { name, warnings })
    }

    async fn invoke(&self, _: &FunctionName, _: &RunId, _: Bytes) -> Result<(), HostError> {
        Ok(())
    }

    async fn delete(&self, _: &FunctionName) -> Result<(), HostError> {
        Ok(())
    }

    async fn remove_writable(&self, _: &ContainerId) -> Result<(), HostError> {
        Ok(())
    }

    async fn operator_log(
        &self,
        _: &RunId,
        _: Option<&str>,
        _: usize,
    ) -> Result<Bytes, HostError> {
        Ok(Bytes::new())
    }

    fn relay_url(&self) -> String {
        "ws://127.0.0.1:9/".to_owned()
    }
}

#[async_trait]
impl Relay for Idle {
    async fn post(&self, _: &ConnectionId, _: String) -> Result<(), PostError> {
        Ok(())
    }

    async fn disconnect(&self, _: &ConnectionId) -> Result<(), PostError> {
        Ok(())
    }
}

#[async_trait]
impl Jobs for Idle {
    async fn submit(&self, _: Job) -> Result<(), JobError> {
        Ok(())
    }

    async fn submit_later(&self, _: Job, _: std::time::Duration) -> Result<(), JobError> {
        Ok(())
    }
}

/// A control plane and what it lives on.
pub struct Harness {
    control: Control,
    namespace: Namespace,
    runtime: tokio::runtime::Runtime,
    left: u32,
    _folder: tempfile::TempDir,
}

impl Harness {
    /// A new one, with one image and one container.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let environment: Arc<dyn Environment> = Arc::new(SystemEnvironment);
        let table: Arc<dyn Table> = Arc::new(SqliteTable::in_memory().expect("a table"));
        let key = Key::from_random([7; 32]);
        let blobs = FolderBlobs::open(
            &folder.path().join("blobs"),
            "http://127.0.0.1:9/blobs",
            key.derive("blob URLs"),
            Arc::clone(&environment),
        );
        let limits = ImageLimits::default();
        let layers = LayerFolders::open(&folder.path().join("layers"), limits.layer);
        let images = Images::new(
            Catalog::new(Arc::clone(&table)),
            Arc::new(OciLayout::open(&folder.path().join("images")).expect("a layout")),
            Arc::new(layers.expect("layers")),
            Arc::clone(&environment),
            Platform::host(),
            limits,
        );
        let control = Control::new(
            Parts {
                store: Store::new(table, Arc::clone(&environment)),
                environment,
                host: Arc::new(Idle),
                relay: Arc::new(Idle),
                blobs: Arc::new(blobs.expect("blobs")),
                jobs: Arc::new(Idle),
                images,
            },
            Config {
                master_key: key,
                default_runtime: Runtime::Function,
                function_time_limit: Duration::from_secs(900),
                default_memory_mib: 2048,
                tmp_mib: 512,
                function_per_container: false,
                spend_guard: sockerless_control::engine::spend::SpendGuard::default(),
                place: place(),
            },
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let namespace = "fuzz".parse().ok().expect("a namespace");
        let mut harness = Self {
            control,
            namespace,
            runtime,
            left: INPUTS,
            _folder: folder,
        };
        harness.request("POST", "/images/load", Vec::new(), archive());
        harness.request(
            "POST",
            "/containers/create?name=c",
            Vec::new(),
            br#"{"Image": "i"}"#.to_vec(),
        );
        harness
    }

    /// One request, as a frontend forwards it.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) {
        let request = Request {
            method: method.to_owned(),
            path_and_query: target.to_owned(),
            headers,
            body: Body::Inline(body.into()),
            peer: Some(PeerId::from_random([7; 14])),
        };
        let answer = self.control.handle(&self.namespace, request);
        drop(self.runtime.block_on(answer));
    }

    /// A connection opened with this query, and a text on it.
    pub fn relay(&mut self, query: &str, text: &str) {
        let Ok(connection) = "connection".parse::<ConnectionId>() else {
            return;
        };
        let control = &self.control;
        self.runtime.block_on(async {
            drop(control.connect(&connection, query).await);
            control.message(&connection, text.to_owned()).await;
            control.disconnected(&connection).await;
        });
    }

    /// Itself, or a new one when many inputs have gone through it.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        self.left -= 1;
        if self.left == 0 { Self::new() } else { self }
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}

fn place() -> Place {
    Place {
        name: "local".to_owned(),
        kernel: "0".to_owned(),
        operating_system: "none".to_owned(),
        cpus: 1,
        memory_bytes: 1 << 30,
        host_name: "fuzz".to_owned(),
        data_dir: "/".to_owned(),
        architecture: "x86_64".to_owned(),
        cgroup_version: "2".to_owned(),
        function_has_pty: false,
        discards_disk_weights: false,
    }
}

/// An image `i` of one empty layer, as `docker save` writes it.
fn archive() -> Vec<u8> {
    let layer = [0; 1024];
    let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let config = serde_json::json!({
        "architecture": Platform::host().architecture,
        "os": "linux",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [empty]},
    });
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": ["i:latest"], "Layers": ["layer.tar"],
    }]);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer.to_vec()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content.as_slice())
            .expect("an entry");
    }
    tar.into_inner().expect("an archive")
}
