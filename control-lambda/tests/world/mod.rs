//! A world in which nothing runs, for control planes that are asked about other things.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_control::engine::spend::SpendGuard;
use sockerless_control::engine::{Config, Place};
use sockerless_control::ports::function_host::{EnsuredFunction, FunctionShape, HostError};
use sockerless_control::ports::jobs::{Job, JobError};
use sockerless_control::ports::relay::PostError;
use sockerless_control::ports::{FunctionHost, Jobs, Relay};
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

/// Of a control plane in this world.
pub(crate) fn config(key: Key) -> Config {
    Config {
        master_key: key,
        default_runtime: Runtime::Function,
        function_time_limit: Duration::from_secs(900),
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
