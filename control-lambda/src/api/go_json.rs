//! JSON as Go's decoder and encoder treat it, so that what Docker accepts is
//! accepted, and what `inspect` shows has Docker's fields, nulls and zeroes.
//!
//! An object's fields are described by a table: name, kind, and what stands
//! there when the client says nothing. Names match regardless of case, unknown
//! ones are dropped, null leaves the zero value, and a value of another kind is
//! refused in Go's words.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::ApiError;
use crate::go_syntax;

/// Deepest nesting of arrays and objects that is read (`serde_json`'s own limit).
pub const MAX_DEPTH: usize = 128;

/// A field of an object.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name as Docker writes it.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What stands there when nothing was said.
    pub absent: Absent,
}

impl Field {
    /// A field.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, absent: Absent) -> Self {
        Self { name, kind, absent }
    }
}

/// What a field may be; named after Go's types where errors name them.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A string.
    String,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A whole number of nanoseconds.
    Duration,
    /// A whole number of the machine's size.
    MachineInt,
    /// A list of strings.
    Strings,
    /// A list of strings, or one string alone (`strslice.StrSlice`).
    StrSlice,
    /// Strings to strings.
    StringMap,
    /// Strings to empty objects.
    Set,
    /// Ports to empty objects.
    PortSet,
    /// An object of these fields.
    Object(&'static [Field]),
    /// A list of objects of these fields.
    Objects(&'static [Field]),
    /// Looked at by nobody here.
    Any,
}

/// What stands in a field that was not set.
#[derive(Debug, Clone, Copy)]
pub enum Absent {
    /// Nothing: `omitempty`. A zero value that was set is left out as well.
    Omitted,
    /// Nothing, and yet a zero value that was set is shown: a pointer.
    Unset,
    /// `null`
    Null,
    /// `""`
    Empty,
    /// `false`
    False,
    /// A number.
    Number(i64),
    /// `[]`
    List,
    /// `{}`
    Map,
    /// An object with its own absent values.
    Defaults,
}

/// Checks the header of a request with a JSON body.
///
/// # Errors
/// 400 in Docker's words.
pub fn check_content_type(value: &str) -> Result<(), ApiError> {
    let mime = value.split(';').next().unwrap_or("").trim();
    if mime.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(ApiError::new(
            400,
            format!("unsupported Content-Type header ({value}): must be 'application/json'"),
        ))
    }
}

/// What of [`parse`]'s words is about a body.
const OF_A_BODY: &str = "invalid JSON: ";

/// What [`parse`] says, for text that is not read as other bodies are: Go's own words.
#[must_use]
pub fn bare(error: &ApiError) -> &str {
    error
        .message
        .strip_prefix(OF_A_BODY)
        .unwrap_or(&error.message)
}

/// Reads a body.
///
/// # Errors
/// 400 when it is not one JSON value.
pub fn parse(body: &Bytes) -> Result<Value, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::new(
            400,
            "invalid JSON: got EOF while reading request body",
        ));
    }
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => {
            return Err(ApiError::new(
                400,
                format!("{OF_A_BODY}{}", syntax_error(body, &error)),
            ));
        }
        None => {
            return Err(ApiError::new(
                400,
                "invalid JSON: got EOF while reading request body",
            ));
        }
    };
    if body[values.byte_offset()..]
        .iter()
        .all(u8::is_ascii_whitespace)
    {
        Ok(value)
    } else {
        Err(ApiError::new(400, "unexpected content after JSON"))
    }
}

/// What Go's decoder says of a text that this one refuses.
fn syntax_error(body: &[u8], error: &serde_json::Error) -> String {
    // What remains are limits that Go does not have, such as the depth.
    go_syntax::complaint(body).unwrap_or_else(|| error.to_string())
}

/// The object with all its fields: the client's where it set them, else what stands for nothing.
///
/// # Errors
/// 400 in Go's words when a value has the wrong type.
pub fn complete(
    type_name: &str,
    fields: &[Field],
    value: &Value,
) -> Result<Map<String, Value>, ApiError> {
    let empty = Map::new();
    let given = match value {
        Value::Object(map) => map,
        Value::Null => &empty,
        other => {
            return Err(ApiError::new(
                400,
                format!(
                    "invalid JSON: json: cannot unmarshal {} into Go value of type {type_name}",
                    go_name(other)
                ),
            ));
        }
    };
    let mut out = Map::new();
    for field in fields {
        let set = given
            .get(field.name)
            .or_else(|| {
                given
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(field.name))
                    .map(|(_, v)| v)
            })
            .filter(|value| !value.is_null());
        let value = match set {
            Some(value) => Some(convert(type_name, field, value)?),
            None => absent(type_name, field)?,
        };
        // An object that was given is there, be it empty: Go has a pointer to it.
        let stays = set.is_some() && matches!(field.kind, Kind::Object(_));
        let value = value
            .filter(|value| stays || !matches!(field.absent, Absent::Omitted) || !is_zero(value));
        if let Some(value) = value {
            out.insert(field.name.to_owned(), value);
        }
    }
    Ok(out)
}

fn absent(type_name: &str, field: &Field) -> Result<Option<Value>, ApiError> {
    Ok(match field.absent {
        Absent::Omitted | Absent::Unset => None,
        Absent::Null => Some(Value::Null),
        Absent::Empty => Some(Value::String(String::new())),
        Absent::False => Some(Value::Bool(false)),
        Absent::Number(number) => Some(Value::from(number)),
        Absent::List => Some(Value::Array(Vec::new())),
        Absent::Map => Some(Value::Object(Map::new())),
        Absent::Defaults => match field.kind {
            Kind::Object(fields) => Some(Value::Object(complete(type_name, fields, &Value::Null)?)),
            Kind::String
            | Kind::Bool
            | Kind::Int
            | Kind::Duration
            | Kind::MachineInt
            | Kind::Strings
            | Kind::StrSlice
            | Kind::StringMap
            | Kind::Set
            | Kind::PortSet
            | Kind::Objects(_)
            | Kind::Any => None,
        },
    })
}

fn convert(type_name: &str, field: &Field, value: &Value) -> Result<Value, ApiError> {
    let mismatch = |offending: &Value, go_type: &str| {
        let place = format!("{type_name}.{}", field.name);
        Err(mismatch_at(&place, offending, go_type))
    };
    match (field.kind, value) {
        (Kind::Any, value) => Ok(value.clone()),
        (Kind::String, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => Ok(value.clone()),
        (Kind::Int | Kind::MachineInt | Kind::Duration, Value::Number(number)) => {
            if number.is_i64() || number.is_u64() {
                Ok(value.clone())
            } else {
                // Of a number that is none of these Go says which it is.
                Err(mismatch_of(
                    &format!("{type_name}.{}", field.name),
                    &format!("number {number}"),
                    go_type(field.kind),
                ))
            }
        }
        (Kind::StrSlice, Value::String(one)) => Ok(Value::Array(vec![Value::String(one.clone())])),
        (Kind::Strings | Kind::StrSlice, Value::Array(items)) => {
            match items
                .iter()
                .find(|item| !item.is_string() && !item.is_null())
            {
                None => Ok(Value::Array(
                    items
                        .iter()
                        .map(|item| Value::String(item.as_str().unwrap_or("").to_owned()))
                        .collect(),
                )),
                // Docker's StrSlice decodes itself, without the field's name.
                Some(_) if matches!(field.kind, Kind::StrSlice) => Err(ApiError::new(
                    400,
                    "invalid JSON: json: cannot unmarshal array into Go value of type string",
                )),
                Some(item) => mismatch(item, "string"),
            }
        }
        (Kind::StringMap, Value::Object(map)) => {
            match map.iter().find(|(_, v)| !v.is_string() && !v.is_null()) {
                None => Ok(Value::Object(
                    map.iter()
                        .map(|(key, v)| {
                            (
                                key.clone(),
                                Value::String(v.as_str().unwrap_or("").to_owned()),
                            )
                        })
                        .collect(),
                )),
                Some((key, item)) => Err(mismatch_at(
                    &format!("{type_name}.{}.{key}", field.name),
                    item,
                    "string",
                )),
            }
        }
        (Kind::Set | Kind::PortSet, Value::Object(map)) => {
            match map.iter().find(|(_, v)| !v.is_object() && !v.is_null()) {
                None => Ok(Value::Object(
                    map.keys()
                        .map(|key| (key.clone(), Value::Object(Map::new())))
                        .collect(),
                )),
                Some((key, item)) => Err(mismatch_at(
                    &format!("{type_name}.{}.{key}", field.name),
                    item,
                    "struct {}",
                )),
            }
        }
        (Kind::Object(fields), Value::Object(_)) => Ok(Value::Object(complete(
            &format!("{type_name}.{}", field.name),
            fields,
            value,
        )?)),
        (Kind::Objects(fields), Value::Array(items)) => {
            let name = format!("{type_name}.{}", field.name);
            let items: Result<Vec<_>, _> = items
                .iter()
                .map(|item| complete(&name, fields, item).map(Value::Object))
                .collect();
            Ok(Value::Array(items?))
        }
        (Kind::StrSlice, value) => Err(ApiError::new(
            400,
            format!(
                "invalid JSON: json: cannot unmarshal {} into Go value of type string",
                go_name(value)
            ),
        )),
        (kind, value) => mismatch(value, go_type(kind)),
    }
}

/// What Go's decoder says of a value of another type than that of its place in a structure.
#[must_use]
pub fn mismatch_at(place: &str, offending: &Value, go_type: &str) -> ApiError {
    mismatch_of(place, go_name(offending), go_type)
}

fn mismatch_of(place: &str, found: &str, go_type: &str) -> ApiError {
    ApiError::new(
        400,
        format!(
            "invalid JSON: json: cannot unmarshal {found} into Go struct field {place} of type {go_type}"
        ),
    )
}

/// Checks that a body is an object, or nothing.
///
/// # Errors
/// 400 in Go's words, which name the type.
pub fn check_object(body: &Value, go_type: &str) -> Result<(), ApiError> {
    if body.is_object() || body.is_null() {
        return Ok(());
    }
    let found = go_name(body);
    Err(ApiError::new(
        400,
        format!("invalid JSON: json: cannot unmarshal {found} into Go value of type {go_type}"),
    ))
}

/// The member of an object, found as Go finds it: by its name, else regardless of case.
#[must_use]
pub fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    let Some(map) = value.as_object() else {
        return &NULL;
    };
    let other = || {
        map.iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    };
    map.get(name).or_else(other).unwrap_or(&NULL)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// What Go calls the kind of a JSON value.
#[must_use]
pub const fn go_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

const fn go_type(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::Bool => "bool",
        Kind::Int => "int64",
        Kind::Duration => "time.Duration",
        Kind::MachineInt => "int",
        Kind::Strings | Kind::StrSlice => "[]string",
        Kind::StringMap => "map[string]string",
        Kind::Set => "map[string]struct {}",
        Kind::PortSet => "nat.PortSet",
        Kind::Object(_) => "struct",
        Kind::Objects(_) => "[]struct",
        Kind::Any => "interface {}",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const FIELDS: &[Field] = &[
        Field {
            name: "Tty",
            kind: Kind::Bool,
            absent: Absent::False,
        },
        Field {
            name: "Cmd",
            kind: Kind::StrSlice,
            absent: Absent::Null,
        },
        Field {
            name: "StopSignal",
            kind: Kind::String,
            absent: Absent::Omitted,
        },
    ];

    #[test]
    fn names_match_regardless_of_case_and_unknown_ones_are_dropped() {
        let full = complete(
            "Config",
            FIELDS,
            &json!({"tty": true, "CMD": "ls", "Nope": 1}),
        )
        .unwrap();
        assert_eq!(Value::Object(full), json!({"Tty": true, "Cmd": ["ls"]}));
    }

    #[test]
    fn a_wrong_type_is_refused_in_gos_words() {
        let error = complete("Config", FIELDS, &json!({"Tty": "yes"})).unwrap_err();
        assert_eq!(error.status, 400);
        assert!(
            error
                .message
                .ends_with("cannot unmarshal string into Go struct field Config.Tty of type bool")
        );
    }

    #[test]
    fn text_that_is_not_json_is_refused_in_gos_words() {
        let refuse = |text: &'static str| {
            parse(&Bytes::from_static(text.as_bytes()))
                .unwrap_err()
                .message
        };
        assert_eq!(
            refuse(""),
            "invalid JSON: got EOF while reading request body"
        );
        assert_eq!(
            refuse("nope"),
            "invalid JSON: invalid character 'o' in literal null (expecting 'u')"
        );
        assert_eq!(refuse("{} x"), "unexpected content after JSON");
        assert_eq!(refuse("{\"a\":"), "invalid JSON: unexpected EOF");
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = parse(&Bytes::from(bytes)) {
                let _ = complete("Config", FIELDS, &value);
            }
        }
    }
}
