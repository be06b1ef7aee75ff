//! The host's state, and what is done about what the pool decides.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use sockerless_shared::ids::{ContainerId, FunctionName, RunId};
use tokio::sync::{Notify, mpsc, oneshot};

use super::base::BaseLayers;
use super::cgroup::Cgroups;
use super::config::{GatewayAcceptor, RootfsProvider};
use super::environment::{Inbox, Live, Phase, Timer, adopt_listener, serve_gateway, serve_runtime};
use super::log_stream::{LogStreams, end_line, start_line};
use super::outside::Outside;
use super::pool::{Answer, Effect, Invocation, Pool};
use super::runtime_api::Delivery;
use super::variables::arn;
use super::warden_client::WardenError;
use super::wire::{Ending, EnvironmentId, Order, Report};
use crate::ports::function_host::InvocationEvents;

/// The deadline told to a runtime that has none: the end of the year 9999.
const NO_DEADLINE_MS: u64 = 253_402_300_799_000;

/// An order on its way to the warden.
pub(super) type Ordered = (Order, Vec<OwnedFd>);

/// All that the host knows.
pub(super) struct Shared {
    pub(super) pool: Mutex<Pool>,
    pub(super) live: Mutex<HashMap<EnvironmentId, Live>>,
    pub(super) removals: Mutex<HashMap<u64, oneshot::Sender<Option<String>>>>,
    pub(super) orders: mpsc::UnboundedSender<Ordered>,
    /// Something became idle.
    pub(super) idle: Arc<Notify>,
    pub(super) base: BaseLayers,
    pub(super) streams: LogStreams,
    pub(super) cgroups: Result<Cgroups, String>,
    pub(super) outside: Outside,
    pub(super) init_limit: Duration,
    pub(super) data_dir: PathBuf,
    pub(super) layers: Arc<dyn RootfsProvider>,
    pub(super) gateway: Arc<dyn GatewayAcceptor>,
    pub(super) events: Arc<dyn InvocationEvents>,
    pub(super) this: Weak<Shared>,
}

impl Shared {
    /// Lets the pool decide, and carries it out before it can decide anything else.
    pub(super) fn act(&self, decide: impl FnOnce(&mut Pool) -> Vec<Effect>) {
        let mut pool = lock(&self.pool);
        let effects = decide(&mut pool);
        self.perform(effects);
    }

    /// Carries out what the pool decided. Nothing here waits, or asks the pool.
    pub(super) fn perform(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start(id, function) => self.plan(id, function),
                Effect::Deliver(id, invocation, limit) => self.deliver(id, invocation, limit),
                Effect::Kill(id) => {
                    if let Some(environment) = lock(&self.live).get_mut(&id) {
                        self.kill(id, environment);
                    }
                }
                Effect::Tell(run, end) => {
                    let events = Arc::clone(&self.events);
                    tokio::spawn(async move { events.invocation_ended(&run, end).await });
                }
            }
        }
    }

    pub(super) fn order(&self, order: Order, fds: Vec<OwnedFd>) {
        // Closed only when the host is being dropped, which ends everything anyway.
        let _ = self.orders.send((order, fds));
    }

    pub(super) fn kill(&self, id: EnvironmentId, environment: &mut Live) {
        environment.stop_timer();
        // What is stopped cannot be killed either.
        environment.thaw();
        match environment.phase {
            Phase::Planned => environment.phase = Phase::Cancelled,
            Phase::Cancelled => {}
            Phase::Ordered => self.order(Order::Kill(id), Vec::new()),
        }
    }

    pub(super) fn writable(&self, owner: &ContainerId) -> PathBuf {
        self.data_dir.join("writable").join(owner.as_str())
    }

    pub(super) fn plan(&self, id: EnvironmentId, function: FunctionName) {
        lock(&self.live).insert(id, Live::new(function.clone()));
        let this = Weak::clone(&self.this);
        tokio::spawn(async move {
            let Some(shared) = this.upgrade() else {
                return;
            };
            if let Err(why) = shared.make(id, &function).await {
                shared.gone(id, &why).await;
            }
        });
    }

    pub(super) fn init_timer(&self, id: EnvironmentId) -> Timer {
        Timer::Init(self.after(self.init_limit, move |shared| {
            shared.act(|pool| pool.init_limit_passed(id));
        }))
    }

    pub(super) fn after(
        &self,
        time: Duration,
        then: impl FnOnce(&Shared) + Send + 'static,
    ) -> tokio::task::AbortHandle {
        let this = Weak::clone(&self.this);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(shared) = this.upgrade() {
                then(&shared);
            }
        })
        .abort_handle()
    }

    pub(super) fn deliver(
        &self,
        id: EnvironmentId,
        invocation: Invocation,
        limit: Option<Duration>,
    ) {
        let mut live = lock(&self.live);
        let Some(environment) = live.get_mut(&id) else {
            return;
        };
        let Invocation { run, payload } = invocation;
        environment.platform_line(&start_line(&run));
        let deadline_ms = limit.map_or(NO_DEADLINE_MS, |limit| {
            let deadline = SystemTime::now() + limit;
            // Milliseconds since 1970 fit for 500 million years.
            deadline
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        });
        environment.stop_timer();
        if let Some(limit) = limit {
            let run = run.clone();
            environment.timer = Some(Timer::Invocation(self.after(limit, move |shared| {
                shared.act(|pool| pool.time_limit_passed(id, &run));
            })));
        }
        // Closed only when the environment is gone, which is told otherwise.
        let _ = environment.deliveries.send(Delivery {
            run,
            payload,
            deadline_ms,
        });
    }

    pub(super) async fn reported(&self, report: Report, fds: Vec<OwnedFd>) {
        match report {
            Report::Ready => {}
            Report::Refused(sentence) => tracing::error!(sentence, "sandbox helper"),
            Report::Standing(id) => {
                if let Err(error) = self.serve(id, fds) {
                    tracing::error!(%error, "sandbox: its sockets cannot be served");
                    self.fail(id, format!("serve its sockets: {error}"));
                    self.order(Order::Kill(id), Vec::new());
                }
            }
            Report::Connected { environment, error } => {
                if let Some(error) = error {
                    tracing::warn!(error, "sandbox: no outbound network");
                }
                if let Some(live) = lock(&self.live).get(&environment) {
                    live.connected.send_replace(true);
                }
            }
            Report::Failed {
                environment,
                message,
            } => {
                tracing::warn!(message, "sandbox: could not be made");
                self.fail(environment, message);
            }
            Report::Ended {
                environment,
                status,
            } => {
                let how = match status {
                    Ending::Exited(code) => format!("the agent exited with status {code}"),
                    Ending::Signaled(signal) => format!("the agent was killed by signal {signal}"),
                };
                let this = Weak::clone(&self.this);
                tokio::spawn(async move {
                    if let Some(shared) = this.upgrade() {
                        shared.gone(environment, &how).await;
                    }
                });
            }
            Report::TreeRemoved { ticket, error } => {
                if let Some(sender) = lock(&self.removals).remove(&ticket) {
                    let _ = sender.send(error);
                }
            }
        }
    }

    pub(super) fn fail(&self, id: EnvironmentId, why: String) {
        if let Some(environment) = lock(&self.live).get_mut(&id) {
            environment.failure.get_or_insert(why);
        }
    }

    pub(super) fn serve(&self, id: EnvironmentId, fds: Vec<OwnedFd>) -> std::io::Result<()> {
        let [runtime_api, gateway] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|_| std::io::Error::other("two listening sockets were expected"))?;
        let runtime_api = adopt_listener(runtime_api)?;
        let gateway = adopt_listener(gateway)?;
        let mut live = lock(&self.live);
        let Some(environment) = live.get_mut(&id) else {
            return Ok(());
        };
        let Some(inbox) = environment.inbox.take() else {
            return Ok(());
        };
        let runtime = Arc::new(EnvironmentRuntime {
            id,
            arn: arn(&environment.function),
            inbox: Inbox::new(inbox, environment.connected.subscribe()),
            shared: Weak::clone(&self.this),
        });
        environment
            .servers
            .spawn(serve_runtime(runtime_api, runtime));
        environment
            .servers
            .spawn(serve_gateway(gateway, Arc::clone(&self.gateway)));
        Ok(())
    }

    /// The warden could not be told.
    pub(super) async fn undeliverable(&self, order: Order, why: &WardenError) {
        match order {
            Order::Create(blueprint) => {
                self.gone(blueprint.environment, &why.to_string()).await;
            }
            // Without a warden there is nothing to kill.
            Order::Kill(_) => {}
            Order::RemoveTree { ticket, .. } => {
                if let Some(sender) = lock(&self.removals).remove(&ticket) {
                    let _ = sender.send(Some(why.to_string()));
                }
            }
        }
    }

    /// The environment does not exist (any more).
    pub(super) async fn gone(&self, id: EnvironmentId, how: &str) {
        // First all that it wrote, so that whoever is told of its end can read it.
        let copying = lock(&self.live)
            .get_mut(&id)
            .and_then(|environment| environment.log.as_mut()?.copying.take());
        if let Some(copying) = copying {
            let _ = copying.await;
        }
        let Some(mut environment) = lock(&self.live).remove(&id) else {
            return;
        };
        environment.stop_timer();
        let how = environment.failure.as_deref().unwrap_or(how).to_owned();
        environment.platform_line(&format!("ENVIRONMENT ENDED: {how}"));
        let oom_kills = environment.oom_kills();
        // Removes its control groups before anything takes its place.
        drop(environment);
        self.act(|pool| pool.exited(id, &how, oom_kills));
    }

    /// The warden ended, and with it every environment.
    pub(super) fn all_lost(&self) {
        tracing::error!("the sandbox helper ended unexpectedly; every sandbox is lost");
        self.act(|pool| {
            let mut live = lock(&self.live);
            live.values().for_each(Live::thaw);
            live.clear();
            drop(live);
            pool.all_lost()
        });
        lock(&self.removals).clear();
    }
}

/// One environment, as its runtime API sees it.
struct EnvironmentRuntime {
    id: EnvironmentId,
    arn: String,
    inbox: Inbox,
    shared: Weak<Shared>,
}

#[async_trait]
impl super::runtime_api::Runtime for EnvironmentRuntime {
    async fn next(&self) -> Option<Delivery> {
        {
            let shared = self.shared.upgrade()?;
            if let Some(environment) = lock(&shared.live).get_mut(&self.id) {
                environment.stop_init_timer();
            }
            shared.act(|pool| pool.asked_next(self.id, Instant::now()));
            shared.idle.notify_one();
        }
        self.inbox.next().await
    }

    fn answered(&self, run: &RunId, answer: Answer) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        let oom_kills = match lock(&shared.live).get_mut(&self.id) {
            Some(environment) => {
                environment.platform_line(&end_line(run));
                environment.oom_kills()
            }
            None => return false,
        };
        let mut running = false;
        shared.act(|pool| {
            let effects = pool.answered(self.id, run, answer, oom_kills);
            running = effects.is_some();
            effects.unwrap_or_default()
        });
        if running && let Some(environment) = lock(&shared.live).get_mut(&self.id) {
            environment.stop_timer();
            environment.timer = Some(shared.init_timer(self.id));
        }
        running
    }

    fn init_failed(&self, reason: String) {
        if let Some(shared) = self.shared.upgrade() {
            shared.fail(self.id, reason);
            shared.order(Order::Kill(self.id), Vec::new());
        }
    }

    fn arn(&self) -> &str {
        &self.arn
    }
}

/// Locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one can leave a half-made value behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
