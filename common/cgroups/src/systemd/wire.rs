//! D-Bus messages as bytes (D-Bus Specification, "Type System" and "Message Protocol"). Written little-endian, read in
//! either order.

use std::fmt::Write as _;

/// The largest message that is read; the answers asked for here have a few hundred bytes.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// The specification's bound on nested containers.
const MAX_DEPTH: usize = 64;

/// A value of a D-Bus type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Str(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a`, with the signature of its elements
    Array(String, Vec<Value>),
    /// `( )`
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// An array of strings.
    pub fn strings(list: &[&str]) -> Value {
        Value::Array("s".into(), list.iter().map(|s| Value::Str((*s).to_owned())).collect())
    }

    /// The text of a string, path or signature, or of a variant of one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Str(s) | Value::Path(s) | Value::Signature(s) => Some(s),
            Value::Variant(inner) => inner.text(),
            _ => None,
        }
    }

    /// The type, as the specification writes it.
    pub fn signature(&self) -> String {
        let mut out = String::new();
        self.sign(&mut out);
        out
    }

    fn sign(&self, out: &mut String) {
        let code = match self {
            Value::Byte(_) => 'y',
            Value::Bool(_) => 'b',
            Value::I16(_) => 'n',
            Value::U16(_) => 'q',
            Value::I32(_) => 'i',
            Value::U32(_) => 'u',
            Value::I64(_) => 'x',
            Value::U64(_) => 't',
            Value::F64(_) => 'd',
            Value::Str(_) => 's',
            Value::Path(_) => 'o',
            Value::Signature(_) => 'g',
            Value::Variant(_) => 'v',
            Value::Array(element, _) => {
                let _ = write!(out, "a{element}");
                return;
            }
            Value::Struct(fields) => {
                out.push('(');
                fields.iter().for_each(|f| f.sign(out));
                ')'
            }
        };
        out.push(code);
    }
}

/// Bytes under construction; alignment counts from the beginning.
#[derive(Debug, Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn string(&mut self, s: &str) {
        self.fixed(&(s.len() as u32).to_le_bytes());
        self.0.extend_from_slice(s.as_bytes());
        self.0.push(0);
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(n) => self.0.push(*n),
            Value::Bool(b) => self.fixed(&u32::from(*b).to_le_bytes()),
            Value::I16(n) => self.fixed(&n.to_le_bytes()),
            Value::U16(n) => self.fixed(&n.to_le_bytes()),
            Value::I32(n) => self.fixed(&n.to_le_bytes()),
            Value::U32(n) => self.fixed(&n.to_le_bytes()),
            Value::I64(n) => self.fixed(&n.to_le_bytes()),
            Value::U64(n) => self.fixed(&n.to_le_bytes()),
            Value::F64(n) => self.fixed(&n.to_le_bytes()),
            Value::Str(s) | Value::Path(s) => self.string(s),
            Value::Signature(s) => {
                self.0.push(s.len() as u8);
                self.0.extend_from_slice(s.as_bytes());
                self.0.push(0);
            }
            Value::Array(element, list) => {
                self.fixed(&[0; 4]);
                let length = self.0.len() - 4;
                // the padding before the first element does not count
                self.align(alignment(element.as_bytes().first().copied().unwrap_or(b'y')));
                let begin = self.0.len();
                list.iter().for_each(|v| self.value(v));
                let bytes = (self.0.len() - begin) as u32;
                self.0[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
            }
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().for_each(|f| self.value(f));
            }
            Value::Variant(inner) => {
                self.value(&Value::Signature(inner.signature()));
                self.value(inner);
            }
        }
    }
}

fn alignment(code: u8) -> usize {
    match code {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// Bytes being read.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) big: bool,
}

impl Decoder<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(n)?;
        let out = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(out)
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align(N);
        let big = self.big;
        let mut out: [u8; N] = self.take(N)?.try_into().ok()?;
        if big {
            out.reverse();
        }
        Some(out)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.take(1)? == [0]).then_some(text)
    }

    fn short(&mut self) -> Option<String> {
        let length = self.take(1)?[0];
        self.text(length.into())
    }

    /// Values of every type in the signature, or none if the bytes do not hold them.
    pub(super) fn all(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature.as_bytes();
        let mut out = Vec::new();
        while !rest.is_empty() {
            let length = one(rest, 0)?;
            out.push(self.value(&rest[..length], 0)?);
            rest = &rest[length..];
        }
        Some(out)
    }

    fn value(&mut self, signature: &[u8], depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match *signature.first()? {
            b'y' => Value::Byte(self.take(1)?[0]),
            b'b' => Value::Bool(self.u32()? != 0),
            b'n' => Value::I16(self.fixed().map(i16::from_le_bytes)?),
            b'q' => Value::U16(self.fixed().map(u16::from_le_bytes)?),
            b'i' => Value::I32(self.fixed().map(i32::from_le_bytes)?),
            b'u' | b'h' => Value::U32(self.u32()?),
            b'x' => Value::I64(self.fixed().map(i64::from_le_bytes)?),
            b't' => Value::U64(self.fixed().map(u64::from_le_bytes)?),
            b'd' => Value::F64(self.fixed().map(f64::from_le_bytes)?),
            code @ (b's' | b'o') => {
                let length = self.u32()? as usize;
                let text = self.text(length)?;
                if code == b's' { Value::Str(text) } else { Value::Path(text) }
            }
            b'g' => Value::Signature(self.short()?),
            b'v' => {
                let inner = self.short()?;
                let inner = inner.as_bytes();
                if one(inner, depth)? != inner.len() {
                    return None;
                }
                Value::Variant(Box::new(self.value(inner, depth + 1)?))
            }
            b'a' => {
                let element = &signature[1..];
                let length = self.u32()? as usize;
                self.align(alignment(*element.first()?));
                let end = self.at.checked_add(length).filter(|e| *e <= self.bytes.len())?;
                let mut list = Vec::new();
                while self.at < end {
                    list.push(self.value(element, depth + 1)?);
                }
                if self.at != end {
                    return None;
                }
                Value::Array(String::from_utf8(element.to_vec()).ok()?, list)
            }
            b'(' | b'{' => {
                self.align(8);
                let mut fields = Vec::new();
                let mut rest = signature.get(1..signature.len() - 1)?;
                while !rest.is_empty() {
                    let length = one(rest, depth + 1)?;
                    fields.push(self.value(&rest[..length], depth + 1)?);
                    rest = &rest[length..];
                }
                Value::Struct(fields)
            }
            _ => return None,
        })
    }
}

/// The length of the first complete type of a signature.
fn one(signature: &[u8], depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    match *signature.first()? {
        b'a' => Some(1 + one(&signature[1..], depth + 1)?),
        open @ (b'(' | b'{') => {
            let close = if open == b'(' { b')' } else { b'}' };
            let mut at = 1;
            while *signature.get(at)? != close {
                at += one(&signature[at..], depth + 1)?;
            }
            // an empty struct would make an endless array of nothing
            (at > 1).then_some(at + 1)
        }
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' | b'h' => {
            Some(1)
        }
        _ => None,
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// METHOD_CALL
    Call,
    /// METHOD_RETURN
    Return,
    /// ERROR
    Error,
    /// SIGNAL
    Signal,
}

/// A message with the header fields that matter here.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The sender's number of it.
    pub serial: u32,
    /// For answers, the number of the call.
    pub reply_to: u32,
    /// The object.
    pub path: String,
    /// The interface.
    pub interface: String,
    /// The method's or signal's name.
    pub member: String,
    /// For errors, the error's name.
    pub error: String,
    /// Who is to get it; empty on a connection without a bus.
    pub destination: String,
    /// The arguments.
    pub body: Vec<Value>,
}

const FIXED_HEADER: usize = 16;

impl Message {
    /// A message without arguments.
    pub fn new(kind: Kind, serial: u32) -> Message {
        Message {
            kind,
            serial,
            reply_to: 0,
            path: String::new(),
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            destination: String::new(),
            body: Vec::new(),
        }
    }

    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Encoder::default();
        self.body.iter().for_each(|v| body.value(v));
        let signature: String = self.body.iter().map(Value::signature).collect();
        let mut fields = Vec::new();
        let mut field = |code: u8, value: Value| {
            fields.push(Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]));
        };
        if !self.path.is_empty() {
            field(1, Value::Path(self.path.clone()));
        }
        for (code, text) in
            [(2, &self.interface), (3, &self.member), (4, &self.error), (6, &self.destination)]
        {
            if !text.is_empty() {
                field(code, Value::Str(text.clone()));
            }
        }
        if self.reply_to != 0 {
            field(5, Value::U32(self.reply_to));
        }
        if !signature.is_empty() {
            field(8, Value::Signature(signature));
        }
        let mut out = Encoder::default();
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
        };
        out.0.extend_from_slice(&[b'l', kind, 0, 1]);
        out.value(&Value::U32(body.0.len() as u32));
        out.value(&Value::U32(self.serial));
        out.value(&Value::Array("(yv)".into(), fields));
        out.align(8);
        out.0.extend_from_slice(&body.0);
        out.0
    }

    /// How long the message is whose first sixteen bytes these are; none if they begin no message or one past
    /// the bound.
    pub fn length(head: &[u8; FIXED_HEADER]) -> Option<usize> {
        let big = match head[0] {
            b'l' => false,
            b'B' => true,
            _ => return None,
        };
        let mut d = Decoder { bytes: head, at: 4, big };
        let body = d.u32()? as usize;
        d.u32()?;
        let fields = d.u32()? as usize;
        if head[3] != 1 || body > MAX_MESSAGE || fields > MAX_MESSAGE {
            return None;
        }
        let whole = (FIXED_HEADER + fields).next_multiple_of(8) + body;
        (whole <= MAX_MESSAGE).then_some(whole)
    }

    /// Reads a whole message. An unknown kind is taken for a signal that nobody waits for.
    pub fn decode(bytes: &[u8]) -> Option<Message> {
        let mut d = Decoder { bytes, at: 4, big: *bytes.first()? == b'B' };
        let kind = match bytes.get(1)? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            _ => Kind::Signal,
        };
        let body = d.u32()? as usize;
        let mut out = Message::new(kind, d.u32()?);
        let mut signature = String::new();
        let [Value::Array(_, fields)] = &d.all("a(yv)")?[..] else { return None };
        for field in fields {
            let Value::Struct(pair) = field else { return None };
            let [Value::Byte(code), value] = &pair[..] else { return None };
            let Value::Variant(value) = value else { return None };
            // each field has its type (D-Bus specification, "Header Fields")
            match (code, &**value) {
                (1, Value::Path(text)) => out.path.clone_from(text),
                (2, Value::Str(text)) => out.interface.clone_from(text),
                (3, Value::Str(text)) => out.member.clone_from(text),
                (4, Value::Str(text)) => out.error.clone_from(text),
                (5, Value::U32(serial)) => out.reply_to = *serial,
                (6, Value::Str(text)) => out.destination.clone_from(text),
                (8, Value::Signature(text)) => signature.clone_from(text),
                (1..=6 | 8, _) => return None,
                _ => {}
            }
        }
        d.align(8);
        if bytes.len().checked_sub(d.at)? != body {
            return None;
        }
        out.body = Decoder { bytes: &bytes[d.at..], at: 0, big: d.big }.all(&signature)?;
        Some(out)
    }
}
