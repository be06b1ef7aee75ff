//! The whole control plane in one process: the wiring of the embedded adapters.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use sockerless_shared::ids::{ImageDigest, RunId};
use sockerless_shared::protocol::mac::Key;
use sockerless_shared::spec::Runtime;
use thiserror::Error;
use tokio::net::TcpStream;

use super::blobs::FolderBlobs;
use super::environment::SystemEnvironment;
use super::gateway::{Gateway, GatewayConfig};
use super::host::{HostConfig, LocalFunctionHost, Policy, RootfsProvider};
use super::images::{LayerFolders, OciLayout, Rootfs};
use super::place::place;
use super::table::SqliteTable;
use crate::engine::spend::SpendGuard;
use crate::engine::{Config, Control, Parts};
use crate::images::catalog::Catalog;
use crate::images::platform::Platform;
use crate::images::remote::RegistrySettings;
use crate::images::store::{ImageLimits, Images};
use crate::ports::function_host::{InvocationEnd, InvocationEvents};
use crate::ports::jobs::{Job, JobError};
use crate::ports::{Environment, GatewayEvents, Jobs, Table};
use crate::store::Store;

/// Memory of a function whose container names none, in MiB: enough for a vCPU on Lambda.
const DEFAULT_MEMORY_MIB: u32 = 1_769;

/// Size of `/tmp`, in MiB: what Lambda gives without asking.
const TMP_MIB: u32 = 512;

/// How often the sweep looks for runs whose deadline has passed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How long containers may take to stop when the process is told to end; dockerd's own.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(15);

/// Where the gateway is, as seen from inside a sandbox.
const BLOBS_URL: &str = "http://127.0.0.1:9002/blobs";

/// What a local control plane is told.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// The runtime of a container that names none.
    pub default_runtime: Runtime,
    /// The time limit of [`Runtime::Function`]; Lambda's 900 s unless a test shortens it.
    pub function_time_limit: Duration,
    /// The gateway's manners.
    pub gateway: GatewayConfig,
    /// How registries are spoken to.
    pub registries: RegistrySettings,
}

impl LocalConfig {
    /// The usual one.
    #[must_use]
    pub fn new(data_dir: PathBuf, agent: PathBuf) -> Self {
        Self {
            data_dir,
            agent,
            default_runtime: Runtime::Function,
            function_time_limit: Duration::from_secs(900),
            gateway: GatewayConfig::default(),
            registries: RegistrySettings::usual(),
        }
    }
}

/// Why it does not start.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct LocalError(String);

impl LocalError {
    /// A sentence.
    #[must_use]
    pub const fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

/// A control plane with everything it needs, in this process.
pub struct Local {
    control: Arc<Control>,
    gateway: Gateway,
    host: Arc<LocalFunctionHost>,
    sweep: tokio::task::JoinHandle<()>,
}

impl Local {
    /// Opens the data folder and starts. Containers that ran when an earlier
    /// process died are reported as ended.
    ///
    /// # Errors
    /// A sentence: what could not be had, and what to do.
    pub async fn start(config: LocalConfig) -> Result<Self, LocalError> {
        let data_dir = &config.data_dir;
        make_private(data_dir)?;
        let data_dir = &fs::canonicalize(data_dir).map_err(|e| failed("find", data_dir, &e))?;
        let environment: Arc<dyn Environment> = Arc::new(SystemEnvironment);
        let master_key = master_key(&data_dir.join("master.key"), &environment)?;

        let table = SqliteTable::open(&data_dir.join("state.sqlite")).map_err(say)?;
        let table: Arc<dyn Table> = Arc::new(table);
        let blob_key = master_key.derive("blob URLs");
        let blobs = FolderBlobs::open(
            &data_dir.join("blobs"),
            BLOBS_URL,
            blob_key,
            Arc::clone(&environment),
        );
        let blobs = Arc::new(blobs.map_err(say)?);
        let gateway = Gateway::new(config.gateway, Arc::clone(&blobs), Arc::clone(&environment));
        let (images, rootfs) = images(data_dir, &table, &environment)?;
        let images = images.with_registries(config.registries);

        let late = Arc::new(Late::default());
        let accept = gateway.clone();
        let host = LocalFunctionHost::start(HostConfig {
            data_dir: data_dir.join("host"),
            agent: config.agent,
            helper: PathBuf::from(HostConfig::THIS_PROGRAM),
            search_path: std::env::var_os("PATH").unwrap_or_default(),
            policy: Policy {
                time_limit: config.function_time_limit,
                warm_ahead: 1,
                ..Policy::default()
            },
            layers: rootfs,
            gateway: Arc::new(move |stream: TcpStream| {
                // Without it a small message waits for an earlier one's acknowledgement.
                let _ = stream.set_nodelay(true);
                let gateway = accept.clone();
                tokio::spawn(async move { gateway.serve(stream).await });
            }),
            events: Arc::clone(&late) as Arc<dyn InvocationEvents>,
        });
        let host = Arc::new(host.await.map_err(say)?);

        let parts = Parts {
            store: Store::new(table, Arc::clone(&environment)),
            environment,
            host: Arc::clone(&host) as Arc<_>,
            relay: Arc::new(gateway.clone()),
            blobs,
            jobs: Arc::clone(&late) as Arc<_>,
            images,
        };
        let control = Arc::new(Control::new(
            parts,
            Config {
                master_key,
                default_runtime: config.default_runtime,
                function_time_limit: config.function_time_limit,
                default_memory_mib: DEFAULT_MEMORY_MIB,
                tmp_mib: TMP_MIB,
                function_per_container: false,
                spend_guard: SpendGuard::default(),
                place: place(data_dir, host.discards_disk_weights()),
            },
        ));
        late.bind(&control);
        gateway.attach(&(Arc::clone(&control) as Arc<dyn GatewayEvents>));
        control.recover().await.map_err(say)?;
        let sweep = tokio::spawn(sweep(Arc::downgrade(&control)));
        Ok(Self {
            control,
            gateway,
            host,
            sweep,
        })
    }

    /// The control plane.
    #[must_use]
    pub const fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The relay's gateway.
    #[must_use]
    pub const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Stops every container that runs, then everything else. How many
    /// containers did not end in time and were killed.
    pub async fn shut_down(&self) -> usize {
        self.sweep.abort();
        let left = self
            .control
            .shut_down(SHUTDOWN_LIMIT)
            .await
            .unwrap_or_else(|error| {
                tracing::error!(%error, "containers could not be stopped one by one");
                0
            });
        self.host.shutdown().await;
        self.gateway.close();
        left
    }
}

fn images(
    data_dir: &Path,
    table: &Arc<dyn Table>,
    environment: &Arc<dyn Environment>,
) -> Result<(Images, Arc<Rootfs>), LocalError> {
    let layout = Arc::new(OciLayout::open(&data_dir.join("images")).map_err(say)?);
    let limits = ImageLimits::default();
    let folders = LayerFolders::open(&data_dir.join("layers"), limits.layer).map_err(say)?;
    let images = Images::new(
        Catalog::new(Arc::clone(table)),
        Arc::clone(&layout) as Arc<_>,
        Arc::new(folders.clone()),
        Arc::clone(environment),
        Platform::host(),
        limits,
    );
    Ok((images, Arc::new(Rootfs::new(layout, folders))))
}

#[async_trait]
impl RootfsProvider for Rootfs {
    async fn layers(&self, image: &ImageDigest) -> Result<Vec<PathBuf>, String> {
        Self::layers(self, image)
            .await
            .map_err(|error| error.to_string())
    }
}

/// Looks now and then for runs whose deadline has passed, for as long as there is somebody to look.
async fn sweep(control: Weak<Control>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let Some(control) = control.upgrade() else {
            return;
        };
        if let Err(error) = control.sweep().await {
            tracing::error!(%error, "the sweep could not finish; the next one goes on");
        }
    }
}

/// Stands for the control plane while it is being made, for those that it is made of.
#[derive(Default)]
struct Late(OnceLock<Weak<Control>>);

impl Late {
    fn bind(&self, control: &Arc<Control>) {
        // Bound once, right after it was made.
        let _ = self.0.set(Arc::downgrade(control));
    }

    fn control(&self) -> Option<Arc<Control>> {
        self.0.get()?.upgrade()
    }
}

#[async_trait]
impl InvocationEvents for Late {
    async fn invocation_ended(&self, run: &RunId, end: InvocationEnd) {
        if let Some(control) = self.control() {
            control.invocation_ended(run, end).await;
        }
    }
}

#[async_trait]
impl Jobs for Late {
    async fn submit(&self, job: Job) -> Result<(), JobError> {
        let control = self
            .control()
            .ok_or_else(|| JobError("the control plane is ending".to_owned()))?;
        tokio::spawn(async move { carry_out(&control, job).await });
        Ok(())
    }

    async fn submit_later(&self, job: Job, delay: Duration) -> Result<(), JobError> {
        let control = self
            .0
            .get()
            .cloned()
            .ok_or_else(|| JobError("the control plane is ending".to_owned()))?;
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if let Some(control) = control.upgrade() {
                carry_out(&control, job).await;
            }
        });
        Ok(())
    }
}

/// Nobody asks for it again: what a failed one leaves undone is the sweep's.
async fn carry_out(control: &Control, job: Job) {
    if let Err(error) = control.run_job(job).await {
        tracing::error!(%error, "background work failed; the sweep makes it good");
    }
}

fn say(error: impl std::fmt::Display) -> LocalError {
    LocalError(error.to_string())
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> LocalError {
    LocalError(format!(
        "cannot {what} {}: {error}; choose another --data-dir",
        path.display()
    ))
}

fn make_private(folder: &Path) -> Result<(), LocalError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed("make", folder, &error))
}

/// The secret of this installation: read, or drawn and written once, for its owner alone.
fn master_key(path: &Path, environment: &Arc<dyn Environment>) -> Result<Key, LocalError> {
    match fs::read_to_string(path) {
        Ok(text) => Key::try_from(text.trim().to_owned()).map_err(|error| {
            LocalError(format!(
                "{} is damaged: {error}; remove it to have a new one drawn",
                path.display()
            ))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = Key::from_random(environment.random());
            let write = || {
                let part = path.with_extension("part");
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&part)?;
                file.write_all(String::from(key.clone()).as_bytes())?;
                file.sync_all()?;
                fs::rename(&part, path)
            };
            write().map_err(|error| failed("write", path, &error))?;
            Ok(key)
        }
        Err(error) => Err(failed("read", path, &error)),
    }
}
