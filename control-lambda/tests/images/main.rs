//! Images with the embedded adapters: what is in an archive, kind or hostile,
//! and what becomes of it.

#![cfg(all(feature = "embedded", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// A list of one layer reads better as a list.
#![allow(clippy::cloned_ref_to_slice_refs)]

mod archives;
mod fuzz;
mod hostile;
mod import;
mod jobs;
mod layers;
mod load;
mod pull;
mod push;
mod registry;
mod setup;
mod transfer;
#[path = "../world/mod.rs"]
mod world;
