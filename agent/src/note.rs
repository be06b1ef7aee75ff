//! What operators may read of the agent itself, on stderr. Never a secret, and
//! never a reason to fail: a closed stderr is no error.

/// Writes one line about the agent's own work.
macro_rules! note {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "sockerless-agent: {}", format_args!($($argument)*));
    }};
}
pub(crate) use note;
