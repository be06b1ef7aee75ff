//! Large numbers: `docker cp` of large and of many files, `docker logs` of many lines, and lists
//! and events beside many containers.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::calls;
use crate::latency::Times;
use crate::pair::{Pair, Side};
use crate::report::Report;

/// Clients that create containers at once.
const CLIENTS: usize = 8;
/// Small files are of so many bytes, and so many are in one folder.
const SMALL_BYTES: usize = 1024;
const IN_A_FOLDER: usize = 1_000;
/// Of how many containers there are lists and events, as long as that is not beyond what is asked for.
const STEPS: [usize; 3] = [10, 1_000, 10_000];

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Length of the one large file.
    pub(crate) bytes: usize,
    /// How many small files.
    pub(crate) files: usize,
    /// How many lines of a log.
    pub(crate) lines: usize,
    /// How many containers at most.
    pub(crate) containers: usize,
    /// How often each is done with each engine.
    pub(crate) rounds: usize,
}

/// Measures all whose name has `filter`.
pub(crate) fn measure(
    pair: &Pair,
    sizes: Sizes,
    filter: &str,
    report: &mut Report,
) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let large = format!("`docker cp` of a file of {} MiB", sizes.bytes >> 20);
    if large.contains(filter) {
        eprintln!("measuring: {large}");
        let source = folder.path().join("large");
        fs::create_dir(&source)
            .and_then(|()| large_file(&source.join("file"), sizes.bytes))
            .map_err(|error| format!("write a large file: {error}"))?;
        copies(pair, &large, &source, sizes.rounds, report)?;
    }
    let small = format!("`docker cp` of {} files of 1 KiB", sizes.files);
    if small.contains(filter) {
        eprintln!("measuring: {small}");
        let source = folder.path().join("small");
        small_files(&source, sizes.files).map_err(|error| format!("write small files: {error}"))?;
        copies(pair, &small, &source, sizes.rounds, report)?;
    }
    let logs = format!("`docker logs` of {} lines", sizes.lines);
    if logs.contains(filter) {
        eprintln!("measuring: {logs}");
        report.rounds(&logs, &many_lines(pair, sizes.lines, sizes.rounds)?);
    }
    let containers = "beside many containers";
    if containers.contains(filter) {
        many_containers(pair, sizes, report)?;
    }
    Ok(())
}

/// Bytes that cannot be compressed.
fn large_file(path: &Path, bytes: usize) -> io::Result<()> {
    let mut file = io::BufWriter::new(fs::File::create(path)?);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..bytes / 8 {
        file.write_all(&random.u64(..).to_le_bytes())?;
    }
    file.flush()
}

fn small_files(folder: &Path, count: usize) -> io::Result<()> {
    for number in 0..count {
        let inner = folder.join((number / IN_A_FOLDER).to_string());
        if number % IN_A_FOLDER == 0 {
            fs::create_dir_all(&inner)?;
        }
        fs::write(inner.join(number.to_string()), [b'x'; SMALL_BYTES])?;
    }
    Ok(())
}

/// Both ways, with a container that runs.
fn copies(
    pair: &Pair,
    name: &str,
    source: &Path,
    rounds: usize,
    report: &mut Report,
) -> Result<(), String> {
    let (mut inward, mut outward) = (Times::default(), Times::default());
    for _ in 0..rounds {
        for (side, into, out) in [
            (&pair.theirs, &mut inward.theirs, &mut outward.theirs),
            (&pair.ours, &mut inward.ours, &mut outward.ours),
        ] {
            let mut run = vec!["run", "--detach", "--network", "none"];
            run.extend(side.writable);
            run.extend(["busybox", "sleep", "100000"]);
            let id = side.docker(&run)?;
            let begin = Instant::now();
            side.docker(&["cp", &source.display().to_string(), &format!("{id}:/given")])?;
            into.push(begin.elapsed());
            let target = tempfile::tempdir().map_err(|error| error.to_string())?;
            let taken = target.path().join("taken");
            let begin = Instant::now();
            side.docker(&["cp", &format!("{id}:/given"), &taken.display().to_string()])?;
            out.push(begin.elapsed());
            same(source, &taken)?;
            calls::remove(side, &id)?;
        }
    }
    report.rounds(&format!("{name} into a container"), &inward);
    report.rounds(&format!("{name} out of it"), &outward);
    Ok(())
}

/// Whether as many files of the same lengths came back as went.
fn same(one: &Path, other: &Path) -> Result<(), String> {
    let (sent, came) = (
        lengths(one).map_err(|error| error.to_string())?,
        lengths(other).map_err(|error| error.to_string())?,
    );
    if sent == came {
        return Ok(());
    }
    Err(format!(
        "{} files went and {} came back, or of another length",
        sent.len(),
        came.len()
    ))
}

fn lengths(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            } else {
                found.push(entry.metadata()?.len());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The logs of a container that has ended.
fn many_lines(pair: &Pair, lines: usize, rounds: usize) -> Result<Times, String> {
    let count = lines.to_string();
    let mut ids = Vec::new();
    for side in pair.sides() {
        let id = calls::create(side, &["seq", &count])?;
        calls::start(side, &id)?;
        calls::wait(side, &id)?;
        ids.push(id);
    }
    let mut times = Times::default();
    for _ in 0..rounds {
        for ((side, id), times) in pair
            .sides()
            .into_iter()
            .zip(&ids)
            .zip([&mut times.theirs, &mut times.ours])
        {
            let begin = Instant::now();
            let whole = side.docker(&["logs", id])?;
            times.push(begin.elapsed());
            let came = whole.lines().count();
            if came != lines {
                return Err(format!("{came} of {lines} lines came"));
            }
        }
    }
    for (side, id) in pair.sides().into_iter().zip(&ids) {
        calls::remove(side, id)?;
    }
    Ok(times)
}

/// Lists and events, beside more and more containers that have not been started.
fn many_containers(pair: &Pair, sizes: Sizes, report: &mut Report) -> Result<(), String> {
    let mut ids = [Vec::new(), Vec::new()];
    for count in STEPS.into_iter().filter(|count| *count <= sizes.containers) {
        eprintln!("measuring: lists and events beside {count} containers");
        for (side, ids) in pair.sides().into_iter().zip(&mut ids) {
            ids.extend(create_more(side, count - ids.len())?);
        }
        let (mut list, mut events) = (Times::default(), Times::default());
        for _ in 0..sizes.rounds {
            for (side, list, events) in [
                (&pair.theirs, &mut list.theirs, &mut events.theirs),
                (&pair.ours, &mut list.ours, &mut events.ours),
            ] {
                let begin = Instant::now();
                let listed = side.docker(&["ps", "--all", "--quiet"])?;
                list.push(begin.elapsed());
                let found = listed.lines().count();
                if found != count {
                    return Err(format!("{found} containers are listed instead of {count}"));
                }
                let begin = Instant::now();
                // The client would leave out the present second.
                let target = format!("/events?since=0&until={}", now()?);
                let told = side.call("GET", &target, None, 200)?;
                events.push(begin.elapsed());
                if told.is_empty() {
                    return Err("no event is told of".to_owned());
                }
            }
        }
        report.rounds(&format!("`docker ps --all`, {count} containers"), &list);
        report.rounds(
            &format!("`GET /events` of the past, {count} containers"),
            &events,
        );
    }
    for (side, ids) in pair.sides().into_iter().zip(&ids) {
        at_once(ids.len(), |number| calls::remove(side, &ids[number]))?;
    }
    Ok(())
}

/// The time as the API has it: seconds and nanoseconds.
fn now() -> Result<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_err(|error| error.to_string())?;
    Ok(format!("{}.{:09}", now.as_secs(), now.subsec_nanos()))
}

fn create_more(side: &Side, count: usize) -> Result<Vec<String>, String> {
    at_once(count, |_| calls::create(side, &["true"]))
}

/// Does something so many times, by several clients; the first failure ends it.
fn at_once<T: Send>(
    count: usize,
    one: impl Fn(usize) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let begun = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    loop {
                        let number = begun.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok::<_, String>(done);
                        }
                        done.push(one(number)?);
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(
                client
                    .join()
                    .map_err(|_| "a client panicked".to_owned())
                    .flatten()?,
            );
        }
        Ok(all)
    })
}
