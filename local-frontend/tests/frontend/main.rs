//! The frontend between real sockets and a control plane, a relay and an agent that are played.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod answers;
mod requests;
mod streams;
mod support;
