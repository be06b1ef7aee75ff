//! Docker's events: what is said of which object, and giving it to those who listen.
//!
//! Events are saved with the step that brings them
//! ([`Store::update_and_log`](crate::store::Store::update_and_log)), and logged when somebody
//! listens; whatever has no such step says them by [`Control::say`]. Either is followed by
//! [`Control::tell_listeners`], which gives every listener all that it has not been given. Should that not happen, the
//! next event brings it, or the listener's frontend, which asks now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use sockerless_shared::answer::Part;
use sockerless_shared::ids::{AnswerId, ContainerId, ExecId, Namespace, RunId};
use sockerless_shared::lifecycle;
use sockerless_shared::protocol::control::Deed;
use sockerless_shared::timestamp::Timestamp;

use super::answers::in_messages;
use super::volumes::mounted;
use super::{Control, EngineError};
use crate::api::containers::spec::container_spec;
use crate::api::system::events::{Choice, line};
use crate::store::answers::Meta;
use crate::store::containers::Container;
use crate::store::events::{Event, Kind, Logged, Subscription};
use crate::store::execs::Exec;
use crate::store::networks::{Driver, PREDEFINED};

/// Labels of an object are told with its events up to so many bytes together, since an
/// item of the log holds the events of a whole step.
const MAX_LABEL_BYTES: usize = 32 * 1024;

/// As much data as goes into one message: with base64 and its envelope it fits a frame of 32 KB.
const PIECE_BYTES: usize = 20 * 1024;

/// How often a listener is looked at again when somebody else was quicker.
const ATTEMPTS: usize = 50;

/// An event.
#[must_use]
pub fn event<'a>(
    kind: Kind,
    action: impl Into<String>,
    actor: impl Into<String>,
    attributes: impl IntoIterator<Item = (&'a str, String)>,
    at: Timestamp,
) -> Event {
    Event {
        kind,
        action: action.into(),
        actor: actor.into(),
        attributes: attributes
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        at,
    }
}

/// An event of a network: `create`, `connect`, `disconnect`, `destroy`, …; with the
/// container that is connected, where one is.
#[must_use]
pub fn of_network(
    action: &str,
    id: &str,
    name: &str,
    driver: &str,
    container: Option<&ContainerId>,
    at: Timestamp,
) -> Event {
    let container = container.map(|id| ("container", id.to_string()));
    let attributes = [("name", name.to_owned()), ("type", driver.to_owned())];
    event(
        Kind::Network,
        action,
        id,
        attributes.into_iter().chain(container),
        at,
    )
}

/// An event of a volume: `create`, `mount`, `unmount`, `destroy`; what else is said of it
/// is `driver`, and of a mount `container`, `destination`, `propagation` and `read/write`.
#[must_use]
pub fn of_volume<'a>(
    action: &str,
    name: &str,
    attributes: impl IntoIterator<Item = (&'a str, String)>,
    at: Timestamp,
) -> Event {
    event(Kind::Volume, action, name, attributes, at)
}

/// An event of pruning objects of this kind, with how many bytes it freed.
#[must_use]
pub fn of_prune(kind: Kind, freed: u64, at: Timestamp) -> Event {
    event(kind, "prune", "", [("reclaimed", freed.to_string())], at)
}

/// What a container that starts is given, or one that ended gives back: its volumes and its
/// networks.
fn of_belongings(container: &Container, begins: bool, at: Timestamp) -> Vec<Event> {
    let id = ("container", container.id.to_string());
    let driver = ("driver", "local".to_owned());
    let volumes = mounted(container).map(|(mount, volume)| {
        let (id, driver) = (id.clone(), driver.clone());
        if !begins {
            return of_volume("unmount", &volume.name, [id, driver], at);
        }
        let attributes = [
            id,
            driver,
            ("destination", mount.target.clone()),
            ("propagation", String::new()),
            ("read/write", (!mount.read_only).to_string()),
        ];
        of_volume("mount", &volume.name, attributes, at)
    });
    let action = if begins { "connect" } else { "disconnect" };
    let endpoints = container.networks.as_object().into_iter().flatten();
    let networks = endpoints.map(|(name, endpoint)| {
        let network = endpoint["NetworkID"].as_str().unwrap_or("");
        of_network(
            action,
            network,
            name,
            driver_of(name),
            Some(&container.id),
            at,
        )
    });
    if begins {
        volumes.chain(networks).collect()
    } else {
        networks.chain(volumes).collect()
    }
}

/// The driver of a network by its name: whoever makes one makes a bridge.
fn driver_of(name: &str) -> &'static str {
    PREDEFINED
        .iter()
        .find(|(predefined, _)| *predefined == name)
        .map_or(Driver::Bridge, |(_, driver)| *driver)
        .name()
}

/// An event of an image, of which `labels` are those of its configuration.
#[must_use]
pub fn of_image(
    action: &str,
    actor: &str,
    name: &str,
    labels: &BTreeMap<String, String>,
    at: Timestamp,
) -> Event {
    let labels = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let mut attributes = bounded(labels);
    attributes.insert("name".to_owned(), name.to_owned());
    Event {
        kind: Kind::Image,
        action: action.to_owned(),
        actor: actor.to_owned(),
        attributes,
        at,
    }
}

/// An event of a container, with what Docker says of it in each: image, name and labels.
#[must_use]
pub fn of_container<'a>(
    container: &Container,
    action: impl Into<String>,
    attributes: impl IntoIterator<Item = (&'a str, String)>,
    at: Timestamp,
) -> Event {
    let labels = container.config["Labels"].as_object();
    let labels = labels.into_iter().flatten();
    let mut all = bounded(labels.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))));
    let image = container.config["Image"].as_str().unwrap_or("");
    if !image.is_empty() {
        all.insert("image".to_owned(), image.to_owned());
    }
    all.insert("name".to_owned(), container.name.clone());
    for (name, value) in attributes {
        all.insert(name.to_owned(), value);
    }
    Event {
        kind: Kind::Container,
        action: action.into(),
        actor: container.id.to_string(),
        attributes: all,
        at,
    }
}

fn bounded<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> BTreeMap<String, String> {
    let bytes: usize = labels.clone().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > MAX_LABEL_BYTES {
        return BTreeMap::new();
    }
    labels.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// How long after a probe's begin its events are told with their own times. Later ones would be
/// missed by those who listen, who have been given newer items (see [`crate::store::events`]).
const PROBE_DELAY: Duration = Duration::from_secs(5);

/// What the lifecycle says, in Docker's words, with what a start and an end do to the
/// container's networks and volumes. The events of one step are a nanosecond apart, so that
/// their order is in their times too; those of probes have the probes' times.
#[must_use]
pub fn of_lifecycle(
    container: &Container,
    events: &[lifecycle::Event],
    now: Timestamp,
) -> Vec<Event> {
    let mut all = Vec::new();
    for event in events {
        let of = |action: &str| of_container(container, action, [], now);
        let said = match event {
            lifecycle::Event::Start => {
                all.extend(of_belongings(container, true, now));
                of("start")
            }
            lifecycle::Event::Die { code, duration_s } => {
                all.extend(of_belongings(container, false, now));
                let attributes = [
                    ("exitCode", code.to_string()),
                    ("execDuration", duration_s.to_string()),
                ];
                of_container(container, "die", attributes, now)
            }
            lifecycle::Event::Oom => of("oom"),
            lifecycle::Event::Kill { signal } => {
                let attributes = [("signal", signal.to_string())];
                of_container(container, "kill", attributes, now)
            }
            lifecycle::Event::Stop => of("stop"),
            lifecycle::Event::Restart => of("restart"),
            lifecycle::Event::Pause => of("pause"),
            lifecycle::Event::Unpause => of("unpause"),
            lifecycle::Event::Health(status) => of(&format!("health_status: {}", status.name())),
            lifecycle::Event::ProbeBegun { at } => {
                let command = probe_command(container);
                let told = told_at(*at, now);
                let id = ("execID", probe_id(container, *at));
                let action = format!("exec_create: {command}");
                all.push(of_container(container, action, [id.clone()], told));
                of_container(container, format!("exec_start: {command}"), [id], told)
            }
            lifecycle::Event::ProbeDied { begun, at, code } => {
                let attributes = [
                    ("execID", probe_id(container, *begun)),
                    ("exitCode", code.to_string()),
                ];
                of_container(container, "exec_die", attributes, told_at(*at, now))
            }
            lifecycle::Event::Destroy => of("destroy"),
        };
        all.push(said);
    }
    let mut earliest = Timestamp::from_nanos(i64::MIN);
    for event in &mut all {
        event.at = event.at.max(earliest);
        earliest = event.at.plus(Duration::from_nanos(1));
    }
    all
}

/// When something of a probe is said to have happened: then, if that is neither long ago nor,
/// by an agent's clock that is ahead, yet to come.
fn told_at(at: Timestamp, now: Timestamp) -> Timestamp {
    if now.since(at) > PROBE_DELAY {
        now
    } else {
        at.min(now)
    }
}

/// The id of a probe as an exec; always the same.
fn probe_id(container: &Container, begun: Timestamp) -> String {
    let text = format!("probe of {} at {}", container.id, begun.nanos());
    hex::encode(Sha256::digest(text))
}

fn probe_command(container: &Container) -> String {
    let check = container_spec(container).healthcheck;
    check.map_or_else(String::new, |check| command(&check.probe.args))
}

/// A command as Docker's events show it.
fn command(args: &[String]) -> String {
    let (program, arguments) = args
        .split_first()
        .map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    format!("{program} {}", arguments.join(" "))
}

/// An event of an exec. Docker names its command in some of them.
#[must_use]
pub fn of_exec(container: &Container, exec: &Exec, event: ExecEvent, at: Timestamp) -> Event {
    let command = || command(&exec.process.args);
    let id = ("execID", exec.id.to_string());
    match event {
        ExecEvent::Create => {
            let action = format!("exec_create: {}", command());
            of_container(container, action, [id], at)
        }
        ExecEvent::Start => {
            let action = format!("exec_start: {}", command());
            of_container(container, action, [id], at)
        }
        ExecEvent::Die { code } => {
            let code = ("exitCode", code.to_string());
            of_container(container, "exec_die", [id, code], at)
        }
    }
}

/// What happens to an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecEvent {
    /// It was created.
    Create,
    /// It was asked to start.
    Start,
    /// Its process ended.
    Die {
        /// Its exit code.
        code: i32,
    },
}

impl Control {
    /// Logs events that no other record stands for, and tells those who listen.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn say(&self, namespace: &Namespace, events: &[Event]) -> Result<(), EngineError> {
        if let Some(write) = self.store.log_write(namespace, events)? {
            self.store.write(vec![write]).await?;
            self.tell_listeners(namespace).await;
        }
        Ok(())
    }

    /// The same of what has been done already: that it cannot be said is no reason to
    /// call it failed.
    pub async fn say_or_log(&self, namespace: &Namespace, events: &[Event]) {
        if let Err(error) = self.say(namespace, events).await {
            tracing::error!(%error, "an event could not be logged");
        }
    }

    /// Says one thing of a container.
    pub(crate) async fn say_of_container<'a>(
        &self,
        container: &Container,
        action: &str,
        attributes: impl IntoIterator<Item = (&'a str, String)>,
    ) {
        let event = of_container(container, action, attributes, self.environment.now());
        self.say_or_log(&container.namespace, &[event]).await;
    }

    /// What an agent did for a client. `seq` is the report's number, so that a report that
    /// comes again is one event all the same.
    pub(crate) async fn deed(
        &self,
        namespace: &Namespace,
        container: &ContainerId,
        run: &RunId,
        seq: u64,
        at: Timestamp,
        deed: &Deed,
    ) -> Result<(), EngineError> {
        let Some(found) = self.store.container(namespace, container).await? else {
            return Ok(());
        };
        let exec_id = |exec: &ExecId| [("execID", exec.to_string())];
        let container = &found.record;
        let event = match deed {
            Deed::ExecCreated { exec } => match self.store.exec(namespace, exec).await? {
                Some(exec) => of_exec(container, &exec, ExecEvent::Create, at),
                None => return Ok(()),
            },
            Deed::ExecRefused { exec } => {
                let erased = self.store.erase_exec(namespace, &container.id, exec);
                return Ok(erased.await?);
            }
            Deed::ArchiveSent => of_container(container, "archive-path", [], at),
            Deed::ArchiveExtracted => of_container(container, "extract-to-dir", [], at),
            Deed::Exported => of_container(container, "export", [], at),
            Deed::Listed => of_container(container, "top", [], at),
            Deed::Detached { exec: None } => of_container(container, "detach", [], at),
            Deed::Detached { exec: Some(exec) } => {
                of_container(container, "exec_detach", exec_id(exec), at)
            }
        };
        let name = format!("{run}-{seq}");
        if let Some(write) = self.store.log_write_as(namespace, &[event], at, &name)? {
            self.store.write(vec![write]).await?;
            self.tell_listeners(namespace).await;
        }
        Ok(())
    }

    /// The same, if anybody listens, with what a container has not told the log yet.
    pub(crate) async fn tell_listeners_of(&self, namespace: &Namespace, container: &ContainerId) {
        match self.store.subscriptions(namespace).await {
            Ok(listeners) if listeners.is_empty() => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "who listens to events could not be found");
                return;
            }
        }
        if let Err(error) = self.store.log_unsaid(namespace, container).await {
            tracing::warn!(%error, "a container's events could not be logged yet");
        }
        self.tell_listeners(namespace).await;
    }

    /// Gives everyone who listens to a namespace's events those that they have not been
    /// given. What fails is made good by the next event, or when the listener asks.
    pub(crate) async fn tell_listeners(&self, namespace: &Namespace) {
        let listeners = match self.store.subscriptions(namespace).await {
            Ok(listeners) => listeners,
            Err(error) => {
                tracing::warn!(%error, "who listens to events could not be found");
                return;
            }
        };
        for answer in listeners {
            if let Err(error) = self.catch_up(namespace, &answer).await {
                tracing::warn!(%answer, %error, "events could not be given to a listener yet");
            }
        }
    }

    /// Gives one listener what it has not been given. One whose frontend is away is given
    /// it when that is back.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn catch_up(
        &self,
        namespace: &Namespace,
        answer: &AnswerId,
    ) -> Result<(), EngineError> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.store.answer_versioned(answer).await? else {
                self.store.unsubscribe(namespace, answer).await?;
                return Ok(());
            };
            let Meta {
                peer,
                next: first,
                parts: small,
                wait: _,
                subscription: Some(mut subscription),
            } = found.record
            else {
                return Ok(());
            };
            let Some(connection) = self.store.peer(&peer).await?.and_then(|p| p.connection) else {
                return Ok(());
            };
            let floor = subscription.floor;
            let log = self.store.logged(namespace, floor, 0).await?;
            let new = subscription.new_ones(log);
            let now = self.environment.now();
            let renew = subscription.is_stale(now);
            if new.is_empty() && !renew {
                return Ok(());
            }
            let parts = parts(&subscription, &new)?;
            subscription.remember(&new);
            if renew {
                subscription.renewed = now;
            }
            let meta = Meta {
                peer,
                next: first + parts.len() as u64,
                parts: small,
                wait: None,
                subscription: Some(subscription),
            };
            let given = self
                .store
                .give(answer, found.version, &meta, &parts, renew)
                .await?;
            if !given {
                continue;
            }
            for text in in_messages(answer, first, parts)? {
                self.post_or_forget(&connection, text).await;
            }
            return Ok(());
        }
        Err(crate::store::StoreError::Contended(answer.to_string()).into())
    }
}

/// Those of the events that a listener wants, as parts of its answer.
fn parts(subscription: &Subscription, items: &[Logged]) -> Result<Vec<Part>, EngineError> {
    // It was checked when the subscription began.
    let choice = Choice::parse(&subscription.filters)
        .map_err(|error| EngineError::Encoding(error.message))?;
    let wanted = items
        .iter()
        .flat_map(|item| &item.events)
        .filter(|event| choice.takes(event));
    let text: Vec<u8> = wanted.flat_map(line).collect();
    Ok(pieces(&text))
}

/// Bytes of a body as parts that fit a message.
pub(crate) fn pieces(text: &[u8]) -> Vec<Part> {
    text.chunks(PIECE_BYTES)
        .map(|piece| Part::Data {
            data: Bytes::copy_from_slice(piece),
        })
        .collect()
}
