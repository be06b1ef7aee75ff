//! `sockerless local`: everything in one process on this machine.

mod in_process;
mod run;

pub use self::in_process::{InProcess, InProcessDial};
pub use self::run::{RunError, run};

use sockerless_control::embedded::host::{HELPER_ARGUMENT, helper_main};

/// The function host starts this very program again as the helper that makes
/// sandboxes. Called first in `main`; does not return in the helper.
pub fn become_helper_if_asked() {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == HELPER_ARGUMENT)
    {
        helper_main();
    }
}
