//! JSON that says one thing: no key twice, no number that is not finite, no more depth than asked for.

use std::fmt;

use federation_core::limits::MEMORY_METADATA_DEPTH_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// Why bytes are not such an object.
#[derive(Debug, thiserror::Error)]
pub enum JsonObjectError {
    /// Not JSON, or a key twice, or too deep.
    #[error("the JSON is not valid: {0}")]
    Json(serde_json::Error),
    /// JSON, but no object.
    #[error("the JSON is not an object")]
    NotAnObject,
}

impl JsonObjectError {
    /// Stable, machine-readable.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Json(_) => "malformed_json",
            Self::NotAnObject => "not_an_object",
        }
    }
}

/// The object that `bytes` are.
///
/// # Errors
/// [`JsonObjectError`].
pub fn parse_object(bytes: &[u8], depth_max: usize) -> Result<Map<String, Value>, JsonObjectError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: depth_max }.deserialize(&mut reader).map_err(JsonObjectError::Json)?;
    reader.end().map_err(JsonObjectError::Json)?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(JsonObjectError::NotAnObject),
    }
}

/// An object in a client's write: at most [`MEMORY_METADATA_DEPTH_MAX`] deep, no key twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct JsonObject(pub Map<String, Value>);

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match (Strict { depth_left: MEMORY_METADATA_DEPTH_MAX }).deserialize(deserializer)? {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(D::Error::custom("an object is expected here")),
        }
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn below<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("the JSON is too deep"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut out = Vec::new();
        while let Some(element) = seq.next_element_seed(below)? {
            out.push(element);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
            let value = map.next_value_seed(below)?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_or_none() {
        let check = |text: &str, valid: bool| {
            assert_eq!(parse_object(text.as_bytes(), 3).is_ok(), valid, "{text}");
        };
        check("{}", true);
        check(r#"{"a":1,"b":[1,2.5,null,true,"x"]}"#, true);
        check(r#" {"a":{"b":{}}} "#, true);
        check(r#"{"a":{"b":{"c":{}}}}"#, false);
        check(r#"{"a":[[[]]]}"#, false);
        check(r#"{"a":1,"a":1}"#, false);
        check(r#"{"x":{"a":1,"\u0061":2}}"#, false);
        check(r#"{"a":1e400}"#, false);
        check(r#"{"a":NaN}"#, false);
        check(r#"{"a":1}x"#, false);
        check(r#"{"a":1}{}"#, false);
        check("[]", false);
        check("", false);
        check("\u{feff}{}", false);
        assert!(parse_object(b"{\"a\":\"\xff\"}", 3).is_err(), "UTF-8");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        check(&deep, false);
    }
}
