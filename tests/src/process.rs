//! A program that runs beside the test: its output is gathered while it runs,
//! can be waited for, and nothing of it outlives the test.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[derive(Debug, Default)]
struct Gathered {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: u8,
}

#[derive(Debug, Default)]
struct Output {
    gathered: Mutex<Gathered>,
    grown: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, deadline: Instant, holds: impl Fn(&Gathered) -> bool) -> bool {
        let mut gathered = self.lock();
        loop {
            if holds(&gathered) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            gathered = self
                .grown
                .wait_timeout(gathered, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; 128+n when signal n ended it.
    pub code: i32,
    /// All that it put out.
    pub stdout: Vec<u8>,
    /// All that it said of errors.
    pub stderr: Vec<u8>,
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a program with pipes on all three streams.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = Arc::new(Output::default());
        let readers = [
            child
                .stdout
                .take()
                .map(|stdout| gather(stdout, Arc::clone(&output), |all| &mut all.stdout)),
            child
                .stderr
                .take()
                .map(|stderr| gather(stderr, Arc::clone(&output), |all| &mut all.stderr)),
        ];
        Ok(Self {
            input: child.stdin.take(),
            child,
            output,
            readers: readers.into_iter().flatten().collect(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to the program's input. A program that has closed it is no error:
    /// what it does shows in how it ends.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input
            && (input.write_all(bytes).is_err() || input.flush().is_err())
        {
            self.input = None;
        }
    }

    /// Ends the program's input.
    pub fn half_close(&mut self) {
        self.input = None;
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// What the system says.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), signal).map_err(|error| format!("{signal} to {pid}: {error}"))
    }

    /// Waits until the text is in the output or in the errors.
    #[must_use]
    pub fn await_text(&self, text: &[u8], deadline: Instant) -> bool {
        self.output.wait_until(deadline, |all| {
            contains(&all.stdout, text) || contains(&all.stderr, text)
        })
    }

    /// What the program has put out by now.
    #[must_use]
    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().stdout).into_owned()
    }

    /// What the program has said of errors by now.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().stderr).into_owned()
    }

    /// Whether the program has ended.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// A sentence with what it has put out by then, when the time is over; it
    /// is killed.
    pub fn finish(mut self, deadline: Instant) -> Result<Ended, String> {
        let over = self.output.wait_until(deadline, |all| all.ended == 2);
        let grace = deadline.max(Instant::now() + Duration::from_millis(100));
        let status = if over { self.wait(grace) } else { None };
        let Some(status) = status else {
            let _ = self.child.kill();
            return Err(format!(
                "it did not end in time; so far it has put out {:?} and {:?}",
                self.stdout_so_far(),
                self.stderr_so_far()
            ));
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let gathered = std::mem::take(&mut *self.output.lock());
        Ok(Ended {
            code: code(status),
            stdout: gathered.stdout,
            stderr: gathered.stderr,
        })
    }

    /// Both of its streams have ended, so the end itself is a matter of moments.
    fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn gather(
    mut stream: impl Read + Send + 'static,
    output: Arc<Output>,
    part: fn(&mut Gathered) -> &mut Vec<u8>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            part(&mut output.lock()).extend_from_slice(&buffer[..count]);
            output.grown.notify_all();
        }
        output.lock().ended += 1;
        output.grown.notify_all();
    })
}

/// Whether `needle` is anywhere in `haystack`.
#[must_use]
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty()
        || haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn a_program_can_be_spoken_with_until_its_input_ends() {
        let mut running =
            Running::start(Command::new("sh").args(["-c", "cat; echo end >&2; exit 3"])).unwrap();
        running.send(b"one");
        assert!(running.await_text(b"one", soon()));
        running.half_close();
        let ended = running.finish(soon()).unwrap();
        assert_eq!(
            ended,
            Ended {
                code: 3,
                stdout: b"one".to_vec(),
                stderr: b"end\n".to_vec()
            }
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_and_reported() {
        let running =
            Running::start(Command::new("sh").args(["-c", "echo begun; exec cat"])).unwrap();
        let error = running
            .finish(Instant::now() + Duration::from_millis(300))
            .unwrap_err();
        assert!(error.contains("begun"), "{error}");
    }
}
