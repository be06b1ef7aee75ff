//! `sockerless local`: everything in one process on this machine.

mod in_process;

pub use self::in_process::{InProcess, InProcessDial};
