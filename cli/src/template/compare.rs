//! Go templates' comparison functions.

use std::cmp::Ordering;

use super::value::Value;

const BAD_TYPE: &str = "invalid type for comparison";
const BAD_TYPES: &str = "incompatible types for comparison";
const MISSING: &str = "missing argument for comparison";

/// `eq a b c…`: whether `a` equals any of the others.
pub(crate) fn eq(args: &[Value]) -> Result<bool, String> {
    let (first, others) = args.split_first().ok_or(MISSING)?;
    if others.is_empty() {
        return Err(MISSING.to_owned());
    }
    for other in others {
        if same(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(match (a, b) {
        (Value::Missing | Value::Nil(_), Value::Missing | Value::Nil(_)) => true,
        (Value::Missing | Value::Nil(_), _) | (_, Value::Missing | Value::Nil(_)) => false,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::List(_) | Value::Map(_), _) | (_, Value::List(_) | Value::Map(_)) => {
            return Err(format!("non-comparable type {}: {}", a.print(), a.type_name()));
        }
        _ => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => a == b,
            _ => return Err(BAD_TYPES.to_owned()),
        },
    })
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(n) => Some((*n).into()),
        Value::Uint(n) => Some((*n).into()),
        _ => None,
    }
}

/// The order of two numbers or two strings.
pub(crate) fn order(args: &[Value]) -> Result<Ordering, String> {
    let [a, b] = args else { return Err(MISSING.to_owned()) };
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => Ok(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Greater)),
        (
            Value::Bool(_)
            | Value::Missing
            | Value::Nil(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Struct(_),
            _,
        ) => Err(BAD_TYPE.to_owned()),
        _ => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => Err(BAD_TYPES.to_owned()),
        },
    }
}
