//! One run from the invocation's payload to its answer.

mod visit;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sockerless_shared::ids::Nonce;
use sockerless_shared::protocol::control::{Command, ExitStatus, LogSpool, Report, StartFailure};
use sockerless_shared::protocol::grant::{Grant, Operation};
use sockerless_shared::protocol::invocation::{Errand, Invocation};
use sockerless_shared::quic::{Identity, PEER_GONE, Pace, RelayEndpoint, quinn};
use sockerless_shared::spec::Runtime;
use sockerless_shared::timestamp::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::cleanup::Scratch;
use crate::clock;
use crate::container::{Container, Running};
use crate::deadline::TimeLimit;
use crate::files::kept::keep;
use crate::files::layers::Layers;
use crate::harden;
use crate::health::Prober;
use crate::net::http::put_file;
use crate::note::note;
use crate::oom::OomWatch;
use crate::operator_log::{OperatorLog, RunLog};
use crate::process::failure::start_failure;
use crate::process::reaper::Reaper;
use crate::process::tree::kill_all;
use crate::relay::{Link, LinkEvent};
use crate::spool::Spool;
use crate::spool::pack::{Packed, pack};
use crate::streams::{Active, Phase, Session, accept, run_detached};
use visit::place;

/// Logs up to this many bytes are compressed without a thread: a millisecond or two.
const PACK_HERE_BYTES: u64 = 64 * 1024;

/// How long the operator's log may take to be written at the end.
const LOG_LIMIT: Duration = Duration::from_millis(500);

/// How long QUIC's goodbye to its peers may take.
const GOODBYE: Duration = Duration::from_millis(50);

/// How long output may still be read when processes could not be ended.
const STUCK_LIMIT: Duration = Duration::from_secs(5);

/// What an agent brings to every run.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Waits for processes.
    pub(crate) reaper: Reaper,
    /// The agent's stdout.
    pub(crate) log: OperatorLog,
    /// `/tmp`: the only place that a container may write to in every runtime.
    pub(crate) scratch: Scratch,
    /// The root's two halves, where they can be told apart.
    pub(crate) layers: Option<Arc<Layers>>,
    /// The log stream that its stdout goes to, where the platform names one.
    pub(crate) log_stream: Option<String>,
}

/// How an invocation went, for whoever reads its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The container ran, or could not be started; either is recorded.
    Finished,
    /// The run was claimed by somebody else.
    NotOurs,
    /// The control plane could not be reached in time, or its acknowledgement did not come.
    Unrecorded,
}

impl Outcome {
    /// The word for it in the invocation's answer.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::NotOurs => "not-ours",
            Self::Unrecorded => "unrecorded",
        }
    }
}

/// Carries out one run.
///
/// # Errors
/// When the agent itself cannot do its work; a sentence for operators.
pub(crate) async fn serve(
    agent: &Agent,
    invocation: Invocation,
    identity: Identity,
    deadline: Timestamp,
) -> Result<Outcome, String> {
    let (endpoint, outbox) = RelayEndpoint::server(
        Arc::new(quinn::TokioRuntime),
        invocation.peer.clone(),
        if invocation.relay_is_far {
            Pace::FAR
        } else {
            Pace::NEAR
        },
        &identity,
    )
    .map_err(|error| error.to_string())?;
    let mut nonce = [0; Nonce::BYTES];
    getrandom::fill(&mut nonce).map_err(|error| format!("no randomness: {error}"))?;
    let (link, wanted, link_task) = Link::open(
        &invocation,
        Nonce::from_random(nonce),
        identity.certificate_sha256(),
        agent.log_stream.clone(),
        endpoint.clone(),
        outbox,
    )?;
    let (phase, phases) = watch::channel(Phase::Starting);
    let active = Arc::new(Active::of(endpoint.clone(), invocation.relay_is_far));
    let session = Session {
        run: invocation.run.clone(),
        grant_key: invocation.grant_key.clone(),
        phase: phases,
        link: link.clone(),
        active: Arc::clone(&active),
        place: Arc::new(place(agent, &invocation, &link)),
    };
    let acceptor = tokio::spawn(accept(endpoint.clone(), session));
    let runtime = invocation.spec.runtime;
    let now = clock::now();
    let limit = TimeLimit::plan(now, deadline, invocation.spec.stop_timeout_s);
    let run = Run {
        agent,
        link: link.clone(),
        wanted,
        phase,
        active,
        times: Times::from(limit, now),
        invocation,
        storing: JoinSet::new(),
    };
    let outcome = match run.invocation.errand.clone() {
        Errand::Run => run.carry_out().await,
        Errand::Visit => run.visit().await,
        Errand::StoreLayer {
            command,
            upload_url,
        } => run.store_layer_alone(command, &upload_url).await,
    };

    endpoint.close(PEER_GONE, "the run is over");
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
    acceptor.abort();
    link.close();
    let _ = link_task.await;
    if runtime == Runtime::Function
        && let Err(error) = agent.scratch.empty()
    {
        note!("/tmp could not be emptied: {error}");
    }
    outcome
}

/// [`TimeLimit`] on the timer's clock.
#[derive(Debug, Clone, Copy)]
struct Times {
    stop: Instant,
    kill: Instant,
    give_up: Instant,
}

impl Times {
    fn from(limit: TimeLimit, now: Timestamp) -> Self {
        let start = Instant::now();
        Self {
            stop: start + limit.stop.since(now),
            kill: start + limit.kill.since(now),
            give_up: start + limit.give_up.since(now),
        }
    }
}

struct Run<'a> {
    agent: &'a Agent,
    invocation: Invocation,
    link: Link,
    wanted: mpsc::UnboundedReceiver<LinkEvent>,
    phase: watch::Sender<Phase>,
    active: Arc<Active>,
    times: Times,
    /// Layers that are being stored.
    storing: JoinSet<()>,
}

/// How the main process ended.
struct Ended {
    at: Timestamp,
    code: i32,
    time_limit: bool,
    /// Whether somebody asked for SIGKILL.
    killed: bool,
    /// Whether it was asked to stop, and had SIGKILL when its grace was over.
    grace_over: bool,
}

impl Run<'_> {
    async fn carry_out(mut self) -> Result<Outcome, String> {
        match self.claim().await {
            Some(true) => {}
            Some(false) => return Ok(Outcome::NotOurs),
            None => return Ok(Outcome::Unrecorded),
        }
        let laid = self.lay().await;
        let oom = OomWatch::begin();
        let log = Arc::new(self.agent.log.for_run(
            self.invocation.container.clone(),
            self.invocation.run.clone(),
        ));
        let outcome = match laid.map_err(start_failure).and_then(|()| self.start(&log)) {
            Ok((container, running)) => {
                let started = clock::now();
                drop(self.link.report(Report::Started {
                    at: started,
                    pid: container.pid.as_raw().unsigned_abs(),
                }));
                self.phase
                    .send_replace(Phase::Running(Arc::clone(&container)));
                self.run(&container, running, started, &oom).await
            }
            Err(failure) => {
                let report = Report::StartFailed {
                    at: clock::now(),
                    failure,
                };
                let recorded = self.record(report).await;
                self.phase.send_replace(Phase::Failed);
                recorded
            }
        };
        // A commit that has begun is brought to its end: what was written is still there.
        let storing = async { while self.storing.join_next().await.is_some() {} };
        let _ = timeout_at(self.times.give_up, storing).await;
        self.active
            .drain(self.link.promised_streams(), self.times.give_up)
            .await;
        log.finish(LOG_LIMIT).await;
        Ok(outcome)
    }

    /// Whether the run is ours; `None` if nobody said so in time.
    async fn claim(&mut self) -> Option<bool> {
        loop {
            match timeout_at(self.times.stop, self.wanted.recv()).await {
                Ok(Some(LinkEvent::Claimed)) => return Some(true),
                Ok(Some(LinkEvent::NotOurs | LinkEvent::Disowned)) => return Some(false),
                // Nothing runs yet that a command could be meant for.
                Ok(Some(LinkEvent::Command(id, _))) => {
                    self.link
                        .done(id, Some("the container is not running".to_owned()));
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn start(&self, log: &Arc<RunLog>) -> Result<(Arc<Container>, Running), StartFailure> {
        if self.invocation.spec.runtime == Runtime::Microvm {
            harden::set_hostname(&self.invocation.spec.hostname);
        }
        let spool = Spool::create(self.agent.scratch.folder())
            .map_err(|error| start_failure(format!("the log's spool cannot be made: {error}")))?;
        Container::start(
            self.invocation.spec.clone(),
            self.agent.reaper.clone(),
            spool,
            Arc::clone(log),
        )
    }

    /// From the start of the main process until its end is recorded.
    async fn run(
        &mut self,
        container: &Arc<Container>,
        running: Running,
        started: Timestamp,
        oom: &OomWatch,
    ) -> Outcome {
        let Running { exit, mut readers } = running;
        let prober = Prober::begin(container, &self.link, started);
        let ended = self.supervise(container, exit, prober.as_ref()).await;
        let health = match prober {
            Some(prober) => Some(prober.end().await),
            None => None,
        };
        let all_gone = kill_all(&container.reaper).await;
        let reading = async { while readers.join_next().await.is_some() {} };
        if all_gone {
            // No process is left that could hold a pipe open; only a client that
            // reads slowly can make this take time.
            let _ = timeout_at(self.times.give_up, reading).await;
        } else {
            note!("some processes could not be ended");
            let _ = timeout(STUCK_LIMIT, reading).await;
        }
        readers.abort_all();
        let _ = timeout(STUCK_LIMIT, container.execs_ended()).await;
        container.spool.close();
        let status = ExitStatus {
            code: ended.code,
            oom_killed: oom.seen(ended.code == 128 + libc::SIGKILL && !ended.killed),
            time_limit: ended.time_limit,
            grace_over: ended.grace_over,
        };
        let logs = self.store_log(&container.spool).await;
        let kept = match &self.invocation.kept.keep_url {
            Some(url) => Some(keep(&self.agent.scratch, url, self.left()).await),
            None => None,
        };
        let recorded = self
            .record(Report::Exited {
                at: ended.at,
                status,
                logs,
                kept,
                health,
            })
            .await;
        self.phase.send_replace(Phase::Ended(Arc::clone(container)));
        recorded
    }

    /// Carries out commands and keeps the time until the main process ends.
    async fn supervise(
        &mut self,
        container: &Arc<Container>,
        mut exit: tokio::sync::oneshot::Receiver<i32>,
        prober: Option<&Prober>,
    ) -> Ended {
        let mut kill_at: Option<Instant> = None;
        let mut time_limit = false;
        let mut killed = false;
        let (mut asked, mut grace_over) = (false, false);
        loop {
            let killing = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                code = &mut exit => return Ended {
                    at: clock::now(),
                    // An error cannot be: the reaper outlives the run.
                    code: code.unwrap_or(255),
                    time_limit,
                    killed,
                    grace_over,
                },
                event = self.wanted.recv() => match event {
                    Some(LinkEvent::Command(id, Command::Stop { signal, timeout_s })) => {
                        let result = container.ask_to_stop(signal);
                        asked = true;
                        if result.is_ok() && let Some(seconds) = timeout_s {
                            let at = Instant::now() + Duration::from_secs(seconds.into());
                            kill_at = Some(kill_at.map_or(at, |earlier| earlier.min(at)));
                        }
                        self.link.done(id, result.err());
                    }
                    Some(LinkEvent::Command(id, Command::Probe { on })) => {
                        if let Some(prober) = prober {
                            prober.switch(on);
                        }
                        self.link.done(id, None);
                    }
                    Some(LinkEvent::Command(id, command)) => {
                        killed |= command == Command::Kill { signal: libc::SIGKILL };
                        self.command(container, id, command);
                    }
                    Some(LinkEvent::Claimed) => {}
                    Some(LinkEvent::Disowned | LinkEvent::NotOurs) | None => {
                        note!("the control plane does not want this run any more");
                        kill_at = Some(Instant::now());
                        self.wanted = mpsc::unbounded_channel().1;
                    }
                },
                () = killing => {
                    kill_at = None;
                    killed = true;
                    grace_over = asked;
                    let _ = container.signal(libc::SIGKILL);
                }
                () = sleep_until(self.times.stop), if !time_limit => {
                    time_limit = true;
                    // A signal that does not exist stops nobody; the kill will.
                    let _ = container.ask_to_stop(self.invocation.spec.stop_signal);
                    kill_at = Some(kill_at.map_or(self.times.kill, |at| at.min(self.times.kill)));
                }
            }
        }
    }

    fn command(&mut self, container: &Arc<Container>, id: u64, command: Command) {
        let result = match command {
            // Needs the loop's own state; handled there.
            Command::Stop { signal, .. } => container.ask_to_stop(signal),
            Command::Probe { .. } => Ok(()),
            Command::Kill { signal } => container.signal(signal),
            Command::Resize { size } => container.resize(size),
            Command::ResizeExec { exec, size } => container.resize_exec(&exec, size),
            Command::Pause => {
                container.pause();
                Ok(())
            }
            Command::Unpause => {
                container.unpause();
                Ok(())
            }
            Command::StartExec { grant } => {
                self.start_exec(container, id, &grant);
                return;
            }
            Command::StoreLayer { upload_url } => {
                self.store_layer(id, upload_url);
                return;
            }
        };
        self.link.done(id, result.err());
    }

    fn start_exec(&self, container: &Arc<Container>, id: u64, grant: &str) {
        let Invocation { grant_key, run, .. } = &self.invocation;
        let operation = Grant::verify(grant, grant_key, run, clock::now()).map(|g| g.operation);
        let (exec, process) = match operation {
            Ok(Operation::Exec { exec, process, .. }) => (exec, process),
            Ok(_) => {
                let message = "the grant is not for an exec".to_owned();
                return self.link.done(id, Some(message));
            }
            Err(error) => return self.link.done(id, Some(error.to_string())),
        };
        let (link, container) = (self.link.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let result = run_detached(&link, &container, exec, &process).await;
            link.done(id, result.err());
        });
    }

    /// Puts the log where the control plane finds it.
    async fn store_log(&self, spool: &Spool) -> LogSpool {
        let lost = |what: &str, error: &dyn std::fmt::Display| {
            note!("{what}: {error}");
            LogSpool::Lost {
                reason: format!("{what}: {error}"),
            }
        };
        let folder = self.agent.scratch.folder();
        let packed = if spool.size() <= PACK_HERE_BYTES {
            pack(spool, folder)
        } else {
            let (spool, folder) = (spool.clone(), folder.to_owned());
            tokio::task::spawn_blocking(move || pack(&spool, &folder))
                .await
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        };
        let (file, bytes) = match packed {
            Ok(Packed::Small(data)) => {
                return LogSpool::Inline {
                    data: STANDARD.encode(data),
                };
            }
            Ok(Packed::Large(file, bytes)) => (file, bytes),
            Err(error) => return lost("the log could not be compressed", &error),
        };
        let url = match self.invocation.log_upload_url.parse() {
            Ok(url) => url,
            Err(error) => return lost("the log's upload URL cannot be read", &error),
        };
        match put_file(&url, &file, bytes, self.left()).await {
            Ok(()) => LogSpool::Uploaded { bytes },
            Err(error) => lost("the log could not be uploaded", &error),
        }
    }

    /// How long anything may still take.
    fn left(&self) -> Duration {
        self.times.give_up.saturating_duration_since(Instant::now())
    }

    /// Reports the end of the run and waits for it to be recorded. Commands that
    /// still come are answered: there is nothing left to command. But what the container wrote
    /// is still there, and a commit that meets its end is carried out all the same.
    async fn record(&mut self, report: Report) -> Outcome {
        let recorded = self.link.report(report);
        tokio::pin!(recorded);
        loop {
            tokio::select! {
                result = &mut recorded => {
                    return if result.is_ok() { Outcome::Finished } else { Outcome::Unrecorded };
                }
                Some(event) = self.wanted.recv() => match event {
                    LinkEvent::Command(id, Command::StoreLayer { upload_url }) => {
                        self.store_layer(id, upload_url);
                    }
                    LinkEvent::Command(id, _) => {
                        self.link.done(id, Some("the container is not running".to_owned()));
                    }
                    LinkEvent::Claimed | LinkEvent::NotOurs | LinkEvent::Disowned => {}
                },
                () = sleep_until(self.times.give_up) => return Outcome::Unrecorded,
            }
        }
    }
}
