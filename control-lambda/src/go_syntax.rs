//! What Go's JSON decoder says of a text that is not JSON, so that errors read as
//! Docker's do (`encoding/json`, `scanner.go`).

/// Deepest nesting that Go reads.
const MAX_DEPTH: usize = 10_000;

/// Go's complaint about the first value of a text; `None` when nothing is wrong
/// with its syntax. What follows the value is not looked at.
#[must_use]
pub(crate) fn complaint(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    match scanner.value() {
        Ok(()) => None,
        Err(Problem::Ends) if text.iter().all(|byte| is_space(*byte)) => Some("EOF".to_owned()),
        Err(Problem::Ends) => Some("unexpected EOF".to_owned()),
        Err(Problem::TooDeep) => Some("exceeded max depth".to_owned()),
        Err(Problem::Character(byte, context)) => {
            Some(format!("invalid character {} {context}", quoted(byte)))
        }
    }
}

/// Why a text is no value.
enum Problem {
    /// It ends too early.
    Ends,
    /// It has too many brackets.
    TooDeep,
    /// A byte that cannot stand where it does.
    Character(u8, String),
}

impl Problem {
    fn at(byte: u8, context: &str) -> Self {
        Self::Character(byte, context.to_owned())
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    /// One value, without recursion: a text decides how deep it goes.
    fn value(&mut self) -> Result<(), Problem> {
        // The open brackets; whether each is an object's.
        let mut open: Vec<bool> = Vec::new();
        'value: loop {
            match self.token()? {
                byte @ (b'{' | b'[') => {
                    if open.len() == MAX_DEPTH {
                        return Err(Problem::TooDeep);
                    }
                    open.push(byte == b'{');
                    let closing = if byte == b'{' { b'}' } else { b']' };
                    if self.peek()? == closing {
                        self.at += 1;
                        open.pop();
                    } else {
                        if byte == b'{' {
                            self.key()?;
                        }
                        continue 'value;
                    }
                }
                b'"' => self.string()?,
                byte @ (b'-' | b'0'..=b'9') => self.number(byte)?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                byte => return Err(Problem::at(byte, "looking for beginning of value")),
            }
            while let Some(object) = open.last().copied() {
                match (self.token()?, object) {
                    (b',', true) => {
                        self.key()?;
                        continue 'value;
                    }
                    (b',', false) => continue 'value,
                    (b'}', true) | (b']', false) => {
                        open.pop();
                    }
                    (byte, true) => return Err(Problem::at(byte, "after object key:value pair")),
                    (byte, false) => return Err(Problem::at(byte, "after array element")),
                }
            }
            return Ok(());
        }
    }

    fn key(&mut self) -> Result<(), Problem> {
        match self.token()? {
            b'"' => self.string()?,
            byte => {
                return Err(Problem::at(
                    byte,
                    "looking for beginning of object key string",
                ));
            }
        }
        match self.token()? {
            b':' => Ok(()),
            byte => Err(Problem::at(byte, "after object key")),
        }
    }

    /// After the opening quote.
    fn string(&mut self) -> Result<(), Problem> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.next()?;
                            if !byte.is_ascii_hexdigit() {
                                let context = "in \\u hexadecimal character escape";
                                return Err(Problem::at(byte, context));
                            }
                        }
                    }
                    byte => return Err(Problem::at(byte, "in string escape code")),
                },
                byte if byte < 0x20 => return Err(Problem::at(byte, "in string literal")),
                _ => {}
            }
        }
    }

    /// After its first byte. A number may end where the text does.
    fn number(&mut self, first: u8) -> Result<(), Problem> {
        let whole = if first == b'-' {
            match self.next()? {
                digit @ b'0'..=b'9' => digit,
                byte => return Err(Problem::at(byte, "in numeric literal")),
            }
        } else {
            first
        };
        if whole != b'0' {
            self.digits();
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// One digit at least.
    fn digit(&mut self, context: &str) -> Result<(), Problem> {
        let byte = self.next()?;
        if !byte.is_ascii_digit() {
            return Err(Problem::at(byte, context));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// After its first byte.
    fn literal(&mut self, literal: &str) -> Result<(), Problem> {
        for expected in literal.bytes().skip(1) {
            let byte = self.next()?;
            if byte != expected {
                let expected = char::from(expected);
                return Err(Problem::Character(
                    byte,
                    format!("in literal {literal} (expecting '{expected}')"),
                ));
            }
        }
        Ok(())
    }

    /// The next byte that is no space.
    fn token(&mut self) -> Result<u8, Problem> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// The next byte that is no space; it stays the next.
    fn peek(&mut self) -> Result<u8, Problem> {
        while self.text.get(self.at).is_some_and(|byte| is_space(*byte)) {
            self.at += 1;
        }
        self.text.get(self.at).copied().ok_or(Problem::Ends)
    }

    fn next(&mut self) -> Result<u8, Problem> {
        let byte = self.text.get(self.at).copied().ok_or(Problem::Ends)?;
        self.at += 1;
        Ok(byte)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A byte as Go's `quoteChar` writes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        0x07 => "'\\a'".to_owned(),
        0x08 => "'\\b'".to_owned(),
        0x0b => "'\\v'".to_owned(),
        0x0c => "'\\f'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        // Go takes the byte for a code point; U+00A0 is the one space it escapes.
        0xa0 => "'\\u00a0'".to_owned(),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn complaints_are_those_of_go() {
        for (text, expected) in [
            ("", "EOF"),
            (" \n", "EOF"),
            ("[", "unexpected EOF"),
            ("{\"a", "unexpected EOF"),
            (
                "{not JSON",
                "invalid character 'n' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\":1 2}",
                "invalid character '2' after object key:value pair",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "[1,]",
                "invalid character ']' looking for beginning of value",
            ),
            (
                "nonsense",
                "invalid character 'o' in literal null (expecting 'u')",
            ),
            ("-x", "invalid character 'x' in numeric literal"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            (
                "1e+x",
                "invalid character 'x' in exponent of numeric literal",
            ),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            (
                "\"\\u00g\"",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            (
                "'a'",
                "invalid character '\\'' looking for beginning of value",
            ),
            (
                "\u{e9}",
                "invalid character 'Ã' looking for beginning of value",
            ),
        ] {
            assert_eq!(
                complaint(text.as_bytes()).as_deref(),
                Some(expected),
                "{text:?}"
            );
        }
        assert_eq!(
            complaint("[".repeat(20_000).as_bytes()).as_deref(),
            Some("exceeded max depth")
        );
    }

    proptest! {
        #[test]
        fn what_is_json_is_not_complained_about(
            text in "[\\[\\]{}:,\"\\\\ 0-9a-fnrtu.eE+-]{0,30}"
        ) {
            let mut values = serde_json::Deserializer::from_str(&text)
                .into_iter::<serde::de::IgnoredAny>();
            let first = values.next();
            // Both agree on what a first value is. Where a number is followed by
            // something else at once, only one of them looks at that.
            if let Some(Ok(_)) = first {
                prop_assert_eq!(complaint(text.as_bytes()), None);
            }
        }

        #[test]
        fn no_text_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let said = complaint(&bytes);
            if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() {
                prop_assert_eq!(said, None);
            }
        }
    }
}
