//! `sockerless destroy-functions`: deletes what the control plane made.

use std::time::Duration;

use bytes::Bytes;
use sockerless_shared::wire::{self, DestroyFunctions, Status};
use thiserror::Error;
use tokio::time::Instant;

use super::{ConnectError, control_plane};
use crate::config::ControlConfig;
use crate::control_plane::ControlPlaneError;

/// So long it may take: ten functions a second, with room for Lambda's limits.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Why functions are left.
#[derive(Debug, Error)]
pub enum DestroyError {
    /// The control plane cannot be asked.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It refused.
    #[error(transparent)]
    Control(#[from] ControlPlaneError),
    /// The request could not be written.
    #[error(transparent)]
    Encoding(#[from] serde_json::Error),
    /// It takes too long.
    #[error("after {} minutes {functions} functions are left: run it again", LONGEST.as_secs() / 60)]
    Left {
        /// So many.
        functions: usize,
    },
}

/// Has all functions of containers deleted, and returns when they are.
///
/// # Errors
/// See [`DestroyError`].
pub async fn destroy_functions(config: &ControlConfig, force: bool) -> Result<(), DestroyError> {
    let (control, _) = control_plane(config).await?;
    let body = serde_json::to_vec(&DestroyFunctions { force })?;
    let mut status: Status = control
        .own("POST", wire::DESTROY_FUNCTIONS_PATH, body.into())
        .await?;
    let until = Instant::now() + LONGEST;
    let all = status.functions;
    while status.functions + status.waiting > 0 {
        if Instant::now() >= until {
            return Err(DestroyError::Left {
                functions: status.functions,
            });
        }
        tokio::time::sleep(PAUSE).await;
        status = control.own("GET", wire::STATUS_PATH, Bytes::new()).await?;
    }
    println!("deleted {all} functions; nothing that the control plane made is left");
    Ok(())
}
