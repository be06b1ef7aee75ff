//! `--log-driver` and `--log-opt`: the drivers whose logs `docker logs` can read.

use regex_lite::Regex;
use serde_json::Value;
use sockerless_shared::protocol::control::StartFailure;

use super::confinement::failure;
use crate::api::ApiError;
use crate::api::query::go_bool;

/// What Docker can log to that nobody here carries to.
const ELSEWHERE: [&str; 9] = [
    "awslogs",
    "etwlogs",
    "fluentd",
    "gcplogs",
    "gelf",
    "journald",
    "logentries",
    "splunk",
    "syslog",
];

const JSON_FILE: [&str; 8] = [
    "max-file",
    "max-size",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
];
const LOCAL: [&str; 3] = ["max-file", "max-size", "compress"];
/// What every driver takes.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];

/// Checks what `create` checks.
///
/// # Errors
/// 400 in Docker's words; 501 for a driver that sends logs elsewhere.
pub(super) fn check(log: &Value) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(400, message));
    let driver = driver(log);
    let options = log["Config"].as_object();
    let known = match driver {
        "json-file" => &JSON_FILE[..],
        "local" => &LOCAL,
        "none" => return Ok(()),
        other if ELSEWHERE.contains(&other) => {
            return Err(ApiError::not_implemented(format!(
                "--log-driver {other} is not implemented by sockerless: use json-file, local or none, and read logs with `docker logs`"
            )));
        }
        other => {
            return invalid(format!(
                "error looking up logging plugin {other}: plugin \"{other}\" not found"
            ));
        }
    };
    let option = |name: &str| options.and_then(|all| all.get(name)?.as_str());
    let mode = option("mode").unwrap_or("");
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return invalid(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(size) = option("max-buffer-size") {
        if mode != "non-blocking" {
            return invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
                    .to_owned(),
            );
        }
        if bytes(size).is_none() {
            return invalid(format!(
                "error parsing option max-buffer-size: invalid size: '{size}'"
            ));
        }
    }
    for name in options.into_iter().flatten().map(|(name, _)| name) {
        if !known.contains(&name.as_str()) && !COMMON.contains(&name.as_str()) {
            return invalid(match driver {
                "local" => format!("unknown log opt '{name}' for log driver local"),
                _ => format!("unknown log opt '{name}' for json-file log driver"),
            });
        }
    }
    Ok(())
}

/// Checks what `start` checks.
///
/// # Errors
/// In Docker's words.
pub(super) fn check_start(log: &Value) -> Result<(), StartFailure> {
    let refused = |reason: String| {
        Err(failure(format!(
            "failed to create task for container: failed to initialize logging driver: {reason}"
        )))
    };
    let driver = driver(log);
    let option = |name: &str| log["Config"][name].as_str();
    let invalid_size = |size: &str| format!("invalid size: '{size}'");
    if driver == "none" {
        return Ok(());
    }
    let mut max_size = None;
    if let Some(size) = option("max-size") {
        max_size = match (bytes(size), driver) {
            (None, "local") => {
                let why = invalid_size(size);
                return refused(format!("invalid value for max-size: {size}: {why}"));
            }
            (None, _) => return refused(invalid_size(size)),
            (Some(0), _) => return refused("max-size must be a positive number".to_owned()),
            (Some(bytes), _) => Some(bytes),
        };
    }
    let mut max_file = if driver == "local" { 5 } else { 1 };
    if let Some(text) = option("max-file") {
        let Ok(number) = text.parse::<i64>() else {
            return refused(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"));
        };
        if driver != "local" && number < 1 {
            return refused("max-file cannot be less than 1".to_owned());
        }
        max_file = number;
    }
    let mut compress = driver == "local";
    if let Some(text) = option("compress") {
        let Some(on) = go_bool(text) else {
            return refused(format!(
                "strconv.ParseBool: parsing \"{text}\": invalid syntax"
            ));
        };
        compress = on;
    }
    if compress && driver == "local" && max_file <= 1 {
        return refused("compression cannot be enabled when max file count is 1".to_owned());
    }
    if compress && driver != "local" && (max_file < 2 || max_size.is_none()) {
        return refused(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
                .to_owned(),
        );
    }
    for name in ["labels-regex", "env-regex"] {
        if let Some(pattern) = option(name)
            && let Err(error) = Regex::new(pattern)
        {
            return refused(format!("error parsing regexp: {error}: `{pattern}`"));
        }
    }
    Ok(())
}

/// The driver that a container of this configuration has.
pub(super) fn driver(log: &Value) -> &str {
    match log["Type"].as_str() {
        None | Some("") => "json-file",
        Some(name) => name,
    }
}

/// `units.RAMInBytes`: a number, with a fraction and one of Docker's units.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = lower.get(digits.len()..)?.trim();
    let unit = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let number: f64 = digits.parse().ok()?;
    // Sizes that a person writes are far below what a float loses.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (number.is_finite() && number >= 0.0).then(|| (number * f64::from(2f32.powi(shift))) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("1m", Some(1 << 20)),
            ("1.5k", Some(1536)),
            ("10MiB", Some(10 << 20)),
            ("7", Some(7)),
            ("-1", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn options_are_checked_when_docker_checks_them() {
        let created = |log: Value| check(&log).map_err(|error| error.message);
        let started = |log: Value| check_start(&log).map_err(|failure| failure.message);
        let json_file =
            |name: &str, value: &str| json!({"Type": "json-file", "Config": {name: value}});
        assert_eq!(
            created(json_file("nonsense", "1")),
            Err("unknown log opt 'nonsense' for json-file log driver".to_owned())
        );
        assert_eq!(
            created(json!({"Type": "none", "Config": {"a": "b"}})),
            Ok(())
        );
        assert!(created(json!({"Type": "syslog"})).is_err());
        assert_eq!(created(json_file("max-size", "x")), Ok(()));
        assert!(
            started(json_file("max-size", "x"))
                .unwrap_err()
                .ends_with("invalid size: 'x'")
        );
        assert!(started(json_file("labels-regex", "(")).is_err());
        assert_eq!(
            started(json!({"Type": "local", "Config": {"max-size": "1m"}})),
            Ok(())
        );
        assert!(started(json_file("compress", "true")).is_err());
    }
}
