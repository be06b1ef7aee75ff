//! Registries that everybody may read who may use this control plane.

use std::fmt;

use async_trait::async_trait;

use super::credentials::Credentials;

/// Credentials that are the control plane's own, for those who send none.
#[async_trait]
pub trait OwnImages: fmt::Debug + Send + Sync {
    /// Those for pulling from this repository, if it is one of those that it may read.
    ///
    /// # Errors
    /// A sentence, when they cannot be had.
    async fn credentials(&self, host: &str, path: &str) -> Result<Option<Credentials>, String>;
}
