//! What a terminal does between keyboard and process, for `-t` where there is
//! no terminal: the client's own is in raw mode then, so that without this
//! nothing typed would be seen, Enter would be no newline, and ^C a byte.
//!
//! As Linux's `n_tty` with Docker's settings: ICANON, ECHO, ECHOE, ECHOKE,
//! ECHOCTL, ICRNL, ISIG, ONLCR. A line goes to the process when it is complete.

/// Longest line that can be typed, in bytes (`n_tty`'s buffer).
const MAX_LINE_BYTES: usize = 4095;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BELL: u8 = 0x07;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const CTRL_W: u8 = 0x17;
const CTRL_Z: u8 = 0x1a;
const CTRL_BACKSLASH: u8 = 0x1c;
const DELETE: u8 = 0x7f;

/// What typing led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Show this.
    Echo(Vec<u8>),
    /// The process reads this.
    Input(Vec<u8>),
    /// The foreground processes get this signal.
    Signal(i32),
    /// The process reads the end of its input.
    End,
}

/// The line being typed.
#[derive(Debug, Default)]
pub(crate) struct LineDiscipline {
    line: Vec<u8>,
}

impl LineDiscipline {
    /// Takes bytes as they were typed.
    pub(crate) fn typed(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let mut out = Events::default();
        for &byte in bytes {
            self.key(byte, &mut out);
        }
        out.finish()
    }

    fn key(&mut self, byte: u8, out: &mut Events) {
        match byte {
            CTRL_C => self.interrupt(libc::SIGINT, byte, out),
            CTRL_BACKSLASH => self.interrupt(libc::SIGQUIT, byte, out),
            // Nobody could let the process go on.
            CTRL_Z => {}
            CTRL_D if self.line.is_empty() => out.push(Typed::End),
            CTRL_D => out.push(Typed::Input(std::mem::take(&mut self.line))),
            BACKSPACE | DELETE => {
                self.erase(out);
            }
            CTRL_U => while self.erase(out) {},
            CTRL_W => {
                while self.line.last() == Some(&b' ') && self.erase(out) {}
                while self.line.last().is_some_and(|&last| last != b' ') && self.erase(out) {}
            }
            b'\r' | b'\n' => {
                out.echo(b"\r\n");
                self.line.push(b'\n');
                out.push(Typed::Input(std::mem::take(&mut self.line)));
            }
            _ if self.line.len() >= MAX_LINE_BYTES => out.echo(&[BELL]),
            _ => {
                self.line.push(byte);
                if is_shown_in_two(byte) {
                    out.echo(&[b'^', byte ^ 0x40]);
                } else {
                    out.echo(&[byte]);
                }
            }
        }
    }

    fn interrupt(&mut self, signal: i32, byte: u8, out: &mut Events) {
        self.line.clear();
        out.echo(&[b'^', byte ^ 0x40]);
        out.push(Typed::Signal(signal));
    }

    /// Removes the last character, also from the screen. Whether there was one.
    fn erase(&mut self, out: &mut Events) -> bool {
        let Some(mut last) = self.line.pop() else {
            return false;
        };
        // The rest of a character of several bytes (UTF-8).
        while last & 0xc0 == 0x80 {
            match self.line.pop() {
                Some(before) => last = before,
                None => break,
            }
        }
        for _ in 0..=usize::from(is_shown_in_two(last)) {
            out.echo(b"\x08 \x08");
        }
        true
    }
}

/// Control characters are shown as `^X`.
const fn is_shown_in_two(byte: u8) -> bool {
    byte < 0x20 && byte != b'\t'
}

/// Joins echoes that follow one another.
#[derive(Default)]
struct Events(Vec<Typed>);

impl Events {
    fn echo(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(Typed::Echo(echo)) => echo.extend_from_slice(bytes),
            _ => self.0.push(Typed::Echo(bytes.to_vec())),
        }
    }

    fn push(&mut self, event: Typed) {
        self.0.push(event);
    }

    fn finish(self) -> Vec<Typed> {
        self.0
    }
}

/// What a terminal shows of a process's output: every newline also returns (ONLCR).
pub(crate) fn shown(output: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(output.len() + output.len() / 16);
    for &byte in output {
        if byte == b'\n' {
            bytes.push(b'\r');
        }
        bytes.push(byte);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Typed::{Echo, End, Input, Signal};
    use super::*;

    fn check(typed: &str, expected: &[Typed]) {
        assert_eq!(
            LineDiscipline::default().typed(typed.as_bytes()),
            expected,
            "{typed:?}"
        );
    }

    fn echo(text: &str) -> Typed {
        Echo(text.as_bytes().to_vec())
    }

    fn input(text: &str) -> Typed {
        Input(text.as_bytes().to_vec())
    }

    #[test]
    fn a_line_is_shown_and_sent_when_complete() {
        check("ls", &[echo("ls")]);
        check("ls\r", &[echo("ls\r\n"), input("ls\n")]);
        check(
            "a\nb\r",
            &[echo("a\r\n"), input("a\n"), echo("b\r\n"), input("b\n")],
        );
    }

    #[test]
    fn mistakes_can_be_erased() {
        check("ab\x7f\r", &[echo("ab\x08 \x08\r\n"), input("a\n")]);
        check("a\x08\x08", &[echo("a\x08 \x08")]);
        check("é\x7f\r", &[echo("é\x08 \x08\r\n"), input("\n")]);
        check("\x01\x7f", &[echo("^A\x08 \x08\x08 \x08")]);
        check(
            "abc\x15\r",
            &[echo("abc\x08 \x08\x08 \x08\x08 \x08\r\n"), input("\n")],
        );
        check(
            "a bc \x17\r",
            &[echo("a bc \x08 \x08\x08 \x08\x08 \x08\r\n"), input("a \n")],
        );
    }

    #[test]
    fn keys_that_are_signals() {
        check("ab\x03", &[echo("ab^C"), Signal(libc::SIGINT)]);
        check("\x1c", &[echo("^\\"), Signal(libc::SIGQUIT)]);
        check("\x1a", &[]);
        // What was typed before ^C is forgotten.
        check(
            "ab\x03\r",
            &[
                echo("ab^C"),
                Signal(libc::SIGINT),
                echo("\r\n"),
                input("\n"),
            ],
        );
    }

    #[test]
    fn the_end_of_input() {
        check("\x04", &[End]);
        check("ab\x04", &[echo("ab"), input("ab")]);
        check("ab\x04\x04", &[echo("ab"), input("ab"), End]);
    }

    #[test]
    fn a_line_cannot_grow_for_ever() {
        let mut discipline = LineDiscipline::default();
        discipline.typed(&vec![b'x'; MAX_LINE_BYTES]);
        assert_eq!(discipline.typed(b"y"), [Echo(vec![BELL])]);
        let events = discipline.typed(b"\r");
        assert!(matches!(&events[1], Input(line) if line.len() == MAX_LINE_BYTES + 1));
    }

    #[test]
    fn newlines_return_on_the_screen() {
        assert_eq!(shown(b"a\nb\r\n\n"), b"a\r\nb\r\r\n\r\n");
    }

    proptest! {
        #[test]
        fn typing_byte_by_byte_is_typing_at_once(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let join = |events: Vec<Typed>| {
                let mut all = Events::default();
                for event in events {
                    match event {
                        Echo(bytes) => all.echo(&bytes),
                        other => all.push(other),
                    }
                }
                all.finish()
            };
            let mut one = LineDiscipline::default();
            let singly: Vec<Typed> = bytes.iter().flat_map(|&byte| one.typed(&[byte])).collect();
            prop_assert_eq!(join(singly), LineDiscipline::default().typed(&bytes));
        }
    }
}
