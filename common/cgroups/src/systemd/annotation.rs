//! Annotations `org.systemd.property.NAME`, whose values are in GVariant's text form: `true`, `'text'`, `uint64 5`,
//! `['a', 'b']`.

use std::collections::HashMap;

use super::wire::Value;
use super::{Property, property};
use crate::error::CgroupError;

const PREFIX: &str = "org.systemd.property.";
/// Longer values are nobody's properties.
const MAX_VALUE: usize = 64 << 10;

/// The properties asked for, sorted by name. A name ending in `Sec` becomes `USec`, its number seconds in microseconds.
pub(super) fn properties(annotations: &HashMap<String, String>) -> Result<Vec<Property>, CgroupError> {
    let mut out = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let bad = |reason: String| CgroupError::Invalid { field: format!("annotations[{key:?}]"), reason };
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(bad("the name of a unit property has letters only, three at least".into()));
        }
        let value = parse(text).ok_or_else(|| {
            bad(format!(
                "{:?} is no value; examples of what is: true, 'text', 5, uint64 5, ['a', 'b']",
                crate::file::head(text)
            ))
        })?;
        match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
            None => out.push(property(name, value)),
            Some(stem) => {
                let micros =
                    seconds(&value).ok_or_else(|| bad(format!("{text:?} is no number of seconds")))?;
                out.push(property(&format!("{stem}USec"), Value::U64(micros)));
            }
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

fn seconds(value: &Value) -> Option<u64> {
    let whole = |n: u64| n.checked_mul(1_000_000);
    match value {
        Value::Byte(n) => whole(u64::from(*n)),
        Value::I16(n) => whole(u64::try_from(*n).ok()?),
        Value::U16(n) => whole(u64::from(*n)),
        Value::I32(n) => whole(u64::try_from(*n).ok()?),
        Value::U32(n) => whole(u64::from(*n)),
        Value::I64(n) => whole(u64::try_from(*n).ok()?),
        Value::U64(n) => whole(*n),
        // beyond the range `as` gives the ends, and what is not a number is zero
        Value::F64(n) if *n >= 0.0 => Some((n * 1e6) as u64),
        _ => None,
    }
}

fn parse(text: &str) -> Option<Value> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_VALUE {
        return None;
    }
    if let Some(list) = text.strip_prefix('[') {
        return array(list.strip_suffix(']')?);
    }
    scalar(text)
}

fn scalar(text: &str) -> Option<Value> {
    if let Some(quoted) = string(text) {
        return quoted.1.is_empty().then_some(Value::Str(quoted.0));
    }
    match text.split_once(char::is_whitespace) {
        None => match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            number if number.contains(['.', 'e', 'E']) && !number.starts_with("0x") => {
                number.parse().ok().filter(|n: &f64| n.is_finite()).map(Value::F64)
            }
            number => integer(number).and_then(|n| i32::try_from(n).ok()).map(Value::I32),
        },
        Some((kind, rest)) => {
            let rest = rest.trim();
            let number = || integer(rest);
            Some(match kind {
                "boolean" => Value::Bool(rest.parse().ok()?),
                "byte" => Value::Byte(number()?.try_into().ok()?),
                "int16" => Value::I16(number()?.try_into().ok()?),
                "uint16" => Value::U16(number()?.try_into().ok()?),
                "int32" => Value::I32(number()?.try_into().ok()?),
                "uint32" => Value::U32(number()?.try_into().ok()?),
                "int64" => Value::I64(number()?.try_into().ok()?),
                "uint64" => Value::U64(number()?.try_into().ok()?),
                "double" => Value::F64(rest.parse().ok().filter(|n: &f64| n.is_finite())?),
                "string" => return scalar(rest).filter(|v| matches!(v, Value::Str(_))),
                "objectpath" => Value::Path(string(rest).filter(|s| s.1.is_empty())?.0),
                _ => return None,
            })
        }
    }
}

fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let n = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    Some(if negative { -n } else { n })
}

/// A quoted string at the beginning, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((out, &text[at + c.len_utf8()..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                c @ ('\\' | '\'' | '"') => out.push(c),
                _ => return None,
            },
            // D-Bus strings hold no NUL
            '\0' => return None,
            c => out.push(c),
        }
    }
    None
}

/// The elements of a list without its brackets: of one type, at least one.
fn array(mut rest: &str) -> Option<Value> {
    let mut list = Vec::new();
    loop {
        rest = rest.trim_start();
        let (value, after) = match string(rest) {
            Some((text, after)) => (Value::Str(text), after),
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let mut value = scalar(rest[..end].trim())?;
                // the type of the first holds for those after it: [uint64 1, 2]
                if let (Some(Value::U64(_)), Value::I32(n)) = (list.first(), &value) {
                    value = Value::U64(u64::try_from(*n).ok()?);
                }
                (value, &rest[end..])
            }
        };
        list.push(value);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    let signature = list.first()?.signature();
    list.iter().all(|v| v.signature() == signature).then_some(Value::Array(signature, list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_gvariants_form() {
        assert_eq!(parse("true"), Some(Value::Bool(true)));
        assert_eq!(parse("'inactive-or-failed'"), Some(Value::Str("inactive-or-failed".into())));
        assert_eq!(parse(r#""it's""#), Some(Value::Str("it's".into())));
        assert_eq!(parse("uint64 123456789"), Some(Value::U64(123_456_789)));
        assert_eq!(parse("-5"), Some(Value::I32(-5)));
        assert_eq!(parse("1.5"), Some(Value::F64(1.5)));
        assert_eq!(parse("['a', 'b,c']"), Some(Value::strings(&["a", "b,c"])));
        assert_eq!(parse("[uint64 1, 2]").unwrap().signature(), "at");
        for bad in [
            "",
            "'open",
            "uint64 -1",
            "byte 256",
            "3000000000",
            "[]",
            "['a', 1]",
            "word",
            "'a' b",
            "@x 1",
            "1e999",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        let of = |name: &str, value: &str| {
            properties(&HashMap::from([(format!("org.systemd.property.{name}"), value.to_owned())]))
        };
        assert_eq!(of("TimeoutStopSec", "5").unwrap(), [property("TimeoutStopUSec", Value::U64(5_000_000))]);
        assert_eq!(
            of("TimeoutStopSec", "1.5").unwrap(),
            [property("TimeoutStopUSec", Value::U64(1_500_000))]
        );
        assert_eq!(of("TimeoutStopUSec", "uint64 7").unwrap(), [property("TimeoutStopUSec", Value::U64(7))]);
        for (name, value) in
            [("TimeoutStopSec", "'x'"), ("TimeoutStopSec", "-1"), ("A-B", "1"), ("ab", "1"), ("After", "x")]
        {
            let error = of(name, value).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let other = HashMap::from([("com.example".to_owned(), "x".to_owned())]);
        assert!(properties(&other).unwrap().is_empty());
    }
}
