//! Waiting for a new function: Lambda optimises its image for some seconds.

use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationError;
use aws_sdk_lambda::types::State;
use sockerless_shared::ids::FunctionName;
use tokio::time::Instant;

use super::failed;
use crate::ports::function_host::HostError;

/// So long at most is waited.
const LONGEST: Duration = Duration::from_secs(120);

/// The first pause between two looks; each that follows is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause. Lambda takes 100 looks a second for the whole account.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Waits until a function can be invoked.
pub(super) async fn until_active(
    client: &Client,
    function: &FunctionName,
) -> Result<(), HostError> {
    let until = Instant::now() + LONGEST;
    let mut pause = FIRST_PAUSE;
    loop {
        let found = client
            .get_function_configuration()
            .function_name(function.as_str())
            .send()
            .await
            .map_err(|error| match error.as_service_error() {
                Some(GetFunctionConfigurationError::ResourceNotFoundException(_)) => {
                    HostError::NoSuchFunction(function.clone())
                }
                _ => failed("look at", function.as_str(), &error),
            })?;
        match found.state() {
            Some(State::Failed) => {
                return Err(HostError::Failed(format!(
                    "Lambda cannot run the image: {}",
                    found.state_reason().unwrap_or("it does not say why")
                )));
            }
            Some(State::Pending) if Instant::now() < until => {}
            Some(State::Pending) => {
                return Err(HostError::Throttled(format!(
                    "Lambda still prepares function {function} after {} s; start the container again in a minute",
                    LONGEST.as_secs()
                )));
            }
            // An inactive one is woken by the invocation that it refuses.
            _ => return Ok(()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}
