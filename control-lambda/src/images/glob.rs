//! Shell patterns as Go's `path.Match` reads them.

/// Whether the whole of `text` matches `pattern`; `None` when the pattern is
/// malformed. `*` and `?` do not match `/`.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> Option<bool> {
    let tokens = parse(pattern)?;
    let text: Vec<char> = text.chars().collect();
    // `reached[i]`: the tokens so far can consume the first i characters. One
    // pass per token, so that no pattern takes exponential time.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in &tokens {
        let mut next = vec![false; text.len() + 1];
        match token {
            Token::Star => {
                let mut open = false;
                for i in 0..=text.len() {
                    open |= reached[i];
                    next[i] = open;
                    if i < text.len() && text[i] == '/' {
                        open = false;
                    }
                }
            }
            Token::One(class) => {
                for i in 0..text.len() {
                    next[i + 1] = reached[i] && class.contains(text[i]);
                }
            }
        }
        reached = next;
    }
    reached.last().copied()
}

enum Token {
    Star,
    One(Class),
}

enum Class {
    Any,
    Literal(char),
    Ranges {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Class {
    fn contains(&self, c: char) -> bool {
        match self {
            Self::Any => c != '/',
            Self::Literal(literal) => *literal == c,
            Self::Ranges { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn parse(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::One(Class::Any),
            '\\' => Token::One(Class::Literal(chars.next()?)),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || *chars.peek()? != ']' {
                    let low = class_char(&mut chars)?;
                    let high = if chars.next_if_eq(&'-').is_some() {
                        class_char(&mut chars)?
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                chars.next();
                Token::One(Class::Ranges { negated, ranges })
            }
            literal => Token::One(Class::Literal(literal)),
        });
    }
    Some(tokens)
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn gos_own_examples() {
        // Source: Go's path/match_test.go.
        for (pattern, text, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[^c]", "abc", Some(false)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-x]", "-", Some(true)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("a[", "a", None),
            ("*x", "xxx", Some(true)),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
