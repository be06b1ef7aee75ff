//! A host with a fake agent, and what it was told.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_control::embedded::host::{
    HostConfig, LocalFunctionHost, Policy, RootfsProvider, StartError,
};
use sockerless_control::ports::FunctionHost;
use sockerless_control::ports::function_host::{
    FunctionShape, InvocationEnd, InvocationEvents, Network,
};
use sockerless_control::ports::machine::Machine;
use sockerless_shared::ids::{ContainerId, FunctionName, ImageDigest, RunId};
use sockerless_shared::spec::Runtime;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Names a fake agent that has been compiled already.
pub(crate) const AGENT_VARIABLE: &str = "SOCKERLESS_TEST_FAKE_AGENT";

/// The compiled fake agent.
pub(crate) fn agent() -> PathBuf {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT
        .get_or_init(|| std::env::var_os(AGENT_VARIABLE).map_or_else(compile_agent, PathBuf::from))
        .clone()
}

fn compile_agent() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/fake_agent.rs");
    let agent = folder.join("fake-agent");
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    if let (Ok(source), Ok(agent_changed)) = (changed(&source), changed(&agent))
        && source < agent_changed
    {
        return agent;
    }
    // Aside, then renamed: other test processes may do the same.
    let aside = folder.join(format!("fake-agent.{}", std::process::id()));
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "-O", "-C", "strip=symbols", "--target"])
        .arg(format!("{}-unknown-linux-musl", std::env::consts::ARCH))
        .arg("-o")
        .args([&aside, &source])
        .status()
        .expect("rustc runs");
    assert!(
        status.success(),
        "the fake agent needs the musl target: rustup target add {}-unknown-linux-musl",
        std::env::consts::ARCH
    );
    std::fs::rename(aside, &agent).expect("the agent can be renamed");
    agent
}

/// An image made of folders.
pub(crate) struct Folders(pub(crate) Vec<PathBuf>);

#[async_trait]
impl RootfsProvider for Folders {
    async fn layers(&self, _: &ImageDigest) -> Result<Vec<PathBuf>, String> {
        Ok(self.0.clone())
    }
}

struct Events(mpsc::UnboundedSender<(RunId, InvocationEnd)>);

#[async_trait]
impl InvocationEvents for Events {
    async fn invocation_ended(&self, run: &RunId, end: InvocationEnd) {
        let _ = self.0.send((run.clone(), end));
    }
}

pub(crate) struct Fixture {
    pub(crate) host: LocalFunctionHost,
    pub(crate) data: PathBuf,
    ends: Mutex<mpsc::UnboundedReceiver<(RunId, InvocationEnd)>>,
    reports: Mutex<mpsc::UnboundedReceiver<String>>,
    _folder: Option<TempDir>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.host.shutdown());
        });
    }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(Policy::default()).await
    }

    pub(crate) async fn with(policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut fixture = Self::open(&data, policy, vec![]).await;
        fixture._folder = Some(folder);
        fixture
    }

    pub(crate) async fn open(data: &Path, policy: Policy, layers: Vec<PathBuf>) -> Self {
        Self::try_open(data, policy, layers)
            .await
            .unwrap_or_else(|error| {
                panic!("these tests need root, or user namespaces for ordinary users: {error}")
            })
    }

    pub(crate) async fn try_open(
        data: &Path,
        policy: Policy,
        layers: Vec<PathBuf>,
    ) -> Result<Self, StartError> {
        let (end_sender, ends) = mpsc::unbounded_channel();
        let (report_sender, reports) = mpsc::unbounded_channel();
        let host = LocalFunctionHost::start(HostConfig {
            data_dir: data.to_owned(),
            agent: agent(),
            helper: HostConfig::THIS_PROGRAM.into(),
            search_path: "/usr/bin:/bin".into(),
            policy,
            layers: Arc::new(Folders(layers)),
            gateway: Arc::new(move |mut stream: TcpStream| {
                let sender = report_sender.clone();
                tokio::spawn(async move {
                    let mut text = String::new();
                    if stream.read_to_string(&mut text).await.is_ok() {
                        let _ = sender.send(text);
                    }
                });
            }),
            events: Arc::new(Events(end_sender)),
        })
        .await?;
        Ok(Self {
            host,
            data: data.to_owned(),
            ends: Mutex::new(ends),
            reports: Mutex::new(reports),
            _folder: None,
        })
    }

    pub(crate) async fn function(&self) -> FunctionName {
        self.ensure(&function_shape()).await
    }

    pub(crate) async fn ensure(&self, shape: &FunctionShape) -> FunctionName {
        self.host.ensure(shape).await.unwrap().name
    }

    /// Invokes; does not wait.
    pub(crate) async fn start(&self, function: &FunctionName, payload: &str) -> RunId {
        let mut bytes = [0; 16];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
            .unwrap();
        let run = RunId::from_random(bytes);
        self.host
            .invoke(function, &run, Bytes::copy_from_slice(payload.as_bytes()))
            .await
            .unwrap();
        run
    }

    /// The next end that is told.
    pub(crate) async fn end(&self) -> (RunId, InvocationEnd) {
        tokio::time::timeout(PATIENCE, async { self.ends.lock().await.recv().await })
            .await
            .expect("an invocation ends in time")
            .unwrap()
    }

    /// The next report that an agent sends.
    pub(crate) async fn report(&self) -> String {
        tokio::time::timeout(PATIENCE, async { self.reports.lock().await.recv().await })
            .await
            .expect("an agent reports in time")
            .unwrap()
    }

    /// Invokes, waits, and returns how it ended.
    pub(crate) async fn run(&self, function: &FunctionName, payload: &str) -> InvocationEnd {
        let run = self.start(function, payload).await;
        let (ended, end) = self.end().await;
        assert_eq!(ended, run);
        end
    }

    /// Invokes, expects success, and returns the agent's report.
    pub(crate) async fn ask(&self, function: &FunctionName, payload: &str) -> String {
        let end = self.run(function, payload).await;
        assert_eq!(end, InvocationEnd::Succeeded, "{payload}");
        self.report().await
    }
}

pub(crate) fn function_shape() -> FunctionShape {
    FunctionShape {
        image: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
        runtime: Runtime::Function,
        memory_mib: 128,
        tmp_mib: 512,
        network: Network::None,
        architecture: None,
        owner: None,
        machine: None,
    }
}

pub(crate) fn microvm_shape(owner: u8) -> FunctionShape {
    FunctionShape {
        runtime: Runtime::Microvm,
        owner: Some(ContainerId::from_random([owner; 32])),
        machine: Some(Box::new(Machine {
            hostname: format!("host{owner}"),
            ..Machine::default()
        })),
        ..function_shape()
    }
}

/// The line of a report that answers a command.
pub(crate) fn answer<'a>(report: &'a str, command: &str) -> &'a str {
    report
        .lines()
        .find_map(|line| line.strip_prefix(command)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("{command:?} is not answered in {report}"))
}
