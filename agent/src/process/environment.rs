//! The environment of a process, put together as runc does it.

use thiserror::Error;

/// An environment that no process can have; texts are runc's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum EnvironmentError {
    /// An entry without `=`.
    #[error("invalid environment variable: missing '='")]
    NoEquals,
    /// An entry that begins with `=`.
    #[error("invalid environment variable: name cannot be empty")]
    NoName,
    /// A NUL byte; the value is not repeated, it may be secret.
    #[error("invalid environment variable: {0:?} contains nul byte (\\x00)")]
    Nul(String),
}

/// The variables in the order of their first mention, each with its last value,
/// and `HOME` set to `home` when it is missing or empty.
///
/// # Errors
/// See [`EnvironmentError`].
pub(crate) fn complete(
    entries: &[String],
    home: &str,
) -> Result<Vec<(String, String)>, EnvironmentError> {
    let mut variables: Vec<(String, String)> = Vec::with_capacity(entries.len() + 1);
    for entry in entries {
        let (name, value) = entry.split_once('=').ok_or(EnvironmentError::NoEquals)?;
        if name.is_empty() {
            return Err(EnvironmentError::NoName);
        }
        if entry.contains('\0') {
            return Err(EnvironmentError::Nul(name.to_owned()));
        }
        set(&mut variables, name, value);
    }
    if get(&variables, "HOME").is_none_or(str::is_empty) {
        set(&mut variables, "HOME", home);
    }
    Ok(variables)
}

/// A variable's value.
pub(crate) fn get<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value.as_str())
}

fn set(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    match variables.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => value.clone_into(old),
        None => variables.push((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &[&str], expected: Result<&[(&str, &str)], EnvironmentError>) {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        let expected = expected.map(|pairs| {
            pairs
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect::<Vec<_>>()
        });
        assert_eq!(complete(&entries, "/root"), expected);
    }

    #[test]
    fn the_last_value_stands_in_the_first_place() {
        check(
            &["A=1", "B=x=y", "A=2"],
            Ok(&[("A", "2"), ("B", "x=y"), ("HOME", "/root")]),
        );
    }

    #[test]
    fn home_is_kept_when_it_says_something() {
        check(&["HOME=/h", "A="], Ok(&[("HOME", "/h"), ("A", "")]));
        check(&["HOME=", "A=1"], Ok(&[("HOME", "/root"), ("A", "1")]));
    }

    #[test]
    fn what_no_process_can_have_is_refused() {
        check(&["A"], Err(EnvironmentError::NoEquals));
        check(&["=a"], Err(EnvironmentError::NoName));
        check(&["A=\0"], Err(EnvironmentError::Nul("A".to_owned())));
    }
}
