//! One contract suite per port, run against every adapter of it. A suite is a
//! module of `async fn case(port)`; the list of its cases is a macro that makes
//! one test of each for an adapter.

#![cfg(any(all(feature = "embedded", target_os = "linux"), feature = "aws"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blobs;
mod host;
mod http;
mod registry;
mod relay;
mod socket;
mod table;

#[cfg(feature = "aws")]
mod aws;
#[cfg(all(feature = "embedded", target_os = "linux"))]
mod embedded;
