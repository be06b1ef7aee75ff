//! The world around an agent: a runtime API, a gateway with a control plane
//! behind it, a blob store, and clients that speak QUIC. The agent itself is the
//! real binary, in PID and mount namespaces of its own with an empty `/tmp`.

#![allow(dead_code)]

pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod stream;

use std::io::Read;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use flate2::read::ZlibDecoder;
use sockerless_shared::ids::{ContainerId, PeerId, RunId};
use sockerless_shared::logs::Record;
use sockerless_shared::logs::spool::decode_all;
use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::control::{Command, ExitStatus, LogSpool, Report};
use sockerless_shared::protocol::invocation::{Errand, Invocation};
use sockerless_shared::protocol::kept::KeptFiles;
use sockerless_shared::protocol::mac::{Key, Token};
use sockerless_shared::protocol::stdcopy::OutputStream;
use sockerless_shared::spec::{Confinement, ContainerSpec, ProcessSpec, Runtime};
use tokio::time::timeout;

use gateway::Gateway;
use http::{Answer, Server};

/// Everything has to happen within this time, unless a test says otherwise.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What containers have for PATH.
pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) gateway: Gateway,
    agent: Child,
}

impl World {
    /// An agent that waits for its first invocation.
    pub(crate) async fn new() -> Self {
        Self::prepared(":").await
    }

    /// An agent under an unprivileged user, as in a function. Needs root.
    pub(crate) async fn unprivileged() -> Self {
        // A change of user forgets what `--kill-child` asked for.
        Self::prepared(
            "chmod 1777 /tmp && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             --pdeathsig KILL \"$0\"",
        )
        .await
    }

    /// An agent that is not process 1, as on Lambda.
    pub(crate) async fn as_a_child() -> Self {
        Self::prepared("\"$0\" & wait $!; exit").await
    }

    /// An agent that has no terminals to give.
    pub(crate) async fn without_terminals() -> Self {
        Self::prepared("mount --bind /dev/null /dev/ptmx").await
    }

    /// An agent that can tell what was written, a file `new`, from what the image has: nothing.
    pub(crate) async fn with_layers() -> Self {
        Self::prepared(
            "mkdir /mnt/image /mnt/written; echo content >/mnt/written/new; \
             exec 7</mnt/image 8</mnt/written 9</mnt/written; export SOCKERLESS_LAYERS=7,8,9",
        )
        .await
    }

    /// An agent whose sandbox a shell script prepares.
    async fn prepared(script: &str) -> Self {
        let server = Server::start().await;
        let gateway = Gateway::start().await;
        let agent = start_agent(&[("AWS_LAMBDA_RUNTIME_API", &server.authority)], script);
        Self {
            server,
            gateway,
            agent,
        }
    }

    /// Invokes the agent for a new run of this container.
    pub(crate) fn invoke(&self, spec: ContainerSpec) -> Invocation {
        self.invoke_for(spec, Duration::from_secs(900))
    }

    /// Invokes the agent for this errand, whose files come from and go to the blob store.
    pub(crate) fn invoke_with_files(
        &self,
        spec: ContainerSpec,
        errand: Errand,
        lay: bool,
    ) -> Invocation {
        let url = format!("http://{}/blob", self.server.authority);
        let invocation = Invocation {
            errand,
            kept: KeptFiles {
                lay_url: lay.then(|| url.clone()),
                keep_url: Some(url),
                lost: None,
            },
            ..self.invocation(spec)
        };
        self.server.invoke(
            serde_json::to_vec(&invocation).unwrap(),
            Duration::from_secs(900),
        );
        invocation
    }

    /// As [`World::invoke`], with the time until the deadline.
    pub(crate) fn invoke_for(&self, spec: ContainerSpec, time_limit: Duration) -> Invocation {
        let invocation = self.invocation(spec);
        self.server
            .invoke(serde_json::to_vec(&invocation).unwrap(), time_limit);
        invocation
    }

    /// An invocation that the control plane knows.
    pub(crate) fn invocation(&self, spec: ContainerSpec) -> Invocation {
        let token = Token::from_random(random());
        let invocation = Invocation {
            version: VERSION,
            run: RunId::from_random(random()),
            container: ContainerId::from_random(random()),
            peer: PeerId::from_random(random()),
            token,
            grant_key: Key::from_random(random()),
            relay_url: self.gateway.url.clone(),
            relay_is_far: false,
            log_upload_url: format!("http://{}/blob", self.server.authority),
            spec,
            errand: Errand::Run,
            kept: KeptFiles::default(),
        };
        self.gateway.expect(&invocation);
        invocation
    }

    /// The next report, whatever it is.
    pub(crate) async fn report(&self) -> Report {
        timeout(LIMIT, self.gateway.next_report())
            .await
            .expect("a report in time")
    }

    /// Waits for the end of the run, past other reports.
    pub(crate) async fn exited(&self) -> (ExitStatus, LogSpool) {
        loop {
            match self.report().await {
                Report::Exited { status, logs, .. } => return (status, logs),
                Report::StartFailed { failure, .. } => panic!("start failed: {failure:?}"),
                Report::Started { .. }
                | Report::Health { .. }
                | Report::Done { .. }
                | Report::ExecStarted { .. }
                | Report::ExecExited { .. }
                | Report::Changed { .. }
                | Report::LayerStored { .. }
                | Report::Left => {}
            }
        }
    }

    /// Waits for the invocation's answer.
    pub(crate) async fn answer(&self) -> Answer {
        timeout(LIMIT, self.server.next_answer())
            .await
            .expect("an answer in time")
    }

    /// Runs a container to its end: exit code, stdout, stderr.
    pub(crate) async fn run(&self, spec: ContainerSpec) -> (i32, String, String) {
        self.invoke(spec);
        let (status, logs) = self.exited().await;
        let answer = self.answer().await;
        assert!(answer.body.contains("finished"), "{answer:?}");
        let records = self.records(logs).await;
        (
            status.code,
            text(&records, OutputStream::Stdout),
            text(&records, OutputStream::Stderr),
        )
    }

    /// The records of a stored log.
    pub(crate) async fn records(&self, logs: LogSpool) -> Vec<Record> {
        use base64::Engine as _;
        let packed = match logs {
            LogSpool::Inline { data } => base64::engine::general_purpose::STANDARD
                .decode(data)
                .unwrap(),
            LogSpool::Uploaded { bytes } => {
                let blob = self.server.blob();
                assert_eq!(blob.len() as u64, bytes);
                blob
            }
            LogSpool::Lost { reason } => panic!("log lost: {reason}"),
        };
        let mut raw = Vec::new();
        ZlibDecoder::new(&packed[..]).read_to_end(&mut raw).unwrap();
        decode_all(&raw).unwrap()
    }

    /// Sends a command and waits until it is done.
    pub(crate) async fn command(&self, command: Command) -> Option<String> {
        timeout(LIMIT, self.gateway.command(command))
            .await
            .expect("a command done in time")
    }

    /// The agent's process id here.
    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.id()
    }

    /// Whether the agent has ended by itself.
    pub(crate) fn agent_ended(&mut self) -> bool {
        self.agent.try_wait().unwrap().is_some()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // `--kill-child` ends the namespace with it.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// Starts the agent as process 1 of namespaces of its own, with this environment alone.
pub(crate) fn start_agent(env: &[(&str, &str)], prepare: &str) -> Child {
    // The program itself may be below the /tmp that is hidden.
    const OUTER: &str = "set -e; mount -t tmpfs tmpfs /mnt; : >/mnt/agent; \
        mount --bind \"$0\" /mnt/agent; mount -t tmpfs tmpfs /tmp; exec sh -c \"$1\" /mnt/agent";
    let inner = format!("set -e; {prepare}; exec \"$0\"");
    let mut process = Process::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        process.args(["--user", "--map-root-user"]);
    }
    process
        .args(["--mount", "--uts", "--pid", "--fork", "--kill-child"])
        .arg("--mount-proc")
        .args(["sh", "-c", OUTER])
        .arg(agent_program())
        .arg(inner)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    process.spawn().expect("util-linux's unshare")
}

/// The agent under test: the one just built, or the one that
/// `SOCKERLESS_TEST_AGENT` names, such as the static one that is shipped.
fn agent_program() -> std::ffi::OsString {
    std::env::var_os("SOCKERLESS_TEST_AGENT")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_sockerless-agent").into())
}

/// A container that runs a shell script.
pub(crate) fn sh(script: &str) -> ContainerSpec {
    container(&["sh", "-c", script])
}

/// A container that runs a program.
pub(crate) fn container(args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        runtime: Runtime::Function,
        process: process(args),
        stdin_once: false,
        hostname: "host".to_owned(),
        stop_signal: libc::SIGTERM,
        stop_timeout_s: 10,
        confinement: Confinement::default(),
        read_only_root: false,
        healthcheck: None,
    }
}

/// A process without stdin and terminal.
pub(crate) fn process(args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: vec![PATH.to_owned()],
        working_dir: "/".to_owned(),
        user: String::new(),
        tty: false,
        open_stdin: false,
        console_size: None,
    }
}

/// The text of one stream of a log.
pub(crate) fn text(records: &[Record], stream: OutputStream) -> String {
    String::from_utf8_lossy(&bytes(records, stream)).into_owned()
}

/// The bytes of one stream of a log.
pub(crate) fn bytes(records: &[Record], stream: OutputStream) -> Vec<u8> {
    records
        .iter()
        .filter(|record| record.stream == stream)
        .flat_map(|record| record.data.clone())
        .collect()
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
