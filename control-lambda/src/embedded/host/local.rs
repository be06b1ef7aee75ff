//! [`FunctionHost`] on this machine.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use sockerless_shared::ids::{ContainerId, FunctionName, Namespace, RunId};
use sockerless_shared::protocol::invocation::MAX_PAYLOAD_BYTES;
use sockerless_shared::spec::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::base::BaseLayers;
use super::cgroup::Cgroups;
use super::config::{HostConfig, StartError};
use super::log_stream::LogStreams;
use super::outside::Outside;
use super::pool::{Invocation, Pool};
use super::shared::{Shared, lock};
use super::talk::{Launcher, reclaim, talk};
use super::volumes;
use super::warden::parameter;
use crate::ports::function_host::{
    EnsuredFunction, FunctionHost, FunctionShape, HostError, Network,
};
use crate::ports::machine::{Machine, MountSource, Resources};

/// Where the relay's gateway listens, inside.
const RELAY_URL: &str = "ws://127.0.0.1:9002/";

/// Runs functions in sandboxes on this machine. Dropping it ends them all.
pub struct LocalFunctionHost {
    shared: Arc<Shared>,
    /// Ended when this is dropped.
    _tasks: JoinSet<()>,
    /// Held for as long as the folder is in use.
    _lock: File,
}

impl LocalFunctionHost {
    /// Starts the host, and cleans up what an earlier one that was killed left behind.
    ///
    /// # Errors
    /// When the folder is in use or cannot be written, or when this machine
    /// allows no sandboxes: neither root nor user namespaces.
    pub async fn start(config: HostConfig) -> Result<Self, StartError> {
        let files = |what: String| move |source| StartError::Files { what, source };
        let scratch = config.data_dir.join("scratch");
        for folder in ["mnt", "templates"].map(|name| scratch.join(name)) {
            fs::create_dir_all(&folder).map_err(files(format!("make {}", folder.display())))?;
        }
        let data_dir = fs::canonicalize(&config.data_dir)
            .map_err(files(format!("find {}", config.data_dir.display())))?;
        let lock = take_lock(&data_dir)?;
        let outside = Outside::find(&config.search_path);
        let base = BaseLayers::make(&data_dir.join("base"), &config.agent, &outside.name_servers)
            .map_err(files(format!("prepare {}", config.agent.display())))?;
        let streams = data_dir.join("log-streams");
        let streams =
            LogStreams::open(&streams).map_err(files(format!("open {}", streams.display())))?;
        let instance = hex::encode(Sha256::digest(data_dir.as_os_str().as_encoded_bytes()));
        let cgroups = Cgroups::find(instance.get(..16).unwrap_or_default());
        if let Err(why) = &cgroups {
            tracing::warn!(why, "memory of containers cannot be limited");
        }
        if let Some(warning) = &outside.warning {
            tracing::warn!("{warning}");
        }
        let launcher = Launcher {
            helper: config.helper,
            scratch: data_dir.join("scratch"),
        };
        let first = launcher
            .start()
            .await
            .map_err(|error| StartError::Sandbox(error.to_string()))?;
        let (orders, received) = mpsc::unbounded_channel();
        let shared = Arc::new_cyclic(|this| Shared {
            init_limit: config.policy.init_limit,
            pool: Mutex::new(Pool::new(config.policy)),
            live: Mutex::default(),
            removals: Mutex::default(),
            orders,
            idle: Arc::default(),
            base,
            streams,
            cgroups,
            outside,
            data_dir,
            layers: config.layers,
            gateway: config.gateway,
            events: config.events,
            this: Weak::clone(this),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(talk(launcher, first, received, Arc::downgrade(&shared)));
        tasks.spawn(reclaim(Arc::downgrade(&shared), Arc::clone(&shared.idle)));
        Ok(Self {
            shared,
            _tasks: tasks,
            _lock: lock,
        })
    }

    /// Kills every environment, waits until all are gone, and makes no more. What
    /// they ran ends as [`crate::ports::function_host::InvocationEnd::Crashed`];
    /// stop containers first.
    pub async fn shutdown(&self) {
        self.shared.act(Pool::close);
        let waits: Vec<_> = lock(&self.shared.live)
            .values()
            .map(|environment| environment.alive.subscribe())
            .collect();
        for mut wait in waits {
            // Ends with an error, when the sender is gone.
            while wait.changed().await.is_ok() {}
        }
    }

    /// Whether this machine's control groups know no weights of disks.
    #[must_use]
    pub fn discards_disk_weights(&self) -> bool {
        let cgroups = self.shared.cgroups.as_ref();
        cgroups.is_ok_and(|cgroups| !cgroups.weighs_disks())
    }

    /// The file of a log stream (`AWS_LAMBDA_LOG_STREAM_NAME`).
    #[must_use]
    pub fn log_stream_path(&self, name: &str) -> PathBuf {
        self.shared.streams.path(name)
    }
}

#[async_trait]
impl FunctionHost for LocalFunctionHost {
    async fn ensure(&self, shape: &FunctionShape) -> Result<EnsuredFunction, HostError> {
        let shared = &self.shared;
        check(shape)?;
        if let Some(machine) = &shape.machine {
            check_machine(machine)?;
        }
        // That the image is there is said now, not when it is invoked.
        shared
            .layers
            .layers(&shape.image)
            .await
            .map_err(HostError::Failed)?;
        let name = name_of(shape, shared.base.agent_sha256())?;
        shared.act(|pool| pool.ensure(&name, shape));
        let mut warnings = Vec::new();
        if let Err(why) = &shared.cgroups {
            warnings.push(format!(
                "Memory is not limited to {} MiB on this machine: {why}.",
                shape.memory_mib
            ));
        }
        let resources = shape.machine.as_ref().map(|machine| &machine.resources);
        if let Some(resources) = resources
            && *resources != Resources::default()
        {
            match &shared.cgroups {
                Err(why) => warnings.push(format!(
                    "Shares of processors, processes and disks are not limited on this machine: {why}."
                )),
                Ok(cgroups) if cgroups.weighs_disks() => check_weight(resources)?,
                Ok(_) => {}
            }
        }
        if shape.network == Network::Outbound {
            warnings.extend(shared.outside.warning.clone());
        }
        Ok(EnsuredFunction { name, warnings })
    }

    async fn invoke(
        &self,
        function: &FunctionName,
        run: &RunId,
        payload: Bytes,
    ) -> Result<(), HostError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(HostError::PayloadTooLarge(payload.len()));
        }
        let invocation = Invocation {
            run: run.clone(),
            payload,
        };
        let mut known = false;
        self.shared.act(|pool| {
            let effects = pool.invoke(function, invocation);
            known = effects.is_some();
            effects.unwrap_or_default()
        });
        if known {
            Ok(())
        } else {
            Err(HostError::NoSuchFunction(function.clone()))
        }
    }

    async fn delete(&self, function: &FunctionName) -> Result<(), HostError> {
        self.shared.act(|pool| pool.delete(function));
        Ok(())
    }

    async fn remove_writable(&self, container: &ContainerId) -> Result<(), HostError> {
        let shared = &self.shared;
        let mut owned = Vec::new();
        shared.act(|pool| {
            let (effects, alive) = pool.evict_owner(container);
            owned = alive;
            effects
        });
        let waits: Vec<_> = {
            let live = lock(&shared.live);
            owned
                .iter()
                .filter_map(|id| Some(live.get(id)?.alive.subscribe()))
                .collect()
        };
        for mut wait in waits {
            while wait.changed().await.is_ok() {}
        }
        shared.remove_tree(shared.writable(container)).await
    }

    async fn make_volume(&self, namespace: &Namespace, name: &str) -> Result<String, HostError> {
        self.shared.make_volume(namespace, name)
    }

    async fn remove_volume(&self, namespace: &Namespace, name: &str) -> Result<(), HostError> {
        self.shared.remove_volume(namespace, name).await
    }

    async fn volume_size(&self, namespace: &Namespace, name: &str) -> Result<u64, HostError> {
        self.shared.volume_size(namespace, name).await
    }

    async fn writable_size(&self, container: &ContainerId) -> Result<Option<u64>, HostError> {
        let upper = self.shared.writable(container).join("upper");
        volumes::size(upper).await.map(Some)
    }

    async fn freeze(&self, run: &RunId, stop: bool) -> Result<bool, HostError> {
        let freezer = {
            let Some(id) = lock(&self.shared.pool).running(run) else {
                return Ok(false);
            };
            let live = lock(&self.shared.live);
            let group = live
                .get(&id)
                .and_then(|environment| environment.cgroup.as_ref());
            group.and_then(|group| group.freezer.clone())
        };
        let Some(freezer) = freezer else {
            return Ok(false);
        };
        let outcome = if stop {
            freezer.freeze().await
        } else {
            freezer.thaw()
        };
        outcome
            .map(|()| true)
            .map_err(|error| HostError::Failed(format!("stop or resume its processes: {error}")))
    }

    async fn update(
        &self,
        run: Option<&RunId>,
        memory_mib: u32,
        resources: &Resources,
    ) -> Result<(), HostError> {
        let cgroups = match &self.shared.cgroups {
            Ok(cgroups) => cgroups,
            Err(why) => {
                return Err(HostError::Unsupported(format!(
                    "the limits of a container cannot be updated on this machine: {why}"
                )));
            }
        };
        if cgroups.weighs_disks() {
            check_weight(resources)?;
        }
        let Some(id) = run.and_then(|run| lock(&self.shared.pool).running(run)) else {
            return Ok(());
        };
        let mut live = lock(&self.shared.live);
        let group = live
            .get_mut(&id)
            .and_then(|environment| environment.cgroup.as_mut());
        if let Some(group) = group {
            cgroups
                .update(id, memory_mib, resources, group)
                .map_err(|error| HostError::Failed(error.to_string()))?;
        }
        Ok(())
    }

    async fn operator_log(
        &self,
        run: &RunId,
        _: Option<&str>,
        limit: usize,
    ) -> Result<Bytes, HostError> {
        let (shared, run) = (Arc::clone(&self.shared), run.clone());
        tokio::task::spawn_blocking(move || shared.streams.of_run(&run, limit))
            .await
            .map_err(|error| HostError::Failed(format!("read log streams: {error}")))?
            .map_err(|error| HostError::Failed(format!("read log streams: {error}")))
    }

    fn relay_url(&self) -> String {
        RELAY_URL.to_owned()
    }
}

fn check(shape: &FunctionShape) -> Result<(), HostError> {
    let unsupported = |sentence: String| Err(HostError::Unsupported(sentence));
    shape.check_sizes()?;
    match (shape.runtime, &shape.owner) {
        (Runtime::Function, None) | (Runtime::Microvm, Some(_)) => Ok(()),
        (Runtime::Function, Some(_)) => unsupported("a function has no owner".to_owned()),
        (Runtime::Microvm, None) => unsupported("a microvm needs an owner".to_owned()),
    }
}

/// What only this machine can say; in Docker's words.
fn check_machine(machine: &Machine) -> Result<(), HostError> {
    let refused = |message: String| Err(HostError::Unsupported(message));
    for name in machine.sysctls.keys() {
        let path = parameter(name);
        if !path.exists() {
            return refused(format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: open {}: no such file or directory",
                path.display()
            ));
        }
    }
    for (path, _) in &machine.devices {
        let what = match fs::metadata(path) {
            Err(_) => "no such file or directory",
            Ok(found) if is_device(&found) => continue,
            Ok(_) => "not a device node",
        };
        return refused(format!(
            "error gathering device information while adding custom device \"{path}\": {what}"
        ));
    }
    for mount in &machine.mounts {
        if let MountSource::Host {
            path, make: false, ..
        } = &mount.source
            && !Path::new(path).exists()
        {
            return refused(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {path}"
            ));
        }
    }
    for (_, path, _) in &machine.resources.disk_limits {
        if !Path::new(path).exists() {
            return refused(format!("stat {path}: no such file or directory"));
        }
    }
    Ok(())
}

/// What Docker says of a weight of disks, where it is known.
fn check_weight(resources: &Resources) -> Result<(), HostError> {
    let weight = resources.disk_weight;
    if weight > 0 && !(10..=1000).contains(&weight) {
        let message = "Range of blkio weight is from 10 to 1000".to_owned();
        return Err(HostError::Unsupported(message));
    }
    Ok(())
}

fn is_device(found: &fs::Metadata) -> bool {
    found.file_type().is_char_device() || found.file_type().is_block_device()
}

/// The function's name says what it is: the same for the same shape and agent.
fn name_of(shape: &FunctionShape, agent_sha256: &str) -> Result<FunctionName, HostError> {
    let shape = serde_json::to_string(shape)
        .map_err(|error| HostError::Failed(format!("name the function: {error}")))?;
    let digest = hex::encode(Sha256::digest(format!("{shape}\n{agent_sha256}")));
    format!("skls-{}", digest.get(..32).unwrap_or_default())
        .parse()
        .map_err(|error| HostError::Failed(format!("name the function: {error}")))
}

fn take_lock(data_dir: &Path) -> Result<File, StartError> {
    let path = data_dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| StartError::Files {
            what: format!("open {}", path.display()),
            source,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::InUse(data_dir.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(StartError::Files {
            what: format!("lock {}", path.display()),
            source,
        }),
    }
}
