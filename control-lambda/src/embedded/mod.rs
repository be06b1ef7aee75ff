//! Adapters for one process on one machine, with no AWS at all.

pub mod environment;
pub mod table;
