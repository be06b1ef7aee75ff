//! Random sequences of valid and invalid calls, against a real Docker Engine and against
//! Sockerless: the answers must be the same. What differs is made as short as it can be.
//!
//! `cargo test -p sockerless-tests --test random` prepares and starts all that it needs.
//! Environment, beside that of the differential suite:
//!
//! - `SOCKERLESS_TEST_SEED=N`: begin with this seed (default: the time)
//! - `SOCKERLESS_TEST_SECONDS=N`: how long (default: 60)
//! - `SOCKERLESS_TEST_ALL=1`: do not end with the first difference, and shorten none

mod moves;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sockerless_tests::scenario::{Runtime, Scenario};
use sockerless_tests::suite::{Settings, Suite};

use moves::Move;

/// Sequences that are run at once: they mostly wait for engines.
const THREADS: usize = 4;
/// How long a sequence that failed is made shorter.
const SHRINK: Duration = Duration::from_secs(90);
const SECONDS: u64 = 60;

fn number(name: &str) -> Result<Option<u64>, String> {
    match std::env::var(name) {
        Err(_) => Ok(None),
        Ok(text) => text
            .parse()
            .map(Some)
            .map_err(|_| format!("{name}={text} is no number")),
    }
}

/// What is played, under a name that no other run has had.
struct Arena {
    suite: Suite,
    runtime: Runtime,
    runs: AtomicU64,
}

impl Arena {
    /// Plays the moves with both engines. Where Sockerless says that it has not what was asked
    /// for (501), what comes after cannot be compared.
    fn play(&self, moves: &[Move]) -> Outcome {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let steps = moves.iter().flat_map(|one| moves::steps(one, self.runtime));
        let scenario = Scenario::new(&format!("r{run}"), steps);
        match self.suite.run(&scenario) {
            Ok(()) => Outcome::Same,
            Err(text) if refused(&text) => Outcome::Refused,
            Err(text) => Outcome::Different(text),
        }
    }
}

enum Outcome {
    Same,
    Refused,
    Different(String),
}

/// Whether the first difference is that Sockerless refuses with 501.
fn refused(text: &str) -> bool {
    text.lines()
        .find(|line| line.starts_with('+') && line.contains("\"status\":"))
        .is_some_and(|line| line.contains("501"))
}

/// Runs one seed; gives a description of what differs.
fn try_seed(arena: &Arena, seed: u64, shrink: Duration) -> Result<bool, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut tree = moves::sequences()
        .new_tree(&mut runner)
        .map_err(|reason| reason.to_string())?;
    let mut least = match arena.play(&tree.current()) {
        Outcome::Same => return Ok(true),
        Outcome::Refused => return Ok(false),
        Outcome::Different(text) => (tree.current(), text),
    };
    let deadline = Instant::now() + shrink;
    let mut shorter = Instant::now() < deadline && tree.simplify();
    while shorter && Instant::now() < deadline {
        let moves = tree.current();
        shorter = if let Outcome::Different(text) = arena.play(&moves) {
            least = (moves, text);
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    let (moves, text) = least;
    let listed: Vec<_> = moves
        .iter()
        .flat_map(|one| moves::steps(one, arena.runtime))
        .map(|step| format!("  {}", step.title()))
        .collect();
    Err(format!(
        "SOCKERLESS_TEST_SEED={seed} differs. The least sequence that does (@N is its name):\n{}\n{text}",
        listed.join("\n")
    ))
}

fn check() -> Result<(), String> {
    let mut settings = Settings::from_environment(&[Runtime::Function])?;
    let [runtime] = settings.runtimes[..] else {
        return Err("random sequences have one runtime".to_owned());
    };
    if runtime == Runtime::Function {
        settings.overlooked = "a function";
    }
    let seconds = number("SOCKERLESS_TEST_SECONDS")?.unwrap_or(SECONDS);
    let first = match number("SOCKERLESS_TEST_SEED")? {
        Some(seed) => seed,
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|error| error.to_string())?
            .as_secs(),
    };
    let arena = Arc::new(Arena {
        suite: Suite::new(settings)?,
        runtime,
        runs: AtomicU64::new(0),
    });
    // The engines start with the first sequence, which therefore is not counted in.
    if let Outcome::Different(text) = arena.play(&[]) {
        return Err(text);
    }
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let next = AtomicU64::new(first);
    let (compared, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let problems: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let found = || problems.lock().unwrap_or_else(PoisonError::into_inner);
    let all = std::env::var_os("SOCKERLESS_TEST_ALL").is_some();
    let shrink = if all { Duration::ZERO } else { SHRINK };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while Instant::now() < deadline && (all || found().is_empty()) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    match try_seed(&arena, seed, shrink) {
                        Ok(true) => compared.fetch_add(1, Ordering::Relaxed),
                        Ok(false) => refused.fetch_add(1, Ordering::Relaxed),
                        Err(text) => {
                            found().push(text);
                            0
                        }
                    };
                }
            });
        }
    });
    let problems = std::mem::take(&mut *found());
    let (compared, refused) = (compared.into_inner(), refused.into_inner());
    println!(
        "{}: {compared} random sequences from SOCKERLESS_TEST_SEED={first} on are the same, \
         {refused} came upon what is refused",
        runtime.name()
    );
    if let Some(arena) = Arc::into_inner(arena) {
        arena.suite.end()?;
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    if compared == 0 {
        return Err("nothing was compared".to_owned());
    }
    Ok(())
}

fn main() -> ExitCode {
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
