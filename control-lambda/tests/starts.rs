//! Starts whose function is not ready, or goes away; sweeps in which something fails: a control
//! plane over a table in memory, whose clock is the runtime's, which is put forward when nothing
//! else is to do.
#![cfg(all(feature = "embedded", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use sockerless_control::engine::Control;
use sockerless_control::environment::SystemEnvironment;
use sockerless_control::ports::function_host::{
    EnsuredFunction, FunctionShape, HostError, Network,
};
use sockerless_control::ports::jobs::{Job, JobError};
use sockerless_control::ports::{Environment, FunctionHost, Jobs};
use sockerless_control::store::containers::Container;
use sockerless_shared::answer::{Answer, Body, Request};
use sockerless_shared::ids::{ContainerId, FunctionName, Namespace, PeerId, RunId};
use sockerless_shared::lifecycle::{DEADLINE_GRACE, Input, Lifecycle, Phase, RestartPolicy};
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::spec::Runtime;
use sockerless_shared::timestamp::Timestamp;
use tokio::time::{Instant, sleep};

use world::World;

/// The time limit of a function here.
const LIMIT: Duration = Duration::from_secs(60);

/// The longest that an accepted invocation waits for its environment.
const QUEUED: Duration = Duration::from_secs(60);

struct Clock(Instant);

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_000_000_000).plus(self.0.elapsed())
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        SystemEnvironment.fill_random(bytes);
    }
}

/// A platform whose functions are ready after some time, and what it was asked.
struct Platform {
    ready_at: Instant,
    /// So many invocations find that their function was just deleted.
    deletions: Mutex<u32>,
    /// Whether it cannot be asked what to sweep.
    is_broken: Mutex<bool>,
    ensured: Mutex<u32>,
    invoked: Mutex<Vec<RunId>>,
}

#[async_trait]
impl FunctionHost for Platform {
    async fn ensure(&self, _: &FunctionShape) -> Result<EnsuredFunction, HostError> {
        *self.ensured.lock().unwrap() += 1;
        Ok(EnsuredFunction {
            name: function(),
            warnings: Vec::new(),
        })
    }

    async fn prepared(&self, _: &FunctionName, patience: Duration) -> Result<bool, HostError> {
        let left = self.ready_at.saturating_duration_since(Instant::now());
        sleep(left.min(patience)).await;
        Ok(left <= patience)
    }

    async fn invoke(&self, _: &FunctionName, run: &RunId, _: Bytes) -> Result<(), HostError> {
        let mut deletions = self.deletions.lock().unwrap();
        if *deletions > 0 {
            *deletions -= 1;
            return Err(HostError::NoSuchFunction(function()));
        }
        self.invoked.lock().unwrap().push(run.clone());
        Ok(())
    }

    async fn delete(&self, _: &FunctionName) -> Result<(), HostError> {
        Ok(())
    }

    async fn remove_writable(&self, _: &ContainerId) -> Result<(), HostError> {
        Ok(())
    }

    async fn sweep(&self) -> Result<Option<Timestamp>, HostError> {
        if *self.is_broken.lock().unwrap() {
            return Err(HostError::Failed("no answer".to_owned()));
        }
        Ok(None)
    }

    async fn operator_log(&self, _: &RunId, _: Option<&str>, _: usize) -> Result<Bytes, HostError> {
        Ok(Bytes::new())
    }

    fn relay_url(&self) -> String {
        "ws://127.0.0.1:9/".to_owned()
    }
}

/// What was put off, and to when the sweep was.
#[derive(Default)]
struct Later {
    jobs: Mutex<Vec<Job>>,
    looks: Mutex<Vec<Timestamp>>,
    is_broken: Mutex<bool>,
    request_limit: Mutex<Option<Duration>>,
}

#[async_trait]
impl Jobs for Later {
    async fn submit(&self, job: Job) -> Result<(), JobError> {
        self.jobs.lock().unwrap().push(job);
        Ok(())
    }

    fn request_limit(&self) -> Option<Duration> {
        *self.request_limit.lock().unwrap()
    }

    async fn submit_later(&self, job: Job, _: Duration) -> Result<(), JobError> {
        self.submit(job).await
    }

    async fn wake_at(&self, at: Timestamp) -> Result<(), JobError> {
        if *self.is_broken.lock().unwrap() {
            return Err(JobError("no answer".to_owned()));
        }
        self.looks.lock().unwrap().push(at);
        Ok(())
    }
}

fn function() -> FunctionName {
    "skls-tests".parse().unwrap()
}

fn namespace() -> Namespace {
    "tests".parse().unwrap()
}

struct Plane {
    control: Control,
    clock: Arc<dyn Environment>,
    platform: Arc<Platform>,
    later: Arc<Later>,
    _folder: tempfile::TempDir,
}

impl Plane {
    /// One whose functions are ready after this time.
    fn new(ready_after: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let begin = Instant::now();
        let clock: Arc<dyn Environment> = Arc::new(Clock(begin));
        let platform = Arc::new(Platform {
            ready_at: begin + ready_after,
            deletions: Mutex::default(),
            is_broken: Mutex::default(),
            ensured: Mutex::default(),
            invoked: Mutex::default(),
        });
        let later = Arc::new(Later::default());
        let (host, jobs) = (Arc::clone(&platform), Arc::clone(&later));
        let parts = (
            host as Arc<_>,
            Arc::new(World::default()) as Arc<_>,
            jobs as Arc<_>,
        );
        Self {
            control: world::control(folder.path(), &clock, parts),
            clock,
            platform,
            later,
            _folder: folder,
        }
    }

    /// A container, created.
    async fn container(&self, number: u8) -> Container {
        let container = Container {
            id: ContainerId::from_random([number; 32]),
            namespace: namespace(),
            name: format!("c{number}"),
            created: self.clock.now(),
            image_reference: "image".to_owned(),
            config: json!({}),
            host_config: json!({}),
            networks: json!({}),
            args: vec!["true".to_owned()],
            shape: FunctionShape {
                image: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
                runtime: Runtime::Function,
                memory_mib: 128,
                tmp_mib: 512,
                network: Network::None,
                architecture: None,
                owner: None,
                machine: None,
            },
            function: function(),
            lifecycle: Lifecycle::created(false, RestartPolicy::No, false),
            files: None,
            unsaid: Vec::new(),
            live_mark: None,
            erased: None,
            runs: Vec::new(),
            remove_volumes: false,
        };
        let store = self.control.store();
        store
            .create_container(&container, Vec::new())
            .await
            .unwrap();
        container
    }

    async fn lifecycle(&self, container: &Container) -> Lifecycle {
        let store = self.control.store();
        let found = store.container(&namespace(), &container.id).await;
        found.unwrap().unwrap().record.lifecycle
    }

    fn job(&self) -> Job {
        self.later.jobs.lock().unwrap().pop().unwrap()
    }

    fn invoked(&self) -> usize {
        self.platform.invoked.lock().unwrap().len()
    }

    fn looks(&self) -> Vec<Timestamp> {
        std::mem::take(&mut self.later.looks.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_has_its_time_from_its_invocation_on() {
    let wait = Duration::from_secs(9 * 60);
    let plane = Plane::new(wait);
    let begin = plane.clock.now();
    let container = plane.container(1).await;
    plane.control.start(&container).await.unwrap();
    assert_eq!(plane.invoked(), 0);
    // Until then it is not ended, however short the time of a function is beside its wait.
    let swept = async {
        for _ in 0..8 {
            sleep(Duration::from_secs(60)).await;
            plane.control.sweep().await.unwrap();
        }
    };
    let (started, ()) = tokio::join!(plane.control.run_job(plane.job()), swept);
    started.unwrap();
    assert_eq!(plane.invoked(), 1);
    assert_eq!(plane.lifecycle(&container).await.phase, Phase::Starting);
    let run = plane.lifecycle(&container).await.run.unwrap();
    let deadline = run.deadline.unwrap();
    assert!(
        deadline >= begin.plus(wait + LIMIT + QUEUED),
        "{deadline:?}"
    );
    assert!(deadline <= begin.plus(wait + LIMIT + QUEUED + Duration::from_secs(1)));
    let token_expires = plane.control.store().run(&run.id).await.unwrap().unwrap();
    assert!(token_expires.token_expires.unwrap() > deadline);
    // The look that is arranged last comes after it, and ends the run.
    let look = *plane.looks().last().unwrap();
    assert!(look >= deadline.plus(DEADLINE_GRACE));
    sleep(look.since(plane.clock.now()) - Duration::from_secs(1)).await;
    plane.control.sweep().await.unwrap();
    assert_eq!(plane.lifecycle(&container).await.phase, Phase::Starting);
    sleep(Duration::from_secs(2)).await;
    plane.control.sweep().await.unwrap();
    assert_eq!(plane.lifecycle(&container).await.phase, Phase::Exited);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_invoked_at_once_costs_no_second_write() {
    let plane = Plane::new(Duration::ZERO);
    let container = plane.container(1).await;
    plane.control.start(&container).await.unwrap();
    assert_eq!(plane.invoked(), 1);
    let store = plane.control.store();
    let found = store.container(&namespace(), &container.id).await.unwrap();
    // Created, and started.
    assert_eq!(found.unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_waits_too_long_fails_with_a_sentence() {
    let plane = Plane::new(Duration::from_secs(3600));
    let container = plane.container(1).await;
    plane.control.start(&container).await.unwrap();
    plane.control.run_job(plane.job()).await.unwrap();
    let lifecycle = plane.lifecycle(&container).await;
    assert_eq!(lifecycle.phase, Phase::Created);
    let why = lifecycle.exit.unwrap().error;
    assert!(why.contains("still being prepared"), "{why}");
    assert_eq!(plane.invoked(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_while_it_waits_is_not_invoked() {
    let plane = Plane::new(Duration::from_secs(300));
    let container = plane.container(1).await;
    plane.control.start(&container).await.unwrap();
    let failed = async {
        sleep(Duration::from_secs(100)).await;
        let input = Input::StartFailed {
            run: plane.lifecycle(&container).await.run.unwrap().id,
            at: plane.clock.now(),
            failure: StartFailure::interrupted(),
        };
        let id = &container.id;
        plane.control.apply(&namespace(), id, input).await.unwrap();
    };
    let (started, _) = tokio::join!(plane.control.run_job(plane.job()), failed);
    started.unwrap();
    assert_eq!(plane.invoked(), 0);
    assert_eq!(plane.lifecycle(&container).await.phase, Phase::Created);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_deleted_under_a_start_is_made_again() {
    let plane = Plane::new(Duration::ZERO);
    *plane.platform.deletions.lock().unwrap() = 1;
    let container = plane.container(1).await;
    plane.control.start(&container).await.unwrap();
    assert_eq!(plane.invoked(), 0);
    plane.control.run_job(plane.job()).await.unwrap();
    assert_eq!(plane.invoked(), 1);
    assert_eq!(*plane.platform.ensured.lock().unwrap(), 2);
    assert_eq!(plane.lifecycle(&container).await.phase, Phase::Starting);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_in_which_something_fails_does_the_rest_and_comes_again() {
    let plane = Plane::new(Duration::ZERO);
    let (first, second) = (plane.container(1).await, plane.container(2).await);
    plane.control.start(&first).await.unwrap();
    let half = Duration::from_secs(45);
    sleep(LIMIT + half).await;
    plane.control.start(&second).await.unwrap();
    sleep(QUEUED + half + Duration::from_secs(1)).await;
    plane.looks();
    *plane.platform.is_broken.lock().unwrap() = true;
    plane.control.sweep().await.unwrap_err();
    assert_eq!(plane.lifecycle(&first).await.phase, Phase::Exited);
    assert_eq!(plane.lifecycle(&second).await.phase, Phase::Starting);
    let soon = plane.clock.now().plus(Duration::from_secs(60));
    assert_eq!(plane.looks(), [soon]);
}

#[tokio::test(start_paused = true)]
async fn what_may_outlast_a_request_is_left_to_a_job_where_requests_are_bounded() {
    for (limit, path, deferred) in [
        (None, "/containers/prune", false),
        (Some(LIMIT), "/v1.44/containers/prune", true),
        (Some(LIMIT), "/images/prune", true),
        (Some(LIMIT), "/networks/create", false),
    ] {
        let plane = Plane::new(Duration::ZERO);
        *plane.later.request_limit.lock().unwrap() = limit;
        let request = Request {
            method: "POST".to_owned(),
            path_and_query: path.to_owned(),
            headers: Vec::new(),
            body: Body::Inline(Bytes::new()),
            peer: Some(PeerId::from_random([1; 14])),
        };
        let answer = plane.control.handle(&namespace(), request).await;
        let is_deferred = matches!(&answer, Answer::Parts { first, .. } if first.is_empty());
        assert_eq!(is_deferred, deferred, "{path}: {answer:?}");
        let job = plane.later.jobs.lock().unwrap().pop();
        assert_eq!(
            matches!(job, Some(Job::Request { .. })),
            deferred,
            "{job:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_of_which_nobody_hears_is_not_called_done() {
    let plane = Plane::new(Duration::from_secs(60));
    let container = plane.container(1).await;
    plane.control.start(&container).await.unwrap();
    *plane.later.is_broken.lock().unwrap() = true;
    let job = plane.job();
    plane.control.run_job(job.clone()).await.unwrap_err();
    // Lambda repeats it: by then the start has failed, which is known.
    plane.control.run_job(job).await.unwrap();
    let lifecycle = plane.lifecycle(&container).await;
    assert_eq!(lifecycle.phase, Phase::Created);
    assert!(lifecycle.exit.unwrap().error.contains("no answer"));
}
