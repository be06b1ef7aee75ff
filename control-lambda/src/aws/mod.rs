//! Adapters for AWS: DynamoDB, API Gateway, Lambda, S3.
//!
//! *Invariant:* no type of an AWS SDK crate is named outside this module.

pub mod blobs;
pub mod entry;
pub mod functions;
pub mod jobs;
pub mod layers;
pub mod master_key;
pub mod registry;
pub mod relay;
pub mod schedule;
pub mod sdk;
pub mod settings;
pub mod table;
pub mod wiring;
