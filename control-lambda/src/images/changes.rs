//! `--change`: Dockerfile instructions that alter an image's config.

use thiserror::Error;

use super::config::{Empty, Healthcheck, RunConfig};

/// Why a change was not taken. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// Not one of the instructions that alter a config.
    #[error("{0} is not a valid change command")]
    NotAChange(String),
    /// Nothing behind the instruction.
    #[error("{0} requires at least one argument")]
    NoArgument(String),
    /// More than one where one is allowed.
    #[error("{0} requires exactly one argument")]
    NotOneArgument(String),
    /// `ENV` or `LABEL` with a name alone.
    #[error("{0} must have two arguments")]
    NotTwo(String),
    /// A pair without `=` among others.
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    NoEquals(String),
    /// Not a port.
    #[error("Invalid containerPort: {0}")]
    Port(String),
    /// Not a protocol.
    #[error("Invalid proto: {0}")]
    Protocol(String),
    /// A health check of another kind.
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthKind(String),
    /// An instruction that may not be put off.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    Trigger(String),
    /// An option of a health check that is none.
    #[error("unknown flag: {0}")]
    Flag(String),
    /// Not a time. The texts are Go's.
    #[error("time: {what} duration {text:?}")]
    Duration {
        /// What is wrong.
        what: String,
        /// What was given.
        text: String,
    },
    /// A time that is too short.
    #[error("Interval {0:?} cannot be less than 1ms")]
    TooShort(String),
    /// Not a number. The text is Go's.
    #[error("strconv.ParseInt: parsing {0:?}: invalid syntax")]
    Number(String),
    /// A number below zero.
    #[error("--retries cannot be negative ({0})")]
    Negative(i64),
    /// Too much altogether.
    #[error("changes of {0} bytes are more than the 65536 that are allowed")]
    TooLong(usize),
}

/// The config that these instructions make.
///
/// # Errors
/// See [`ChangeError`].
pub fn apply<'a>(changes: impl IntoIterator<Item = &'a str>) -> Result<RunConfig, ChangeError> {
    apply_to(RunConfig::default(), changes)
}

/// What these instructions make of a config.
///
/// # Errors
/// See [`ChangeError`].
pub fn apply_to<'a>(
    mut config: RunConfig,
    changes: impl IntoIterator<Item = &'a str>,
) -> Result<RunConfig, ChangeError> {
    let mut command_set = false;
    let mut total = 0;
    for change in changes {
        total += change.len();
        if total > 65_536 {
            return Err(ChangeError::TooLong(total));
        }
        for line in change.lines().map(str::trim) {
            if !line.is_empty() && !line.starts_with('#') {
                one(&mut config, line, &mut command_set)?;
            }
        }
    }
    Ok(config)
}

fn one(config: &mut RunConfig, line: &str, command_set: &mut bool) -> Result<(), ChangeError> {
    let (name, rest) = line
        .split_once(char::is_whitespace)
        .map_or((line, ""), |(name, rest)| (name, rest.trim()));
    let name = name.to_uppercase();
    let required = || {
        if rest.is_empty() {
            Err(ChangeError::NoArgument(name.clone()))
        } else {
            Ok(rest)
        }
    };
    let single = || {
        if rest.is_empty() {
            Err(ChangeError::NotOneArgument(name.clone()))
        } else {
            Ok(unquoted(rest))
        }
    };
    match name.as_str() {
        "CMD" => {
            config.cmd = command(rest);
            *command_set = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = command(rest);
            // The arguments of another program mean nothing to this one.
            if !*command_set {
                config.cmd.clear();
            }
        }
        "ENV" => {
            for (key, value) in pairs(&name, required()?)? {
                let start = format!("{key}=");
                let entry = format!("{key}={value}");
                match config.env.iter_mut().find(|e| e.starts_with(&start)) {
                    Some(before) => *before = entry,
                    None => config.env.push(entry),
                }
            }
        }
        "LABEL" => {
            let labels = config.labels.get_or_insert_default();
            labels.extend(pairs(&name, required()?)?);
        }
        "EXPOSE" => {
            for port in words(required()?) {
                config.exposed_ports.insert(exposed(&port)?, Empty {});
            }
        }
        "VOLUME" => {
            let text = required()?;
            let paths = json_list(text).unwrap_or_else(|| words(text));
            config
                .volumes
                .extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = single()?,
        "WORKDIR" => {
            let path = single()?;
            config.working_dir = if path.starts_with('/') {
                path
            } else {
                format!("{}/{path}", config.working_dir.trim_end_matches('/'))
            };
        }
        "STOPSIGNAL" => config.stop_signal = single()?,
        "ONBUILD" => {
            let trigger = required()?;
            let first = words(trigger).first().map(|w| w.to_uppercase());
            match first.as_deref() {
                Some(bad @ ("ONBUILD" | "FROM" | "MAINTAINER")) => {
                    return Err(ChangeError::Trigger(bad.to_owned()));
                }
                _ => config.on_build.push(trigger.to_owned()),
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(required()?)?),
        _ => return Err(ChangeError::NotAChange(name)),
    }
    Ok(())
}

/// A list in JSON is run as it is, anything else by the shell.
fn command(text: &str) -> Vec<String> {
    match json_list(text) {
        Some(list) => list,
        None if text.is_empty() => Vec::new(),
        None => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()],
    }
}

fn json_list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

fn exposed(text: &str) -> Result<String, ChangeError> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(ChangeError::Protocol(protocol));
    }
    let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
    match (low.parse::<u16>(), high.parse::<u16>()) {
        (Ok(low), Ok(high)) if low <= high => Ok(format!("{ports}/{protocol}")),
        _ => Err(ChangeError::Port(ports.to_owned())),
    }
}

fn healthcheck(text: &str) -> Result<Healthcheck, ChangeError> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let nanos = || match duration(value)? {
            0 => Ok(0),
            short if short < 1_000_000 => Err(ChangeError::TooShort(name.to_owned())),
            nanos => Ok(nanos),
        };
        match name {
            "interval" => check.interval = nanos()?,
            "timeout" => check.timeout = nanos()?,
            "start-period" => check.start_period = nanos()?,
            "start-interval" => check.start_interval = nanos()?,
            "retries" => match value.parse() {
                Ok(retries) if retries >= 0 => check.retries = retries,
                Ok(retries) => return Err(ChangeError::Negative(retries)),
                Err(_) => return Err(ChangeError::Number(value.to_owned())),
            },
            _ => return Err(ChangeError::Flag(format!("--{name}"))),
        }
    }
    let (kind, argument) = rest
        .split_once(char::is_whitespace)
        .map_or((rest, ""), |(kind, argument)| (kind, argument.trim()));
    check.test = match kind.to_uppercase().as_str() {
        "NONE" => vec!["NONE".to_owned()],
        "CMD" => match json_list(argument) {
            Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
            None => vec!["CMD-SHELL".to_owned(), argument.to_owned()],
        },
        other => return Err(ChangeError::HealthKind(other.to_owned())),
    };
    Ok(check)
}

/// `30s`, `1m30s`, `1.5s`, `500ms` in nanoseconds (Go's `time.ParseDuration`).
fn duration(text: &str) -> Result<i64, ChangeError> {
    let wrong = |what: &str| ChangeError::Duration {
        what: what.to_owned(),
        text: text.to_owned(),
    };
    let invalid = || wrong("invalid");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let end = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after.find(is_number).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let nanos = match unit {
            "h" => 3_600_000_000_000.0,
            "m" => 60_000_000_000.0,
            "s" => 1_000_000_000.0,
            "ms" => 1_000_000.0,
            "us" | "µs" => 1_000.0,
            "ns" => 1.0,
            "" => return Err(wrong("missing unit in")),
            unknown => return Err(wrong(&format!("unknown unit {unknown:?} in"))),
        };
        total += number * nanos;
        rest = next;
    }
    // So long that nobody waits for it; also what does not fit.
    if total > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok((sign * total) as i64)
}

/// `name=value name2="value 2"`, or the old form `name value with spaces`.
fn pairs(instruction: &str, text: &str) -> Result<Vec<(String, String)>, ChangeError> {
    let words = words(text);
    match words.first() {
        Some(first) if !first.contains('=') => {
            let (name, value) = text
                .split_once(char::is_whitespace)
                .ok_or_else(|| ChangeError::NotTwo(instruction.to_owned()))?;
            Ok(vec![(name.to_owned(), unquoted(value.trim()))])
        }
        _ => words
            .into_iter()
            .map(|word| match word.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(ChangeError::NoEquals(word)),
            })
            .collect(),
    }
}

/// The words of a line; quotes and backslashes keep blanks together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().extend(chars.next());
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn unquoted(text: &str) -> String {
    let bare = |quote: char| {
        text.strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote))
    };
    bare('"').or_else(|| bare('\'')).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_makes_of_it() {
        let config = apply([
            "CMD echo hi",
            "ENTRYPOINT [\"sh\"]",
            "LABEL a=b c=\"d e\"",
            "ENV X=1 Y=2",
            "env Z z z",
            "ENV X=3",
            "EXPOSE 80 90/udp",
            "VOLUME [\"/a\"]\nVOLUME /b /c",
            "USER u",
            "WORKDIR /w",
            "WORKDIR x",
            "ONBUILD RUN x",
            "STOPSIGNAL 9",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD true",
        ])
        .unwrap();
        assert_eq!(
            serde_json::to_value(&config).unwrap(),
            serde_json::json!({
                "Cmd": ["/bin/sh", "-c", "echo hi"],
                "Entrypoint": ["sh"],
                "Labels": {"a": "b", "c": "d e"},
                "Env": ["X=3", "Y=2", "Z=z z"],
                "ExposedPorts": {"80/tcp": {}, "90/udp": {}},
                "Volumes": {"/a": {}, "/b": {}, "/c": {}},
                "User": "u",
                "WorkingDir": "/w/x",
                "OnBuild": ["RUN x"],
                "StopSignal": "9",
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000i64, "Retries": 3}
            })
        );
    }

    #[test]
    fn another_program_takes_no_arguments_of_the_one_before() {
        let before = || RunConfig {
            cmd: vec!["old".to_owned()],
            env: vec!["A=1".to_owned(), "B=2".to_owned()],
            ..RunConfig::default()
        };
        let config = apply_to(before(), ["ENTRYPOINT [\"x\"]", "ENV A=3"]).unwrap();
        assert_eq!((config.cmd.len(), config.env[0].as_str()), (0, "A=3"));
        let config = apply_to(before(), ["CMD [\"new\"]", "ENTRYPOINT [\"x\"]"]).unwrap();
        assert_eq!(config.cmd, ["new"]);
        assert_eq!(apply_to(before(), []).unwrap(), before());
    }

    #[test]
    fn what_docker_refuses() {
        for (change, message) in [
            ("RUN x", "RUN is not a valid change command"),
            ("nope x", "NOPE is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV a", "ENV must have two arguments"),
            ("EXPOSE zz", "Invalid containerPort: zz"),
            ("EXPOSE 80/x", "Invalid proto: x"),
            ("HEALTHCHECK --nope=1 CMD x", "unknown flag: --nope"),
            (
                "HEALTHCHECK --interval=x CMD x",
                "time: invalid duration \"x\"",
            ),
            (
                "HEALTHCHECK --timeout=5 CMD x",
                "time: missing unit in duration \"5\"",
            ),
            (
                "HEALTHCHECK --timeout=5q CMD x",
                "time: unknown unit \"q\" in duration \"5q\"",
            ),
            (
                "HEALTHCHECK --timeout=1us CMD x",
                "Interval \"timeout\" cannot be less than 1ms",
            ),
            (
                "HEALTHCHECK --retries=x CMD x",
                "strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "HEALTHCHECK --retries=-1 CMD x",
                "--retries cannot be negative (-1)",
            ),
        ] {
            assert_eq!(apply([change]).unwrap_err().to_string(), message);
        }
    }
}
