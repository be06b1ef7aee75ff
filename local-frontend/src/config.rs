//! Settings: read once, all mistakes reported together.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(target_os = "linux")]
use sockerless_control::embedded::gateway::{ChaosPolicy, InvalidChaos};
use sockerless_shared::ids::Namespace;
use sockerless_shared::spec::Runtime;
use thiserror::Error;

use crate::agent_binary::{self, AgentBinary, AgentError};
use crate::cli::{ControlArgs, ListenArgs, LocalArgs, LogFormat, ServeArgs};
use crate::docker_socket::{Listen, ListenSyntax};
use crate::serve::{InvalidEndpoint, named_region};

/// What a program is given by its surroundings.
pub struct Surroundings<'a> {
    /// Environment variables; an empty one is as good as none.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether this is root.
    pub root: bool,
    /// Where this program's file is.
    pub program: Option<PathBuf>,
}

/// Settings of `sockerless local`.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Where clients connect; never empty.
    pub listen: Vec<Listen>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where containers run that name no runtime.
    pub default_runtime: Runtime,
    /// Whose containers these are.
    pub namespace: Namespace,
    /// The agent.
    pub agent: AgentBinary,
    /// How registries are spoken to.
    pub registries: Registries,
    /// How long containers may take to stop at the end.
    pub shutdown_timeout: Duration,
    /// How the relay misbehaves on purpose.
    #[cfg(target_os = "linux")]
    pub chaos: Option<ChaosPolicy>,
    /// Form of the log.
    pub log: LogFormat,
    /// What is logged, in the syntax of [`tracing_subscriber::EnvFilter`].
    pub log_filter: String,
}

/// How registries are spoken to, in words that have been checked.
#[derive(Debug, Clone)]
pub struct Registries {
    /// Registries without TLS that can be checked.
    pub insecure: Vec<String>,
    /// Mirrors of Docker Hub.
    pub mirrors: Vec<String>,
    /// Where official images are when Docker Hub throttles.
    pub hub_fallback: Option<String>,
    /// A folder with a folder of certificates for each registry.
    pub certificates: PathBuf,
}

/// Settings of `sockerless serve`.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where clients connect; never empty.
    pub listen: Vec<Listen>,
    /// The control plane, and who asks.
    pub control: ControlConfig,
    /// Form of the log.
    pub log: LogFormat,
    /// What is logged, in the syntax of [`tracing_subscriber::EnvFilter`].
    pub log_filter: String,
}

/// Which control plane, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlConfig {
    /// The HTTP API.
    pub url: String,
    /// Its region, where its name or anybody says it.
    pub region: Option<String>,
    /// A profile of `~/.aws/config`, if one was named.
    pub profile: Option<String>,
    /// Whose containers these are, if not the caller's own.
    pub namespace: Option<Namespace>,
}

/// What is logged unless `SOCKERLESS_LOG_FILTER` says otherwise.
const LOG_FILTER: &str = "warn";

/// One setting that is wrong.
#[derive(Debug, Error)]
pub enum Mistake {
    /// `--listen`
    #[error("--listen: {0}")]
    Listen(#[from] ListenSyntax),
    /// No default socket.
    #[error(
        "--listen: XDG_RUNTIME_DIR is not set and this is not root, so that there is no default \
         place for the socket; give one, as in --listen unix:///tmp/sockerless.sock"
    )]
    NoSocket,
    /// No default data folder.
    #[error("--data-dir: neither XDG_DATA_HOME nor HOME is set; give a folder")]
    NoDataDir,
    /// `--default-runtime`
    #[error("--default-runtime: {0:?} is neither function nor microvm")]
    Runtime(String),
    /// `--namespace`
    #[error("--namespace: {0}")]
    Namespace(#[from] sockerless_shared::ids::InvalidId),
    /// `--insecure-registry`, `--registry-mirror`
    #[error("{option}: {reason}")]
    Registry {
        /// Which of them.
        option: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// `--shutdown-timeout`
    #[error("--shutdown-timeout: {0:?} is not a number of seconds")]
    ShutdownTimeout(String),
    /// `--chaos`
    #[cfg(target_os = "linux")]
    #[error("--chaos: {0}")]
    Chaos(#[from] InvalidChaos),
    /// `SOCKERLESS_LOG_FILTER`
    #[error("SOCKERLESS_LOG_FILTER: {text:?}: {reason}")]
    LogFilter {
        /// What it says.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `--agent`
    #[error("--agent: {0}")]
    Agent(#[from] AgentError),
    /// `--control`
    #[error("--control: {0}")]
    Control(#[from] InvalidEndpoint),
    /// `--region`
    #[error("--region: {given} is not the region of {url}: leave it out")]
    Region {
        /// What was given.
        given: String,
        /// Whose region is another.
        url: String,
    },
}

/// All settings that are wrong.
#[derive(Debug)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.0 {
            writeln!(f, "sockerless: {mistake}")?;
        }
        write!(f, "`sockerless local --help` explains the settings.")
    }
}

impl std::error::Error for Mistakes {}

impl LocalConfig {
    /// Reads the settings.
    ///
    /// # Errors
    /// All that are wrong.
    pub fn resolve(args: &LocalArgs, around: &Surroundings<'_>) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let listen = listen(&args.listen, around);
        let listen = listen.map_err(|wrong| mistakes.extend(wrong.0)).ok();
        let program = around.program.as_deref();
        let data_dir = keep(&mut mistakes, data_dir(args.data_dir.as_deref(), around));
        let default_runtime = keep(&mut mistakes, runtime(&args.default_runtime));
        let namespace = keep(&mut mistakes, args.namespace.parse());
        check_registries(args, &mut mistakes);
        let registries = Registries {
            insecure: args.insecure_registry.clone(),
            mirrors: args.registry_mirror.clone(),
            hub_fallback: Some(args.hub_fallback.clone()).filter(|place| place != "none"),
            certificates: args.registry_certs.clone(),
        };
        let shutdown_timeout = keep(&mut mistakes, seconds(&args.shutdown_timeout));
        #[cfg(target_os = "linux")]
        let chaos = args.chaos.as_deref().map(str::parse).transpose();
        #[cfg(target_os = "linux")]
        let chaos = keep(&mut mistakes, chaos);
        let log_filter = keep(&mut mistakes, log_filter(around));
        let agent = keep(
            &mut mistakes,
            agent_binary::find(args.agent.as_deref(), program),
        );
        // Each is missing only if a mistake was kept.
        let resolved = || {
            Some(Self {
                listen: listen?,
                data_dir: data_dir?,
                default_runtime: default_runtime?,
                namespace: namespace?,
                agent: agent?,
                registries,
                shutdown_timeout: shutdown_timeout?,
                #[cfg(target_os = "linux")]
                chaos: chaos?,
                log: args.log,
                log_filter: log_filter?,
            })
        };
        let resolved = resolved();
        match resolved {
            Some(config) if mistakes.is_empty() => Ok(config),
            Some(_) | None => Err(Mistakes(mistakes)),
        }
    }
}

/// Only the control plane, which runs here on Linux alone, knows what they mean.
#[cfg(target_os = "linux")]
fn check_registries(args: &LocalArgs, mistakes: &mut Vec<Mistake>) {
    use sockerless_control::images::remote::{Insecure, Mirror, SettingsError};
    let mut check = |option: &'static str, wrong: Option<SettingsError>| {
        mistakes.extend(wrong.map(|error| Mistake::Registry {
            option,
            reason: error.to_string(),
        }));
    };
    for text in &args.insecure_registry {
        check("--insecure-registry", text.parse::<Insecure>().err());
    }
    for text in &args.registry_mirror {
        check("--registry-mirror", text.parse::<Mirror>().err());
    }
}

#[cfg(not(target_os = "linux"))]
fn check_registries(_: &LocalArgs, _: &mut Vec<Mistake>) {}

impl ServeConfig {
    /// Reads the settings.
    ///
    /// # Errors
    /// All that are wrong.
    pub fn resolve(args: &ServeArgs, around: &Surroundings<'_>) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let listen = listen(&args.listen, around);
        let listen = listen.map_err(|wrong| mistakes.extend(wrong.0)).ok();
        let control = ControlConfig::resolve(&args.control, around);
        let control = control.map_err(|wrong| mistakes.extend(wrong.0)).ok();
        let log_filter = keep(&mut mistakes, log_filter(around));
        let resolved = || {
            Some(Self {
                listen: listen?,
                control: control?,
                log: args.log,
                log_filter: log_filter?,
            })
        };
        resolved().ok_or(Mistakes(mistakes))
    }
}

impl ControlConfig {
    /// Reads the settings.
    ///
    /// # Errors
    /// All that are wrong.
    pub fn resolve(args: &ControlArgs, around: &Surroundings<'_>) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let namespace = args.namespace.as_deref().map(str::parse).transpose();
        let namespace = keep(&mut mistakes, namespace);
        let region = keep(&mut mistakes, region(args, around));
        let resolved = || {
            Some(Self {
                url: args.url.clone(),
                region: region?,
                profile: args.profile.clone(),
                namespace: namespace?,
            })
        };
        resolved().ok_or(Mistakes(mistakes))
    }
}

/// What the URL says, else what was given, else what the environment says.
fn region(args: &ControlArgs, around: &Surroundings<'_>) -> Result<Option<String>, Mistake> {
    let not_a_url = || InvalidEndpoint::NotAUrl(args.url.clone());
    let url: http::Uri = args.url.parse().map_err(|_| not_a_url())?;
    if url.host().is_none() {
        return Err(not_a_url().into());
    }
    match (named_region(&url), &args.region) {
        (Some(named), Some(given)) if named != given => Err(Mistake::Region {
            given: given.clone(),
            url: args.url.clone(),
        }),
        (Some(named), _) => Ok(Some(named.to_owned())),
        (None, Some(given)) => Ok(Some(given.clone())),
        (None, None) => {
            let text = |name: &str| {
                let value = (around.variable)(name)?.into_string().ok()?;
                (!value.is_empty()).then_some(value)
            };
            Ok(text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")))
        }
    }
}

fn keep<T, E: Into<Mistake>>(mistakes: &mut Vec<Mistake>, result: Result<T, E>) -> Option<T> {
    result.map_err(|error| mistakes.push(error.into())).ok()
}

/// Where clients connect.
///
/// # Errors
/// All addresses that are wrong.
pub fn listen(args: &ListenArgs, around: &Surroundings<'_>) -> Result<Vec<Listen>, Mistakes> {
    if args.listen.is_empty() {
        let socket = default_socket(around).map_err(|mistake| Mistakes(vec![mistake]))?;
        return Ok(vec![Listen::Unix(socket)]);
    }
    let mut mistakes = Vec::new();
    let mut listen = Vec::new();
    for text in &args.listen {
        match text.parse() {
            Ok(address) => listen.push(address),
            Err(error) => mistakes.push(Mistake::Listen(error)),
        }
    }
    if mistakes.is_empty() {
        Ok(listen)
    } else {
        Err(Mistakes(mistakes))
    }
}

fn default_socket(around: &Surroundings<'_>) -> Result<PathBuf, Mistake> {
    if let Some(folder) = folder(around, "XDG_RUNTIME_DIR") {
        return Ok(folder.join("sockerless.sock"));
    }
    if around.root {
        return Ok(PathBuf::from("/run/sockerless.sock"));
    }
    Err(Mistake::NoSocket)
}

fn data_dir(given: Option<&Path>, around: &Surroundings<'_>) -> Result<PathBuf, Mistake> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    if let Some(folder) = folder(around, "XDG_DATA_HOME") {
        return Ok(folder.join("sockerless"));
    }
    if around.root {
        return Ok(PathBuf::from("/var/lib/sockerless"));
    }
    match folder(around, "HOME") {
        Some(home) => Ok(home.join(".local/share/sockerless")),
        None => Err(Mistake::NoDataDir),
    }
}

/// A folder that a variable names; the XDG specification ignores relative ones.
fn folder(around: &Surroundings<'_>, name: &str) -> Option<PathBuf> {
    (around.variable)(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

fn runtime(text: &str) -> Result<Runtime, Mistake> {
    [Runtime::Function, Runtime::Microvm]
        .into_iter()
        .find(|runtime| runtime.name() == text)
        .ok_or_else(|| Mistake::Runtime(text.to_owned()))
}

fn seconds(text: &str) -> Result<Duration, Mistake> {
    text.parse::<u32>()
        .map(|seconds| Duration::from_secs(seconds.into()))
        .map_err(|_| Mistake::ShutdownTimeout(text.to_owned()))
}

fn log_filter(around: &Surroundings<'_>) -> Result<String, Mistake> {
    let Some(text) = (around.variable)("SOCKERLESS_LOG_FILTER").filter(|text| !text.is_empty())
    else {
        return Ok(LOG_FILTER.to_owned());
    };
    let text = text.to_string_lossy().into_owned();
    match tracing_subscriber::EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Mistake::LogFilter {
            text,
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn resolve(
        arguments: &[&str],
        variables: &[(&str, &str)],
        root: bool,
    ) -> Result<LocalConfig, Mistakes> {
        let cli = Cli::parse_from([&["sockerless", "local"], arguments].concat());
        let Command::Local(args) = cli.command else {
            panic!("not local");
        };
        let variable = |name: &str| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let around = Surroundings {
            variable: &variable,
            root,
            program: None,
        };
        LocalConfig::resolve(&args, &around)
    }

    #[test]
    fn defaults_are_the_users_own_places() {
        let agent = agent_binary::tests::static_program();
        let agent = ["--agent", agent.path().to_str().unwrap()];
        let config = resolve(
            &agent,
            &[("XDG_RUNTIME_DIR", "/run/user/1"), ("HOME", "/home/a")],
            false,
        )
        .unwrap();
        assert_eq!(
            config.listen,
            vec![Listen::Unix("/run/user/1/sockerless.sock".into())]
        );
        assert_eq!(
            config.data_dir,
            Path::new("/home/a/.local/share/sockerless")
        );
        assert_eq!(config.default_runtime, Runtime::Function);
        let config = resolve(&agent, &[("HOME", "/root")], true).unwrap();
        assert_eq!(
            config.listen,
            vec![Listen::Unix("/run/sockerless.sock".into())]
        );
        assert_eq!(config.data_dir, Path::new("/var/lib/sockerless"));
        let config = resolve(
            &agent,
            &[("XDG_DATA_HOME", "/d"), ("XDG_RUNTIME_DIR", "/r")],
            true,
        )
        .unwrap();
        assert_eq!(config.data_dir, Path::new("/d/sockerless"));
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let arguments = [
            "--listen",
            "tcp://0.0.0.0:1",
            "--listen",
            "x",
            "--default-runtime",
            "vm",
            "--namespace",
            "a/b",
            "--shutdown-timeout",
            "soon",
            "--chaos",
            "drop=2",
            "--agent",
            "/nonexistent",
            "--insecure-registry",
            "http://a",
            "--registry-mirror",
            "a",
        ];
        let variables = [("SOCKERLESS_LOG_FILTER", "a=b=c")];
        let text = resolve(&arguments, &variables, false)
            .unwrap_err()
            .to_string();
        expect_test::expect![[r#"
            sockerless: --listen: 0.0.0.0:1 can be reached from other machines, which would give them every container and needs TLS with client certificates; that is not supported yet: listen on 127.0.0.1 or [::1]
            sockerless: --listen: "x" is neither unix://PATH nor tcp://127.0.0.1:PORT
            sockerless: --data-dir: neither XDG_DATA_HOME nor HOME is set; give a folder
            sockerless: --default-runtime: "vm" is neither function nor microvm
            sockerless: --namespace: Namespace: "a/b" is not 1 to 64 letters, digits and _-.@+=,
            sockerless: --insecure-registry: "http://a" is neither HOST, HOST:PORT nor a network such as 10.0.0.0/8
            sockerless: --registry-mirror: "a" is not the address of a mirror: https://HOST[:PORT], without anything behind it
            sockerless: --shutdown-timeout: "soon" is not a number of seconds
            sockerless: --chaos: "drop=2" is none of seed=N; drop=P, repeat=P, reorder=P, disconnect=P, forget-disconnect=P with P from 0 to 1; delay=MS, reorder-by=MS
            sockerless: SOCKERLESS_LOG_FILTER: "a=b=c": error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
            sockerless: --agent: /nonexistent: No such file or directory (os error 2)
            `sockerless local --help` explains the settings."#]].assert_eq(&text);
    }
}
