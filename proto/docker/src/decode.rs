//! Decoding request bodies as tolerantly as Go's `encoding/json`, which clients have come to rely on.
//!
//! What differs from serde_json: keys match a field exactly or else without regard to ASCII case; `null`
//! in a struct means the field is absent, and elsewhere stands for the zero value; a repeated key
//! overrides; unknown keys are ignored. The types themselves say `#[serde(default)]`, so that an
//! absent field is its zero value. `#[serde(flatten)]` hides the field names this relies on: a body that
//! embeds another is decoded once for each.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

/// Why a body could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There was no body.
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    /// The bytes are not JSON, or more follows the value.
    #[error("invalid JSON: {0}")]
    Syntax(serde_json::Error),
    /// A value has the wrong type or is out of range; the path names it.
    #[error("invalid JSON: {0}")]
    Mismatch(Mismatch),
}

impl DecodeError {
    /// True if the body had nothing but white space.
    pub fn is_empty_body(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// A value that does not fit the field it is for.
#[derive(Debug)]
pub struct Mismatch {
    /// Keys and indexes from the innermost outwards.
    path: Vec<String>,
    reason: String,
}

impl Mismatch {
    fn within(mut self, step: impl FnOnce() -> String) -> Self {
        self.path.push(step());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.path.iter().rev().enumerate() {
            if depth > 0 && !step.starts_with('[') {
                f.write_str(".")?;
            }
            f.write_str(step)?;
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Mismatch {}

impl serde::de::Error for Mismatch {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self { path: Vec::new(), reason: reason.to_string() }
    }
}

/// Decodes a whole body.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(DecodeError::Empty);
    }
    from_value(serde_json::from_slice(body).map_err(DecodeError::Syntax)?)
}

/// Decodes a whole body given as text.
pub fn from_str<T: DeserializeOwned>(body: &str) -> Result<T, DecodeError> {
    from_slice(body.as_bytes())
}

/// Decodes a value that is parsed already.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, DecodeError> {
    T::deserialize(Tolerant(value)).map_err(DecodeError::Mismatch)
}

struct Tolerant(Value);

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn wrong(value: &Value, wanted: &str) -> Mismatch {
    serde::de::Error::custom(format_args!("expected {wanted}, found {}", kind_of(value)))
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match self.0 {
                Value::Null => visitor.visit_u64(0),
                Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                    (Some(n), _, _) => visitor.visit_u64(n),
                    (_, Some(n), _) => visitor.visit_i64(n),
                    (_, _, Some(n)) => visitor.visit_f64(n),
                    _ => Err(wrong(&Value::Number(n), "a smaller number")),
                },
                other => Err(wrong(&other, "a number")),
            }
        }
    )*};
}

macro_rules! strings {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match self.0 {
                Value::Null => visitor.visit_str(""),
                Value::String(text) => visitor.visit_string(text),
                other => Err(wrong(&other, "a string")),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Tolerant {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Number(_) => self.deserialize_f64(visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items::new(items)),
            Value::Object(entries) => visitor.visit_map(Entries::all(entries)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(b) => visitor.visit_bool(b),
            other => Err(wrong(&other, "a boolean")),
        }
    }

    numbers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    deserialize_f32 deserialize_f64 }

    strings! { deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
    deserialize_identifier }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items::new(Vec::new())),
            Value::Array(items) => visitor.visit_seq(Items::new(items)),
            other => Err(wrong(&other, "a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_map(Entries::all(Map::new())),
            Value::Object(entries) => visitor.visit_map(Entries::all(entries)),
            other => Err(wrong(&other, "an object")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_map(Entries::all(Map::new())),
            Value::Object(entries) => visitor.visit_map(Entries::for_fields(entries, fields)),
            other => Err(wrong(&other, "an object")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_enum(IntoDeserializer::<Mismatch>::into_deserializer("")),
            Value::String(text) => {
                let text: StrDeserializer<'_, Mismatch> = text.as_str().into_deserializer();
                visitor.visit_enum(text)
            }
            other => other
                .deserialize_enum(name, variants, visitor)
                .map_err(|e| serde::de::Error::custom(e.to_string())),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }
}

struct Items {
    items: std::vec::IntoIter<Value>,
    next: usize,
}

impl Items {
    fn new(items: Vec<Value>) -> Self {
        Self { items: items.into_iter(), next: 0 }
    }
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(Tolerant(item)).map(Some).map_err(|e| e.within(|| format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries {
    entries: std::vec::IntoIter<(String, Value)>,
    current: Option<(String, Value)>,
}

impl Entries {
    fn all(entries: Map<String, Value>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        Self { entries: entries.into_iter(), current: None }
    }

    /// The entries a struct with these fields takes, under the fields' own names, without nulls.
    fn for_fields(entries: Map<String, Value>, fields: &'static [&'static str]) -> Self {
        let mut taken = Map::new();
        let mut exact = Vec::new();
        for (key, value) in entries {
            if value.is_null() {
                continue;
            }
            if fields.contains(&key.as_str()) {
                exact.push((key, value));
            } else if let Some(field) = fields.iter().find(|f| f.eq_ignore_ascii_case(&key)) {
                taken.insert((*field).to_owned(), value);
            }
        }
        taken.extend(exact);
        Self::all(taken)
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let parsed = seed.deserialize(IntoDeserializer::<Mismatch>::into_deserializer(key.as_str()))?;
        self.current = Some((key, value));
        Ok(Some(parsed))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mismatch> {
        let Some((key, value)) = self.current.take() else {
            return Err(serde::de::Error::custom("value asked for before its key"));
        };
        seed.deserialize(Tolerant(value)).map_err(|e| e.within(|| key))
    }
}

#[cfg(test)]
mod tests;
