//! The control function: what Lambda runs.

// The future of an event has in it those of all that may follow from it.
#![recursion_limit = "256"]

use std::sync::Arc;
use std::time::SystemTime;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use sockerless_control::aws::sdk::Sdk;
use sockerless_control::aws::settings::Settings;
use sockerless_control::aws::wiring::Plane;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let filter =
        EnvFilter::try_from_env("SOCKERLESS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .without_time()
        .init();
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let plane = Arc::new(Plane::start(settings, &Sdk::from_environment().await).await?);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        let plane = Arc::clone(&plane);
        async move {
            let left = event.context.deadline().duration_since(SystemTime::now());
            let handled = plane.handle(event.payload, left.unwrap_or_default()).await;
            handled.map_err(Error::from)
        }
    }))
    .await
}
