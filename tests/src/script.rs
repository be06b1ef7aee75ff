//! Takes the steps of a scenario with one engine and records what came back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use regex_lite::{Captures, Regex};
use serde_json::{Map, Value, json};

use crate::frames::{demultiplex, demultiplex_so_far};
use crate::http::{Connection, Endpoint, Head, Request};
use crate::process::{Ended, Running, contains};
use crate::scenario::{Action, Api, Gone, Scenario, Step, View};

/// No step takes longer with a healthy engine.
const STEP_LIMIT: Duration = Duration::from_secs(45);
/// The pause between two questions of an `until`.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// One engine, and what the steps need to speak with it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The `docker` client.
    pub client: PathBuf,
    /// Address of the registry, as the engine sees it.
    pub registry: String,
    /// Address of the same registry with basic authentication, as the engine sees it.
    pub guarded: String,
    /// Address of what can be searched as Docker Hub, as the engine sees it.
    pub index: String,
    /// Address of a registry whose tokens a server gives or refuses, as the engine sees it.
    pub tokens: String,
    /// The files that steps may send or load.
    pub fixtures: PathBuf,
}

/// What one step gave.
#[derive(Debug, Clone)]
pub struct Record {
    /// The step's number, from 0.
    pub step: usize,
    /// What a person reads about the step.
    pub title: String,
    /// The request that it was, if it was one.
    pub request: Option<Api>,
    /// The verb of the client, if it was run.
    pub command: Option<String>,
    /// Whether the client went away before the end.
    pub gone: bool,
    /// The result, as a JSON object.
    pub value: Value,
    /// How it is to be compared.
    pub view: View,
}

/// What a scenario gave, as far as it came.
#[derive(Debug, Clone)]
pub struct Played {
    /// The records of the steps that were taken.
    pub records: Vec<Record>,
    /// Why it went no further.
    pub error: Option<String>,
}

/// Takes all steps of a scenario.
#[must_use]
pub fn play(scenario: &Scenario, stage: &Stage) -> Played {
    let mut records = Vec::new();
    let error = match Player::new(scenario, stage) {
        Err(error) => Some(error),
        Ok(mut player) => {
            let error = scenario
                .steps
                .iter()
                .enumerate()
                .find_map(|(number, step)| {
                    player
                        .take(number, step, &mut records)
                        .err()
                        .map(|error| format!("step {number}, {}: {error}", step.title()))
                });
            player.clean_up();
            error
        }
    };
    Played { records, error }
}

enum Background {
    Docker(Running),
    Http {
        connection: Connection,
        head: Head,
        seen: Vec<u8>,
        view: View,
    },
}

/// A background step, and what its record will need.
struct Kept {
    live: Background,
    view: View,
    request: Option<Api>,
    command: Option<String>,
}

struct Player<'a> {
    scenario: &'a Scenario,
    stage: &'a Stage,
    folder: tempfile::TempDir,
    saved: BTreeMap<String, String>,
    background: BTreeMap<String, Kept>,
    reference: Regex,
}

impl<'a> Player<'a> {
    fn new(scenario: &'a Scenario, stage: &'a Stage) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        std::os::unix::fs::symlink(&stage.fixtures, folder.path().join("fixtures"))
            .map_err(|error| format!("no link to the fixtures: {error}"))?;
        Ok(Self {
            scenario,
            stage,
            folder,
            saved: BTreeMap::new(),
            background: BTreeMap::new(),
            reference: Regex::new(r"@N\b|@R\b|@A\b|@S\b|@T\b|@\{(\w+)\}")
                .map_err(|error| error.to_string())?,
        })
    }

    fn fill_in(&self, text: &str) -> String {
        self.reference
            .replace_all(text, |found: &Captures<'_>| match &found[0] {
                "@N" => self.scenario.name.clone(),
                "@R" => self.stage.registry.clone(),
                "@A" => self.stage.guarded.clone(),
                "@S" => self.stage.index.clone(),
                "@T" => self.stage.tokens.clone(),
                whole => self
                    .saved
                    .get(&found[1])
                    .cloned()
                    .unwrap_or_else(|| whole.to_owned()),
            })
            .into_owned()
    }

    fn fill_in_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.fill_in(text).into_bytes(),
            Err(_) => bytes.to_vec(),
        }
    }

    fn take(
        &mut self,
        number: usize,
        step: &Step,
        records: &mut Vec<Record>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + STEP_LIMIT;
        let title = step.title();
        let mut command = None;
        let (request, gone, view, value) = match &step.action {
            Action::Docker {
                arguments,
                input,
                environment,
            } => {
                let running = self.start_docker(arguments, input.as_deref(), environment)?;
                if let Some(name) = &step.background {
                    self.background.insert(
                        name.clone(),
                        Kept {
                            live: Background::Docker(running),
                            view: step.view,
                            request: None,
                            command: arguments.first().cloned(),
                        },
                    );
                    return Ok(());
                }
                let ended = running.finish(deadline)?;
                command = arguments.first().cloned();
                self.save_output(step, &ended);
                (None, false, step.view, docker_value(&ended, step.view))
            }
            Action::Api(api) => {
                let api = self.resolve(api);
                let value = self.call(step, &api, deadline)?;
                (Some(api), false, step.view, value)
            }
            Action::Gone(api, when) => {
                let api = self.resolve(api);
                let value = self.go_away(&api, *when, deadline)?;
                (Some(api), true, step.view, value)
            }
            Action::Send { to, bytes } => {
                let bytes = self.fill_in_bytes(bytes);
                match self.live(to)? {
                    Background::Docker(running) => running.send(&bytes),
                    Background::Http { connection, .. } => {
                        connection.send(&bytes).map_err(|error| error.to_string())?;
                    }
                }
                return Ok(());
            }
            Action::Await { from, text } => {
                let text = self.fill_in(text);
                return self.await_text(from, &text, deadline);
            }
            Action::HalfClose(of) => {
                return match self.live(of)? {
                    Background::Docker(running) => {
                        running.half_close();
                        Ok(())
                    }
                    Background::Http { connection, .. } => connection
                        .half_close()
                        .map_err(|error| format!("half-close: {error}")),
                };
            }
            Action::Signal(of, signal) => {
                return match self.live(of)? {
                    Background::Docker(running) => running.signal(*signal),
                    Background::Http { .. } => Err("only a client takes signals".to_owned()),
                };
            }
            Action::Finish(of) => {
                let kept = self.forget(of)?;
                command = kept.command;
                let value = finish(kept.live, kept.view, deadline)?;
                (kept.request, false, kept.view, value)
            }
            Action::HangUp(of) => {
                let kept = self.forget(of)?;
                command = kept.command;
                drop(kept.live);
                (kept.request, true, kept.view, self.still_there()?)
            }
            Action::Until {
                api,
                pointer,
                value,
            } => return self.until(&self.resolve(api), pointer, value, deadline),
            Action::UntilLog {
                container,
                text,
                times,
            } => return self.until_log(container, &self.fill_in(text), *times, deadline),
            Action::File { name, content } => {
                let path = self.folder.path().join(name);
                return path
                    .parent()
                    .map_or(Ok(()), std::fs::create_dir_all)
                    .and_then(|()| std::fs::write(&path, self.fill_in_bytes(content)))
                    .map_err(|error| format!("{name}: {error}"));
            }
            Action::ReadFile(name) => {
                let content = std::fs::read(self.folder.path().join(name))
                    .map_err(|error| format!("{name}: {error}"))?;
                (None, false, step.view, json!({"content": text(&content)}))
            }
        };
        records.push(Record {
            step: number,
            title,
            request,
            command,
            gone,
            value,
            view,
        });
        Ok(())
    }

    fn live(&mut self, name: &str) -> Result<&mut Background, String> {
        self.background
            .get_mut(name)
            .map(|kept| &mut kept.live)
            .ok_or_else(|| format!("nothing goes on as {name}"))
    }

    fn forget(&mut self, name: &str) -> Result<Kept, String> {
        self.background
            .remove(name)
            .ok_or_else(|| format!("nothing goes on as {name}"))
    }

    fn start_docker(
        &self,
        arguments: &[String],
        input: Option<&[u8]>,
        environment: &[(String, String)],
    ) -> Result<Running, String> {
        let folder = self.folder.path();
        let mut command = Command::new(&self.stage.client);
        command
            .args(arguments.iter().map(|argument| self.fill_in(argument)))
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .env("DOCKER_CONFIG", folder.join(".docker"))
            .env("DOCKER_HOST", self.stage.endpoint.docker_host())
            .env("DOCKER_CLI_HINTS", "false")
            .env("TERM", "dumb")
            .env("LC_ALL", "C.UTF-8");
        for (name, value) in environment {
            command.env(name, self.fill_in(value));
        }
        let mut running =
            Running::start(&mut command).map_err(|error| format!("docker: {error}"))?;
        if let Some(input) = input {
            running.send(&self.fill_in_bytes(input));
            running.half_close();
        }
        Ok(running)
    }

    fn save_output(&mut self, step: &Step, ended: &Ended) {
        for (name, _) in &step.save {
            let output = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
            self.saved.insert(name.clone(), output);
        }
    }

    fn resolve(&self, api: &Api) -> Api {
        Api {
            target: self.fill_in(&api.target),
            body: api.body.as_deref().map(|body| self.fill_in_bytes(body)),
            headers: api
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), self.fill_in(value)))
                .collect(),
            ..api.clone()
        }
    }

    fn wire(&self, api: &Api) -> Result<Request, String> {
        let body = match &api.fixture {
            Some(name) => Some(
                std::fs::read(self.stage.fixtures.join(name))
                    .map_err(|error| format!("the fixture {name}: {error}"))?,
            ),
            None => api.body.clone(),
        };
        let prefix = match &api.version {
            Some(version) => format!("/v{version}"),
            None => String::new(),
        };
        Ok(Request {
            method: api.method.clone(),
            target: format!("{prefix}{}", api.target),
            headers: api.headers.clone(),
            body,
            chunked: api.chunked,
        })
    }

    fn call(&mut self, step: &Step, api: &Api, deadline: Instant) -> Result<Value, String> {
        let request = self.wire(api)?;
        let mut connection = open(&self.stage.endpoint)?;
        let sent = send_all(&mut connection, &request);
        let head =
            connection
                .read_head(&request.method, deadline)
                .map_err(|error| match &sent {
                    Err(sent) => format!("{sent}, and then: {error}"),
                    Ok(()) => error.to_string(),
                })?;
        let mut value = head_value(&head);
        if let Some(name) = &step.background {
            let live = Background::Http {
                connection,
                head,
                seen: Vec::new(),
                view: step.view,
            };
            self.background.insert(
                name.clone(),
                Kept {
                    live,
                    view: step.view,
                    request: Some(api.clone()),
                    command: None,
                },
            );
            return Ok(Value::Object(value));
        }
        let body = connection
            .read_rest(deadline)
            .map_err(|error| format!("after the head {head:?}: {error}"))?;
        if !step.save.is_empty() {
            self.save_body(step, &head, &body)?;
        }
        value.extend(body_value(&head, &body, step.view));
        Ok(Value::Object(value))
    }

    fn save_body(&mut self, step: &Step, head: &Head, body: &[u8]) -> Result<(), String> {
        let parsed: Value = serde_json::from_slice(body).map_err(|error| {
            format!(
                "{}: the body {:?} is no JSON: {error}",
                head.status,
                text(body)
            )
        })?;
        for (name, pointer) in &step.save {
            let found = parsed
                .pointer(pointer)
                .ok_or_else(|| format!("{}: no {pointer} in {parsed}", head.status))?;
            let found = found
                .as_str()
                .map_or_else(|| found.to_string(), str::to_owned);
            self.saved.insert(name.clone(), found);
        }
        Ok(())
    }

    fn go_away(&self, api: &Api, when: Gone, deadline: Instant) -> Result<Value, String> {
        let request = self.wire(api)?;
        let mut connection = open(&self.stage.endpoint)?;
        let head = request.head();
        let body = request.framed_body();
        let sent = match when {
            Gone::InHead => connection.send(&head[..head.len() / 2]),
            Gone::InBody => connection
                .send(&head)
                .and_then(|()| connection.send(&body[..body.len() / 2])),
            Gone::BeforeAnswer | Gone::AfterHead => {
                connection.send(&head).and_then(|()| connection.send(&body))
            }
        };
        sent.map_err(|error| error.to_string())?;
        if when == Gone::AfterHead {
            connection
                .read_head(&request.method, deadline)
                .map_err(|error| error.to_string())?;
        }
        drop(connection);
        self.still_there()
    }

    /// Whatever a client did, the engine answers the next one.
    fn still_there(&self) -> Result<Value, String> {
        let ping = Request {
            method: "GET".to_owned(),
            target: "/_ping".to_owned(),
            ..Request::default()
        };
        let (head, body) = crate::http::fetch(&self.stage.endpoint, &ping, STEP_LIMIT)
            .map_err(|error| format!("afterwards /_ping fails: {error}"))?;
        Ok(json!({"ping": {"status": head.status, "body": text(&body)}}))
    }

    fn await_text(&mut self, from: &str, wanted: &str, deadline: Instant) -> Result<(), String> {
        match self.live(from)? {
            Background::Docker(running) => {
                if running.await_text(wanted.as_bytes(), deadline) {
                    return Ok(());
                }
                Err(format!(
                    "it has put out {:?} and {:?}",
                    running.stdout_so_far(),
                    running.stderr_so_far()
                ))
            }
            Background::Http {
                connection,
                head,
                seen,
                view,
            } => loop {
                let plain = if is_multiplexed(head, *view) {
                    demultiplex_so_far(seen)
                } else {
                    seen.clone()
                };
                if contains(&plain, wanted.as_bytes()) {
                    return Ok(());
                }
                match connection.read_piece(deadline) {
                    Ok(Some(piece)) => seen.extend_from_slice(&piece),
                    Ok(None) => return Err(format!("the stream ended after {:?}", text(&plain))),
                    Err(error) => return Err(format!("{error}, after {:?}", text(&plain))),
                }
            },
        }
    }

    fn until(
        &self,
        api: &Api,
        pointer: &str,
        wanted: &Value,
        deadline: Instant,
    ) -> Result<(), String> {
        let wanted = match wanted {
            Value::String(text) => self.fill_in(text).into(),
            other => other.clone(),
        };
        self.ask_until(api, deadline, |head, body| {
            let parsed = serde_json::from_slice::<Value>(body).unwrap_or_default();
            if parsed.pointer(pointer) == Some(&wanted) {
                return Ok(());
            }
            Err(format!(
                "the last answer was {} with {pointer} = {:?}",
                head.status,
                parsed.pointer(pointer)
            ))
        })
    }

    fn until_log(
        &self,
        container: &str,
        text: &str,
        times: usize,
        deadline: Instant,
    ) -> Result<(), String> {
        let api = Api {
            method: "GET".to_owned(),
            target: format!(
                "/containers/{}/logs?stdout=1&stderr=1",
                self.fill_in(container)
            ),
            ..Api::default()
        };
        self.ask_until(&api, deadline, |head, body| {
            let plain = demultiplex_so_far(body);
            let log = String::from_utf8_lossy(&plain);
            if head.status == 200 && log.matches(text).count() >= times {
                return Ok(());
            }
            Err(format!("the last answer was {} with {log:?}", head.status))
        })
    }

    fn ask_until(
        &self,
        api: &Api,
        deadline: Instant,
        good: impl Fn(&Head, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let request = self.wire(api)?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (head, body) = crate::http::fetch(&self.stage.endpoint, &request, left)
                .map_err(|error| error.to_string())?;
            let Err(reason) = good(&head, &body) else {
                return Ok(());
            };
            if Instant::now() + ASK_AGAIN >= deadline {
                return Err(reason);
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Removes the scenario's containers, networks and volumes, so that none goes on to run beside
    /// the next scenario. What cannot be removed goes with the engine.
    fn clean_up(&mut self) {
        self.background.clear();
        let ask = |method: &str, target: String| {
            let request = Request {
                method: method.to_owned(),
                target,
                ..Request::default()
            };
            crate::http::fetch(&self.stage.endpoint, &request, STEP_LIMIT)
        };
        let Ok((_, body)) = ask("GET", "/containers/json?all=1".to_owned()) else {
            return;
        };
        let containers = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        for container in containers.as_array().into_iter().flatten() {
            let names = container["Names"].as_array().into_iter().flatten();
            let mut names = names.filter_map(Value::as_str);
            let ours = names.any(|name| self.is_ours(name.trim_start_matches('/')))
                || container["Labels"]["scenario"] == self.scenario.name.as_str();
            if let (true, Some(id)) = (ours, container["Id"].as_str()) {
                let _ = ask("DELETE", format!("/containers/{id}?force=1&v=1"));
            }
        }
        for (list, kind) in [("/networks", "networks"), ("/volumes", "volumes")] {
            let Ok((_, body)) = ask("GET", list.to_owned()) else {
                continue;
            };
            let found = serde_json::from_slice::<Value>(&body).unwrap_or_default();
            let found = found.get("Volumes").unwrap_or(&found);
            let names = found.as_array().into_iter().flatten();
            for name in names.filter_map(|object| object["Name"].as_str()) {
                if self.is_ours(name) {
                    let name = name.replace('/', "%2F");
                    let _ = ask("DELETE", format!("/{kind}/{name}"));
                }
            }
        }
    }

    /// Whether an object of this name was made by the scenario.
    fn is_ours(&self, name: &str) -> bool {
        name == self.scenario.name || name.starts_with(&format!("{}-x", self.scenario.name))
    }
}

fn open(endpoint: &Endpoint) -> Result<Connection, String> {
    Connection::open(endpoint).map_err(|error| format!("cannot connect: {error}"))
}

fn send_all(connection: &mut Connection, request: &Request) -> Result<(), String> {
    connection
        .send(&request.head())
        .and_then(|()| connection.send(&request.framed_body()))
        .map_err(|error| format!("the request could not be sent whole: {error}"))
}

fn finish(background: Background, view: View, deadline: Instant) -> Result<Value, String> {
    match background {
        Background::Docker(running) => {
            let ended = running.finish(deadline)?;
            Ok(docker_value(&ended, view))
        }
        Background::Http {
            mut connection,
            head,
            mut seen,
            ..
        } => {
            let rest = connection
                .read_rest(deadline)
                .map_err(|error| format!("{error}, after {:?}", text(&seen)))?;
            seen.extend_from_slice(&rest);
            Ok(Value::Object(body_value(&head, &seen, view)))
        }
    }
}

fn docker_value(ended: &Ended, view: View) -> Value {
    let mut value = Map::new();
    value.insert("exit".to_owned(), ended.code.into());
    if !view.head_only {
        value.insert("stdout".to_owned(), text(&ended.stdout).into());
        value.insert("stderr".to_owned(), text(&ended.stderr).into());
    }
    Value::Object(value)
}

fn head_value(head: &Head) -> Map<String, Value> {
    let mut headers = BTreeMap::<String, Vec<&str>>::new();
    for (name, value) in &head.headers {
        headers.entry(name.clone()).or_default().push(value);
    }
    let headers: Map<String, Value> = headers
        .into_iter()
        .map(|(name, values)| (name, values.join(", ").into()))
        .collect();
    let mut value = Map::new();
    value.insert("status".to_owned(), head.status.into());
    value.insert("headers".to_owned(), headers.into());
    value
}

fn is_multiplexed(head: &Head, view: View) -> bool {
    !view.raw
        && (view.multiplexed
            || head.header("content-type") == Some("application/vnd.docker.multiplexed-stream"))
}

fn body_value(head: &Head, body: &[u8], view: View) -> Map<String, Value> {
    let mut value = Map::new();
    if view.head_only {
        return value;
    }
    let content_type = head.header("content-type").unwrap_or_default();
    if is_multiplexed(head, view) {
        let streams = match demultiplex(body) {
            Ok(streams) => streams
                .into_iter()
                .map(|(name, bytes)| (name.to_owned(), text(&bytes).into()))
                .collect::<Map<_, _>>(),
            Err(error) => Map::from_iter([("broken".to_owned(), Value::from(error))]),
        };
        value.insert("streams".to_owned(), streams.into());
    } else if content_type.starts_with("application/json") && !view.raw {
        value.insert("body".to_owned(), json_value(body));
    } else {
        value.insert("body".to_owned(), text(body).into());
    }
    value
}

/// A JSON body; of one that is a sequence of values, their list.
fn json_value(body: &[u8]) -> Value {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(body)
        .into_iter()
        .collect();
    match values {
        Ok(mut values) if values.len() == 1 => values.remove(0),
        Ok(values) => json!({ "sequence": values }),
        Err(error) => json!({"not JSON": error.to_string(), "text": text(body)}),
    }
}

/// Bytes as text; what is none is shown, so that it can be compared.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}
