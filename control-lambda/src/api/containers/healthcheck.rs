//! `--health-*`: Docker's configuration of a healthcheck, and what the agent probes.

use serde_json::{Map, Value};
use sockerless_shared::health::Healthcheck;
use sockerless_shared::spec::ProcessSpec;

use super::spec::strings;
use crate::api::ApiError;

/// A duration that is set has at least a millisecond.
const SHORTEST_NS: i64 = 1_000_000;

/// What Docker takes for what is not set, in nanoseconds and failures in a row.
const INTERVAL_NS: u64 = 30_000_000_000;
const TIMEOUT_NS: u64 = 30_000_000_000;
const START_INTERVAL_NS: u64 = 5_000_000_000;
const RETRIES: u32 = 3;

/// Checks a client's configuration.
///
/// # Errors
/// 400 in Docker's words.
pub(super) fn check(health: &Value) -> Result<(), ApiError> {
    for name in ["Interval", "Timeout", "StartPeriod", "StartInterval"] {
        let nanos = health[name].as_i64().unwrap_or(0);
        if nanos != 0 && nanos < SHORTEST_NS {
            return Err(ApiError::new(
                400,
                format!("{name} in Healthcheck cannot be less than 1ms"),
            ));
        }
    }
    if health["Retries"].as_i64().unwrap_or(0) < 0 {
        return Err(ApiError::new(
            400,
            "Retries in Healthcheck cannot be negative",
        ));
    }
    Ok(())
}

/// What a container is probed by: its own configuration, and the image's where it says
/// nothing (moby's `merge`).
pub(super) fn merge(config: &mut Map<String, Value>, image: &Value) {
    let Some(inherited) = image.get("Healthcheck").and_then(Value::as_object) else {
        return;
    };
    let own = config.get("Healthcheck").and_then(Value::as_object);
    let mut merged = inherited.clone();
    for (name, value) in own.into_iter().flatten() {
        merged.insert(name.clone(), value.clone());
    }
    config.insert("Healthcheck".to_owned(), Value::Object(merged));
}

/// Whether a container of this configuration is probed.
pub(super) fn is_on(config: &Value) -> bool {
    arguments(config).is_some()
}

/// How it is probed, by processes like `main`, its main one.
pub(super) fn healthcheck(config: &Value, main: &ProcessSpec) -> Option<Healthcheck> {
    let health = &config["Healthcheck"];
    let nanos = |name: &str| health[name].as_u64().filter(|nanos| *nanos > 0);
    let retries = health["Retries"].as_u64().filter(|retries| *retries > 0);
    Some(Healthcheck {
        probe: ProcessSpec {
            args: arguments(config)?,
            tty: false,
            open_stdin: false,
            console_size: None,
            // Docker gives a probe no terminal's type.
            env: main.env.clone(),
            ..main.clone()
        },
        interval_ns: nanos("Interval").unwrap_or(INTERVAL_NS),
        timeout_ns: nanos("Timeout").unwrap_or(TIMEOUT_NS),
        start_period_ns: nanos("StartPeriod").unwrap_or(0),
        start_interval_ns: nanos("StartInterval").unwrap_or(START_INTERVAL_NS),
        retries: retries.map_or(RETRIES, |retries| {
            u32::try_from(retries).unwrap_or(u32::MAX)
        }),
    })
}

/// A probe's program and arguments; `None` where Docker probes nothing.
fn arguments(config: &Value) -> Option<Vec<String>> {
    let test = strings(&config["Healthcheck"]["Test"]);
    let (kind, rest) = test.split_first()?;
    match kind.as_str() {
        "CMD" if !rest.is_empty() => Some(rest.to_vec()),
        "CMD-SHELL" => {
            let mut shell = strings(&config["Shell"]);
            if shell.is_empty() {
                shell = vec!["/bin/sh".to_owned(), "-c".to_owned()];
            }
            shell.extend_from_slice(rest);
            Some(shell)
        }
        // `NONE`, and what Docker warns of in its log.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_probe_is_a_command_or_a_shells() {
        let of = |test: Value| arguments(&json!({"Healthcheck": {"Test": test}}));
        assert_eq!(
            of(json!(["CMD", "a", "b"])),
            Some(vec!["a".into(), "b".into()])
        );
        assert_eq!(
            of(json!(["CMD-SHELL", "a b"])),
            Some(vec!["/bin/sh".into(), "-c".into(), "a b".into()])
        );
        for none in [json!(["NONE"]), json!([]), json!(["BAD"]), json!(null)] {
            assert_eq!(of(none), None);
        }
        let shell =
            json!({"Shell": ["/bin/ash", "-ec"], "Healthcheck": {"Test": ["CMD-SHELL", "x"]}});
        assert_eq!(
            arguments(&shell),
            Some(vec!["/bin/ash".into(), "-ec".into(), "x".into()])
        );
    }

    #[test]
    fn what_a_client_does_not_say_is_the_images() {
        let image = json!({"Healthcheck": {"Test": ["CMD", "a"], "Interval": 5, "Retries": 2}});
        let merged = |own: Value| {
            let Value::Object(mut config) = own else {
                unreachable!()
            };
            merge(&mut config, &image);
            config.remove("Healthcheck")
        };
        assert_eq!(
            merged(json!({"Healthcheck": {"Test": ["NONE"]}})).unwrap(),
            json!({"Test": ["NONE"], "Interval": 5, "Retries": 2})
        );
        assert_eq!(merged(json!({})).unwrap(), image["Healthcheck"]);
    }

    #[test]
    fn durations_and_counts_are_checked() {
        assert!(check(&json!({"Interval": 1_000_000, "Retries": 0})).is_ok());
        assert_eq!(
            check(&json!({"Timeout": 5})).unwrap_err().message,
            "Timeout in Healthcheck cannot be less than 1ms"
        );
        assert!(check(&json!({"Retries": -1})).is_err());
    }
}
