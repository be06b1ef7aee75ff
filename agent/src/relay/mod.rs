//! The way to the control plane: one WebSocket at a time, opened again whenever
//! it is lost.

mod backoff;
mod conversation;
mod link;
mod socket;

pub(crate) use link::{Link, LinkEvent, Unrecorded};
