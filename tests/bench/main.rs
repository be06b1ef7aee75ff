//! Sockerless beside a real Docker Engine: the same calls in turns, in one run,
//! on the same machine, with the same client; the result as ratios.
//!
//! `cargo bench -p sockerless-tests` (as root, since it starts an Engine) prints a table
//! in Markdown. Environment:
//!
//! - `SOCKERLESS_BENCH_FILTER=TEXT`: only the rows whose name has it
//! - `SOCKERLESS_BENCH_TAKES=N`: takes of each latency with each engine (default 60)
//! - `SOCKERLESS_BENCH_RUNS=N`: runs before memory is measured (default 1000)
//! - `SOCKERLESS_BENCH_BYTES=N`: length of the file that `docker cp` copies (default 1 GiB)
//! - `SOCKERLESS_BENCH_FILES=N`: small files that it copies (default 20000)
//! - `SOCKERLESS_BENCH_LINES=N`: lines of a log (default 1000000)
//! - `SOCKERLESS_BENCH_CONTAINERS=N`: containers at most (default 10000)
//! - `SOCKERLESS_BENCH_PULL_LAYERS=N`, `SOCKERLESS_BENCH_PULL_MIB=N`: what is pulled: layers
//!   (default 4), and MiB of each (default 32)
//! - `SOCKERLESS_BENCH_ROUNDS=N`: rounds of what is measured in rounds (default 3)
//! - `SOCKERLESS_TEST_PROGRAM=PATH`: this program, instead of one that is built for it

mod bulk;
mod calls;
mod latency;
mod memory;
mod pair;
mod pull;
mod report;
mod throughput;

use std::process::ExitCode;

use pair::Pair;
use report::Report;

fn number(name: &str, default: usize) -> Result<usize, String> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| format!("{name}={text} is not a positive number")),
    }
}

fn run() -> Result<(), String> {
    let takes = number("SOCKERLESS_BENCH_TAKES", 60)?;
    let runs = number("SOCKERLESS_BENCH_RUNS", 1000)?;
    let rounds = number("SOCKERLESS_BENCH_ROUNDS", 3)?;
    let sizes = bulk::Sizes {
        bytes: number("SOCKERLESS_BENCH_BYTES", 1 << 30)?,
        files: number("SOCKERLESS_BENCH_FILES", 20_000)?,
        lines: number("SOCKERLESS_BENCH_LINES", 1_000_000)?,
        containers: number("SOCKERLESS_BENCH_CONTAINERS", 10_000)?,
        rounds,
    };
    let size = pull::Size {
        layers: number("SOCKERLESS_BENCH_PULL_LAYERS", 4)? as u64,
        layer_mib: number("SOCKERLESS_BENCH_PULL_MIB", 32)? as u64,
        rounds,
    };
    let filter = std::env::var("SOCKERLESS_BENCH_FILTER").unwrap_or_default();
    let pair = Pair::start()?;
    let mut report = Report::default();
    for row in latency::rows()
        .into_iter()
        .filter(|row| row.name.contains(&filter))
    {
        eprintln!("measuring: {}", row.name);
        report.latency(row.name, &latency::measure(&row, &pair, takes)?);
    }
    if throughput::NAME.contains(&filter) {
        eprintln!("measuring: {}", throughput::NAME);
        report.throughput(&throughput::measure(&pair, rounds)?);
    }
    if pull::NAME.contains(&filter) {
        eprintln!("measuring: {}", pull::NAME);
        let (engine, skopeo) = pull::measure(&pair, size)?;
        let [beside_engine, beside_skopeo] = size.names();
        report.rounds(&beside_engine, &engine);
        report.rounds(&beside_skopeo, &skopeo);
    }
    // Before what is large: an allocator keeps what that has taken.
    if memory::NAME.contains(&filter) {
        eprintln!("measuring: {}", memory::NAME);
        report.memory(&memory::measure(&pair, runs)?);
    }
    bulk::measure(&pair, sizes, &filter, &mut report)?;
    print!("{report}");
    pair.end()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
