//! The local function host, end to end, with a fake agent.
//!
//! These tests make real sandboxes. They need root, or user namespaces for
//! ordinary users, and fail where there is neither.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
#[path = "../contract/host.rs"]
mod every_host;
mod fixture;
mod images;
mod microvm;
mod ordinary;
mod speed;
mod survival;

use libtest_mimic::{Arguments, Trial};
use sockerless_control::embedded::host::{HELPER_ARGUMENT, helper_main};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == HELPER_ARGUMENT {
        helper_main();
    } else if first == survival::VICTIM {
        let data = arguments.next().unwrap_or_default();
        runtime().block_on(survival::be_victim(data.as_ref()));
    } else if first == ordinary::ORDINARY {
        run(Arguments::default(), ordinary::ordinary_trials());
    } else {
        let trials = [
            contract::trials(),
            contract::trials_of_every_host(),
            images::trials(),
            microvm::trials(),
            ordinary::trials(),
            speed::trials(),
            survival::trials(),
        ];
        run(
            Arguments::from_args(),
            trials.into_iter().flatten().collect(),
        );
    }
}

fn run(mut arguments: Arguments, trials: Vec<Trial>) {
    // Sandboxes are processes; two at a time are enough for the machine.
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(2));
    libtest_mimic::run(&arguments, trials).exit();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A test that runs in a runtime of its own.
fn trial<F>(name: &str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        runtime().block_on(test());
        Ok(())
    })
}
