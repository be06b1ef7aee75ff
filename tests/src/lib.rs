//! Black-box tests: they know the Engine API and the `docker` client, and
//! nothing of the crates beside them.
//!
//! A [`scenario::Scenario`] is data: steps of the `docker` client and of the
//! raw API. [`script`] runs it against one engine and records what came back;
//! [`normal`] replaces what two correct engines may answer differently;
//! [`compare`] finds what differs all the same; [`grid`] knows which answers the
//! API documents, and which of them no step has seen.

pub mod compare;
pub mod engines;
pub mod fixtures;
pub mod frames;
pub mod grid;
pub mod http;
pub mod large;
pub mod normal;
pub mod process;
pub mod scenario;
pub mod script;
pub mod subject;
pub mod suite;
