//! The agent's configuration: what its environment says, read once.

use std::time::Duration;

use thiserror::Error;

/// The emulator's port, as in AWS's base images.
const EMULATOR_PORT: u16 = 8080;

/// A function's longest time limit in seconds, for an emulator that names none.
const LONGEST_TIME_LIMIT_S: u64 = 900;

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Config {
    /// `AWS_LAMBDA_RUNTIME_API`: where invocations are fetched.
    RuntimeApi(String),
    /// None: invocations are posted to a port.
    Emulator {
        /// Which.
        port: u16,
        /// `AWS_LAMBDA_FUNCTION_TIMEOUT`, or the longest there is.
        time_limit: Duration,
    },
}

/// An environment that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ConfigError {
    /// Not a number of seconds.
    #[error("AWS_LAMBDA_FUNCTION_TIMEOUT={0:?} is not a number of seconds")]
    TimeLimit(String),
}

impl Config {
    /// Reads the variables that `get` knows.
    ///
    /// # Errors
    /// When one cannot be understood.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        if let Some(authority) = get("AWS_LAMBDA_RUNTIME_API").filter(|text| !text.is_empty()) {
            return Ok(Self::RuntimeApi(authority));
        }
        let seconds = match get("AWS_LAMBDA_FUNCTION_TIMEOUT") {
            None => LONGEST_TIME_LIMIT_S,
            Some(text) => text.parse().map_err(|_| ConfigError::TimeLimit(text))?,
        };
        Ok(Self::Emulator {
            port: EMULATOR_PORT,
            time_limit: Duration::from_secs(seconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(|name| {
            let (_, value) = variables.iter().find(|(n, _)| *n == name)?;
            Some((*value).to_owned())
        })
    }

    #[test]
    fn the_runtime_api_is_used_where_there_is_one() {
        assert_eq!(
            read(&[("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")]),
            Ok(Config::RuntimeApi("127.0.0.1:9001".into()))
        );
        let emulator = |seconds| {
            Ok(Config::Emulator {
                port: 8080,
                time_limit: Duration::from_secs(seconds),
            })
        };
        assert_eq!(read(&[]), emulator(900));
        assert_eq!(read(&[("AWS_LAMBDA_FUNCTION_TIMEOUT", "3")]), emulator(3));
        assert!(read(&[("AWS_LAMBDA_FUNCTION_TIMEOUT", "x")]).is_err());
    }
}
