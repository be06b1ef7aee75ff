//! `_ping`, `version`, `info`, `events`.

pub mod auth;
pub mod build_prune;
pub mod df;
pub mod events;
pub mod info;
pub mod ping;
pub mod version;
