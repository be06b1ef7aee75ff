//! A process's stdin, to which several clients may write.

use std::io;

use nix::unistd::Pid;
use tokio::sync::Mutex;

use super::launch::Terminal;
use super::line_discipline::{LineDiscipline, Typed};
use super::signals::{send, send_to_main};
use super::stdio::Input;
use super::tree;

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
            self.pass(bytes).await?;
            return Ok(Vec::new());
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
                let _ = send_to_main(pid, signal);
            } else {
                send(pid, signal);
            }
        }
    }
}
