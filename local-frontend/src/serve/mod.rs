//! `sockerless serve`: a control plane on AWS, reached over its HTTP API with
//! signed requests and over its WebSocket API. `doctor` looks at what is between
//! here and there, `destroy_functions` at what would be left there.

mod connection;
mod destroy_functions;
mod doctor;
mod http_control_plane;
mod identity;
mod refusal;
mod run;
mod signing;

use thiserror::Error;

pub use self::connection::{Connection, WebSocketDial};
pub use self::destroy_functions::{DestroyError, destroy_functions};
pub use self::doctor::{DoctorError, doctor};
pub use self::http_control_plane::HttpControlPlane;
pub use self::identity::Identity;
pub use self::run::{RunError, run};
pub(crate) use self::signing::named_region;
pub use self::signing::{InvalidEndpoint, Signer};

use crate::config::ControlConfig;

/// Why a control plane cannot be asked at all.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// `--control`
    #[error("--control: {0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// Nobody says the region.
    #[error("the region of {0} is not known: give --region, or set AWS_REGION")]
    NoRegion(String),
    /// The certificate authorities of this system cannot be read.
    #[error("this system's certificate authorities cannot be read: {0}")]
    Trust(#[from] std::io::Error),
}

/// The control plane that is configured. Nothing is asked of it yet.
///
/// # Errors
/// See [`ConnectError`].
pub async fn control_plane(
    config: &ControlConfig,
) -> Result<(HttpControlPlane, Connection), ConnectError> {
    let (identity, region) =
        Identity::from_environment(config.profile.as_deref(), config.region.as_deref()).await;
    let region = region.ok_or_else(|| ConnectError::NoRegion(config.url.clone()))?;
    let connection = Connection::new()?;
    let control = HttpControlPlane::new(
        &config.url,
        Signer::new(identity, region),
        connection.clone(),
        config.namespace.clone(),
    )?;
    Ok((control, connection))
}
