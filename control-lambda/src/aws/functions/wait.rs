//! Whether a function can be invoked: Lambda optimises a new one's image for some seconds.

use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationError;
use aws_sdk_lambda::types::State as LambdaState;
use sockerless_shared::ids::FunctionName;

use super::failed;
use crate::ports::function_host::HostError;

/// The first pause between two looks; each that follows is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause. Lambda takes 100 looks a second for the whole account.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a function is in, as far as its invocation goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Lambda does not know it.
    Absent,
    /// It is being made, or woken.
    Pending,
    /// It can be invoked, or is woken by being invoked.
    Active,
    /// It never will be; why.
    Failed(String),
}

/// Looks once.
pub(super) async fn look(client: &Client, function: &FunctionName) -> Result<State, HostError> {
    let found = client
        .get_function_configuration()
        .function_name(function.as_str())
        .send()
        .await;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            return match error.as_service_error() {
                Some(GetFunctionConfigurationError::ResourceNotFoundException(_)) => {
                    Ok(State::Absent)
                }
                // Asked too often: as good as not knowing yet.
                Some(GetFunctionConfigurationError::TooManyRequestsException(_)) => {
                    Ok(State::Pending)
                }
                _ => Err(failed("look at", function.as_str(), &error)),
            };
        }
    };
    Ok(state(found.state(), found.state_reason()))
}

fn state(state: Option<&LambdaState>, reason: Option<&str>) -> State {
    match state {
        Some(LambdaState::Pending) => State::Pending,
        Some(LambdaState::Failed) => {
            State::Failed(reason.unwrap_or("it does not say why").to_owned())
        }
        // An inactive one is woken by the invocation that it refuses; Lambda says no
        // state of functions that are older than states.
        Some(_) | None => State::Active,
    }
}

/// Pauses between looks.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 3 / 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_a_function_means_something() {
        assert_eq!(state(Some(&LambdaState::Pending), None), State::Pending);
        assert_eq!(state(Some(&LambdaState::Active), None), State::Active);
        assert_eq!(state(Some(&LambdaState::Inactive), None), State::Active);
        assert_eq!(
            state(Some(&LambdaState::Failed), Some("InvalidImage: no")),
            State::Failed("InvalidImage: no".into())
        );
        assert_eq!(state(None, None), State::Active);
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut pauses = Pauses::new();
        assert_eq!(pauses.next(), FIRST_PAUSE);
        assert!(pauses.next() > FIRST_PAUSE);
        for _ in 0..20 {
            pauses.next();
        }
        assert_eq!(pauses.next(), LONGEST_PAUSE);
    }
}
