//! What templates compute with: Go's values, as far as a format can tell them apart.

use std::fmt::{self, Write as _};
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A function of one string, as `.Label "name"` is.
pub(crate) type Method = Rc<dyn Fn(&str) -> String>;

#[derive(Clone)]
pub(crate) enum Value {
    /// Nothing at all: a key that a map does not have. Prints `<no value>`.
    Missing,
    /// Go's nil of some type.
    Nil(Nil),
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(String),
    List(Vec<Value>),
    /// Sorted by key, as Go prints and walks maps.
    Map(Vec<(String, Value)>),
    Struct(Rc<Struct>),
}

/// A Go struct, or an object whose methods look like fields.
#[derive(Clone)]
pub(crate) struct Struct {
    /// Go's name of the type, for errors: `*formatter.ContainerContext`.
    pub(crate) type_name: &'static str,
    /// In declaration order.
    pub(crate) fields: Vec<Field>,
    pub(crate) methods: Vec<(&'static str, Method)>,
    pub(crate) kind: StructKind,
}

/// How a struct differs from Go's plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StructKind {
    Plain,
    /// A row of a listing: its JSON has `<`, `>` and `&` escaped.
    Row,
    /// The names of columns: a field without a name is empty.
    Header,
}

#[derive(Clone)]
pub(crate) struct Field {
    /// The name in JSON.
    pub(crate) name: &'static str,
    pub(crate) value: Value,
    /// Left out of JSON, since empty.
    pub(crate) omitted: bool,
}

/// What kind of nil: they print differently, and all are `null` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nil {
    /// `<nil>`
    Pointer,
    /// `[]`
    List,
    /// `map[]`
    Map,
}

/// Fields of the API that are pointers in Go.
const POINTERS: &[&str] = &[
    "Descriptor",
    "GraphDriver",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "Platform",
    "RegistryConfig",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
];

/// Fields of the API that are maps in Go.
const MAPS: &[&str] = &[
    "Annotations",
    "Config",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// The nil that a field of the API is when it is null: JSON does not tell.
pub(super) fn nil_of(field: &str) -> Nil {
    if POINTERS.contains(&field) {
        Nil::Pointer
    } else if MAPS.contains(&field) {
        Nil::Map
    } else {
        Nil::List
    }
}

/// Fields that JSON leaves out when they are the number zero.
const NUMBERS: &[&str] = &["time", "timeNano", "PublicPort", "GwPriority", "FailingStreak"];

/// What a field is that JSON leaves out: a nil pointer or map, zero, or else nothing to print.
pub(super) fn absent(field: &str) -> Value {
    if NUMBERS.contains(&field) {
        return Value::Int(0);
    }
    match nil_of(field) {
        Nil::List => Value::str(""),
        nil => Value::Nil(nil),
    }
}

impl Value {
    pub(crate) const NIL: Value = Value::Nil(Nil::Pointer);

    /// The same struct under the name that Go's errors give it.
    pub(crate) fn named(self, type_name: &'static str) -> Value {
        match self {
            Value::Struct(object) => Value::from(Struct { type_name, ..Rc::unwrap_or_clone(object) }),
            other => other,
        }
    }

    pub(crate) fn str(text: impl Into<String>) -> Value {
        Value::Str(text.into())
    }

    /// Go's name of the type, as errors print it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Missing => "<nil>",
            Value::Nil(_) => "*struct",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint64",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::List(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
            Value::Struct(object) => object.type_name,
        }
    }

    /// Go templates' truth: non-zero, non-empty. A struct is always true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::Missing | Value::Nil(_) => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Uint(n) => *n != 0,
            Value::Float(n) => *n != 0.0,
            Value::Str(s) => !s.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(entries) => !entries.is_empty(),
            Value::Struct(_) => true,
        }
    }

    pub(crate) fn get<'a>(entries: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// As `fmt.Print` shows it at the top level.
    pub(crate) fn print(&self) -> String {
        let mut out = String::new();
        self.print_into(&mut out, true);
        out
    }

    fn print_into(&self, out: &mut String, top: bool) {
        match self {
            Value::Missing if top => out.push_str("<no value>"),
            Value::Nil(Nil::List) => out.push_str("[]"),
            Value::Nil(Nil::Map) => out.push_str("map[]"),
            Value::Missing | Value::Nil(Nil::Pointer) => out.push_str("<nil>"),
            Value::Bool(b) => _ = write!(out, "{b}"),
            Value::Int(n) => _ = write!(out, "{n}"),
            Value::Uint(n) => _ = write!(out, "{n}"),
            Value::Float(n) => out.push_str(&super::printf::float_shortest(*n)),
            Value::Str(s) => out.push_str(s),
            Value::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    item.print_into(out, false);
                }
                out.push(']');
            }
            Value::Map(entries) => {
                out.push_str("map[");
                for (i, (key, value)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    _ = write!(out, "{key}:");
                    value.print_into(out, false);
                }
                out.push(']');
            }
            Value::Struct(object) => {
                out.push('{');
                for (i, field) in object.fields.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    match &field.value {
                        Value::Missing if field.omitted => absent(field.name).print_into(out, false),
                        value => value.print_into(out, false),
                    }
                }
                out.push('}');
            }
        }
    }

    /// As `%v` shows it: like [`Self::print`], except that nothing is a nil.
    pub(crate) fn print_for_verb(&self) -> String {
        let mut out = String::new();
        self.print_into(&mut out, false);
        out
    }

    /// As `encoding/json` writes it without HTML escapes.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.json_into(&mut out);
        out
    }

    fn json_into(&self, out: &mut String) {
        match self {
            Value::Missing | Value::Nil(_) => out.push_str("null"),
            Value::Bool(b) => _ = write!(out, "{b}"),
            Value::Int(n) => _ = write!(out, "{n}"),
            Value::Uint(n) => _ = write!(out, "{n}"),
            Value::Float(n) => out.push_str(&crate::json::float(*n)),
            Value::Str(s) => crate::json::string(out, s),
            Value::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.json_into(out);
                }
                out.push(']');
            }
            Value::Map(entries) => json_object(out, entries.iter().map(|(k, v)| (k.as_str(), v))),
            Value::Struct(object) => {
                let mut text = String::new();
                json_object(
                    &mut text,
                    object.fields.iter().filter(|f| !f.omitted).map(|f| (f.name, &f.value)),
                );
                if object.kind == StructKind::Row {
                    // these marks only occur inside of strings
                    text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
                }
                out.push_str(&text);
            }
        }
    }
}

fn json_object<'a>(out: &mut String, entries: impl Iterator<Item = (&'a str, &'a Value)>) {
    out.push('{');
    for (i, (key, value)) in entries.enumerate() {
        if i > 0 {
            out.push(',');
        }
        crate::json::string(out, key);
        out.push(':');
        value.json_into(out);
    }
    out.push('}');
}

impl Struct {
    /// A row of a listing: methods that look like fields. Marshals with sorted keys.
    pub(crate) fn row(type_name: &'static str, mut fields: Vec<(&'static str, Value)>) -> Struct {
        fields.sort_by_key(|(name, _)| *name);
        let fields = fields.into_iter().map(|(name, value)| Field { name, value, omitted: false }).collect();
        Struct { type_name, fields, methods: Vec::new(), kind: StructKind::Row }
    }

    /// A struct that marshals in the order given; fields that are `None` are known but left out.
    pub(crate) fn ordered(type_name: &'static str, fields: Vec<(&'static str, Option<Value>)>) -> Struct {
        let fields = fields
            .into_iter()
            .map(|(name, value)| Field { name, omitted: value.is_none(), value: value.unwrap_or(Value::NIL) })
            .collect();
        Struct { type_name, fields, methods: Vec::new(), kind: StructKind::Plain }
    }

    /// The names of a table's columns by field. A label's column is named by the last part of the label.
    pub(crate) fn header(names: &[(&'static str, &str)]) -> Struct {
        let names = names.iter().map(|(field, name)| (*field, Value::str(*name))).collect();
        let mut header = Struct::row("formatter.SubHeaderContext", names);
        header.kind = StructKind::Header;
        header.with_method(
            "Label",
            Rc::new(|name| name.rsplit('.').next().unwrap_or(name).replace(['-', '_'], " ")),
        )
    }

    pub(crate) fn with_method(mut self, name: &'static str, method: Method) -> Struct {
        self.methods.push((name, method));
        self
    }

    /// By the JSON name, or by Go's spelling of it (`ID` for `Id`), which differs in case only.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name).or_else(|| {
            let exported = name.starts_with(|c: char| c.is_uppercase());
            self.fields.iter().find(|field| exported && field.name.eq_ignore_ascii_case(name))
        })
    }

    pub(crate) fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|(known, _)| *known == name).map(|(_, method)| method)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Missing)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
                Ok(Value::Bool(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
                Ok(Value::Int(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
                Ok(i64::try_from(v).map_or(Value::Uint(v), Value::Int))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
                Ok(Value::Float(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Value, E> {
                Ok(Value::str(v))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries: Vec<(String, Value)> = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(Value::Map(entries))
            }
        }
        from.deserialize_any(Any)
    }
}

impl From<Struct> for Value {
    fn from(object: Struct) -> Value {
        Value::Struct(Rc::new(object))
    }
}
