//! What one invocation of the control function has of images, in a repository apart.

use std::sync::Arc;

use sockerless_control::aws::layers::CheckedLayers;
use sockerless_control::aws::registry::runnable::EcrImages;
use sockerless_control::aws::registry::{AgentLayer, EcrRegistry};
use sockerless_control::aws::sdk::Sdk;
use sockerless_control::aws::table::DynamoTable;
use sockerless_control::images::catalog::Catalog;
use sockerless_control::images::platform::Platform;
use sockerless_control::images::{ImageLimits, Images};
use sockerless_control::ports::function_host::Architecture;
use sockerless_control::ports::{Environment, Table};
use sockerless_shared::ids::Namespace;

use super::{Clock, variable};

/// Nothing of it outlasts the invocation but what is in the table and the repository.
pub(super) struct Invocation {
    pub(super) images: Images,
    pub(super) registry: Arc<EcrRegistry>,
    pub(super) runnable: EcrImages,
    pub(super) table: Arc<dyn Table>,
    _agents: tempfile::TempDir,
}

/// One that finds the repository at this address (`host:port`), with this agent.
pub(super) async fn at(host: &str, agent: &[u8]) -> Invocation {
    let sdk = Sdk::from_environment().await;
    let repository = variable("SOCKERLESS_TEST_IMAGES_REPOSITORY");
    let (_, name) = repository.split_once('/').unwrap();
    let table = DynamoTable::new(&sdk, variable("SOCKERLESS_TEST_IMAGES_TABLE"));
    let table: Arc<dyn Table> = Arc::new(table);
    let environment: Arc<dyn Environment> = Arc::new(Clock);
    let registry = EcrRegistry::new(
        &sdk,
        &format!("{host}/{name}"),
        Arc::clone(&table),
        Arc::clone(&environment),
    );
    let registry = Arc::new(registry.unwrap());
    let limits = ImageLimits::default();
    let layers = CheckedLayers::new(Arc::clone(&table), Arc::clone(&environment), limits.layer);
    let layers = Arc::new(layers);
    let images = Images::new(
        Catalog::new(Arc::clone(&table)),
        Arc::clone(&registry) as Arc<_>,
        Arc::clone(&layers) as Arc<_>,
        environment,
        Platform::of("linux", "amd64", ""),
        limits,
    );
    let folder = tempfile::tempdir().unwrap();
    let agents = Architecture::ALL.map(|architecture| {
        let program = folder.path().join(architecture.as_str());
        std::fs::write(&program, [agent, architecture.as_str().as_bytes()].concat()).unwrap();
        (architecture, AgentLayer::new(program))
    });
    let runnable = EcrImages::new(
        Arc::clone(&registry),
        layers,
        agents.into_iter().collect(),
        limits.layer,
    );
    Invocation {
        images,
        registry,
        runnable,
        table,
        _agents: folder,
    }
}

/// The emulator itself.
pub(super) fn emulator() -> String {
    let repository = variable("SOCKERLESS_TEST_IMAGES_REPOSITORY");
    repository.split_once('/').unwrap().0.to_owned()
}

pub(super) fn namespace() -> Namespace {
    "contract".parse().unwrap()
}
