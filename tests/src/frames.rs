//! Docker's multiplexed stream: an 8-byte header (stream, 0, 0, 0, length in
//! big endian), then that many bytes.

use std::collections::BTreeMap;

/// What a multiplexed stream carried, by the name of each of its streams, each
/// joined to one text: how the bytes were cut into frames is left to chance.
///
/// # Errors
/// A sentence when the bytes are no such stream, or end within a frame.
pub fn demultiplex(mut bytes: &[u8]) -> Result<BTreeMap<&'static str, Vec<u8>>, String> {
    let mut streams = BTreeMap::<_, Vec<u8>>::new();
    while !bytes.is_empty() {
        let (payload, name, rest) = frame(bytes)?;
        streams.entry(name).or_default().extend_from_slice(payload);
        bytes = rest;
    }
    Ok(streams)
}

/// As [`demultiplex`], but leaves a last frame out that is not there whole.
#[must_use]
pub fn demultiplex_so_far(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok((payload, _, rest)) = frame(bytes) {
        all.extend_from_slice(payload);
        bytes = rest;
    }
    all
}

fn frame(bytes: &[u8]) -> Result<(&[u8], &'static str, &[u8]), String> {
    let Some((header, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!(
            "the stream ends within a frame's header: {bytes:?}"
        ));
    };
    let name = match header {
        [0, 0, 0, 0, ..] => "stdin",
        [1, 0, 0, 0, ..] => "stdout",
        [2, 0, 0, 0, ..] => "stderr",
        [3, 0, 0, 0, ..] => "systemerr",
        _ => return Err(format!("no frame begins with {header:?}")),
    };
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
    let Some((payload, rest)) = rest.split_at_checked(length) else {
        return Err(format!(
            "the stream ends within a frame of {length} bytes of {name}"
        ));
    };
    Ok((payload, name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\x01x\x01\0\0\0\0\0\0\x01c";

    #[test]
    fn frames_of_a_stream_are_joined() {
        let streams = demultiplex(TWO).unwrap();
        assert_eq!(streams["stdout"], b"abc");
        assert_eq!(streams["stderr"], b"x");
    }

    #[test]
    fn a_cut_or_foreign_stream_is_an_error() {
        demultiplex(&TWO[..5]).unwrap_err();
        demultiplex(&TWO[..9]).unwrap_err();
        demultiplex(b"plain text").unwrap_err();
        assert_eq!(demultiplex_so_far(&TWO[..TWO.len() - 1]), b"abx");
    }
}
