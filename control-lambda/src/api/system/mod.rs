//! `_ping`, `version`, `info`.

pub mod auth;
pub mod build_prune;
pub mod df;
pub mod info;
pub mod ping;
pub mod version;
