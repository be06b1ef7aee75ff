//! The spool's byte format: records one after another, each a header of 13
//! bytes (stream number, time in nanoseconds, length; big-endian) and its data.

use super::Record;
use crate::protocol::stdcopy::OutputStream;
use crate::timestamp::Timestamp;
use thiserror::Error;

/// Bytes before a record's data.
pub const HEADER_BYTES: usize = 13;

/// Longest data of one record, in bytes; longer output becomes several records.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// A spool that cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpoolError {
    /// A header that no writer makes.
    #[error("log spool is damaged at byte {0}")]
    Damaged(usize),
}

/// Appends one record. `data` beyond [`MAX_RECORD_BYTES`] becomes several.
pub fn encode(out: &mut Vec<u8>, stream: OutputStream, time: Timestamp, data: &[u8]) {
    for chunk in data.chunks(MAX_RECORD_BYTES) {
        out.push(stream.number());
        out.extend_from_slice(&time.nanos().to_be_bytes());
        // A chunk is at most MAX_RECORD_BYTES long.
        #[allow(clippy::cast_possible_truncation)]
        out.extend_from_slice(&(chunk.len() as u32).to_be_bytes());
        out.extend_from_slice(chunk);
    }
}

/// Reads the record at the head of `bytes`: the record and how many bytes it
/// took, or `None` when it is not complete yet.
///
/// # Errors
/// When the header is not one that [`encode`] writes.
pub fn decode(bytes: &[u8]) -> Result<Option<(Record, usize)>, SpoolError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let [number, t0, t1, t2, t3, t4, t5, t6, t7, l0, l1, l2, l3] = *header;
    let stream = OutputStream::from_number(number).ok_or(SpoolError::Damaged(0))?;
    let time = Timestamp::from_nanos(i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]));
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if length > MAX_RECORD_BYTES {
        return Err(SpoolError::Damaged(9));
    }
    let Some(data) = rest.get(..length) else {
        return Ok(None);
    };
    Ok(Some((
        Record {
            stream,
            time,
            data: data.to_vec(),
        },
        HEADER_BYTES + length,
    )))
}

/// Reads all records of a complete spool. A record cut off at the end is left out.
///
/// # Errors
/// When a header is not one that [`encode`] writes.
pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Record>, SpoolError> {
    let total = bytes.len();
    let mut records = Vec::new();
    loop {
        let at = total - bytes.len();
        match decode(bytes)
            .map_err(|SpoolError::Damaged(offset)| SpoolError::Damaged(at + offset))?
        {
            Some((record, used)) => {
                records.push(record);
                bytes = &bytes[used..];
            }
            None => return Ok(records),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            pieces in prop::collection::vec((any::<bool>(), any::<i64>(), prop::collection::vec(any::<u8>(), 1..200)), 0..20)
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (err, nanos, data) in pieces {
                let stream = if err { OutputStream::Stderr } else { OutputStream::Stdout };
                let time = Timestamp::from_nanos(nanos);
                encode(&mut bytes, stream, time, &data);
                expected.push(Record { stream, time, data });
            }
            prop_assert_eq!(decode_all(&bytes).unwrap(), expected);
        }

        #[test]
        fn damage_is_an_error_or_an_end_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_all(&bytes);
        }
    }
}
