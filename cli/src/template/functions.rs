//! The functions a format may call: Go's built-in ones and docker's.

use super::compare;
use super::printf::sprintf;
use super::value::{Nil, Value};

/// What a call came to, or the text of Go's error.
pub(crate) type Answer = Result<Value, Failure>;

/// Whose mistake it was decides how Go words it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The function returned an error: `error calling NAME: TEXT`.
    Returned(String),
    /// The call does not fit the function's signature: the text alone.
    Signature(String),
    /// The argument at `index` is not of the type that the function takes.
    Type { index: usize, expected: &'static str, got: &'static str },
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure::Returned(text)
    }
}

/// In a table's header the fields are names of columns, which text functions leave alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Row,
    Header,
}

/// `and` and `or` are not here as code: they stop early, so the evaluator does them.
pub(crate) fn is_known(name: &str) -> bool {
    matches!(
        name,
        "and"
            | "or"
            | "not"
            | "len"
            | "index"
            | "slice"
            | "print"
            | "printf"
            | "println"
            | "html"
            | "js"
            | "urlquery"
            | "call"
            | "eq"
            | "ne"
            | "lt"
            | "le"
            | "gt"
            | "ge"
            | "json"
            | "split"
            | "join"
            | "title"
            | "lower"
            | "upper"
            | "pad"
            | "truncate"
            | "getDetailsOrder"
    )
}

pub(crate) fn call(name: &str, args: &[Value], dialect: Dialect) -> Answer {
    if dialect == Dialect::Header
        && matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate")
    {
        return Ok(args.first().cloned().unwrap_or(Value::Missing));
    }
    Ok(match name {
        "not" => Value::Bool(!exactly::<1>(name, args)?[0].is_true()),
        "len" => Value::Int(len(&exactly::<1>(name, args)?[0])?),
        "index" => index(args)?,
        "slice" => slice(args)?,
        "print" => Value::Str(print(args)),
        "printf" => {
            let (format, rest) = args.split_first().ok_or_else(|| at_least(name, 1, 0))?;
            Value::Str(sprintf(&text(format, 0)?, rest))
        }
        "println" => {
            let shown: Vec<String> = args.iter().map(Value::print_for_verb).collect();
            Value::Str(shown.join(" ") + "\n")
        }
        "html" => Value::Str(html(&print(args))),
        "js" => Value::Str(js(&print(args))),
        "urlquery" => Value::Str(urlquery(&print(args))),
        "call" => return Err(Failure::Returned("call of nil".to_owned())),
        "eq" => Value::Bool(compare::eq(args)?),
        "ne" => Value::Bool(!compare::eq(&exactly::<2>(name, args)?)?),
        "lt" => Value::Bool(compare::order(&exactly::<2>(name, args)?)?.is_lt()),
        "le" => Value::Bool(compare::order(&exactly::<2>(name, args)?)?.is_le()),
        "gt" => Value::Bool(compare::order(&exactly::<2>(name, args)?)?.is_gt()),
        "ge" => Value::Bool(compare::order(&exactly::<2>(name, args)?)?.is_ge()),
        "json" => Value::Str(exactly::<1>(name, args)?[0].to_json()),
        "split" => {
            let [whole, separator] = exactly(name, args)?;
            split(&text(&whole, 0)?, &text(&separator, 1)?)
        }
        "join" => {
            let [items, separator] = exactly(name, args)?;
            Value::Str(join(&items, &text(&separator, 1)?)?)
        }
        "title" => Value::Str(title(&text(&exactly::<1>(name, args)?[0], 0)?)),
        "lower" => Value::Str(text(&exactly::<1>(name, args)?[0], 0)?.chars().map(lower).collect()),
        "upper" => Value::Str(text(&exactly::<1>(name, args)?[0], 0)?.chars().map(upper).collect()),
        "pad" => {
            let [source, before, after] = exactly(name, args)?;
            Value::Str(pad(text(&source, 0)?, int(&before, 1)?, int(&after, 2)?)?)
        }
        "truncate" => {
            let [source, length] = exactly(name, args)?;
            Value::Str(truncate(text(&source, 0)?, int(&length, 1)?)?)
        }
        "getDetailsOrder" => details_order(&exactly::<1>(name, args)?[0]),
        _ => return Err(Failure::Signature(format!("{name:?} is not a defined function"))),
    })
}

fn exactly<const N: usize>(name: &str, args: &[Value]) -> Result<[Value; N], Failure> {
    args.to_vec().try_into().map_err(|args: Vec<Value>| {
        Failure::Signature(format!("wrong number of args for {name}: want {N} got {}", args.len()))
    })
}

fn at_least(name: &str, want: usize, got: usize) -> Failure {
    Failure::Signature(format!("wrong number of args for {name}: want at least {want} got {got}"))
}

fn text(value: &Value, index: usize) -> Result<String, Failure> {
    match value {
        Value::Str(s) => Ok(s.clone()),
        Value::Missing => Err(Failure::Signature("invalid value; expected string".to_owned())),
        other => Err(Failure::Type { index, expected: "string", got: other.type_name() }),
    }
}

fn int(value: &Value, index: usize) -> Result<i64, Failure> {
    match value {
        Value::Int(n) => Ok(*n),
        Value::Uint(n) if i64::try_from(*n).is_ok() => Ok(*n as i64),
        other => Err(Failure::Type { index, expected: "int", got: other.type_name() }),
    }
}

fn len(value: &Value) -> Result<i64, String> {
    let len = match value {
        Value::Str(s) => s.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        Value::Nil(Nil::List | Nil::Map) => 0,
        Value::Missing | Value::Nil(Nil::Pointer) => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(len as i64)
}

fn index(args: &[Value]) -> Answer {
    let (item, keys) = args.split_first().ok_or_else(|| at_least("index", 1, 0))?;
    let mut item = item.clone();
    for key in keys {
        item = match (&item, key) {
            (Value::Missing, _) => return Err("index of untyped nil".to_owned().into()),
            (Value::Nil(Nil::Map), Value::Str(_)) => Value::Missing,
            (Value::Nil(_), _) => return Err("index of nil pointer".to_owned().into()),
            (Value::Map(entries), Value::Str(key)) => {
                Value::get(entries, key).cloned().unwrap_or(Value::Missing)
            }
            (Value::Map(_), key) => {
                return Err(format!("value has type {}; should be string", key.type_name()).into());
            }
            (Value::List(items), _) => items[position(key, items.len(), false)?].clone(),
            (Value::Str(s), _) => Value::Uint(s.as_bytes()[position(key, s.len(), false)?].into()),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name()).into()),
        };
    }
    Ok(item)
}

fn position(key: &Value, len: usize, end_allowed: bool) -> Result<usize, String> {
    let at = match key {
        Value::Int(n) => i128::from(*n),
        Value::Uint(n) => i128::from(*n),
        Value::Missing | Value::Nil(_) => return Err("cannot index slice/array with nil".to_owned()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    match usize::try_from(at) {
        Ok(at) if at < len || (end_allowed && at == len) => Ok(at),
        _ => Err(format!("index out of range: {at}")),
    }
}

fn slice(args: &[Value]) -> Answer {
    let (item, bounds) = args.split_first().ok_or_else(|| at_least("slice", 1, 0))?;
    let len = match item {
        Value::Str(s) if bounds.len() < 3 => s.len(),
        Value::Str(_) => return Err("cannot 3-index slice a string".to_owned().into()),
        Value::List(items) => items.len(),
        Value::Missing => return Err("slice of untyped nil".to_owned().into()),
        other => return Err(format!("can't slice item of type {}", other.type_name()).into()),
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()).into());
    }
    let from = bounds.first().map_or(Ok(0), |bound| position(bound, len, true))?;
    let to = bounds.get(1).map_or(Ok(len), |bound| position(bound, len, true))?;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}").into());
    }
    Ok(match item {
        Value::Str(s) => Value::Str(String::from_utf8_lossy(&s.as_bytes()[from..to]).into_owned()),
        Value::List(items) => Value::List(items[from..to].to_vec()),
        _ => Value::Missing,
    })
}

/// `fmt.Sprint`: a blank between operands when neither is a string.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 && !matches!(arg, Value::Str(_)) && !matches!(args[i - 1], Value::Str(_)) {
            out.push(' ');
        }
        out.push_str(&arg.print_for_verb());
    }
    out
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return Value::List(text.chars().map(|c| Value::Str(c.to_string())).collect());
    }
    Value::List(text.split(separator).map(Value::str).collect())
}

fn join(items: &Value, separator: &str) -> Result<String, Failure> {
    let Value::List(items) = items else {
        // a nil slice joins to nothing
        return match items {
            Value::Nil(_) => Ok(String::new()),
            other => Err(Failure::Type { index: 0, expected: "[]string", got: other.type_name() }),
        };
    };
    let texts: Result<Vec<String>, Failure> = items.iter().map(|item| text(item, 0)).collect();
    Ok(texts?.join(separator))
}

/// Go changes case letter by letter: one that would become two (`ß`) stays.
fn upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    if upper.len() == 1 { upper.next().unwrap_or(c) } else { c }
}

fn lower(c: char) -> char {
    let mut lower = c.to_lowercase();
    if lower.len() == 1 { lower.next().unwrap_or(c) } else { c }
}

/// Go's `strings.Title`: the first letter of every word.
fn title(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .map(|c| {
            let starts = !(previous == '_' || previous == '\'' || previous.is_alphanumeric());
            previous = c;
            if starts { upper(c) } else { c }
        })
        .collect()
}

/// The longest padding that `pad` makes.
const MAX_PAD: i64 = 1 << 16;

fn pad(source: String, before: i64, after: i64) -> Result<String, Failure> {
    if source.is_empty() {
        return Ok(source);
    }
    let blanks = |count: i64| match count {
        0..=MAX_PAD => Ok(" ".repeat(count as usize)),
        _ => Err(Failure::Returned(format!("bad padding: {count}"))),
    };
    Ok(blanks(before)? + &source + &blanks(after)?)
}

fn truncate(source: String, length: i64) -> Result<String, Failure> {
    let length = usize::try_from(length).map_err(|_| Failure::Returned(format!("bad length: {length}")))?;
    if source.len() < length {
        return Ok(source);
    }
    Ok(String::from_utf8_lossy(&source.as_bytes()[..length]).into_owned())
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    crate::transport::url::escape(text).replace("%20", "+")
}

/// The keys of a version component's `Details`, sorted (docker's version template calls this).
fn details_order(component: &Value) -> Value {
    let Value::Struct(component) = component else { return Value::List(Vec::new()) };
    match component.field("Details").map(|field| &field.value) {
        Some(Value::Map(entries)) => Value::List(entries.iter().map(|(key, _)| Value::str(key)).collect()),
        _ => Value::List(Vec::new()),
    }
}
