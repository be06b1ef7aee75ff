//! The control plane on AWS: its parts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sockerless_shared::spec::Runtime;
use thiserror::Error;

use super::blobs::BucketBlobs;
use super::functions::{FunctionSettings, LambdaHost};
use super::jobs::SelfInvocation;
use super::layers::CheckedLayers;
use super::master_key;
use super::registry::runnable::EcrImages;
use super::registry::{AgentLayer, CachedImages, EcrRegistry};
use super::relay::GatewayRelay;
use super::schedule::{Schedule, ScheduleSettings};
use super::sdk::Sdk;
use super::settings::Settings;
use super::table::DynamoTable;
use crate::engine::{Config, Control, Parts, Place};
use crate::environment::SystemEnvironment;
use crate::images::catalog::Catalog;
use crate::images::platform::Platform;
use crate::images::store::{ImageLimits, Images};
use crate::ports::function_host::Architecture;
use crate::ports::{Environment, Table};
use crate::store::Store;

/// The most that one function can have.
const MAX_CPUS: u32 = 6;
const MAX_MEMORY_BYTES: u64 = 10_240 * 1024 * 1024;

/// A part could not be had: which, and why.
#[derive(Debug, Error)]
#[error("the control plane cannot start: {0}")]
pub struct StartError(String);

/// A control plane and what belongs to it on AWS.
pub struct Plane {
    /// The control plane.
    pub control: Arc<Control>,
    /// What its containers are.
    pub host: Arc<LambdaHost>,
    /// Where its images are.
    pub registry: Arc<EcrRegistry>,
    /// What ECR fetches for it.
    pub cached: Arc<CachedImages>,
    /// What it does later.
    pub jobs: Arc<SelfInvocation>,
    /// Clock and randomness.
    pub environment: Arc<dyn Environment>,
    /// What containers run on, unless their image is for another.
    pub architecture: Architecture,
    /// Where frontends connect.
    pub relay_url: String,
}

impl Plane {
    /// Puts it together.
    ///
    /// # Errors
    /// When a part cannot be had.
    pub async fn start(settings: Settings, sdk: &Sdk) -> Result<Self, StartError> {
        let environment: Arc<dyn Environment> = Arc::new(SystemEnvironment);
        let table: Arc<dyn Table> = Arc::new(DynamoTable::new(sdk, settings.table));
        let master_key = master_key::get_or_draw(&*table, &*environment)
            .await
            .map_err(say)?;
        let registry = EcrRegistry::new(
            sdk,
            &settings.repository,
            Arc::clone(&table),
            Arc::clone(&environment),
        );
        let registry = Arc::new(registry.map_err(say)?);
        let cached = Arc::new(registry.cached());
        let agents = agents(&settings.agents, settings.architecture)?;
        let limits = ImageLimits::default();
        let layers = Arc::new(CheckedLayers::new(
            Arc::clone(&table),
            Arc::clone(&environment),
            limits.layer,
        ));
        let runnable = EcrImages::new(
            Arc::clone(&registry),
            Arc::clone(&layers),
            agents,
            limits.layer,
        );
        let host = Arc::new(LambdaHost::new(
            sdk,
            Arc::clone(&table),
            Arc::clone(&environment),
            Arc::new(runnable),
            FunctionSettings {
                role: settings.container_role,
                relay_url: settings.relay_url.clone(),
                control: settings.function_arn.clone(),
                worker: settings.worker_arn,
                architecture: settings.architecture,
                time_limit_s: i32::try_from(settings.timeout_s).unwrap_or(i32::MAX),
                log_group: settings.log_group,
                subnets: settings.subnets,
                security_groups: settings.security_groups,
                tags: settings.tags,
            },
        ));
        let images = Images::new(
            Catalog::new(Arc::clone(&table)),
            Arc::clone(&registry) as Arc<_>,
            layers,
            Arc::clone(&environment),
            platform(settings.architecture),
            limits,
        )
        .with_registries(settings.registries)
        .with_own(Arc::clone(&cached) as Arc<_>);
        let schedule = Schedule::new(
            sdk,
            Arc::clone(&table),
            Arc::clone(&environment),
            ScheduleSettings {
                name: settings.schedule,
                function: settings.function_arn.clone(),
                role: settings.schedule_role,
            },
        );
        let jobs = Arc::new(SelfInvocation::new(sdk, settings.function_arn, schedule));
        let parts = Parts {
            store: Store::new(table, Arc::clone(&environment)),
            environment: Arc::clone(&environment),
            host: Arc::clone(&host) as Arc<_>,
            relay: Arc::new(GatewayRelay::new(sdk, &settings.relay_callback)),
            blobs: Arc::new(BucketBlobs::new(
                sdk,
                settings.bucket,
                Arc::clone(&environment),
            )),
            jobs: Arc::clone(&jobs) as Arc<_>,
            images,
        };
        let config = Config {
            master_key,
            default_runtime: Runtime::Function,
            function_time_limit: Duration::from_secs(settings.timeout_s.into()),
            default_memory_mib: settings.memory_mib,
            tmp_mib: settings.tmp_mib,
            function_per_container: settings.function_per_container,
            spend_guard: settings.spend_guard,
            place: place(settings.architecture),
        };
        Ok(Self {
            control: Arc::new(Control::new(parts, config)),
            host,
            registry,
            cached,
            jobs,
            environment,
            architecture: settings.architecture,
            relay_url: settings.relay_url,
        })
    }
}

/// Docker's names for Lambda's architectures.
fn platform(architecture: Architecture) -> Platform {
    match architecture {
        Architecture::Arm64 => Platform::of("linux", "arm64", "v8"),
        Architecture::X86_64 => Platform::of("linux", "amd64", ""),
    }
}

/// Those that are in this folder, among which the deployment's own has to be.
fn agents(
    folder: &Path,
    own: Architecture,
) -> Result<BTreeMap<Architecture, AgentLayer>, StartError> {
    let mut agents = BTreeMap::new();
    for architecture in Architecture::ALL {
        let program = folder.join(format!("sockerless-agent-{}", architecture.as_str()));
        if program.exists() {
            agents.insert(architecture, AgentLayer::new(program));
        } else if architecture == own {
            return Err(StartError(format!(
                "{} is not there: deploy what `make package` builds",
                program.display()
            )));
        }
    }
    Ok(agents)
}

fn place(architecture: Architecture) -> Place {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Place {
        name: "aws".to_owned(),
        kernel: kernel.trim().to_owned(),
        operating_system: "AWS Lambda".to_owned(),
        cpus: MAX_CPUS,
        memory_bytes: MAX_MEMORY_BYTES,
        host_name: "lambda".to_owned(),
        data_dir: String::new(),
        architecture: match architecture {
            Architecture::Arm64 => "aarch64",
            Architecture::X86_64 => "x86_64",
        }
        .to_owned(),
        cgroup_version: String::new(),
        function_has_pty: false,
        discards_disk_weights: false,
    }
}

fn say(error: impl std::fmt::Display) -> StartError {
    StartError(error.to_string())
}
