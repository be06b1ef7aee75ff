//! Bodies as they are stored: a write is billed by the kilobyte, and JSON of some
//! kilobytes is packed into one.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;

use crate::ports::table::{MAX_BODY_BYTES, TableError};

/// Smaller bodies stay text: an item of that size costs one unit anyhow.
const PACKED_FROM: usize = 700;

/// Small bodies gain little from more effort.
const LEVEL: i32 = 9;

/// A body as an attribute: text, or packed text as binary.
pub(super) fn pack(body: &str) -> AttributeValue {
    if body.len() >= PACKED_FROM
        && let Ok(packed) = zstd::bulk::compress(body.as_bytes(), LEVEL)
        && packed.len() < body.len()
    {
        return AttributeValue::B(Blob::new(packed));
    }
    AttributeValue::S(body.to_owned())
}

/// The body in an attribute; `None` for an attribute that is none of ours.
pub(super) fn unpack(attribute: AttributeValue) -> Option<Result<Bytes, TableError>> {
    match attribute {
        AttributeValue::S(text) => Some(Ok(Bytes::from(text))),
        AttributeValue::B(packed) => Some(
            zstd::bulk::decompress(packed.as_ref(), MAX_BODY_BYTES)
                .map(Bytes::from)
                .map_err(|error| {
                    TableError::Unavailable(format!("an item's body is damaged: {error}"))
                }),
        ),
        _ => None,
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
        assert!(unpack(AttributeValue::Bool(true)).is_none());
        let damaged = AttributeValue::B(Blob::new(b"damaged".to_vec()));
        assert!(unpack(damaged).unwrap().is_err());
    }
}
