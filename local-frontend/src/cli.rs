//! The command line, and the manual that `--help` prints.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Docker on top, AWS Lambda below.
#[derive(Debug, Parser)]
#[command(
    name = "sockerless",
    version,
    max_term_width = 100,
    about = "A Docker socket whose containers are function invocations",
    long_about = "A Docker socket whose containers are function invocations.\n\n\
        `docker run`, Compose, Testcontainers and every other client of the Docker Engine API \
        connect to a socket as usual. A container runs as one invocation of a function, under \
        AWS Lambda's contract.\n\n\
        `sockerless local` does all of it on this machine, without AWS and without a Docker \
        Engine.",
    after_long_help = MANUAL
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `sockerless` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the Docker API, with containers in sandboxes on this machine
    #[command(
        long_about = "Serves the Docker API, with containers in sandboxes on this machine.\n\n\
            It stays in the foreground, says on stderr when it is ready, and ends on SIGTERM or \
            SIGINT: every container gets its stop signal and its grace, as dockerd does it, and \
            everything is saved. A second signal ends it at once.\n\n\
            Works as root, and as any user where unprivileged user namespaces are allowed.",
        after_long_help = LOCAL_MANUAL
    )]
    Local(LocalArgs),
    /// Serve the Docker API, with containers as functions on AWS
    #[command(
        long_about = "Serves the Docker API, with containers as functions on AWS.\n\n\
            Requests go to the control plane that was deployed there, signed with this machine's \
            AWS credentials. It stays in the foreground, says on stderr when it is ready, and \
            ends on SIGTERM or SIGINT; containers go on.",
        after_long_help = SERVE_MANUAL
    )]
    Serve(ServeArgs),
    /// Check everything that stands between this machine and its containers on AWS
    #[command(
        long_about = "Checks everything that stands between this machine and its containers on AWS: \
            credentials, clock, reachability, permissions, versions, the relay.\n\n\
            Each check is a line; one that failed says what to do about it."
    )]
    Doctor(ControlArgs),
    /// Delete the functions that were made for containers on AWS
    #[command(
        long_about = "Deletes the functions that were made for containers on AWS, and the schedule \
            that looks after them, so that `terraform destroy` leaves nothing. They are made \
            again when a container needs them."
    )]
    DestroyFunctions(DestroyArgs),
    /// Print the line that points Docker clients to the socket
    #[command(
        long_about = "Prints the line that points Docker clients to the socket:\n\n    \
            eval \"$(sockerless env)\""
    )]
    Env(EnvArgs),
    /// Print versions
    Version,
}

/// Where to listen.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Where clients connect: unix://PATH or tcp://127.0.0.1:PORT; may be given more than once
    ///
    /// A Unix socket is made with mode 0600. TCP is for loopback only, and refuses requests that
    /// come from web pages. [default: unix://$XDG_RUNTIME_DIR/sockerless.sock, else
    /// unix:///run/sockerless.sock for root]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "SOCKERLESS_LISTEN",
        value_delimiter = ','
    )]
    pub listen: Vec<String>,
}

/// Arguments of `sockerless local`.
#[derive(Debug, Args)]
pub struct LocalArgs {
    /// Where clients connect.
    #[command(flatten)]
    pub listen: ListenArgs,

    /// Where images, containers and logs are kept
    ///
    /// [default: $XDG_DATA_HOME/sockerless, else ~/.local/share/sockerless; /var/lib/sockerless
    /// for root]
    #[arg(long, value_name = "DIR", env = "SOCKERLESS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where containers run that name no --runtime: function or microvm
    ///
    /// `function`: what AWS Lambda gives (read-only root, /tmp, one unprivileged user, no
    /// terminal, at most 15 minutes). `microvm`: writable root, root user, terminal, no time limit.
    #[arg(
        long,
        value_name = "RUNTIME",
        env = "SOCKERLESS_DEFAULT_RUNTIME",
        default_value = "function"
    )]
    pub default_runtime: String,

    /// Whose containers these are; names, lists and events see only their own
    #[arg(
        long,
        value_name = "NAME",
        env = "SOCKERLESS_NAMESPACE",
        default_value = "local"
    )]
    pub namespace: String,

    /// The agent that runs in every container: a static program for Linux
    ///
    /// [default: the one built into this program, else `sockerless-agent` beside it]
    #[arg(long, value_name = "PATH", env = "SOCKERLESS_AGENT")]
    pub agent: Option<PathBuf>,

    /// A registry without TLS, or whose certificate is not to be checked: HOST, HOST:PORT or a
    /// network such as 10.0.0.0/8; may be given more than once
    ///
    /// Registries on loopback addresses are among them already.
    #[arg(
        long = "insecure-registry",
        value_name = "REGISTRY",
        env = "SOCKERLESS_INSECURE_REGISTRY",
        value_delimiter = ','
    )]
    pub insecure_registry: Vec<String>,

    /// Asked for Docker Hub's images before Docker Hub, such as https://mirror.example; may be
    /// given more than once
    #[arg(
        long = "registry-mirror",
        value_name = "URL",
        env = "SOCKERLESS_REGISTRY_MIRROR",
        value_delimiter = ','
    )]
    pub registry_mirror: Vec<String>,

    /// Asked for Docker Hub's official images when Docker Hub throttles: HOST/PATH, or `none`
    #[arg(
        long,
        value_name = "PLACE",
        env = "SOCKERLESS_HUB_FALLBACK",
        default_value = "public.ecr.aws/docker"
    )]
    pub hub_fallback: String,

    /// Certificates of registries: DIR/HOST[:PORT]/*.crt are authorities, *.cert and *.key the
    /// client's own, as the Docker Engine has them
    #[arg(
        long,
        value_name = "DIR",
        env = "SOCKERLESS_REGISTRY_CERTS",
        default_value = "/etc/docker/certs.d"
    )]
    pub registry_certs: PathBuf,

    /// How long containers may take to stop when sockerless is told to end, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOCKERLESS_SHUTDOWN_TIMEOUT",
        default_value = "15"
    )]
    pub shutdown_timeout: String,

    /// Makes the relay lose, repeat, reorder, delay and cut on purpose, as API Gateway may
    ///
    /// For tests: seed=N, and any of drop=P, repeat=P, reorder=P, disconnect=P,
    /// forget-disconnect=P (probabilities), delay=MS, reorder-by=MS, separated by commas.
    #[arg(long, value_name = "POLICY", env = "SOCKERLESS_CHAOS", hide = true)]
    pub chaos: Option<String>,

    /// Form of the log on stderr
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SOCKERLESS_LOG",
        default_value = "text"
    )]
    pub log: LogFormat,
}

/// Arguments of `sockerless serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where clients connect.
    #[command(flatten)]
    pub listen: ListenArgs,

    /// The control plane.
    #[command(flatten)]
    pub control: ControlArgs,

    /// Form of the log on stderr
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SOCKERLESS_LOG",
        default_value = "text"
    )]
    pub log: LogFormat,
}

/// Which control plane, and who asks.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// The control plane's HTTP API: https://ID.execute-api.REGION.amazonaws.com
    #[arg(long = "control", value_name = "URL", env = "SOCKERLESS_CONTROL")]
    pub url: String,

    /// Its region, where its name does not say it
    ///
    /// [default: AWS_REGION, else the profile's]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,

    /// Whose credentials sign: a profile of ~/.aws/config
    ///
    /// [default: AWS_PROFILE, else what the environment, web identity, single sign-on, or the
    /// machine's role gives]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Whose containers these are; names, lists and events see only their own
    ///
    /// [default: the name of the IAM user or role whose credentials are used]
    #[arg(long, value_name = "NAME", env = "SOCKERLESS_NAMESPACE")]
    pub namespace: Option<String>,
}

/// Arguments of `sockerless destroy-functions`.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// The control plane.
    #[command(flatten)]
    pub control: ControlArgs,

    /// Even while containers run
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `sockerless env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// Where clients connect.
    #[command(flatten)]
    pub listen: ListenArgs,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

const MANUAL: &str = "\
Examples:
  Start it, and use it from another terminal:
      sockerless local
      eval \"$(sockerless env)\"
      docker run --rm alpine echo hello

  For clients that only know TCP:
      sockerless local --listen unix:///run/sockerless.sock --listen tcp://127.0.0.1:2375

Exit status:
  0  ended as asked
  1  could not start, or failed
  2  wrong arguments or settings; all of them are named

More: `sockerless local --help`.";

const LOCAL_MANUAL: &str = "\
Environment:
  SOCKERLESS_LISTEN, SOCKERLESS_DATA_DIR, SOCKERLESS_DEFAULT_RUNTIME, SOCKERLESS_NAMESPACE,
  SOCKERLESS_AGENT, SOCKERLESS_SHUTDOWN_TIMEOUT, SOCKERLESS_LOG, SOCKERLESS_INSECURE_REGISTRY,
  SOCKERLESS_REGISTRY_MIRROR, SOCKERLESS_HUB_FALLBACK, SOCKERLESS_REGISTRY_CERTS
      Instead of the options of the same names. Several addresses are separated by commas.
  SSL_CERT_FILE, SSL_CERT_DIR
      Certificate authorities instead of the machine's.
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY
      Through what registries are reached.
  SOCKERLESS_LOG_FILTER
      What is logged, such as `info` or `sockerless_control=debug`. [default: warn]
  XDG_RUNTIME_DIR, XDG_DATA_HOME, HOME
      Where the socket and the data are by default.

Files:
  $XDG_RUNTIME_DIR/sockerless.sock  the socket, removed at the end
  DIR (see --data-dir)              everything else; remove it, while sockerless does not run, to
                                    begin anew

Examples:
  sockerless local --data-dir ./data --listen unix://$PWD/docker.sock
  DOCKER_HOST=unix://$PWD/docker.sock docker info

Exit status:
  0  ended as asked; every container was stopped, everything is saved
  1  could not start, or failed
  2  wrong arguments or settings; all of them are named";

const SERVE_MANUAL: &str = "\
Environment:
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, …
      Credentials, as every AWS program finds them; fetched again before they expire.
  AWS_REGION
      The region, where the control plane's URL does not say it.
  SOCKERLESS_CONTROL, SOCKERLESS_LISTEN, SOCKERLESS_NAMESPACE, SOCKERLESS_LOG
      Instead of the options of the same names. Several addresses are separated by commas.
  SOCKERLESS_LOG_FILTER
      What is logged, such as `info` or `sockerless_frontend=debug`. [default: warn]

Examples:
  sockerless serve --control https://a1b2c3.execute-api.eu-west-1.amazonaws.com
  eval \"$(sockerless env)\"
  docker run --rm alpine echo hello

Exit status:
  0  ended as asked
  1  could not start, or failed
  2  wrong arguments or settings; all of them are named";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
