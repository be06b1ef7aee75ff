//! Durations in words, as Docker's `go-units` writes them.

use std::time::Duration;

/// `Less than a second`, `5 seconds`, `About a minute`, … (go-units `HumanDuration`).
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // go-units rounds hours, and only hours.
    let hours = (duration.as_secs_f64() / 3600.0 + 0.5) as u64;
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (2..=59, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..=59, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..=47) => format!("{hours} hours"),
        (_, _, 48..=335) => format!("{} days", hours / 24),
        (_, _, 336..=1439) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..=17519) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_go_units() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3_600, "About an hour"),
            (3 * 3_600, "3 hours"),
            (25 * 3_600, "25 hours"),
            (50 * 3_600, "2 days"),
            (15 * 24 * 3_600, "2 weeks"),
            (90 * 24 * 3_600, "3 months"),
            (800 * 24 * 3_600, "2 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), words);
        }
    }
}
