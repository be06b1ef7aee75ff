//! The embedded adapters.

mod blobs;
mod chaos;
mod gateway;
mod harness;
mod registry;
mod table;
