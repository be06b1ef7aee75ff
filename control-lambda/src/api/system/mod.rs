//! `_ping`, `version`, `info`.

pub mod info;
pub mod ping;
pub mod version;
