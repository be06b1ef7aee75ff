//! Adapters for one process on one machine, with no AWS at all.

pub mod blobs;
pub mod environment;
pub mod gateway;
pub mod host;
pub mod images;
pub mod local;
pub mod place;
pub mod table;
