//! `GET /events` (Engine API, `SystemEvents`): what happened, and what happens.

use std::collections::BTreeMap;

use serde::Serialize;
use sockerless_shared::answer::{Answer, Part};
use sockerless_shared::ids::AnswerId;
use sockerless_shared::timestamp::Timestamp;

use crate::api::containers::logs::{respond, time};
use crate::api::filters::Filters;
use crate::api::{ApiError, ApiResult, Context, head};
use crate::engine::events::pieces;
use crate::images::reference::Reference;
use crate::store::events::{Event, Kind, Logged, MAX_HISTORY, Subscription};

/// Past events since a point in time, and then those to come, until another.
///
/// # Errors
/// 400 for filters that are none and for an end before the beginning, 500 for a time that
/// is none.
pub async fn events(context: &Context<'_>) -> ApiResult {
    let query = &context.query;
    let at = |name: &str| match query.text(name) {
        // A point in time like any other, unlike for logs.
        "0" => Ok(Some(Timestamp::from_nanos(0))),
        _ => time(query, name),
    };
    let (since, until) = (at("since")?, at("until")?);
    if let Some(until) = until
        && since.is_some_and(|since| until < since)
    {
        let (since, until) = (query.text("since"), query.text("until"));
        let message = format!("`since` time ({since}) cannot be after `until` time ({until})");
        return Err(ApiError::new(400, message));
    }
    let filters = query.text("filters");
    let choice = Choice::parse(filters)?;
    let (control, namespace) = (context.control, context.namespace);
    let now = control.environment.now();
    let floor = Subscription::floor_at(now);
    control.store.log_all_unsaid(namespace).await?;
    let log = control.store.logged(namespace, floor, MAX_HISTORY).await?;
    let history = history(&log, &choice, since, until);
    let head = head(200, "application/json");
    if until.is_some_and(|until| until < now) {
        return respond(context, head, history).await;
    }
    let mut first = vec![Part::Head(head)];
    first.extend(until.map(|until| Part::EndAfter {
        ms: u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX),
    }));
    first.extend(pieces(&history));
    let id = AnswerId::from_random(control.environment.random());
    let subscription = Subscription::begun(namespace, filters, now, &log);
    let given = first.len() as u64;
    control
        .store
        .subscribe(&id, context.peer()?, given, subscription)
        .await?;
    // What happened between the two is in neither of them: whoever says something from now on
    // finds the subscription.
    control.store.log_all_unsaid(namespace).await?;
    control.catch_up(namespace, &id).await?;
    Ok(Answer::Parts { id, first })
}

/// Past events as Docker shows them: none unless a time is named.
fn history(
    log: &[Logged],
    choice: &Choice,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Vec<u8> {
    if since.is_none() && until.is_none() {
        return Vec::new();
    }
    let mut past: Vec<&Event> = log.iter().flat_map(|item| &item.events).collect();
    past.sort_by_key(|event| event.at);
    let surplus = past.len().saturating_sub(MAX_HISTORY);
    past.into_iter()
        .skip(surplus)
        .filter(|event| since.is_none_or(|since| event.at >= since))
        .filter(|event| until.is_none_or(|until| event.at <= until))
        .filter(|event| choice.takes(event))
        .flat_map(line)
        .collect()
}

/// An event in Docker's JSON, with its newline.
pub(crate) fn line(event: &Event) -> Vec<u8> {
    // What clients of before API 1.22 look at, for the kinds that there were.
    let old = match event.kind {
        Kind::Container | Kind::Image => true,
        Kind::Network | Kind::Volume | Kind::Builder => false,
    };
    let image = event.attributes.get("image").map(String::as_str);
    let message = Message {
        status: old.then_some(event.action.as_str()),
        id: old.then_some(event.actor.as_str()),
        from: image.filter(|_| event.kind == Kind::Container),
        kind: event.kind.name(),
        action: &event.action,
        actor: Actor {
            id: &event.actor,
            attributes: &event.attributes,
        },
        scope: SCOPE,
        time: event.at.secs(),
        time_nano: event.at.nanos(),
    };
    // Strings and numbers alone: it can always be written.
    let mut line = serde_json::to_vec(&message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Docker's `events.Message`, its fields in Docker's order.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "Action")]
    action: &'a str,
    #[serde(rename = "Actor")]
    actor: Actor<'a>,
    scope: &'a str,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Serialize)]
struct Actor<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Attributes")]
    attributes: &'a BTreeMap<String, String>,
}

/// There is no swarm.
const SCOPE: &str = "local";

/// Actions that a filter may name by their beginning.
const OPEN_ENDED: [&str; 3] = ["health_status", "exec_create", "exec_start"];

/// Filters that name an object of a kind, whether or not there are such.
const OBJECTS: [&str; 9] = [
    "daemon",
    "container",
    "plugin",
    "volume",
    "network",
    "node",
    "service",
    "secret",
    "config",
];

/// Which events are wanted (moby's `daemon/events/filter.go`). Names of filters that
/// Docker does not know change nothing, as there.
#[derive(Debug, Clone)]
pub(crate) struct Choice(Filters);

impl Choice {
    /// Reads `filters`.
    ///
    /// # Errors
    /// 400 when they are none.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        Filters::parse(text).map(Self)
    }

    /// Whether an event is wanted.
    pub(crate) fn takes(&self, event: &Event) -> bool {
        let filters = &self.0;
        let name = event.attributes.get("name").map_or("", String::as_str);
        let fuzzy = |wanted: &str| event.actor.starts_with(wanted) || name.starts_with(wanted);
        self.takes_action(&event.action)
            && filters.any("type", |wanted| wanted == event.kind.name())
            && filters.any("scope", |wanted| wanted == SCOPE)
            && OBJECTS.iter().all(|object| filters.any(object, fuzzy))
            && self.takes_image(event)
            && filters
                .get("label")
                .iter()
                .all(|wanted| match wanted.split_once('=') {
                    Some((key, value)) => {
                        event.attributes.get(key).map(String::as_str) == Some(value)
                    }
                    None => event.attributes.contains_key(wanted),
                })
    }

    fn takes_action(&self, action: &str) -> bool {
        let named = self.0.get("event");
        let by_beginning = named.iter().any(|n| OPEN_ENDED.contains(&n.as_str()));
        self.0.any("event", |wanted| {
            wanted == action || by_beginning && action.starts_with(wanted)
        })
    }

    /// By id or name, with or without the tag; of a container its image's.
    fn takes_image(&self, event: &Event) -> bool {
        let name = match event.kind {
            Kind::Image => "name",
            Kind::Container | Kind::Network | Kind::Volume | Kind::Builder => "image",
        };
        let name = event.attributes.get(name).map_or("", String::as_str);
        let without_tag = |name: &str| {
            Reference::parse(name)
                .map_or_else(|_| name.to_owned(), |reference| reference.familiar_name())
        };
        self.0.any("image", |wanted| {
            wanted == event.actor
                || wanted == name
                || wanted == without_tag(&event.actor)
                || wanted == without_tag(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::events::event;

    fn happened(action: &str) -> Event {
        let attributes = [
            ("image", "busybox:1".to_owned()),
            ("name", "web-1".to_owned()),
            ("tier", "front".to_owned()),
        ];
        let at = Timestamp::from_nanos(1_700_000_000_000_000_001);
        event(Kind::Container, action, "abcdef", attributes, at)
    }

    fn takes(filters: Value, action: &str) -> bool {
        let choice = Choice::parse(&filters.to_string()).unwrap();
        choice.takes(&happened(action))
    }

    #[test]
    fn an_event_has_dockers_json() {
        let text = String::from_utf8(line(&happened("start"))).unwrap();
        assert_eq!(
            text,
            "{\"status\":\"start\",\"id\":\"abcdef\",\"from\":\"busybox:1\",\"Type\":\"container\",\"Action\":\"start\",\
             \"Actor\":{\"ID\":\"abcdef\",\"Attributes\":{\"image\":\"busybox:1\",\"name\":\"web-1\",\"tier\":\"front\"}},\
             \"scope\":\"local\",\"time\":1700000000,\"timeNano\":1700000000000000001}\n"
        );
        let network = event(Kind::Network, "connect", "n", [], Timestamp::from_secs(1));
        assert!(line(&network).starts_with(b"{\"Type\":\"network\""));
    }

    #[test]
    fn filters_are_dockers() {
        for (filters, action, taken) in [
            (json!({}), "start", true),
            (json!({"event": ["start"]}), "start", true),
            (json!({"event": ["sta"]}), "start", false),
            (
                json!({"event": ["exec_create"]}),
                "exec_create: ls -l",
                true,
            ),
            (
                json!({"event": ["exec_create: ls -l"]}),
                "exec_create: ls -l",
                true,
            ),
            (
                json!({"event": ["exec_create: ls"]}),
                "exec_create: ls -l",
                false,
            ),
            (json!({"event": ["health_status", "sta"]}), "start", true),
            (
                json!({"event": ["health_status: healthy"]}),
                "health_status: unhealthy",
                false,
            ),
            (json!({"type": ["container"]}), "start", true),
            (json!({"type": ["network", "image"]}), "start", false),
            (json!({"container": ["abc"]}), "start", true),
            (json!({"container": ["web"]}), "start", true),
            (json!({"container": ["eb-1"]}), "start", false),
            (json!({"image": ["busybox"]}), "start", true),
            (json!({"image": ["busybox:1"]}), "start", true),
            (json!({"image": ["busybox:2"]}), "start", false),
            (json!({"label": ["tier"]}), "start", true),
            (json!({"label": ["tier=front"]}), "start", true),
            (json!({"label": ["tier=front", "none"]}), "start", false),
            (json!({"scope": ["local"]}), "start", true),
            (json!({"scope": ["swarm"]}), "start", false),
            (json!({"node": ["n"]}), "start", false),
            (json!({"nonsense": ["x"]}), "start", true),
        ] {
            assert_eq!(takes(filters.clone(), action), taken, "{filters} {action}");
        }
    }

    #[test]
    fn history_needs_a_time_and_is_bounded() {
        let log: Vec<Logged> = (0..300)
            .map(|secs| Logged {
                key: String::new(),
                at: Timestamp::from_secs(secs),
                events: vec![Event {
                    at: Timestamp::from_secs(secs),
                    ..happened("start")
                }],
            })
            .collect();
        let choice = Choice::parse("").unwrap();
        let count = |since: Option<i64>, until: Option<i64>| {
            let at = |secs: Option<i64>| secs.map(Timestamp::from_secs);
            let text = history(&log, &choice, at(since), at(until));
            text.split(|byte| *byte == b'\n').count() - 1
        };
        assert_eq!(count(None, None), 0);
        assert_eq!(count(Some(0), None), MAX_HISTORY);
        assert_eq!(count(Some(298), None), 2);
        assert_eq!(count(None, Some(50)), 7);
        assert_eq!(count(Some(100), Some(101)), 2);
    }
}
