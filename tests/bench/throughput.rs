//! How many runs an engine finishes in a second when several clients want some.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::latency::Times;
use crate::pair::{Pair, Side};

pub(crate) const NAME: &str = "64 × `docker run --rm --network none busybox true`, 8 at a time";

const RUNS: usize = 64;
const CLIENTS: usize = 8;

/// Lets the clients make that many runs; the first failure ends it.
pub(crate) fn runs(side: &Side, total: usize) -> Result<Duration, String> {
    let begun = AtomicUsize::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    while begun.fetch_add(1, Ordering::Relaxed) < total {
                        side.docker(&["run", "--rm", "--network", "none", "busybox", "true"])?;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| {
            client
                .join()
                .map_err(|_| "a client panicked".to_owned())
                .flatten()
        })
    })?;
    Ok(begin.elapsed())
}

/// Rounds in turns.
pub(crate) fn measure(pair: &Pair, rounds: usize) -> Result<Times, String> {
    let mut times = Times::default();
    for _ in 0..rounds {
        times.theirs.push(runs(&pair.theirs, RUNS)?);
        times.ours.push(runs(&pair.ours, RUNS)?);
    }
    Ok(times)
}
