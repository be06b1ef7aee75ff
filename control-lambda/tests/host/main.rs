//! The local function host, end to end, with a fake agent.
//!
//! These tests make real sandboxes. They need root, or user namespaces for
//! ordinary users, and fail where there is neither.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
mod fixture;
mod microvm;

use libtest_mimic::{Arguments, Trial};
use sockerless_control::embedded::host::{HELPER_ARGUMENT, helper_main};

fn main() {
    if std::env::args().nth(1).as_deref() == Some(HELPER_ARGUMENT) {
        helper_main();
    }
    let mut arguments = Arguments::from_args();
    // Sandboxes are processes; two at a time are enough for the machine.
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(2));
    let trials = contract::trials().into_iter().chain(microvm::trials());
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// A test that runs in a runtime of its own.
fn trial<F>(name: &str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(test());
        Ok(())
    })
}
