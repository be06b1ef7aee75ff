//! A scenario: a name and the steps that are taken with each engine.
//!
//! In every text of a step, `@N` stands for the scenario's own name (the same
//! with both engines, so that names need no normalising), `@R` for the address
//! of the registry, `@A` for that of the same registry with basic authentication (name
//! `bob`, password `secret`), `@S` for what can be searched as Docker Hub, `@T` for one
//! that takes tokens of a server (the same name and password), and `@{x}` for what an earlier step saved as `x`.

use serde_json::Value;

/// The runtime that the subject gives containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// An invocation of a function: read-only root, one user, no terminal.
    Function,
    /// A machine of its own: writable root, root user, terminals.
    Microvm,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Function, Self::Microvm];

    /// The name that `--runtime` and the tests' environment use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Microvm => "microvm",
        }
    }

    /// The runtime of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.name() == name)
    }
}

/// Steps that are taken with both engines, and whose results must agree.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Unique; also the name that `@N` stands for.
    pub name: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The runtimes that can do this at all.
    pub runtimes: Vec<Runtime>,
    /// Whether nothing else may run meanwhile, since all of an engine is looked at.
    pub alone: bool,
}

impl Scenario {
    /// A scenario for every runtime.
    #[must_use]
    pub fn new(name: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            name: name.to_owned(),
            steps: steps.into_iter().collect(),
            runtimes: vec![Runtime::Function, Runtime::Microvm],
            alone: false,
        }
    }

    /// Only for the runtime that has a writable root, root and terminals.
    #[must_use]
    pub fn microvm_only(mut self) -> Self {
        self.runtimes = vec![Runtime::Microvm];
        self
    }

    /// Nothing else may run meanwhile.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// What the real Engine is known to answer: a mistake in the scenario, and
    /// not a difference, when it does not.
    pub expect: Option<i64>,
    /// Values of the answer that later steps use: name, JSON pointer.
    pub save: Vec<(String, String)>,
    /// The name under which the step goes on in the background.
    pub background: Option<String>,
    /// How the answer is compared.
    pub view: View,
}

/// How an answer is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// The order of the lines of the output is left to chance.
    pub sorted: bool,
    /// A table, whose columns are as wide as what was normalised away.
    pub table: bool,
    /// The body is a multiplexed stream, whatever its type says.
    pub multiplexed: bool,
    /// The body is a raw stream, whatever its type says.
    pub raw: bool,
    /// Only that it was answered, and how, is compared; not the body.
    pub head_only: bool,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Runs the `docker` client.
    Docker {
        /// Its arguments.
        arguments: Vec<String>,
        /// What it reads; `None` leaves its input open until the step is
        /// finished, and [`Action::Send`] writes to it.
        input: Option<Vec<u8>>,
        /// Environment variables beside the harness' own.
        environment: Vec<(String, String)>,
    },
    /// Sends a request to the API.
    Api(Api),
    /// Sends a request and goes away in the middle.
    Gone(Api, Gone),
    /// Writes to a background step: a client's input, or a hijacked stream.
    Send {
        /// The background step.
        to: String,
        /// What is written.
        bytes: Vec<u8>,
    },
    /// Waits until a background step has put out this text.
    Await {
        /// The background step.
        from: String,
        /// The text, anywhere in its output.
        text: String,
    },
    /// Ends the input of a background step, and goes on reading its output.
    HalfClose(String),
    /// Sends a signal to the client of a background step.
    Signal(String, nix::sys::signal::Signal),
    /// Waits for the end of a background step and records the rest.
    Finish(String),
    /// Drops the connection, or kills the client, of a background step.
    HangUp(String),
    /// Asks again and again until the answer holds this value.
    Until {
        /// A request without a body.
        api: Api,
        /// A JSON pointer into the body.
        pointer: String,
        /// What it has to point at.
        value: Value,
    },
    /// Asks for a container's logs until a text is there so many times.
    UntilLog {
        /// The container.
        container: String,
        /// The text.
        text: String,
        /// How often it has to be there at least.
        times: usize,
    },
    /// Writes a file into the scenario's folder, where clients run.
    File {
        /// Its name.
        name: String,
        /// What is in it.
        content: Vec<u8>,
    },
    /// Reads a file of the scenario's folder, as a result to compare.
    ReadFile(String),
}

/// A request to the API.
#[derive(Debug, Clone, Default)]
pub struct Api {
    /// The method.
    pub method: String,
    /// The path without the version, and the query.
    pub target: String,
    /// The version before the path, as in `1.51`; `None` is no prefix.
    pub version: Option<String>,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// The fixture that is the body.
    pub fixture: Option<String>,
    /// Whether the body goes without a length.
    pub chunked: bool,
    /// Whether the answer turns the connection into a raw stream.
    pub hijack: bool,
}

/// Where in an exchange the client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// In the middle of the request's head.
    InHead,
    /// In the middle of the request's body.
    InBody,
    /// After the request, without reading any of the answer.
    BeforeAnswer,
    /// After the answer's head.
    AfterHead,
}

/// Runs the client with arguments written as in a shell, with empty input.
///
/// # Panics
/// When the quotes do not match.
#[must_use]
#[expect(clippy::expect_used, reason = "a scenario is part of the program")]
pub fn docker(line: &str) -> Step {
    step(Action::Docker {
        arguments: shlex::split(line).expect("a command line has matching quotes"),
        input: Some(Vec::new()),
        environment: Vec::new(),
    })
}

/// Sends a request, written `METHOD /path?query`, with the current version.
///
/// # Panics
/// When there is no space in it.
#[must_use]
pub fn api(line: &str) -> Step {
    step(Action::Api(request(line)))
}

/// Sends a request and goes away.
///
/// # Panics
/// As [`api`].
#[must_use]
pub fn gone(when: Gone, line: &str) -> Step {
    step(Action::Gone(request(line), when))
}

/// Waits until a container has this status (`running`, `exited`, …).
#[must_use]
pub fn until_status(container: &str, status: &str) -> Step {
    until(
        &format!("GET /containers/{container}/json"),
        "/State/Status",
        status.into(),
    )
}

/// Waits until the answer to a request holds a value.
///
/// # Panics
/// As [`api`].
#[must_use]
pub fn until(line: &str, pointer: &str, value: Value) -> Step {
    step(Action::Until {
        api: request(line),
        pointer: pointer.to_owned(),
        value,
    })
}

/// Waits until a container's logs have a text so many times.
#[must_use]
pub fn until_log(container: &str, text: &str, times: usize) -> Step {
    step(Action::UntilLog {
        container: container.to_owned(),
        text: text.to_owned(),
        times,
    })
}

/// Writes to a background step.
#[must_use]
pub fn send(to: &str, text: &str) -> Step {
    step(Action::Send {
        to: to.to_owned(),
        bytes: text.as_bytes().to_vec(),
    })
}

/// Waits for text from a background step.
#[must_use]
pub fn await_text(from: &str, text: &str) -> Step {
    step(Action::Await {
        from: from.to_owned(),
        text: text.to_owned(),
    })
}

/// Ends the input of a background step.
#[must_use]
pub fn half_close(of: &str) -> Step {
    step(Action::HalfClose(of.to_owned()))
}

/// Waits for the end of a background step.
#[must_use]
pub fn finish(of: &str) -> Step {
    step(Action::Finish(of.to_owned()))
}

/// Drops a background step.
#[must_use]
pub fn hang_up(of: &str) -> Step {
    step(Action::HangUp(of.to_owned()))
}

/// Sends a signal to the client of a background step.
#[must_use]
pub fn signal(of: &str, signal: nix::sys::signal::Signal) -> Step {
    step(Action::Signal(of.to_owned(), signal))
}

/// Writes a file into the scenario's folder, in folders of it if the name has slashes.
#[must_use]
pub fn file(name: &str, content: &[u8]) -> Step {
    step(Action::File {
        name: name.to_owned(),
        content: content.to_vec(),
    })
}

/// Reads a file of the scenario's folder.
#[must_use]
pub fn read_file(name: &str) -> Step {
    step(Action::ReadFile(name.to_owned()))
}

/// JSON, written as a query parameter's value.
#[must_use]
pub fn query(value: &Value) -> String {
    let encoded: String = value
        .to_string()
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'@' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    // What stands for something that is filled in later keeps its form.
    let mut pieces = encoded.split("@%7B");
    let mut query = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        query.push_str("@{");
        query.push_str(&piece.replacen("%7D", "}", 1));
    }
    query
}

fn step(action: Action) -> Step {
    Step {
        action,
        expect: None,
        save: Vec::new(),
        background: None,
        view: View::default(),
    }
}

#[expect(clippy::expect_used, reason = "a scenario is part of the program")]
fn request(line: &str) -> Api {
    let (method, target) = line.split_once(' ').expect("METHOD /path");
    Api {
        method: method.to_owned(),
        target: target.to_owned(),
        version: Some(CURRENT_VERSION.to_owned()),
        ..Api::default()
    }
}

/// The version of the API that steps speak unless they say otherwise.
pub const CURRENT_VERSION: &str = "1.51";

impl Step {
    /// The status or exit code that the real Engine gives.
    #[must_use]
    pub fn gives(mut self, code: i64) -> Self {
        self.expect = Some(code);
        self
    }

    /// What the client reads, to its end.
    #[must_use]
    pub fn input(mut self, text: &str) -> Self {
        if let Action::Docker { input, .. } = &mut self.action {
            *input = Some(text.as_bytes().to_vec());
        }
        self
    }

    /// Leaves the input of the client open.
    #[must_use]
    pub fn open_input(mut self) -> Self {
        if let Action::Docker { input, .. } = &mut self.action {
            *input = None;
        }
        self
    }

    /// Sets an environment variable of the client.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        if let Action::Docker { environment, .. } = &mut self.action {
            environment.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Gives the request a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(body.to_string().as_bytes())
    }

    /// Gives the request a body.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        if let Some(api) = self.request_mut() {
            api.body = Some(body.to_vec());
        }
        self
    }

    /// Gives the request a file of the fixtures as its body.
    #[must_use]
    pub fn fixture(mut self, name: &str) -> Self {
        if let Some(api) = self.request_mut() {
            api.fixture = Some(name.to_owned());
        }
        self
    }

    /// Sends the body without a length.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        if let Some(api) = self.request_mut() {
            api.chunked = true;
        }
        self
    }

    /// Gives the request a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(api) = self.request_mut() {
            api.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Speaks another version of the API.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        if let Some(api) = self.request_mut() {
            api.version = Some(version.to_owned());
        }
        self
    }

    /// Speaks without a version before the path.
    #[must_use]
    pub fn unversioned(mut self) -> Self {
        if let Some(api) = self.request_mut() {
            api.version = None;
        }
        self
    }

    /// Asks for the raw stream as today's clients do, with an upgrade.
    #[must_use]
    pub fn upgrade(self) -> Self {
        self.header("Connection", "Upgrade")
            .header("Upgrade", "tcp")
            .hijack()
    }

    /// Takes the raw stream that follows the answer, without asking.
    #[must_use]
    pub fn hijack(mut self) -> Self {
        if let Some(api) = self.request_mut() {
            api.hijack = true;
        }
        self
    }

    /// Goes on in the background, once the answer's head is there.
    #[must_use]
    pub fn background(mut self, name: &str) -> Self {
        self.background = Some(name.to_owned());
        self
    }

    /// Saves a value of the answer: of a JSON body by its pointer, or of a
    /// client all that it put out (`""`).
    #[must_use]
    pub fn save(mut self, name: &str, pointer: &str) -> Self {
        self.save.push((name.to_owned(), pointer.to_owned()));
        self
    }

    /// The order of the lines of the output is left to chance.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.view.sorted = true;
        self
    }

    /// The output is a table.
    #[must_use]
    pub fn table(mut self) -> Self {
        self.view.table = true;
        self
    }

    /// The body is a multiplexed stream, whatever its type says.
    #[must_use]
    pub fn multiplexed(mut self) -> Self {
        self.view.multiplexed = true;
        self
    }

    /// The body is a raw stream, whatever its type says.
    #[must_use]
    pub fn raw(mut self) -> Self {
        self.view.raw = true;
        self
    }

    /// The body is not compared.
    #[must_use]
    pub fn head_only(mut self) -> Self {
        self.view.head_only = true;
        self
    }

    /// The request of the step, if it sends one.
    #[must_use]
    pub fn request(&self) -> Option<&Api> {
        match &self.action {
            Action::Api(api) | Action::Gone(api, _) | Action::Until { api, .. } => Some(api),
            _ => None,
        }
    }

    fn request_mut(&mut self) -> Option<&mut Api> {
        match &mut self.action {
            Action::Api(api) | Action::Gone(api, _) | Action::Until { api, .. } => Some(api),
            _ => None,
        }
    }

    /// What a person reads about the step.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.action {
            Action::Docker { arguments, .. } => format!(
                "docker {}",
                shlex::try_join(arguments.iter().map(String::as_str)).unwrap_or_default()
            ),
            Action::Api(api) => title(api),
            Action::Gone(api, when) => format!("{} (client gone: {when:?})", title(api)),
            Action::Send { to, .. } => format!("send to {to}"),
            Action::Await { from, text } => format!("await {text:?} from {from}"),
            Action::HalfClose(of) => format!("half-close {of}"),
            Action::Signal(of, signal) => format!("{signal} to {of}"),
            Action::Finish(of) => format!("finish {of}"),
            Action::HangUp(of) => format!("hang up {of}"),
            Action::Until {
                api,
                pointer,
                value,
            } => format!("until {} has {pointer} = {value}", title(api)),
            Action::UntilLog {
                container,
                text,
                times,
            } => format!("until the logs of {container} have {text:?} {times} times"),
            Action::File { name, .. } => format!("write {name}"),
            Action::ReadFile(name) => format!("read {name}"),
        }
    }
}

fn title(api: &Api) -> String {
    match &api.version {
        Some(version) if version == CURRENT_VERSION => format!("{} {}", api.method, api.target),
        Some(version) => format!("{} /v{version}{}", api.method, api.target),
        None => format!("{} {} (no version)", api.method, api.target),
    }
}
