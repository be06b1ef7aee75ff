//! What the Docker API means: requests become lifecycle inputs, inputs become
//! effects, and effects go through ports.
//!
//! Adapters of the ports live in `embedded` (one process, one machine) and in
//! `aws`. Nothing outside those two knows which is in use.

#![recursion_limit = "256"]

pub mod api;
#[cfg(feature = "aws")]
pub mod aws;
#[cfg(all(feature = "embedded", target_os = "linux"))]
pub mod embedded;
pub mod engine;
#[cfg(any(feature = "aws", all(feature = "embedded", target_os = "linux")))]
pub mod environment;
mod go_syntax;
pub mod images;
pub mod ports;
pub mod store;
