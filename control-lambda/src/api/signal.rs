//! Signals by name and number, as Docker reads them (`moby/sys/signal`).

use super::ApiError;

/// Linux's signals on x86-64 and arm64; the real-time ones follow by rule.
const SIGNALS: [(&str, i32); 35] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("RTMIN", 34),
];

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3` …
///
/// # Errors
/// 400 in Docker's words.
pub fn parse(text: &str) -> Result<i32, ApiError> {
    let invalid = || ApiError::new(400, format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if number == 0 {
            Err(invalid())
        } else {
            Ok(number)
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let realtime = if name == "RTMAX" {
        Some(RTMAX)
    } else if let Some(above) = name.strip_prefix("RTMIN+") {
        above
            .parse::<i32>()
            .ok()
            .filter(|n| (0..=15).contains(n))
            .map(|n| RTMIN + n)
    } else if let Some(below) = name.strip_prefix("RTMAX-") {
        below
            .parse::<i32>()
            .ok()
            .filter(|n| (0..=14).contains(n))
            .map(|n| RTMAX - n)
    } else {
        None
    };
    realtime.ok_or_else(invalid)
}

/// Whether Linux has a signal of this number.
#[must_use]
pub const fn exists(number: i32) -> bool {
    matches!(number, 1..=31 | RTMIN..=RTMAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "FOO", "RTMIN+99", "SIG"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
