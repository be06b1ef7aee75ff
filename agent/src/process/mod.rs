//! The container's processes: starting, ending, signals, terminals.

pub(crate) mod child;
pub(crate) mod environment;
pub(crate) mod errno;
pub(crate) mod failure;
pub(crate) mod init;
pub(crate) mod launch;
pub(crate) mod line_discipline;
pub(crate) mod namespace;
pub(crate) mod program;
pub(crate) mod pty;
pub(crate) mod reaper;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod stdin;
pub(crate) mod stdio;
pub(crate) mod tree;
pub(crate) mod user;
