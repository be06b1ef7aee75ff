//! The table.

use std::fmt;
use std::time::Duration;

use crate::latency::Times;
use crate::memory::Memories;
use crate::throughput;

/// Rows of a table in Markdown.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<String>,
}

impl Report {
    /// Medians and 90th percentiles.
    pub(crate) fn latency(&mut self, name: &str, times: &Times) {
        self.row(name, "median", times, 0.5);
        self.row(name, "p90", times, 0.9);
    }

    /// Medians of the rounds.
    pub(crate) fn throughput(&mut self, times: &Times) {
        self.row(throughput::NAME, "median of the rounds", times, 0.5);
    }

    /// The same of anything else that is measured in rounds.
    pub(crate) fn rounds(&mut self, name: &str, times: &Times) {
        self.row(name, "median of the rounds", times, 0.5);
    }

    fn row(&mut self, name: &str, what: &str, times: &Times, share: f64) {
        let theirs = quantile(&times.theirs, share);
        let ours = quantile(&times.ours, share);
        self.rows.push(format!(
            "| {name} | {what} | {} | {} | {:.2} |",
            milliseconds(theirs),
            milliseconds(ours),
            ours.as_secs_f64() / theirs.as_secs_f64()
        ));
    }

    /// Both figures.
    pub(crate) fn memory(&mut self, memories: &Memories) {
        let Memories { runs, theirs, ours } = memories;
        for (name, theirs, ours) in [
            (
                format!("memory after {runs} runs"),
                theirs.resident,
                ours.resident,
            ),
            (
                "memory for each idle container".to_owned(),
                theirs.idle,
                ours.idle,
            ),
        ] {
            self.rows.push(format!(
                "| {name} | | {} | {} | {:.2} |",
                mebibytes(theirs),
                mebibytes(ours),
                ours as f64 / theirs as f64
            ));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | | Docker Engine | Sockerless | ratio |")?;
        writeln!(f, "|---|---|--:|--:|--:|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// The smallest time that this share of all is not above.
fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() as f64 * share).ceil() as usize;
    times
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.2} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
