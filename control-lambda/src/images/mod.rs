//! Images: their names, what they consist of, what may be done with them.
//!
//! *Invariant*: nothing here knows a file system or AWS; bytes come and go through
//! the ports. Only [`remote`] speaks to the network.

pub mod archive;
pub mod catalog;
pub mod changes;
pub mod commit;
pub mod config;
pub mod digest;
pub mod feed;
mod flights;
pub mod glob;
pub mod import;
pub mod layer;
pub mod load;
pub mod manifest;
pub mod pins;
pub mod platform;
pub mod progress;
pub mod pull;
pub mod push;
pub mod recompress;
pub mod reference;
pub mod remote;
pub mod remove;
pub mod save;
pub mod store;

pub use digest::{DiffId, Digest};
pub use store::{ImageLimits, Images};
