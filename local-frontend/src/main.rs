//! `sockerless`, the program.

use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser as _;
use sockerless_frontend::cli::{Cli, Command, ControlArgs, EnvArgs, LocalArgs, ServeArgs};
use sockerless_frontend::config::{self, Surroundings};

/// Wrong arguments or settings, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    sockerless_frontend::local::become_helper_if_asked();

    let cli = Cli::parse();
    match cli.command {
        Command::Local(args) => local(&args),
        Command::Serve(args) => serve(&args),
        Command::Doctor(args) => asked(&args, async |control| {
            sockerless_frontend::serve::doctor(control).await
        }),
        Command::DestroyFunctions(args) => asked(&args.control, async |control| {
            sockerless_frontend::serve::destroy_functions(control, args.force).await
        }),
        Command::Env(args) => env(&args),
        Command::Version => {
            println!("{}", sockerless_frontend::VERSION);
            ExitCode::SUCCESS
        }
    }
}

fn surroundings() -> Surroundings<'static> {
    Surroundings {
        variable: &|name| std::env::var_os(name),
        root: nix::unistd::geteuid().is_root(),
        program: std::env::current_exe().ok(),
    }
}

#[cfg(target_os = "linux")]
fn local(args: &LocalArgs) -> ExitCode {
    let config = match config::LocalConfig::resolve(args, &surroundings()) {
        Ok(config) => config,
        Err(mistakes) => return fail(USAGE, &mistakes),
    };
    sockerless_frontend::logging::start(config.log, &config.log_filter);
    until_it_ends(sockerless_frontend::local::run(config))
}

#[cfg(not(target_os = "linux"))]
fn local(_args: &LocalArgs) -> ExitCode {
    fail(
        1,
        &"sockerless: `local` runs containers in sandboxes of the Linux kernel; run it on Linux",
    )
}

fn serve(args: &ServeArgs) -> ExitCode {
    let config = match config::ServeConfig::resolve(args, &surroundings()) {
        Ok(config) => config,
        Err(mistakes) => return fail(USAGE, &mistakes),
    };
    sockerless_frontend::logging::start(config.log, &config.log_filter);
    if std::env::var_os("SOCKERLESS_CALLBACK_URL").is_some_and(|url| !url.is_empty()) {
        eprintln!(
            "sockerless: SOCKERLESS_CALLBACK_URL is not needed any more: containers find the relay by themselves"
        );
    }
    until_it_ends(sockerless_frontend::serve::run(config))
}

/// Asks something of the control plane, once.
fn asked<E: Display>(
    args: &ControlArgs,
    ask: impl AsyncFnOnce(&config::ControlConfig) -> Result<(), E>,
) -> ExitCode {
    match config::ControlConfig::resolve(args, &surroundings()) {
        Ok(control) => until_it_ends(ask(&control)),
        Err(mistakes) => fail(USAGE, &mistakes),
    }
}

/// Runs a service, and says as an exit status how it ended.
fn until_it_ends<E: Display>(service: impl Future<Output = Result<(), E>>) -> ExitCode {
    sockerless_frontend::memory::share_arenas();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error),
    };
    let result = runtime.block_on(service);
    // What is still under way has been told to end, and is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("sockerless: {error}")),
    }
}

fn env(args: &EnvArgs) -> ExitCode {
    match config::listen(&args.listen, &surroundings()) {
        Ok(listen) => {
            // The first is what a client is best served by.
            for address in listen.iter().take(1) {
                println!("export DOCKER_HOST={}", shell_quoted(&address.to_string()));
            }
            ExitCode::SUCCESS
        }
        Err(mistakes) => fail(USAGE, &mistakes),
    }
}

/// As one word of a POSIX shell.
fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-[]".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn fail(code: u8, error: &dyn Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(code)
}
