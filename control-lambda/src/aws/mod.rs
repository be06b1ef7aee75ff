//! Adapters for AWS: DynamoDB, API Gateway, Lambda, S3.
//!
//! *Invariant:* no type of an AWS SDK crate is named outside this module.

pub mod blobs;
pub mod functions;
pub mod relay;
pub mod sdk;
pub mod table;
