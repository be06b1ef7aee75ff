//! Detach key sequences: `ctrl-p,ctrl-q`, `a`, `ctrl-[` (`moby/term`, `ToBytes`).

use super::ApiError;

/// What Docker uses when the client names none.
const DEFAULT: [u8; 2] = [16, 17];

/// The bytes of a sequence; for empty text Docker's own.
///
/// # Errors
/// 400 when a key is not one.
pub fn parse(text: &str) -> Result<Vec<u8>, ApiError> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    text.split(',')
        .map(|key| key_byte(key).ok_or_else(|| invalid(text)))
        .collect()
}

fn key_byte(key: &str) -> Option<u8> {
    if let [one] = key.as_bytes() {
        return Some(*one);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [b'@'] => Some(0),
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'['] => Some(27),
        [b'\\'] => Some(28),
        [b']'] => Some(29),
        [b'^'] => Some(30),
        [b'_'] => Some(31),
        _ => None,
    }
}

fn invalid(text: &str) -> ApiError {
    ApiError::new(400, format!("Invalid detach keys ({text}) provided"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_docker_s() {
        assert_eq!(parse("").unwrap(), [16, 17]);
        assert_eq!(parse("ctrl-a,x").unwrap(), [1, b'x']);
        assert_eq!(parse("ctrl-shift").unwrap_err().status, 400);
        assert_eq!(parse("ctrl-A").unwrap_err().status, 400);
    }
}
