//! A world in which nothing runs, for control planes that are asked about other things.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_control::embedded::blobs::FolderBlobs;
use sockerless_control::embedded::images::{LayerFolders, OciLayout};
use sockerless_control::embedded::table::SqliteTable;
use sockerless_control::engine::spend::SpendGuard;
use sockerless_control::engine::{Config, Control, Parts, Place};
use sockerless_control::images::catalog::Catalog;
use sockerless_control::images::platform::Platform;
use sockerless_control::images::{ImageLimits, Images};
use sockerless_control::ports::function_host::{EnsuredFunction, FunctionShape, HostError};
use sockerless_control::ports::jobs::{Job, JobError};
use sockerless_control::ports::relay::PostError;
use sockerless_control::ports::{Environment, FunctionHost, Jobs, Relay, Table};
use sockerless_control::store::Store;
use sockerless_shared::ids::{ConnectionId, ContainerId, FunctionName, RunId};
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::spec::Runtime;

/// Runs nothing, and keeps what is posted to frontends.
#[derive(Default)]
pub(crate) struct World {
    /// To frontends.
    pub(crate) posted: Mutex<Vec<String>>,
}

#[async_trait]
impl FunctionHost for World {
    async fn ensure(&self, _: &FunctionShape) -> Result<EnsuredFunction, HostError> {
        Err(HostError::Failed("nothing runs here".to_owned()))
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

    async fn operator_log(&self, _: &RunId, _: Option<&str>, _: usize) -> Result<Bytes, HostError> {
        Ok(Bytes::new())
    }

    fn relay_url(&self) -> String {
        "ws://127.0.0.1:9/".to_owned()
    }
}

#[async_trait]
impl Relay for World {
    async fn post(&self, _: &ConnectionId, text: String) -> Result<(), PostError> {
        self.posted.lock().unwrap().push(text);
        Ok(())
    }

    async fn disconnect(&self, _: &ConnectionId) -> Result<(), PostError> {
        Ok(())
    }
}

#[async_trait]
impl Jobs for World {
    async fn submit(&self, _: Job) -> Result<(), JobError> {
        Ok(())
    }

    async fn submit_later(&self, _: Job, _: Duration) -> Result<(), JobError> {
        Ok(())
    }
}

/// A control plane over a table in memory, with its folders here.
#[allow(dead_code, reason = "others make one of other parts")]
pub(crate) fn control(
    folder: &Path,
    environment: &Arc<dyn Environment>,
    (host, relay, jobs): (Arc<dyn FunctionHost>, Arc<dyn Relay>, Arc<dyn Jobs>),
) -> Control {
    let table: Arc<dyn Table> = Arc::new(SqliteTable::in_memory().unwrap());
    let key = Key::from_random([7; 32]);
    let blobs = FolderBlobs::open(
        &folder.join("blobs"),
        "http://127.0.0.1:9/blobs",
        key.derive("blob URLs"),
        Arc::clone(environment),
    );
    let limits = ImageLimits::default();
    let layers = LayerFolders::open(&folder.join("layers"), limits.layer);
    let images = Images::new(
        Catalog::new(Arc::clone(&table)),
        Arc::new(OciLayout::open(&folder.join("images")).unwrap()),
        Arc::new(layers.unwrap()),
        Arc::clone(environment),
        Platform::host(),
        limits,
    );
    let parts = Parts {
        store: Store::new(table, Arc::clone(environment)),
        environment: Arc::clone(environment),
        host,
        relay,
        blobs: Arc::new(blobs.unwrap()),
        jobs,
        images,
    };
    Control::new(parts, config(key))
}

/// Of a control plane in this world.
pub(crate) fn config(key: Key) -> Config {
    Config {
        master_key: key,
        default_runtime: Runtime::Function,
        function_time_limit: Duration::from_secs(60),
        default_memory_mib: 2048,
        tmp_mib: 512,
        function_per_container: false,
        spend_guard: SpendGuard::default(),
        place: Place {
            name: "local".to_owned(),
            kernel: String::new(),
            operating_system: String::new(),
            cpus: 1,
            memory_bytes: 0,
            host_name: String::new(),
            data_dir: String::new(),
            architecture: String::new(),
            cgroup_version: String::new(),
            function_has_pty: false,
            discards_disk_weights: false,
        },
    }
}
