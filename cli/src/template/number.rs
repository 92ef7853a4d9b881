//! Number literals of Go's template language.

/// A parsed literal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

/// Reads decimal, `0x`, `0o`, `0b` and old octal integers, with `_` between digits, and floats.
pub(crate) fn parse(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    let lower = plain.to_ascii_lowercase();
    let parsed = if let Some(hex) = lower.strip_prefix("0x") {
        i128::from_str_radix(hex, 16).ok()
    } else if let Some(octal) = lower.strip_prefix("0o") {
        i128::from_str_radix(octal, 8).ok()
    } else if let Some(binary) = lower.strip_prefix("0b") {
        i128::from_str_radix(binary, 2).ok()
    } else if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit()) {
        i128::from_str_radix(&lower, 8).ok()
    } else if lower.bytes().all(|b| b.is_ascii_digit()) {
        lower.parse().ok()
    } else if lower.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-')) {
        let float: f64 = lower.parse().ok()?;
        return Some(Number::Float(if negative { -float } else { float }));
    } else {
        None
    };
    i64::try_from(if negative { -parsed? } else { parsed? }).ok().map(Number::Int)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_every_base() {
        for (text, want) in
            [("12", 12), ("-3", -3), ("+4", 4), ("0x1F", 31), ("0b101", 5), ("017", 15), ("1_000", 1000)]
        {
            assert_eq!(parse(text), Some(Number::Int(want)), "{text}");
        }
        assert_eq!(parse("1.5"), Some(Number::Float(1.5)));
        assert_eq!(parse("-1e3"), Some(Number::Float(-1000.0)));
        for bad in ["", "-", "1x", "0x", "08", "99999999999999999999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
