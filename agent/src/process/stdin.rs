//! A process's stdin, to which several clients may write.

use std::io;

use nix::unistd::Pid;
use tokio::sync::Mutex;

use super::launch::Terminal;
use super::line_discipline::{LineDiscipline, Typed};
use super::signals::{reaches, send, send_to_main};
use super::stdio::Input;
use super::{pty, tree};

/// The agent's end of a process's stdin.
#[derive(Debug)]
pub(crate) struct Stdin {
    /// `None` once closed.
    input: Mutex<Option<Input>>,
    /// Whether it is a real terminal, which cannot be closed alone.
    is_terminal: bool,
    /// What stands for a terminal where there is none.
    discipline: Option<std::sync::Mutex<LineDiscipline>>,
    group: Pid,
    shielded: bool,
}

impl Stdin {
    /// The stdin of a process that leads the group `group`. `shielded`: whether
    /// it is the container's main process.
    pub(crate) fn new(input: Input, group: Pid, terminal: &Terminal, shielded: bool) -> Self {
        Self {
            input: Mutex::new(Some(input)),
            is_terminal: matches!(terminal, Terminal::Real(_)),
            discipline: matches!(terminal, Terminal::Emulated).then(Default::default),
            group,
            shielded,
        }
    }

    /// Passes on what a client sent, waiting while the process does not read.
    /// Returns what is to be shown in answer.
    ///
    /// # Errors
    /// When the process cannot read it any more.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let Some(discipline) = &self.discipline else {
            return self.type_at_terminal(bytes).await;
        };
        let events = discipline
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .typed(bytes);
        let mut shown = Vec::new();
        for event in events {
            match event {
                Typed::Echo(bytes) => shown.extend(bytes),
                Typed::Input(bytes) => self.pass(&bytes).await?,
                Typed::Signal(signal) => self.signal_group(signal),
                Typed::End => self.close().await,
            }
        }
        Ok(shown)
    }

    /// The process reads the end of its input. A real terminal stays open.
    pub(crate) async fn close(&self) {
        if !self.is_terminal {
            *self.input.lock().await = None;
        }
    }

    /// Types at a real terminal, or writes to a pipe. The kernel would send the
    /// signal of ^C to the main process too, which is not shielded in its eyes:
    /// such a key is carried out here.
    async fn type_at_terminal(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut shown = Vec::new();
        let is_plain =
            !self.is_terminal || !self.shielded || !bytes.iter().any(u8::is_ascii_control);
        if is_plain {
            self.pass(bytes).await?;
            return Ok(shown);
        }
        let mut passed = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let signal = match self.input.lock().await.as_ref() {
                Some(input) if byte.is_ascii_control() => pty::signal_of(input.fd(), byte),
                Some(_) | None => None,
            };
            if let Some((signal, group)) = signal
                && group == self.group
                && !reaches(group, signal)
            {
                self.pass(&bytes[passed..at]).await?;
                passed = at + 1;
                shown.extend([b'^', byte ^ 0x40]);
                self.signal_group(signal);
            }
        }
        self.pass(&bytes[passed..]).await?;
        Ok(shown)
    }

    async fn pass(&self, mut bytes: &[u8]) -> io::Result<()> {
        let guard = self.input.lock().await;
        let input = guard
            .as_ref()
            .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        while !bytes.is_empty() {
            let written = input.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    fn signal_group(&self, signal: i32) {
        for pid in tree::group(self.group) {
            if pid == self.group && self.shielded {
                // 1 to 64 it is.
                let _ = send_to_main(pid, signal, false);
            } else {
                send(pid, signal);
            }
        }
    }
}
