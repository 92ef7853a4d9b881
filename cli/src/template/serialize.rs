//! A serde serializer whose output is a template [`Value`].
//!
//! It keeps what JSON loses and Go templates show: structs are told from maps, and a field that is left out
//! of the JSON because it is empty is still a field, so `{{if .State.Health}}` works without one.

use std::fmt::Display;
use std::rc::Rc;

use serde::ser::{self, Impossible, Serialize};

use super::value::{Field, Struct, StructKind, Value, nil_of};

/// `value` as a Go template would see the struct it stands for.
pub(crate) fn to_value<T: Serialize>(value: &T) -> Result<Value, Unserializable> {
    value.serialize(ToValue)
}

#[derive(Debug, thiserror::Error)]
#[error("cannot turn the answer into a template value: {0}")]
pub(crate) struct Unserializable(String);

impl ser::Error for Unserializable {
    fn custom<T: Display>(text: T) -> Self {
        Unserializable(text.to_string())
    }
}

#[derive(Clone, Copy)]
struct ToValue;

type Done = Result<Value, Unserializable>;

impl ser::Serializer for ToValue {
    type Ok = Value;
    type Error = Unserializable;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Impossible<Value, Unserializable>;
    type SerializeMap = Entries;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Impossible<Value, Unserializable>;

    fn serialize_bool(self, v: bool) -> Done {
        Ok(Value::Bool(v))
    }
    fn serialize_i8(self, v: i8) -> Done {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i16(self, v: i16) -> Done {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i32(self, v: i32) -> Done {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i64(self, v: i64) -> Done {
        Ok(Value::Int(v))
    }
    fn serialize_u8(self, v: u8) -> Done {
        Ok(Value::Uint(v.into()))
    }
    fn serialize_u16(self, v: u16) -> Done {
        Ok(Value::Uint(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Done {
        Ok(Value::Uint(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Done {
        Ok(Value::Uint(v))
    }
    fn serialize_f32(self, v: f32) -> Done {
        Ok(Value::Float(v.into()))
    }
    fn serialize_f64(self, v: f64) -> Done {
        Ok(Value::Float(v))
    }
    fn serialize_char(self, v: char) -> Done {
        Ok(Value::Str(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Done {
        Ok(Value::str(v))
    }
    fn serialize_bytes(self, v: &[u8]) -> Done {
        Ok(Value::List(v.iter().map(|b| Value::Uint((*b).into())).collect()))
    }
    fn serialize_none(self) -> Done {
        Ok(Value::NIL)
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Done {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Done {
        Ok(Value::NIL)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Done {
        Ok(Value::NIL)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        Ok(Value::str(variant))
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        Ok(Value::Map(vec![(variant.to_owned(), value.serialize(self)?)]))
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Items, Unserializable> {
        Ok(Items(Vec::with_capacity(len.unwrap_or(0))))
    }
    fn serialize_tuple(self, len: usize) -> Result<Items, Unserializable> {
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Items, Unserializable> {
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unserializable> {
        Err(Unserializable(format!("{name} is a tuple variant")))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Unserializable> {
        Ok(Entries { entries: Vec::new(), key: String::new() })
    }
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Fields, Unserializable> {
        Ok(Fields { name, fields: Vec::with_capacity(len) })
    }
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unserializable> {
        Err(Unserializable(format!("{name} is a struct variant")))
    }
}

struct Items(Vec<Value>);

impl ser::SerializeSeq for Items {
    type Ok = Value;
    type Error = Unserializable;
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Unserializable> {
        self.0.push(value.serialize(ToValue)?);
        Ok(())
    }
    fn end(self) -> Done {
        Ok(Value::List(self.0))
    }
}

impl ser::SerializeTuple for Items {
    type Ok = Value;
    type Error = Unserializable;
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Unserializable> {
        ser::SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Done {
        ser::SerializeSeq::end(self)
    }
}

impl ser::SerializeTupleStruct for Items {
    type Ok = Value;
    type Error = Unserializable;
    fn serialize_field<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Unserializable> {
        ser::SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Done {
        ser::SerializeSeq::end(self)
    }
}

struct Entries {
    entries: Vec<(String, Value)>,
    key: String,
}

impl ser::SerializeMap for Entries {
    type Ok = Value;
    type Error = Unserializable;
    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Unserializable> {
        self.key = key.serialize(ToValue)?.print();
        Ok(())
    }
    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Unserializable> {
        self.entries.push((std::mem::take(&mut self.key), value.serialize(ToValue)?));
        Ok(())
    }
    fn end(mut self) -> Done {
        self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Value::Map(self.entries))
    }
}

struct Fields {
    name: &'static str,
    fields: Vec<Field>,
}

impl ser::SerializeStruct for Fields {
    type Ok = Value;
    type Error = Unserializable;
    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unserializable> {
        let value = match value.serialize(ToValue)? {
            Value::Nil(_) => Value::Nil(nil_of(name)),
            value => value,
        };
        self.fields.push(Field { name, value, omitted: false });
        Ok(())
    }
    fn skip_field(&mut self, name: &'static str) -> Result<(), Unserializable> {
        self.fields.push(Field { name, value: Value::Missing, omitted: true });
        Ok(())
    }
    fn end(self) -> Done {
        let object = Struct {
            type_name: self.name,
            fields: self.fields,
            methods: Vec::new(),
            kind: StructKind::Plain,
        };
        Ok(Value::Struct(Rc::new(object)))
    }
}
