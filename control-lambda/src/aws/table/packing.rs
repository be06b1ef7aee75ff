//! Bodies as they are stored: a write is billed by the kilobyte, and JSON of some
//! kilobytes is packed into one. Records of containers are alike for the most part, so that a
//! dictionary knows most of what is in them.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::ports::table::{MAX_BODY_BYTES, TableError};

/// Smaller bodies stay text: an item of that size costs one unit anyhow.
const PACKED_FROM: usize = 700;

/// Small bodies gain little from more effort.
const LEVEL: i32 = 9;

/// What records of containers and of their runs, and lists of events, have in common. Items are
/// read with it for as long as they live: another one needs a mark of its own.
const DICTIONARY: &[u8] = include_bytes!("dictionary-1.txt");

/// Stands before what is packed with it. Zstandard's own frames begin with another byte.
const MARK: u8 = 1;

/// A body as an attribute: text, or packed text as binary.
pub(super) fn pack(body: &str) -> AttributeValue {
    if body.len() >= PACKED_FROM
        && let Ok(packed) = packed(body)
        && packed.len() < body.len()
    {
        return AttributeValue::B(Blob::new(packed));
    }
    AttributeValue::S(body.to_owned())
}

fn packed(body: &str) -> std::io::Result<Vec<u8>> {
    let mut compressor = Compressor::with_dictionary(LEVEL, DICTIONARY)?;
    let mut packed = vec![MARK];
    packed.extend(compressor.compress(body.as_bytes())?);
    Ok(packed)
}

/// The body in an attribute; `None` for an attribute that is none of ours.
pub(super) fn unpack(attribute: AttributeValue) -> Option<Result<Bytes, TableError>> {
    match attribute {
        AttributeValue::S(text) => Some(Ok(Bytes::from(text))),
        AttributeValue::B(packed) => {
            Some(unpacked(packed.as_ref()).map(Bytes::from).map_err(|error| {
                TableError::Unavailable(format!("an item's body is damaged: {error}"))
            }))
        }
        _ => None,
    }
}

fn unpacked(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    match packed.split_first() {
        Some((&MARK, packed)) => {
            Decompressor::with_dictionary(DICTIONARY)?.decompress(packed, MAX_BODY_BYTES)
        }
        Some(_) => zstd::bulk::decompress(packed, MAX_BODY_BYTES),
        // Zstandard takes nothing for nothing; what is packed has a frame.
        None => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_as_they_were() {
        let large = format!("[{}]", r#"{"Name":"value","Other":null},"#.repeat(200));
        for body in ["", "{}", &large] {
            let unpacked = unpack(pack(body)).unwrap().unwrap();
            assert_eq!(unpacked, body.as_bytes());
        }
        assert!(matches!(pack("{}"), AttributeValue::S(_)));
        assert!(matches!(pack(&large), AttributeValue::B(packed) if packed.as_ref().len() < 200));
        // As it was written before there was a dictionary.
        let plain = zstd::bulk::compress(large.as_bytes(), LEVEL).unwrap();
        let unpacked = unpack(AttributeValue::B(Blob::new(plain)));
        assert_eq!(unpacked.unwrap().unwrap(), large.as_bytes());
        assert!(unpack(AttributeValue::Bool(true)).is_none());
        for damaged in [&b"damaged"[..], b"\x01damaged", b""] {
            let damaged = AttributeValue::B(Blob::new(damaged.to_vec()));
            assert!(unpack(damaged).unwrap().is_err());
        }
    }

    /// What is billed for each step of a container's life.
    #[test]
    fn a_containers_record_is_packed_into_half_a_kilobyte() {
        let ids = (0u8..).map(|n| hex::encode([n.wrapping_mul(37) ^ 0x5a; 1].repeat(32)));
        let mut record = String::from_utf8(DICTIONARY.to_vec()).unwrap();
        for id in ids.take(12) {
            record = record.replacen("\"\"", &format!("{id:?}"), 1);
        }
        match pack(&record) {
            AttributeValue::B(packed) => {
                let length = packed.as_ref().len();
                assert!(length < 512, "{length}");
            }
            other => panic!("{other:?}"),
        }
    }
}
