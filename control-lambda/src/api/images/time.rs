//! Points in time as clients write them (Docker's `timetypes.GetTimestamp`).

use std::time::Duration;

use sockerless_shared::timestamp::Timestamp;

/// Reads RFC 3339, whole or without its end and zone (then UTC), seconds since
/// the epoch, or a duration, which counts back from `now`.
pub(in crate::api) fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text != "0"
        && let Some((negative, duration)) = go_duration(text)
    {
        let back = i64::try_from(duration.as_nanos()).ok()?;
        let back = if negative { -back } else { back };
        let at = Timestamp::from_nanos(now.nanos().checked_sub(back)?);
        // Docker goes on with whole seconds.
        return Some(Timestamp::from_secs(at.nanos().div_euclid(1_000_000_000)));
    }
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&completed(text)))
        .or_else(|| unix(text))
}

fn completed(text: &str) -> String {
    let (date, rest) = text.split_once('T').unwrap_or((text, ""));
    let (time, zone) = match rest.find(['Z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, "Z"),
    };
    let time = match time.matches(':').count() {
        0 if time.is_empty() => "00:00:00".to_owned(),
        0 => format!("{time}:00:00"),
        1 => format!("{time}:00"),
        _ => time.to_owned(),
    };
    format!("{date}T{time}{zone}")
}

fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    let seconds: i64 = seconds.parse().ok()?;
    let nanos: u32 = digits.parse().ok()?;
    let whole = seconds.checked_mul(1_000_000_000)?;
    Some(Timestamp::from_nanos(whole.checked_add(i64::from(nanos))?))
}

/// Go's `time.ParseDuration`: `1h30m`, `1.5h`, `-10s`.
fn go_duration(text: &str) -> Option<(bool, Duration)> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = next;
    }
    Some((negative, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let now = Timestamp::from_secs(1_700_000_000);
        for (text, expected) in [
            ("1h30m", Some("2023-11-14T20:43:20Z")),
            ("1.5s", Some("2023-11-14T22:13:18Z")),
            ("-10s", Some("2023-11-14T22:13:30Z")),
            ("2024-01-02T03:04:05Z", Some("2024-01-02T03:04:05Z")),
            (
                "2024-01-02T03:04:05.25+01:00",
                Some("2024-01-02T02:04:05.25Z"),
            ),
            ("2024-01-02T03:04:05", Some("2024-01-02T03:04:05Z")),
            ("2024-01-02T03:04", Some("2024-01-02T03:04:00Z")),
            ("2024-01-02T03Z", Some("2024-01-02T03:00:00Z")),
            ("2024-01-02", Some("2024-01-02T00:00:00Z")),
            ("1700000000", Some("2023-11-14T22:13:20Z")),
            ("1700000000.5", Some("2023-11-14T22:13:20.5Z")),
            ("0", Some("1970-01-01T00:00:00Z")),
            ("zzz", None),
            ("", None),
            ("1x", None),
            ("9999999999999999999h", None),
            ("99999999999999999999", None),
        ] {
            let read = parse(text, now).map(|t| t.rfc3339());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
