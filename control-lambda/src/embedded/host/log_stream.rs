//! What environments write to stdout and stderr, one log stream each: what
//! CloudWatch is to Lambda. Bounded, and newest last.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use sockerless_shared::ids::RunId;
use time::OffsetDateTime;

/// Half of what a stream may hold, in bytes: a full file is kept as the older
/// half until its successor is full too.
const HALF_BYTES: u64 = 8 * 1024 * 1024;

/// How many streams are kept; the oldest go first.
const MAX_STREAMS: usize = 512;

/// All log streams of a host.
#[derive(Debug)]
pub(super) struct LogStreams {
    folder: PathBuf,
    /// Names of streams, oldest first.
    names: Mutex<std::collections::VecDeque<String>>,
}

/// One log stream, open for writing.
#[derive(Debug)]
pub(super) struct LogStream {
    name: String,
    path: PathBuf,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// Whether the last byte written ended a line.
    at_line_start: bool,
}

impl LogStreams {
    /// Opens the folder, and finds what earlier processes left in it.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut names: Vec<String> = fs::read_dir(folder)?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".log").map(str::to_owned))
            .collect();
        // They begin with the date and a number that grows.
        names.sort_unstable();
        Ok(Self {
            folder: folder.to_owned(),
            names: Mutex::new(names.into()),
        })
    }

    /// Begins a stream with a name as Lambda gives them.
    pub(super) fn create(&self, now: OffsetDateTime) -> io::Result<LogStream> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let date = now.date();
        let name = format!(
            "{:04}/{:02}/{:02}/[$LATEST]{:016x}{}",
            date.year(),
            u8::from(date.month()),
            date.day(),
            // 2^63 nanoseconds since 1970 last until 2262.
            now.unix_timestamp_nanos() as u64,
            hex::encode(random)
        );
        let path = self.path(&name);
        let file = File::options().create_new(true).append(true).open(&path)?;
        let superfluous = {
            let mut names = lock(&self.names);
            names.push_back(file_stem(&name));
            let count = names.len().saturating_sub(MAX_STREAMS);
            names.drain(..count).collect::<Vec<_>>()
        };
        for stem in superfluous {
            for path in [self.stem_path(&stem), older(&self.stem_path(&stem))] {
                let _ = fs::remove_file(path);
            }
        }
        Ok(LogStream {
            name,
            path,
            open: Mutex::new(Open {
                file,
                bytes: 0,
                at_line_start: true,
            }),
        })
    }

    /// Where the stream of this name is, or was.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.stem_path(&file_stem(name))
    }

    fn stem_path(&self, stem: &str) -> PathBuf {
        self.folder.join(format!("{stem}.log"))
    }

    /// At most the last `limit` bytes of what was written while the run's
    /// invocation lasted; empty when no stream knows of it (any more).
    pub(super) fn of_run(&self, run: &RunId, limit: usize) -> io::Result<Bytes> {
        let names: Vec<_> = lock(&self.names).iter().rev().cloned().collect();
        for stem in names {
            let path = self.stem_path(&stem);
            let mut text = read_if_there(&older(&path))?;
            text.append(&mut read_if_there(&path)?);
            if let Some(part) = part_of_run(&text, run) {
                let from = part.len().saturating_sub(limit);
                return Ok(Bytes::copy_from_slice(part.get(from..).unwrap_or_default()));
            }
        }
        Ok(Bytes::new())
    }
}

impl LogStream {
    /// Its name (`AWS_LAMBDA_LOG_STREAM_NAME`).
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Appends what the environment wrote.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut open = lock(&self.open);
        if open.bytes >= HALF_BYTES {
            fs::rename(&self.path, older(&self.path))?;
            open.file = File::options()
                .create_new(true)
                .append(true)
                .open(&self.path)?;
            open.bytes = 0;
        }
        open.file.write_all(bytes)?;
        open.bytes += bytes.len() as u64;
        open.at_line_start = bytes.last().is_none_or(|last| *last == b'\n');
        Ok(())
    }

    /// Appends the platform's own word, on a line of its own.
    pub(super) fn platform_line(&self, line: &str) -> io::Result<()> {
        let separator = if lock(&self.open).at_line_start {
            ""
        } else {
            "\n"
        };
        self.append(format!("{separator}{line}\n").as_bytes())
    }
}

/// The line before an invocation's output.
pub(super) fn start_line(run: &RunId) -> String {
    format!("START RequestId: {} Version: $LATEST", request_id(run))
}

/// The line after it.
pub(super) fn end_line(run: &RunId) -> String {
    format!("END RequestId: {}", request_id(run))
}

/// Lambda's request ids are UUIDs; a run's is its own 16 bytes, written as one.
pub(super) fn request_id(run: &RunId) -> String {
    let hex = run.as_str();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

/// The run whose request id this is.
pub(super) fn run_of_request(id: &str) -> Option<RunId> {
    let run: RunId = id.replace('-', "").parse().ok()?;
    (request_id(&run) == id).then_some(run)
}

fn part_of_run<'a>(text: &'a [u8], run: &RunId) -> Option<&'a [u8]> {
    let start = format!("{}\n", start_line(run));
    let end = end_line(run);
    let from = find(text, start.as_bytes())? + start.len();
    let rest = text.get(from..)?;
    let to = find(rest, end.as_bytes()).unwrap_or(rest.len());
    rest.get(..to)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn file_stem(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("older")
}

fn read_if_there(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(0))?;
            // One append may go beyond the bound by its own length.
            file.take(2 * HALF_BYTES).read_to_end(&mut text)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(text)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that holds it can leave a half-made value behind.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
