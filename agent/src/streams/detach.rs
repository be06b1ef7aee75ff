//! Docker's detach keys: a sequence that ends an attach and not the container
//! (moby's `term.NewEscapeProxy`).

/// Watches what a client types.
#[derive(Debug)]
pub(super) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// What became of some typed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    /// Bytes for the process.
    pub(super) input: Vec<u8>,
    /// Whether the sequence was completed; what follows it is dropped.
    pub(super) detached: bool,
}

impl DetachKeys {
    /// No keys: nothing is ever held back.
    pub(super) fn new(keys: &[u8]) -> Self {
        Self {
            keys: keys.to_vec(),
            matched: 0,
        }
    }

    /// Takes typed bytes. The beginning of the sequence is held back until it is
    /// known whether the rest follows.
    pub(super) fn typed(&mut self, bytes: &[u8]) -> Passed {
        let mut input = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Passed {
                        input,
                        detached: true,
                    };
                }
                continue;
            }
            // As in moby: what was held back is passed on, and the byte that
            // does not fit may begin the sequence anew.
            input.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if self.keys.first() == Some(&byte) {
                self.matched = 1;
                if self.keys.len() == 1 {
                    return Passed {
                        input,
                        detached: true,
                    };
                }
            } else {
                input.push(byte);
            }
        }
        Passed {
            input,
            detached: false,
        }
    }

    /// What is still held back when the client's input ends.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        self.keys[..std::mem::take(&mut self.matched)].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(keys: &str, typed: &str, input: &str, detached: bool) {
        let expected = Passed {
            input: input.into(),
            detached,
        };
        assert_eq!(
            DetachKeys::new(keys.as_bytes()).typed(typed.as_bytes()),
            expected
        );
    }

    #[test]
    fn the_sequence_detaches_and_nothing_else_does() {
        check("\x10\x11", "ab\x10\x11cd", "ab", true);
        check("\x10\x11", "ab\x10cd", "ab\x10cd", false);
        check("\x10\x11", "\x10\x10\x11", "\x10", true);
        check("\x10\x11", "ab\x10", "ab", false);
        check("a", "xa", "x", true);
        check("", "anything", "anything", false);
    }

    #[test]
    fn it_may_come_in_pieces() {
        let mut keys = DetachKeys::new(b"xy");
        assert!(!keys.typed(b"x").detached);
        assert!(keys.typed(b"y").detached);
        assert_eq!(keys.typed(b"x").input, b"");
        assert_eq!(keys.rest(), b"x");
        assert_eq!(keys.rest(), b"");
    }

    proptest! {
        #[test]
        fn without_the_sequence_every_byte_passes(
            pieces in prop::collection::vec(prop::collection::vec(0..3u8, 0..10), 0..20)
        ) {
            let mut keys = DetachKeys::new(&[1, 3]);
            let mut passed = Vec::new();
            for piece in &pieces {
                passed.extend(keys.typed(piece).input);
            }
            passed.extend(keys.rest());
            prop_assert_eq!(passed, pieces.concat());
        }
    }
}
