//! The differential suite: the same steps with a real Docker Engine and with
//! Sockerless, and the same answers.
//!
//! `cargo test -p sockerless-tests --test differential [-- FILTER]` prepares and
//! starts all that it needs. Environment:
//!
//! - `SOCKERLESS_TEST_RUNTIME=function|microvm`: the subject's default runtime (default: two
//!   subjects, one of each)
//! - `SOCKERLESS_TEST_DOCKER_HOST=unix://…`: a subject that runs already;
//!   `engine`: a second real Engine, to prove the suite itself
//! - `SOCKERLESS_TEST_ORACLE_HOST=unix://…`: a real Engine that runs already
//! - `SOCKERLESS_TEST_PROGRAM=PATH`: the program, instead of building it
//! - `SOCKERLESS_TEST_LOG=1`: print the subject's log at the end

mod attach_ws;
mod cp;
mod events;
mod exec;
mod files;
mod health;
mod images;
mod large;
mod lifecycle;
mod list;
mod mounts;
mod networks;
mod pause;
mod prunes;
mod push;
mod registry;
mod restart_policy;
mod run;
mod run_flags;
mod stats;
mod streams;
mod system;
mod top;
mod update;
mod volumes;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use sockerless_tests::scenario::{Runtime, Scenario};
use sockerless_tests::suite::{Settings, Suite};

fn scenarios() -> Vec<Scenario> {
    [
        system::scenarios(),
        images::scenarios(),
        registry::scenarios(),
        push::scenarios(),
        run::scenarios(),
        run_flags::scenarios(),
        mounts::scenarios(),
        networks::scenarios(),
        volumes::scenarios(),
        prunes::scenarios(),
        pause::scenarios(),
        lifecycle::scenarios(),
        streams::scenarios(),
        exec::scenarios(),
        attach_ws::scenarios(),
        cp::scenarios(),
        files::scenarios(),
        stats::scenarios(),
        top::scenarios(),
        list::scenarios(),
        events::scenarios(),
        restart_policy::scenarios(),
        health::scenarios(),
        update::scenarios(),
        large::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Scenarios mostly wait for engines, so more of them than cores run at once.
    arguments.test_threads.get_or_insert(4);
    let suite = match Settings::from_environment(&Runtime::ALL).and_then(Suite::new) {
        Ok(suite) => Arc::new(suite),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let trials = scenarios()
        .into_iter()
        .filter(|scenario| suite.applies(scenario))
        .map(|scenario| {
            let suite = Arc::clone(&suite);
            Trial::test(scenario.name.clone(), move || {
                suite.run(&scenario).map_err(Failed::from)
            })
        })
        .collect();
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut good = !conclusion.has_failed();
    if whole && let Err(problems) = suite.conclude() {
        eprintln!("{problems}");
        good = false;
    }
    if let Some(suite) = Arc::into_inner(suite)
        && let Err(error) = suite.end()
    {
        eprintln!("{error}");
        good = false;
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
